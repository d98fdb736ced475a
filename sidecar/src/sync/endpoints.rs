//! A6-A8, C1-C3: which endpoints count for a service's chosen port, and whether they are ready.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::ports::{self, Choice};
use crate::kube::{Cluster, ObjectKey};

/// Label by which a slice belongs to a service of its namespace (A7); owner references and names prove nothing.
pub(crate) const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// The slices of every service, found once for all of them.
pub(super) type SlicesByService = BTreeMap<ObjectKey, Vec<EndpointSlice>>;

/// One endpoint that counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted<'a> {
    /// Kubernetes node, if the endpoint names one.
    pub(super) node: Option<&'a str>,
    /// Zone, if the endpoint names one.
    pub(super) zone: Option<&'a str>,
    /// Its address; the API gives further ones no meaning.
    pub(super) address: Option<&'a str>,
    /// Its own port for the chosen one.
    pub(super) port: u16,
    /// `ready` is not false (C1); unset means true.
    pub(super) ready: bool,
}

/// The service that a slice belongs to, whether there is one or not (A7).
pub(super) fn owner(key: &ObjectKey, slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = label(slice)?.clone();
    Some(ObjectKey { namespace: key.namespace.clone(), name })
}

fn label(slice: &EndpointSlice) -> Option<&String> {
    slice.metadata.labels.as_ref()?.get(SERVICE_LABEL)
}

/// Groups the slices by the service that they belong to, in the order of their names.
pub(super) fn by_service(cluster: &Cluster) -> SlicesByService {
    let mut found = SlicesByService::new();
    for (key, slice) in &cluster.slices {
        let slice = slice.get();
        if let Some(service) = owner(key, &slice) {
            found.entry(service).or_default().push(slice);
        }
    }
    found
}

/// The counted endpoints of all slices, merged; an endpoint may stand in two of them while slices are repacked.
pub(super) fn counted<'a>(slices: &'a [EndpointSlice], choice: &Choice<'_>) -> Vec<Counted<'a>> {
    let mut found = Vec::new();
    for slice in slices {
        if let Some(port) = port_of(slice, choice) {
            let endpoints = slice.endpoints.iter().flatten().filter(|endpoint| serves(endpoint));
            found.extend(endpoints.map(|endpoint| count(endpoint, port)));
        }
    }
    found
}

/// The endpoints' port for the choice, or `None` if the slice does not carry it (A8).
fn port_of(slice: &EndpointSlice, choice: &Choice<'_>) -> Option<u16> {
    let (entry, number) = match choice {
        Choice::Number(number) => return Some(*number),
        Choice::Entry { entry, number } => (entry, *number),
    };
    // "All ports" gives no number; the pod's is the target port, or the service's own.
    let implied = match entry.target_port {
        Some(IntOrString::Int(target)) => ports::valid(target),
        _ => None,
    };
    let implied = implied.or_else(|| ports::service_port(entry)).unwrap_or(number);
    let Some(listed) = slice.ports.as_deref() else { return Some(implied) };
    let name = |port: &EndpointPort| port.name.clone().unwrap_or_default();
    let wanted = entry.name.as_deref().unwrap_or_default();
    let found = listed.iter().find(|port| name(port) == wanted)?;
    Some(found.port.and_then(ports::valid).unwrap_or(implied))
}

/// An endpoint that terminates and does not serve any more is gone (C3). One that is merely not ready is counted: it
/// makes its instance critical.
fn serves(endpoint: &Endpoint) -> bool {
    let Some(conditions) = &endpoint.conditions else { return true };
    !(conditions.terminating == Some(true) && conditions.serving == Some(false))
}

fn count(endpoint: &Endpoint, port: u16) -> Counted<'_> {
    Counted {
        node: endpoint.node_name.as_deref().filter(|name| !name.is_empty()),
        zone: endpoint.zone.as_deref().filter(|zone| !zone.is_empty()),
        address: endpoint.addresses.first().map(String::as_str),
        port,
        ready: endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false),
    }
}
