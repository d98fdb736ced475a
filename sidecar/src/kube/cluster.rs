//! One Kubernetes cluster's objects, keyed and sorted, with their slices found by service.
//!
//! Sorted maps make everything derived from a cluster independent of the order in which files or events came.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::{Node, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::sources::{self, SourceError as ManifestError};

use super::{
    kinds::Kind as _,
    manifests::{Manifests, Object, Place},
    packed::Packed,
};

/// Namespace of objects that name none, as kubectl has it.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Namespace and name of a namespaced object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Namespace, never empty.
    pub namespace: String,
    /// Name, never empty.
    pub name: String,
}

/// What the sync knows of one Kubernetes cluster.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Services of all namespaces.
    pub services: BTreeMap<Arc<ObjectKey>, Packed<Service>>,
    /// Nodes by name.
    pub nodes: BTreeMap<String, Node>,
    /// EndpointSlices by their own name (not by service: that is a label).
    pub slices: BTreeMap<Arc<ObjectKey>, Packed<EndpointSlice>>,
    /// Objects of other kinds that were seen and left out, by `apiVersion/kind`; worth a line in a report.
    pub ignored: BTreeMap<String, usize>,
}

// === impl Cluster ===

impl Cluster {
    /// Reads every `*.yaml`, `*.yml` and `*.json` below `directory` (or the one file it names), in sorted order.
    ///
    /// Hidden entries are skipped, so that a mounted ConfigMap with its `..data` links reads as one set. Links may
    /// point anywhere inside the directory. All or nothing: with any error there is no cluster, since half a cluster
    /// would look like services that were deleted.
    pub fn load_directory(directory: &Path) -> Result<Self, Vec<ManifestError>> {
        let files = sources::files(directory)?;
        let mut cluster = Self::default();
        let mut places = BTreeMap::new();
        let mut errors = Vec::new();
        for file in files {
            match file.read().map_err(|error| vec![error]).and_then(|text| Manifests::parse(&file.name, &text)) {
                Ok(manifests) => cluster.add(manifests, &mut places, &mut errors),
                Err(found) => errors.extend(found),
            }
        }
        if errors.is_empty() { Ok(cluster) } else { Err(errors) }
    }

    /// A cluster of what was read elsewhere, such as standard input or a test case.
    pub fn from_manifests(manifests: impl IntoIterator<Item = Manifests>) -> Result<Self, Vec<ManifestError>> {
        let (mut cluster, mut places, mut errors) = (Self::default(), BTreeMap::new(), Vec::new());
        for part in manifests {
            cluster.add(part, &mut places, &mut errors);
        }
        if errors.is_empty() { Ok(cluster) } else { Err(errors) }
    }

    /// Adds objects; `places` remembers where each came from, so that a second copy names the first.
    fn add(&mut self, manifests: Manifests, places: &mut BTreeMap<String, Place>, errors: &mut Vec<ManifestError>) {
        for (kind, count) in manifests.ignored {
            *self.ignored.entry(kind).or_default() += count;
        }
        for (place, object) in manifests.objects {
            let identity = match &object {
                Object::Service(service) => format!("Service {}", ObjectKey::of(&service.metadata)),
                Object::EndpointSlice(slice) => format!("EndpointSlice {}", ObjectKey::of(&slice.metadata)),
                Object::Node(node) => format!("Node {}", ObjectKey::of(&node.metadata).name),
            };
            if let Some(first) = places.get(&identity) {
                let what = format!("{identity} is defined twice, first at {first}");
                errors.push(ManifestError::new(&place.to_string(), what, "keep one of the two"));
                continue;
            }
            places.insert(identity, place);
            match object {
                Object::Service(service) => {
                    self.services.insert(Arc::new(ObjectKey::of(&service.metadata)), Packed::of(*service));
                }
                Object::EndpointSlice(slice) => {
                    self.slices.insert(Arc::new(ObjectKey::of(&slice.metadata)), Packed::of(*slice));
                }
                Object::Node(mut node) => {
                    node.slim();
                    self.nodes.insert(ObjectKey::of(&node.metadata).name, *node);
                }
            }
        }
    }
}

// === impl ObjectKey ===

impl ObjectKey {
    /// The key of an object with this metadata; a missing namespace is [`DEFAULT_NAMESPACE`].
    pub fn of(metadata: &ObjectMeta) -> Self {
        let namespace = metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        Self {
            namespace: namespace.unwrap_or(DEFAULT_NAMESPACE).to_owned(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
