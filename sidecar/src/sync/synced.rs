//! One Kubernetes service as it is registered: what its instances have in common once, and of each of them only what is its
//! own. It is kept as bytes ([`Kept`]), of which [`Registration`]s are made when somebody needs them.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    addresses, meta,
    naming::{self, Identity},
    options::SyncOptions,
    registration::{Check, RegisteredService, Registration, Weights},
};
use crate::kube::ObjectKey;

/// Address of the synthetic Consul node. No reader should get it: every instance has its own.
const SYNTHETIC_ADDRESS: &str = "127.0.0.1";

/// A service with at least one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Synced {
    pub(super) key: Arc<ObjectKey>,
    pub(super) common: Common,
    pub(super) instances: Box<[Instance]>,
}

/// What all instances of a service have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Common {
    pub(super) name: String,
    pub(super) tags: Vec<String>,
    pub(super) meta: BTreeMap<String, String>,
    pub(super) weights: Weights,
}

/// One place where a service is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Instance {
    /// Whether the Kubernetes node is the instance's identity (D1); otherwise it is the address.
    pub(super) is_node: bool,
    pub(super) address: Box<str>,
    pub(super) port: u16,
    pub(super) node: Option<Box<str>>,
    pub(super) zone: Option<Box<str>>,
    /// Address of the Consul node that stands for the Kubernetes node; `None` on the synthetic one.
    pub(super) own_node: Option<Box<str>>,
    /// `None` is passing, else why not.
    pub(super) failing: Option<Failing>,
}

/// Why an instance is critical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Failing {
    Node,
    OnNode,
    Endpoint,
    Service,
}

/// A service as it is kept: the texts of its structure would take four times as much, and one of ten thousand is looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) key: Arc<ObjectKey>,
    /// Consul name.
    pub(super) name: Arc<str>,
    pub(super) n_instances: usize,
    pub(super) n_critical: usize,
    bytes: Box<[u8]>,
}

struct ConsulNode {
    name: String,
    address: String,
    meta: BTreeMap<String, String>,
    is_synthetic: bool,
}

impl Synced {
    /// Its registrations, in the order of its instances.
    pub(super) fn registrations<'a>(&'a self, options: &'a SyncOptions) -> impl Iterator<Item = Registration> + 'a {
        self.instances.iter().map(|instance| self.register(instance, options))
    }

    fn register(&self, instance: &Instance, options: &SyncOptions) -> Registration {
        let ObjectKey { namespace, .. } = &*self.key;
        let cluster = &options.cluster_name;
        let identity = match &instance.node {
            Some(node) if instance.is_node => Identity::Node(node),
            _ => Identity::Address(&instance.address),
        };
        let id = naming::service_id(cluster, &self.key, identity);
        let consul_node = consul_node(instance, options);
        let mut meta = self.common.meta.clone();
        if let Some(name) = &instance.node {
            meta.insert(meta::NODE_NAME.to_owned(), name.to_string());
        }
        if let Some(zone) = &instance.zone {
            meta.insert(meta::ZONE.to_owned(), zone.to_string());
        }
        let (status, why) = match instance.failing {
            None => ("passing", String::new()),
            Some(why) => ("critical", format!(", {}", why.text())),
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
                service: self.common.name.clone(),
                tags: self.common.tags.clone(),
                address: instance.address.to_string(),
                meta,
                port: instance.port,
                weights: self.common.weights,
            },
        }
    }
}

impl Failing {
    fn text(self) -> &'static str {
        match self {
            Self::Node => "the node is not ready",
            Self::OnNode => "no endpoint on the node is ready",
            Self::Endpoint => "the endpoint is not ready",
            Self::Service => "no endpoint is ready",
        }
    }
}

impl Kept {
    /// `name` is the service's Consul name, to be shared.
    pub(super) fn new(service: &Synced, name: Arc<str>) -> Self {
        let Synced { key, common, instances } = service;
        // Texts and numbers always have such a form.
        let bytes = postcard::to_allocvec(&(common, instances)).unwrap_or_default().into();
        let n_critical = instances.iter().filter(|instance| instance.failing.is_some()).count();
        Self { key: Arc::clone(key), name, n_instances: instances.len(), n_critical, bytes }
    }

    pub(super) fn get(&self) -> Synced {
        // They were made by `new`.
        let (common, instances) = postcard::from_bytes(&self.bytes).unwrap_or_default();
        Synced { key: Arc::clone(&self.key), common, instances }
    }
}

/// The Consul node for an instance. Instances without a Kubernetes node, or whose node has no address, sit on the
/// synthetic one.
fn consul_node(instance: &Instance, options: &SyncOptions) -> ConsulNode {
    let source = (meta::SOURCE.0.to_owned(), meta::SOURCE.1.to_owned());
    let (Some(own), Some(address)) = (&instance.node, &instance.own_node) else {
        return ConsulNode {
            name: options.consul_node_name.clone(),
            address: SYNTHETIC_ADDRESS.to_owned(),
            meta: BTreeMap::from([source]),
            is_synthetic: true,
        };
    };
    let cluster = &options.cluster_name;
    ConsulNode {
        // Not the Kubernetes node's name: an agent of that name would remove services it does not know.
        name: format!("{}-{cluster}-{own}", options.consul_node_name),
        address: address.to_string(),
        meta: BTreeMap::from([
            source,
            (meta::CLUSTER.to_owned(), cluster.clone()),
            (meta::NODE_NAME.to_owned(), own.to_string()),
        ]),
        is_synthetic: false,
    }
}
