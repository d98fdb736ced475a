//! The registrations that Consul should hold for a cluster: [`desired`], the one entry to all rules.
//!
//! Read this file top to bottom: a service is selected (F), named (D), given tags, meta and weight (E), its port is
//! chosen (B), its endpoints are counted (A, C), and each place where it is reached becomes one [`Registration`].

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};

use super::{
    addresses, annotations, conflicts,
    endpoints::{self, Counted},
    exposure, meta, naming,
    note::{Note, Notes},
    options::{ConsulNodes, ServiceType, SyncOptions},
    ports,
    registration::{Registration, Weights},
    select,
    subject::Subject,
    synced::{Common, Failing, Instance, Synced},
    tags::{self, Tag},
};
use crate::kube::{Cluster, ObjectKey};

/// Node label for the zone, where the endpoint names none (E3).
pub(crate) const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// What should be in Consul, and what is to be said about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Sorted by Consul service, Consul node, address, port and ID.
    pub registrations: Vec<Registration>,
    /// Sorted by object and key; one per bad value.
    pub notes: Vec<Note>,
    /// Why each tag is there, by Consul service and in the order of the tags.
    pub reasons: Vec<Reason>,
}

/// One tag of a service and what put it there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// Consul service name.
    pub service: String,
    /// The whole tag.
    pub tag: String,
    /// The key of an annotation, or an option.
    pub from: String,
}

/// What became of one service.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    /// `None` without an instance.
    pub(super) synced: Option<Synced>,
    pub(super) notes: Vec<Note>,
    pub(super) reasons: Vec<Reason>,
}

/// A service under judgement, with all that its instances are made of.
struct Judged<'a> {
    nodes: &'a BTreeMap<String, Node>,
    options: &'a SyncOptions,
    key: &'a Arc<ObjectKey>,
    subject: Subject<'a>,
    slices: &'a [EndpointSlice],
}

/// Derives the registrations of every service of `cluster`. Pure: same input, same output, same order.
pub fn desired(cluster: &Cluster, options: &SyncOptions) -> Desired {
    let slices = endpoints::by_service(cluster);
    let mut all = Desired::default();
    for (key, service) in &cluster.services {
        let slices = slices.get(key).map(Vec::as_slice).unwrap_or_default();
        let Judgement { synced, notes, reasons } = judge(&cluster.nodes, options, (key, &service.get()), slices);
        all.registrations.extend(synced.iter().flat_map(|synced| synced.registrations(options)));
        all.notes.extend(notes);
        all.reasons.extend(reasons);
    }
    conflicts::close(&mut all);
    all.registrations.sort_by(order);
    all.notes.sort();
    // Stable, so that the tags of a service keep their order.
    all.reasons.sort_by(|a, b| a.service.cmp(&b.service));
    all
}

/// Judges one service by itself; conflicts with others are seen later. `nodes` are those of its cluster, `slices` its own.
pub(super) fn judge(
    nodes: &BTreeMap<String, Node>,
    options: &SyncOptions,
    (key, service): (&Arc<ObjectKey>, &Service),
    slices: &[EndpointSlice],
) -> Judgement {
    let (mut notes, mut reasons) = (Notes::new(key), Vec::new());
    let judged = Judged { nodes, options, key, subject: Subject::new(key, service), slices };
    let synced = judged.synced(&mut notes, &mut reasons);
    Judgement { synced, notes: notes.into_list(), reasons }
}

/// The order of all registrations: by Consul service, Consul node, address, port and ID.
pub(super) fn order(one: &Registration, other: &Registration) -> Ordering {
    let (a, b) = (&one.service, &other.service);
    let rest = || (a.port, &a.id).cmp(&(b.port, &b.id));
    (&a.service, &one.node, &a.address).cmp(&(&b.service, &other.node, &b.address)).then_with(rest)
}

