# Beside policy.hcl, where the sidecar registers external services (`external`, docs/guide/catalog.md). `vms` is their `name`.
node_prefix "external-vms-" { policy = "write" }
# The lock, and a person's permission for many removals.
key_prefix "portcullis/sync/external/vms/" { policy = "write" }
