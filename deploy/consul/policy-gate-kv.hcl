# Beside policy.hcl, where the gate is in Consul's key-value store (`gate.kv`, docs/guide/catalog.md).
# `traefik` is its prefix: let nobody else write there. Traefik itself needs `read` of it.
key_prefix "traefik/" { policy = "write" }
# The lock, and the session that holds it is covered by policy.hcl.
key_prefix "portcullis/sync/gate/" { policy = "write" }
