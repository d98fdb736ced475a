//! The registrations that Consul should hold for a cluster: [`desired`], the one entry to all rules.
//!
//! Read this file top to bottom: a service is selected (F), named (D), given tags, meta and weight (E), its port is
//! chosen (B), its endpoints are counted (A, C), and each place where it is reached becomes one [`Registration`].

use std::collections::BTreeMap;

use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::{
    addresses, annotations, conflicts,
    endpoints::{self, Counted},
    exposure, meta,
    naming::{self, Identity},
    note::{Note, Notes},
    options::{ConsulNodes, ServiceType, SyncOptions},
    ports,
    registration::{Check, RegisteredService, Registration, Weights},
    select,
    subject::Subject,
    tags::{self, Tag},
};
use crate::kube::{Cluster, ObjectKey};

/// Address of the synthetic Consul node. No reader should get it: every instance has its own.
const SYNTHETIC_ADDRESS: &str = "127.0.0.1";
/// Node label for the zone, where the endpoint names none (E3).
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

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

/// One place where a service is reached.
struct Instance<'a> {
    /// The Kubernetes node that is the instance's identity (D1); without one it is the address.
    through: Option<&'a str>,
    address: String,
    port: u16,
    node: Option<&'a str>,
    zone: Option<&'a str>,
    /// `None` is passing, else why not.
    failing: Option<&'static str>,
}

/// A service under judgement, with all that its instances are made of.
struct Judged<'a> {
    cluster: &'a Cluster,
    options: &'a SyncOptions,
    subject: Subject<'a>,
    slices: &'a [&'a EndpointSlice],
}

/// What all instances of a service have in common.
struct Common {
    name: String,
    tags: Vec<String>,
    meta: BTreeMap<String, String>,
    weights: Weights,
}

/// Derives the registrations of every service of `cluster`. Pure: same input, same output, same order.
pub fn desired(cluster: &Cluster, options: &SyncOptions) -> Desired {
    let slices = endpoints::by_service(cluster);
    let mut all = Desired::default();
    for (key, service) in &cluster.services {
        let of_service = slices.get(&(key.namespace.as_str(), key.name.as_str()));
        let subject = Subject::new(key, service);
        let slices = of_service.map(Vec::as_slice).unwrap_or_default();
        Judged { cluster, options, subject, slices }.judge(&mut all);
    }
    let order = |registration: &Registration| {
        let service = &registration.service;
        (service.service.clone(), registration.node.clone(), service.address.clone(), service.port, service.id.clone())
    };
    conflicts::close(&mut all);
    all.registrations.sort_by_cached_key(order);
    all.notes.sort();
    // Stable, so that the tags of a service keep their order.
    all.reasons.sort_by(|a, b| a.service.cmp(&b.service));
    all
}

impl<'a> Judged<'a> {
    fn judge(&self, all: &mut Desired) {
        let mut notes = Notes::new(self.subject.key);
        all.registrations.extend(self.registrations(&mut notes, &mut all.reasons));
        all.notes.extend(notes.into_list());
    }

    fn registrations(&self, notes: &mut Notes, reasons: &mut Vec<Reason>) -> Vec<Registration> {
        let Some(rules) = select::selected(&self.subject, self.options, notes) else { return Vec::new() };
        let Some(name) = naming::service_name(&self.subject, self.options, notes) else { return Vec::new() };
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
        instances.into_iter().map(|instance| self.register(&common, instance)).collect()
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
    fn at_nodes(&self, notes: &mut Notes) -> Vec<Instance<'a>> {
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
                    through: Some(name),
                    address,
                    port: choice.number(),
                    node: Some(name),
                    zone: endpoints.iter().find_map(|endpoint| endpoint.zone),
                    failing: match (is_ready, ready(&endpoints)) {
                        (false, _) => Some("the node is not ready"),
                        (true, false) => Some("no endpoint on the node is ready"),
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
        let Some(node) = self.cluster.nodes.get(name) else {
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
    fn at_endpoints(&self, notes: &mut Notes) -> Vec<Instance<'a>> {
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
            instances.push(Instance {
                through: None,
                address: address.to_string(),
                port: first.port,
                node: endpoints.iter().find_map(|endpoint| endpoint.node),
                zone: endpoints.iter().find_map(|endpoint| endpoint.zone),
                failing: (!ready(&endpoints)).then_some("the endpoint is not ready"),
            });
        }
        instances
    }

    /// X2: one instance for each address of the balancer.
    fn at_balancer(&self, notes: &mut Notes) -> Vec<Instance<'a>> {
        let status = self.subject.service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let ingress = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
        let filled = |text: &'a Option<String>| text.as_deref().map(str::trim).filter(|text| !text.is_empty());
        self.at_addresses(ingress.iter().filter_map(|place| filled(&place.ip).or(filled(&place.hostname))), notes)
    }

