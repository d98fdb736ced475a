# The rights of a sidecar that reads policy from Consul (docs/guide/control-planes.md), and no more, for `policy.consul.tokenFile`:
#   consul acl policy create -name portcullis-policy -rules @policy-read.hcl
# A token with policy.hcl beside it needs the rules for mesh, keys and agent only. Each rule is one line.

# Intentions, and the protocols of services. What is hidden could be a deny, so all of them have to be seen.
service_prefix "" { policy = "read" intentions = "read" }
# JWT providers.
mesh = "read"
# Only with `keys`, below its prefix.
key_prefix "portcullis/policy/" { policy = "read" }
# Not needed: lets the sidecar compare Consul's default_intention_policy with its own default.
agent_prefix "" { policy = "read" }
