//! The JSON value of a service, from its instances in the catalog. Pure; the same catalog gives the same bytes.
//!
//! Nothing in it names a pod or a time: a restart of a pod on its node changes no byte.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    consul::live::{Live, LiveNode, LiveService, Scope},
    sync::{NAMESPACE_MARK, NODE_NAME_MARK, ZONE_MARK, is_reserved_meta},
};

/// From good to bad: of several checks the worst counts, as Consul has it.
const STATUSES: [&str; 4] = ["passing", "warning", "critical", "maintenance"];
/// What readers take an unknown status for.
const UNKNOWN: usize = 2;

/// A whole value.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Value<'a> {
    name: &'a str,
    cluster: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    /// In the catalog's order; of instances that differ, all.
    tags: Vec<&'a str>,
    /// What annotations have set; no marks of ours.
    meta: BTreeMap<&'a str, &'a str>,
    ports: BTreeSet<ServicePort<'a>>,
    instances: BTreeSet<Instance<'a>>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
struct ServicePort<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_port: Option<u16>,
}

/// Sorted as its fields stand here.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
struct Instance<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    /// The Kubernetes node.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    address: &'a str,
    port: i64,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'a str>,
    status: &'static str,
    weight: i64,
}

/// An instance with what it is made of.
struct Found<'a> {
    service: &'a LiveService,
    meta: BTreeMap<String, String>,
    status: &'static str,
}

/// The values of all services of ours, or only of those in `only`.
pub(super) fn by_service(live: &Live, scope: &Scope, only: Option<&BTreeSet<String>>) -> BTreeMap<String, Vec<u8>> {
    let mut services: BTreeMap<&str, Vec<Found<'_>>> = BTreeMap::new();
    for (_, node) in live.nodes.iter().filter(|(name, node)| scope.may_carry(name, node)) {
        let statuses = statuses(node);
        let is_meant = |service: &LiveService| only.is_none_or(|only| only.contains(&*service.service));
        for service in node.services.values().filter(|service| is_meant(service)) {
            let meta = service.meta.pairs();
            if scope.marks(&meta) {
                let status = STATUSES[statuses.get(&*service.id).copied().unwrap_or_default()];
                services.entry(&service.service).or_default().push(Found { service, meta, status });
            }
        }
    }
    services.into_iter().map(|(name, instances)| (name.to_owned(), value(name, &scope.cluster, &instances))).collect()
}

/// Of every instance with a check, where its status stands in [`STATUSES`]. Checks of the whole node are not its own.
fn statuses(node: &LiveNode) -> BTreeMap<&str, usize> {
    let mut found = BTreeMap::new();
    for check in node.checks.values() {
        let rank = STATUSES.iter().position(|status| **status == *check.status).unwrap_or(UNKNOWN);
        let worst = found.entry(&*check.service_id).or_default();
        *worst = rank.max(*worst);
    }
    found
}

fn value(name: &str, cluster: &str, found: &[Found<'_>]) -> Vec<u8> {
    let mut found: Vec<_> = found.iter().collect();
    // Several Services may share a name: whose tags and meta come first must not depend on where their pods run.
    found.sort_by_key(|it| (it.meta(NAMESPACE_MARK), &*it.service.id));
    let mut value = Value {
        name,
        cluster,
        namespace: found.first().and_then(|first| first.meta(NAMESPACE_MARK)),
        tags: Vec::new(),
        meta: BTreeMap::new(),
        ports: BTreeSet::new(),
        instances: BTreeSet::new(),
    };
    let mut tags = BTreeSet::new();
    for it in found {
        let service = it.service;
        value.tags.extend(service.tags.iter().map(AsRef::as_ref).filter(|tag| tags.insert(*tag)));
        value.ports.extend(it.ports());
        for (key, text) in it.meta.iter().filter(|(key, _)| !is_reserved_meta(key)) {
            value.meta.entry(key).or_insert(text);
        }
        value.instances.insert(Instance {
            namespace: it.meta(NAMESPACE_MARK),
            node: it.meta(NODE_NAME_MARK),
            address: &service.address,
            port: service.port,
            id: &service.id,
            zone: it.meta(ZONE_MARK),
            status: it.status,
            weight: service.weights.passing,
        });
    }
    serde_json::to_vec(&value).unwrap_or_else(|error| unreachable!("texts and numbers are always JSON: {error}"))
}

// === impl Found ===

impl Found<'_> {
    /// From the pairs `port-<name>` and `nodeport-<name>`, which no annotation can set.
    fn ports(&self) -> impl Iterator<Item = ServicePort<'_>> {
        let pairs = |prefix: &'static str| {
            self.meta.iter().filter_map(move |(key, text)| Some((key.strip_prefix(prefix)?, text.parse::<u16>().ok())))
        };
        let mut ports: BTreeMap<&str, (Option<u16>, Option<u16>)> =
            pairs("port-").map(|(name, port)| (name, (port, None))).collect();
        for (name, node_port) in pairs("nodeport-") {
            ports.entry(name).or_default().1 = node_port;
        }
        ports.into_iter().map(|(name, (port, node_port))| ServicePort { name, port, node_port })
    }

    fn meta(&self, key: &str) -> Option<&str> {
        self.meta.get(key).map(String::as_str)
    }
}