impl<'a> Judged<'a> {
    fn synced(&self, notes: &mut Notes, reasons: &mut Vec<Reason>) -> Option<Synced> {
        let rules = select::selected(&self.subject, self.options, notes)?;
        let name = naming::service_name(&self.subject, self.options, notes)?;
        let collected = tags::collect(&self.subject, self.options);
        let tags = tags::unique(exposure::apply(&self.subject, &name, self.options, collected, notes));
        let reason = |tag: &Tag| Reason { service: name.clone(), tag: tag.text.clone(), from: tag.from.clone() };
        reasons.extend(tags.iter().map(reason));
        let common = Common {
            name,
            tags: tags.into_iter().map(|tag| tag.text).collect(),
            meta: meta::shared(&self.subject, self.options, notes),
            weights: self.weights(notes),
        };
        let instances = match rules {
            ServiceType::NodePort => self.at_nodes(notes),
            _ if self.has_external_ips() => self.at_external_ips(notes),
            ServiceType::LoadBalancer if !self.options.load_balancer_endpoints => self.at_balancer(notes),
            ServiceType::ClusterIp | ServiceType::LoadBalancer => self.at_endpoints(notes),
        };
        if instances.is_empty() && notes.is_empty() {
            notes.warn("endpoints", "the service is synced but has no instance", "check its pods, slices and ports");
        }
        let key = Arc::clone(self.key);
        (!instances.is_empty()).then(|| Synced { key, common, instances: instances.into_boxed_slice() })
    }

    /// E5.
    fn weights(&self, notes: &mut Notes) -> Weights {
        let Some(text) = self.subject.annotation(annotations::WEIGHT) else { return Weights::default() };
        let passing = annotations::decimal(text.trim()).unwrap_or_else(|| {
            notes.warn(annotations::WEIGHT, format!("{text:?} is no weight, 1 is used"), "write 1 to 65535");
            1
        });
        Weights { passing, warning: 1 }
    }

    /// A: one instance for each node that a counted endpoint names.
    fn at_nodes(&self, notes: &mut Notes) -> Vec<Instance> {
        let Some(choice) = ports::choose(&self.subject, ports::node_port, notes) else { return Vec::new() };
        let mut by_node: BTreeMap<&str, Vec<Counted<'_>>> = BTreeMap::new();
        for endpoint in endpoints::counted(self.slices, &choice) {
            if let Some(node) = endpoint.node {
                by_node.entry(node).or_default().push(endpoint);
            }
        }
        let mut instances = Vec::new();
        for (name, endpoints) in by_node {
            match self.node_address(name) {
                Ok((address, is_ready)) => instances.push(Instance {
                    is_node: true,
                    address: address.into(),
                    port: choice.number(),
                    zone: self.zone(endpoints.iter().find_map(|endpoint| endpoint.zone), Some(name)),
                    node: Some(name.into()),
                    own_node: self.own_node(Some(name)),
                    failing: match (is_ready, ready(&endpoints)) {
                        (false, _) => Some(Failing::Node),
                        (true, false) => Some(Failing::OnNode),
                        (true, true) => None,
                    },
                }),
                Err((what, hint)) => notes.warn(&format!("node {name}"), format!("{what}, it is left out"), hint),
            }
        }
        instances
    }

    /// The node's address for this service and whether the node is ready, or why there is none (A5).
    fn node_address(&self, name: &str) -> Result<(String, bool), (String, &'static str)> {
        let Some(node) = self.nodes.get(name) else {
            return Err((
                "an endpoint names the node, but there is no such Node".to_owned(),
                "it returns with the Node",
            ));
        };
        let mode = self.options.node_port_sync;
        match addresses::of_node(node, mode, self.families()) {
            Some(address) => Ok((address, addresses::is_ready(node))),
            None => Err((
                format!("no address for nodePortSync {mode:?} and the service's families"),
                "give the node such an address or change nodePortSync",
            )),
        }
    }

