//! What sources tell the daemon. Each source is a task of its own that reads and waits, and sends what it has read; the
//! daemon alone decides what follows from all of it.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use tokio::sync::mpsc;

use crate::{
    consul::Catalog,
    external::External,
    kube::{Cluster, ObjectKey, Packed},
};

/// Where sources send. Bounded: a source that is faster than the daemon waits.
pub type Inputs = mpsc::Sender<Input>;

/// How many inputs may wait.
pub const WAITING: usize = 1024;

/// One thing that a source says.
#[derive(Debug)]
pub enum Input {
    /// About the Kubernetes cluster of this `clusterName`.
    Cluster(String, Said),
    /// About what others have registered in Consul.
    Catalog(Catalog),
    /// About external services.
    External(External),
}

impl From<Catalog> for Input {
    fn from(said: Catalog) -> Self {
        Self::Catalog(said)
    }
}

/// What a source of Kubernetes objects says about its cluster.
#[derive(Debug)]
pub enum Said {
    /// All that there is; it replaces what was known. Only when Services, EndpointSlices and Nodes are all listed (G3).
    Whole(Box<Cluster>),
    /// What changed since, in order. Never before the first [`Said::Whole`].
    Changes(Vec<Change>),
    /// It cannot be read at the moment, and why: what is known stays in force, and nothing is removed for longer than the grace.
    Broken(Vec<String>),
}

/// One object as it is now; `None` when it is gone.
#[derive(Debug)]
pub enum Change {
    /// A Service.
    Service(Arc<ObjectKey>, Option<Packed<Service>>),
    /// An EndpointSlice, by its own name.
    Slice(Arc<ObjectKey>, Option<Packed<EndpointSlice>>),
    /// A Node, of which only what the sync reads.
    Node(String, Option<Box<Node>>),
    /// A resource that is policy, as JSON; it is told to others than the sync.
    Resource(ObjectKey, Option<Box<serde_json::Value>>),
}

// === impl Change ===

impl Change {
    /// Carries it out on what is known.
    pub fn apply(self, known: &mut Cluster) {
        match self {
            Self::Service(key, object) => put(&mut known.services, key, object),
            Self::Slice(key, object) => put(&mut known.slices, key, object),
            Self::Node(name, object) => put(&mut known.nodes, name, object.map(|object| *object)),
            Self::Resource(..) => {}
        }
    }
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}
