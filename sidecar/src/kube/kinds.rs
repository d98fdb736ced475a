//! The kinds that are watched, and what of them is kept.
//!
//! Whatever no rule of the sync reads goes at once: it would cost memory for every object, and its changes (heartbeats,
//! other controllers' notes) would look like news.

use std::{mem::take, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::{
            LoadBalancerStatus, Node, NodeCondition, NodeStatus, Service, ServicePort, ServiceSpec, ServiceStatus,
        },
        discovery::v1::{Endpoint, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{cluster::ObjectKey, packed::Packed};
use crate::{
    input::Change,
    sync::{FROM_CONSUL, LAST_APPLIED, SERVICE_LABEL, ZONE_LABEL},
};

/// A kind that the sync reads.
pub trait Kind: kube::Resource<DynamicType = ()> + DeserializeOwned + Serialize + Default + Send + 'static {
    /// Leaves what the sync reads.
    fn slim(&mut self);

    /// What is told of one.
    fn change(key: Arc<ObjectKey>, object: Option<Packed<Self>>) -> Change;
}

impl Kind for Service {
    fn slim(&mut self) {
        let mut annotations = self.metadata.annotations.take();
        if let Some(annotations) = &mut annotations {
            annotations.remove(LAST_APPLIED);
        }
        self.metadata = ObjectMeta { annotations, ..identity(&mut self.metadata, FROM_CONSUL.0) };
        let ingress = self.status.take().and_then(|status| status.load_balancer?.ingress);
        self.status = ingress.map(|ingress| ServiceStatus {
            load_balancer: Some(LoadBalancerStatus { ingress: Some(ingress) }),
            ..ServiceStatus::default()
        });
        self.spec = self.spec.take().map(|spec| ServiceSpec {
            type_: spec.type_,
            ports: spec.ports.map(|ports| ports.into_iter().map(slim_port).collect()),
            external_ips: spec.external_ips,
            ip_families: spec.ip_families,
            ..ServiceSpec::default()
        });
    }

    fn change(key: Arc<ObjectKey>, object: Option<Packed<Self>>) -> Change {
        Change::Service(key, object)
    }
}

impl Kind for EndpointSlice {
    fn slim(&mut self) {
        self.metadata = ObjectMeta { uid: None, ..identity(&mut self.metadata, SERVICE_LABEL) };
        for endpoint in self.endpoints.iter_mut().flatten() {
            let Endpoint { addresses, conditions, node_name, zone, .. } = take(endpoint);
            *endpoint = Endpoint { addresses, conditions, node_name, zone, ..Endpoint::default() };
        }
    }

    fn change(key: Arc<ObjectKey>, object: Option<Packed<Self>>) -> Change {
        Change::Slice(key, object)
    }
}

impl Kind for Node {
    fn slim(&mut self) {
        self.metadata = ObjectMeta { uid: None, ..identity(&mut self.metadata, ZONE_LABEL) };
        self.spec = None;
        let status = self.status.take().unwrap_or_default();
        let ready = status
            .conditions
            .into_iter()
            .flatten()
            .filter(|condition| condition.type_ == "Ready")
            .map(|it| NodeCondition { type_: it.type_, status: it.status, ..NodeCondition::default() });
        let conditions = Some(ready.collect());
        self.status = Some(NodeStatus { addresses: status.addresses, conditions, ..NodeStatus::default() });
    }

    fn change(key: Arc<ObjectKey>, object: Option<Packed<Self>>) -> Change {
        Change::Node(key.name.clone(), object.map(|object| Box::new(object.get())))
    }
}

fn slim_port(port: ServicePort) -> ServicePort {
    let ServicePort { name, port, node_port, protocol, target_port, .. } = port;
    ServicePort { name, port, node_port, protocol, target_port, ..ServicePort::default() }
}

/// Who it is, with one of its labels.
fn identity(metadata: &mut ObjectMeta, label: &str) -> ObjectMeta {
    let label = metadata.labels.as_mut().and_then(|labels| labels.remove_entry(label));
    ObjectMeta {
        name: metadata.name.take(),
        namespace: metadata.namespace.take(),
        uid: metadata.uid.take(),
        labels: label.map(|label| [label].into()),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slim<K: Kind>(value: serde_json::Value) -> K {
        let mut object: K = serde_json::from_value(value).unwrap();
        object.slim();
        object
    }

    fn node(heartbeat: &str, ready: &str) -> Node {
        slim(
            json!({"metadata": {"name": "n", "resourceVersion": heartbeat, "labels": {"topology.kubernetes.io/zone": "a", "x": "y"},
            "managedFields": [{"manager": "kubelet", "time": heartbeat}]},
            "spec": {"podCIDR": "10.0.0.0/24"},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}], "images": [{"names": ["big"]}],
                "conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": heartbeat},
                               {"type": "MemoryPressure", "status": "False", "lastHeartbeatTime": heartbeat}]}}),
        )
    }

    #[test]
    fn a_nodes_heartbeat_is_no_news_and_its_readiness_is() {
        let print = |node: &Node| Packed::of(node.clone());
        let first = node("2026-01-01T00:00:00Z", "True");
        assert_eq!(print(&first), print(&node("2026-01-01T00:05:00Z", "True")));
        assert_ne!(print(&first), print(&node("2026-01-01T00:00:00Z", "Unknown")));
        assert_eq!(
            serde_json::to_value(&first).unwrap(),
            json!({"apiVersion": "v1", "kind": "Node",
                "metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "a"}},
                "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                           "conditions": [{"type": "Ready", "status": "True"}]}})
        );
    }

    #[test]
    fn a_service_keeps_its_annotations_but_for_kubectls_copy_of_itself() {
        let service: Service =
            slim(json!({"metadata": {"name": "s", "namespace": "shop", "uid": "u", "resourceVersion": "7",
            "annotations": {LAST_APPLIED: "{}", "tags": "a"}, "labels": {"consul": "true"}},
            "spec": {"type": "NodePort", "selector": {"app": "s"}, "clusterIP": "10.0.0.1",
                     "ports": [{"port": 80, "nodePort": 30080, "targetPort": 8080}]},
            "status": {"conditions": []}}));
        assert_eq!(
            serde_json::to_value(&service.metadata).unwrap(),
            json!({"name": "s", "namespace": "shop", "uid": "u", "annotations": {"tags": "a"}, "labels": {"consul": "true"}})
        );
        assert_eq!(
            serde_json::to_value(&service.spec).unwrap(),
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080, "targetPort": 8080}]})
        );
    }

    #[test]
    fn a_slice_keeps_its_service_and_where_its_endpoints_are() {
        let slice: EndpointSlice = slim(json!({"addressType": "IPv4", "ports": null,
            "metadata": {"name": "s-1", "namespace": "shop", "labels": {SERVICE_LABEL: "s", "other": "x"}},
            "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "n", "zone": "a", "hints": {"forZones": [{"name": "a"}]},
                           "conditions": {"ready": false}, "targetRef": {"kind": "Pod", "name": "p", "resourceVersion": "1"}}]}));
        assert_eq!(
            serde_json::to_value(&slice.endpoints.unwrap()[0]).unwrap(),
            json!({"addresses": ["10.0.0.1"], "nodeName": "n", "zone": "a", "conditions": {"ready": false}})
        );
        assert_eq!(slice.metadata.labels.unwrap().len(), 1);
    }
}
