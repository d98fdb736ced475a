# The rights of a sidecar that keeps Consul in step (docs/guide/registrations.md), and no more:
#   consul acl policy create -name portcullis -rules @policy.hcl
# `kubernetes` is the clusterName and `k8s-sync` the consulNodeName of the configuration; put in yours. Each rule is one line.

# The node that carries the instances is made, and with `consulNodes: perNode` one for each Kubernetes node.
node_prefix "k8s-sync" { policy = "write" }
# Services have the names that they have in Kubernetes. All on the node have to be seen: what is hidden looks like what is gone.
service_prefix "" { policy = "write" }
# The leader's session is one of the agent that answers, and that of `deadManSeconds` one of `k8s-sync`.
session_prefix "" { policy = "write" }
# The lock, and a person's permission for many removals.
key_prefix "portcullis/sync/kubernetes/" { policy = "write" }
# Only with `kvImport`, below its prefix.
key_prefix "portcullis/services/kubernetes/" { policy = "write" }
# Services of others are behind the gate too, on whatever node they are. Not needed with `catalog: {watch: false}`.
node_prefix "" { policy = "read" }

# Reading policy by the same token (`policy.consul` without a tokenFile of its own): JWT providers, and keys below `keys`. Intentions can be read by whoever
# may write services.
mesh = "read"
key_prefix "portcullis/policy/" { policy = "read" }
