# Run it in this folder: consul-template -config consul-template.hcl
# The address and the token of Consul are taken from CONSUL_HTTP_ADDR and CONSUL_HTTP_TOKEN.

# Changes that come together are one reload.
wait {
  min = "100ms"
  max = "2s"
}

# Every service of the cluster, from the keys of the KV import.
template {
  source      = "from-keys.ctmpl"
  destination = "conf.d/from-keys.conf"
  # A configuration that nginx does not take is not loaded, and the one before it stays in force.
  command = "nginx -p . -c nginx.conf -t -q && nginx -p . -c nginx.conf -s reload || true"
}

# One service, from the catalog.
template {
  source      = "from-catalog.ctmpl"
  destination = "conf.d/from-catalog.conf"
  command     = "nginx -p . -c nginx.conf -t -q && nginx -p . -c nginx.conf -s reload || true"
}