    /// X1: one instance for each address of a counted endpoint.
    fn at_endpoints(&self, notes: &mut Notes) -> Vec<Instance> {
        let Some(choice) = ports::choose(&self.subject, ports::service_port, notes) else { return Vec::new() };
        let mut by_address: BTreeMap<std::net::IpAddr, Vec<Counted<'_>>> = BTreeMap::new();
        for endpoint in endpoints::counted(self.slices, &choice) {
            let ip = endpoint.address.and_then(addresses::ip);
            if let Some(ip) = ip.filter(|ip| self.uses(addresses::family(*ip))) {
                by_address.entry(ip).or_default().push(endpoint);
            }
        }
        let mut instances = Vec::new();
        for (address, endpoints) in by_address {
            let Some(first) = endpoints.first() else { continue };
            let node = endpoints.iter().find_map(|endpoint| endpoint.node);
            instances.push(Instance {
                is_node: false,
                address: address.to_string().into(),
                port: first.port,
                zone: self.zone(endpoints.iter().find_map(|endpoint| endpoint.zone), node),
                node: node.map(Into::into),
                own_node: self.own_node(node),
                failing: (!ready(&endpoints)).then_some(Failing::Endpoint),
            });
        }
        instances
    }

    /// X2: one instance for each address of the balancer.
    fn at_balancer(&self, notes: &mut Notes) -> Vec<Instance> {
        let status = self.subject.service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let ingress = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
        let filled = |text: &'a Option<String>| text.as_deref().map(str::trim).filter(|text| !text.is_empty());
        self.at_addresses(ingress.iter().filter_map(|place| filled(&place.ip).or(filled(&place.hostname))), notes)
    }

    /// X3: one instance for each of `spec.externalIPs`.
    fn at_external_ips(&self, notes: &mut Notes) -> Vec<Instance> {
        let listed = self.subject.spec.external_ips.iter().flatten();
        self.at_addresses(listed.map(|address| address.trim()).filter(|address| !address.is_empty()), notes)
    }

    fn has_external_ips(&self) -> bool {
        self.subject.spec.external_ips.iter().flatten().any(|address| !address.trim().is_empty())
    }

    /// Instances at addresses that stand for the whole service: all its endpoints decide about them (C1).
    fn at_addresses(&self, listed: impl Iterator<Item = &'a str>, notes: &mut Notes) -> Vec<Instance> {
        let Some(choice) = ports::choose(&self.subject, ports::service_port, notes) else { return Vec::new() };
        let is_ready = ready(&endpoints::counted(self.slices, &choice));
        // Consul refuses the unspecified addresses; texts that are no address are host names.
        let usable = |text: &&str| text.parse::<std::net::IpAddr>().map_or(true, |ip| !ip.is_unspecified());
        let distinct: std::collections::BTreeSet<_> = listed.filter(usable).collect();
        let instance = |address: &'a str| Instance {
            is_node: false,
            address: address.into(),
            port: choice.number(),
            node: None,
            zone: None,
            own_node: None,
            failing: (!is_ready).then_some(Failing::Service),
        };
        distinct.into_iter().map(instance).collect()
    }

    fn families(&self) -> &'a [String] {
        self.subject.spec.ip_families.as_deref().unwrap_or_default()
    }

    fn uses(&self, family: &str) -> bool {
        self.families().is_empty() || self.families().iter().any(|listed| listed == family)
    }

    /// E3.
    fn zone(&self, of_endpoints: Option<&str>, node: Option<&str>) -> Option<Box<str>> {
        let of_node = || {
            let labels = self.nodes.get(node?)?.metadata.labels.as_ref()?;
            labels.get(ZONE_LABEL).map(String::as_str).filter(|zone| !zone.is_empty())
        };
        of_endpoints.or_else(of_node).map(Into::into)
    }

    /// The address of the Consul node that stands for a Kubernetes node (D4).
    fn own_node(&self, node: Option<&str>) -> Option<Box<str>> {
        let own = (self.options.consul_nodes == ConsulNodes::PerNode).then_some(node).flatten();
        // The node's address is the same for all services, so it cannot follow one service's families.
        let node = own.and_then(|name| self.nodes.get(name))?;
        addresses::of_node(node, self.options.node_port_sync, &[]).map(Into::into)
    }
}

/// C1: one that is ready is enough.
fn ready(endpoints: &[Counted<'_>]) -> bool {
    endpoints.iter().any(|endpoint| endpoint.ready)
}
