//! What the sync does not read of an object is not kept: half of a Service is who applied it and when.

use std::mem::take;

use k8s_openapi::{
    api::{
        core::v1::{LoadBalancerStatus, Node, NodeSpec, NodeStatus, Service, ServiceSpec, ServiceStatus},
        discovery::v1::{Endpoint, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{desired::ZONE_LABEL, endpoints::SERVICE_LABEL, options::SyncOptions, select::FROM_CONSUL};

/// kubectl's copy of the whole manifest.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A Service without what nobody reads.
pub(super) fn service(service: &mut Service, options: &SyncOptions) {
    let annotations = service.metadata.annotations.take();
    service.metadata = metadata(&mut service.metadata, FROM_CONSUL.0);
    service.metadata.annotations = annotations.map(|mut annotations| {
        // An operator may have asked for it.
        let is_tag = options.annotation_tag_prefixes.iter().any(|prefix| LAST_APPLIED.starts_with(prefix.as_str()))
            || options.annotation_tag_lists.iter().any(|list| list == LAST_APPLIED);
        if !is_tag {
            annotations.remove(LAST_APPLIED);
        }
        annotations
    });
    service.spec = service.spec.take().map(|spec| ServiceSpec {
        type_: spec.type_,
        ports: spec.ports,
        ip_families: spec.ip_families,
        external_ips: spec.external_ips,
        ..ServiceSpec::default()
    });
    let ingress = service.status.take().and_then(|status| status.load_balancer?.ingress);
    service.status = ingress.map(|ingress| ServiceStatus {
        load_balancer: Some(LoadBalancerStatus { ingress: Some(ingress) }),
        ..ServiceStatus::default()
    });
}

/// An EndpointSlice without what nobody reads.
pub(super) fn slice(slice: &mut EndpointSlice) {
    slice.metadata = metadata(&mut slice.metadata, SERVICE_LABEL);
    for endpoint in slice.endpoints.iter_mut().flatten() {
        let Endpoint { addresses, conditions, node_name, zone, .. } = take(endpoint);
        *endpoint = Endpoint { addresses, conditions, node_name, zone, ..Endpoint::default() };
    }
}

/// A Node without what nobody reads: what is left changes only if something follows from it.
pub(super) fn node(node: &mut Node) {
    node.metadata = metadata(&mut node.metadata, ZONE_LABEL);
    node.spec = None::<NodeSpec>;
    node.status = node.status.take().map(|status| {
        let conditions = status.conditions.map(|conditions| {
            let ready = conditions.into_iter().filter(|condition| condition.type_ == "Ready");
            let bare = ready.map(|mut condition| {
                (condition.message, condition.reason) = (None, None);
                (condition.last_heartbeat_time, condition.last_transition_time) = (None, None);
                condition
            });
            bare.collect()
        });
        NodeStatus { addresses: status.addresses, conditions, ..NodeStatus::default() }
    });
}

/// Name, namespace and one label.
fn metadata(whole: &mut ObjectMeta, label: &str) -> ObjectMeta {
    let label = whole.labels.as_mut().and_then(|labels| labels.remove_entry(label));
    ObjectMeta {
        name: whole.name.take(),
        namespace: whole.namespace.take(),
        uid: whole.uid.take(),
        labels: label.map(|label| [label].into()),
        ..ObjectMeta::default()
    }
}
