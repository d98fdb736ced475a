//! The objects of a cluster: NodePort services with three endpoints each on six nodes, as an API server has them.

use k8s_openapi::api::discovery::v1::EndpointSlice;
use portcullis::kube::{Cluster, Manifests, ObjectKey, Packed};
use serde_json::{Value, json};

use super::INSTANCES;

/// Nodes of the cluster.
const NODES: usize = 6;

/// Name of a service.
pub(super) fn name(service: usize) -> String {
    format!("service-{service:05}")
}

/// Key of a service and of its slice.
pub(super) fn key(service: usize) -> ObjectKey {
    ObjectKey { namespace: "shop".to_owned(), name: name(service) }
}

/// All of them.
pub(super) fn cluster(services: usize) -> Cluster {
    let mut cluster = parse((0..NODES).map(node).collect());
    for number in 0..services {
        let one = parse(vec![service(number), slice(number, true)]);
        cluster.services.extend(one.services);
        cluster.slices.extend(one.slices);
    }
    cluster
}

/// The slice of a service; the first endpoint is ready or not.
pub(super) fn changed(service: usize, is_ready: bool) -> Option<Packed<EndpointSlice>> {
    parse(vec![slice(service, is_ready)]).slices.into_values().next()
}

fn parse(objects: Vec<Value>) -> Cluster {
    let manifests = Manifests::from_values("benchmark", objects);
    // Their form is fixed.
    manifests.and_then(|manifests| Cluster::from_manifests([manifests])).unwrap_or_default()
}

fn node(number: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("worker-{number}")}, "status": {
        "addresses": [{"type": "InternalIP", "address": format!("192.0.2.{}", number + 1)}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }})
}

fn metadata(service: usize) -> Value {
    json!({"name": name(service), "namespace": "shop", "uid": format!("00000000-0000-4000-8000-{service:012}"),
        "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": name(service)},
        "managedFields": [{"manager": "kubectl", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}]})
}

fn service(number: usize) -> Value {
    let name = name(number);
    let mut metadata = metadata(number);
    metadata["annotations"] = json!({
        "traefik.enable": "true",
        format!("traefik.http.routers.{name}.rule"): format!("Host(`{name}.example.com`)"),
        format!("traefik.http.routers.{name}.entrypoints"): "websecure",
    });
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {
        "type": "NodePort", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ipFamilies": ["IPv4"],
        "selector": {"app": name}, "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080,
        "nodePort": 30_000 + number % 32_768}], "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
    }})
}

fn slice(service: usize, is_ready: bool) -> Value {
    let endpoint = |number: usize| {
        let is_ready = number > 0 || is_ready;
        json!({"addresses": [format!("10.{}.{}.{}", number, service / 250, service % 250 + 1)],
            "conditions": {"ready": is_ready, "serving": is_ready, "terminating": false},
            "nodeName": format!("worker-{}", (service + number) % NODES),
            "targetRef": {"kind": "Pod", "namespace": "shop", "name": format!("{}-{number}", name(service)),
                          "uid": format!("00000000-0000-4000-9000-{service:012}")}})
    };
    let mut metadata = metadata(service);
    metadata["labels"] = json!({"kubernetes.io/service-name": name(service)});
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "metadata": metadata,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": (0..INSTANCES).map(endpoint).collect::<Vec<_>>()})
}