    /// X3: one instance for each of `spec.externalIPs`.
    fn at_external_ips(&self, notes: &mut Notes) -> Vec<Instance<'a>> {
        let listed = self.subject.spec.external_ips.iter().flatten();
        self.at_addresses(listed.map(|address| address.trim()).filter(|address| !address.is_empty()), notes)
    }

    fn has_external_ips(&self) -> bool {
        self.subject.spec.external_ips.iter().flatten().any(|address| !address.trim().is_empty())
    }

    /// Instances at addresses that stand for the whole service: all its endpoints decide about them (C1).
    fn at_addresses(&self, listed: impl Iterator<Item = &'a str>, notes: &mut Notes) -> Vec<Instance<'a>> {
        let Some(choice) = ports::choose(&self.subject, ports::service_port, notes) else { return Vec::new() };
        let is_ready = ready(&endpoints::counted(self.slices, &choice));
        // Consul refuses the unspecified addresses; texts that are no address are host names.
        let usable = |text: &&str| text.parse::<std::net::IpAddr>().map_or(true, |ip| !ip.is_unspecified());
        let distinct: std::collections::BTreeSet<_> = listed.filter(usable).collect();
        let instance = |address: &'a str| Instance {
            through: None,
            address: address.to_owned(),
            port: choice.number(),
            node: None,
            zone: None,
            failing: (!is_ready).then_some("no endpoint is ready"),
        };
        distinct.into_iter().map(instance).collect()
    }

    fn families(&self) -> &'a [String] {
        self.subject.spec.ip_families.as_deref().unwrap_or_default()
    }

    fn uses(&self, family: &str) -> bool {
        self.families().is_empty() || self.families().iter().any(|listed| listed == family)
    }

    fn register(&self, common: &Common, instance: Instance<'_>) -> Registration {
        let ObjectKey { namespace, .. } = self.subject.key;
        let cluster = &self.options.cluster_name;
        let identity = instance.through.map_or(Identity::Address(&instance.address), Identity::Node);
        let id = naming::service_id(cluster, &self.subject, identity);
        let consul_node = self.consul_node(instance.node);
        let mut meta = common.meta.clone();
        if let Some(name) = instance.node {
            meta.insert(meta::NODE_NAME.to_owned(), name.to_owned());
        }
        if let Some(zone) = instance.zone.or_else(|| self.zone_of(instance.node?)) {
            meta.insert(meta::ZONE.to_owned(), zone.to_owned());
        }
        let (status, why) = match instance.failing {
            None => ("passing", String::new()),
            Some(why) => ("critical", format!(", {why}")),
        };
        let verdict = if instance.failing.is_none() { "passing" } else { "failing" };
        let place = addresses::authority(&instance.address, instance.port);
        Registration {
            check: Check {
                check_id: format!("{namespace}/{id}"),
                name: "Kubernetes Readiness Check".to_owned(),
                kind: "kubernetes-readiness".to_owned(),
                status: status.to_owned(),
                // The place makes a change of the port alone visible to Traefik's watch; no numbers of endpoints, which
                // would be a write for every pod.
                output: format!("Kubernetes health checks {verdict} at {place}{why}"),
                service_id: id.clone(),
                node: consul_node.name.clone(),
                definition: None,
            },
            id: naming::node_id(cluster, &consul_node.name),
            node: consul_node.name,
            address: consul_node.address,
            node_meta: consul_node.meta,
            skip_node_update: consul_node.is_synthetic,
            service: RegisteredService {
                id,
                service: common.name.clone(),
                tags: common.tags.clone(),
                address: instance.address,
                meta,
                port: instance.port,
                weights: common.weights,
            },
        }
    }

    fn zone_of(&self, node: &str) -> Option<&'a str> {
        let labels = self.cluster.nodes.get(node)?.metadata.labels.as_ref()?;
        labels.get(ZONE_LABEL).map(String::as_str).filter(|zone| !zone.is_empty())
    }

    /// The Consul node for an instance on this Kubernetes node. Instances without one, or whose node has no address,
    /// sit on the synthetic node.
    fn consul_node(&self, node: Option<&str>) -> ConsulNode {
        let own = (self.options.consul_nodes == ConsulNodes::PerNode).then_some(node).flatten();
        // The node's address is the same for all services, so it cannot follow one service's families.
        let address = own
            .and_then(|name| self.cluster.nodes.get(name))
            .and_then(|node| addresses::of_node(node, self.options.node_port_sync, &[]));
        let source = (meta::SOURCE.0.to_owned(), meta::SOURCE.1.to_owned());
        let (Some(own), Some(address)) = (own, address) else {
            return ConsulNode {
                name: self.options.consul_node_name.clone(),
                address: SYNTHETIC_ADDRESS.to_owned(),
                meta: BTreeMap::from([source]),
                is_synthetic: true,
            };
        };
        let cluster = &self.options.cluster_name;
        ConsulNode {
            // Not the Kubernetes node's name: an agent of that name would remove services it does not know.
            name: format!("{}-{cluster}-{own}", self.options.consul_node_name),
            address,
            meta: BTreeMap::from([
                source,
                (meta::CLUSTER.to_owned(), cluster.clone()),
                (meta::NODE_NAME.to_owned(), own.to_owned()),
            ]),
            is_synthetic: false,
        }
    }
}

struct ConsulNode {
    name: String,
    address: String,
    meta: BTreeMap<String, String>,
    is_synthetic: bool,
}

/// C1: one that is ready is enough.
fn ready(endpoints: &[Counted<'_>]) -> bool {
    endpoints.iter().any(|endpoint| endpoint.ready)
}
