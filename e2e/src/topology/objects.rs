//! What runs in the clusters and on the machine, and the rights that the sidecar has there.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::kubernetes::shipped;
use crate::parts::root;

/// The user of each cluster that the sidecar is, and its token.
pub(super) const USER: &str = "sidecar";

/// A cluster with one service on one node, and the shipped role for the sidecar.
pub(super) fn cluster(service: &str, address: SocketAddr) -> Result<Vec<Value>> {
    let mut objects = shipped("rbac.yaml", USER)?;
    let annotations = if service == "shop" {
        // As Traefik 1 had it.
        json!({"traefik.enable": "true", "tags": "kubernetes,red", "traefik.frontend.rule": "Host:shop.localhost",
               "traefik.frontend.entryPoints": "websecure", "traefik.backend.loadbalancer": "wrr"})
    } else {
        json!({"traefik.enable": "true", format!("traefik.http.routers.{service}.rule"): format!("Host(`{service}.localhost`)")})
    };
    objects.extend([
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
               "status": {"addresses": [{"type": "InternalIP", "address": address.ip()}],
                          "conditions": [{"type": "Ready", "status": "True", "reason": "x", "message": "x"}]}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": service, "namespace": "default", "annotations": annotations},
               "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": address.port()}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
               "ports": [{"name": "", "port": 8080}],
               "metadata": {"name": format!("{service}-1"), "namespace": "default",
                            "labels": {"kubernetes.io/service-name": service}},
               "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "n1", "conditions": {"ready": true}}]}),
    ]);
    Ok(objects)
}

/// The service as its machine's agent registers it.
pub(super) fn machine_service(name: &str, address: SocketAddr) -> Value {
    json!({
        "name": name, "id": format!("{name}-vm"), "address": address.ip(), "port": address.port(),
        "tags": [
            "traefik.enable=true", format!("traefik.http.routers.{name}.rule=Host(`{name}.localhost`)"),
            format!("traefik.http.routers.{name}.entrypoints=websecure"), format!("traefik.http.routers.{name}.tls=true"),
        ],
        "check": {"http": format!("http://{address}/v1/small"), "interval": "500ms", "timeout": "1s"},
    })
}

/// The shipped rules for Consul, with the names of these clusters put in as its comment says.
pub(super) fn consul_rules(clusters: &[&str]) -> Result<String> {
    let text = fs::read_to_string(root().join("deploy/consul/policy.hcl")).context("reading the shipped policy")?;
    let lines = text.lines().flat_map(|line| {
        let is_of_cluster = line.contains("/kubernetes/");
        let names = if is_of_cluster { clusters } else { &["kubernetes"][..] };
        names.iter().map(|name| line.replace("/kubernetes/", &format!("/{name}/"))).collect::<Vec<_>>()
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}
