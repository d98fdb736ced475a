//! The objects that are made in Kubernetes: as they are wanted, as they are, and what leads from one to the other. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::slices::Slice;

/// Labels of everything that is ours: who made it, and for which `clusterName`. Both are the proof; a name is none.
pub(super) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "portcullis");
pub(super) const CLUSTER: &str = "portcullis.io/cluster";
/// The name in Consul.
const CONSUL_SERVICE: &str = "portcullis.io/consul-service";
/// consul-k8s and we ourselves do not register a Service that says so (F3).
const SYNC: (&str, &str) = ("consul.hashicorp.com/service-sync", "false");
/// What says that an EndpointSlice belongs to a Service, and that no controller but ours writes it.
pub(super) const SLICE_SERVICE: &str = "kubernetes.io/service-name";
const SLICE_MANAGER: (&str, &str) = ("endpointslice.kubernetes.io/managed-by", "portcullis.io");
/// Consul does not know it.
const PROTOCOL: &str = "TCP";

/// Labels and annotations.
type Texts = BTreeMap<String, String>;

/// What all objects of one import have in common.
#[derive(Clone, Debug)]
pub(super) struct Marks {
    pub(super) namespace: String,
    labels: Texts,
    cluster: String,
}

/// What a Service is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Without a selector: its slices are ours.
    Endpoints {
        /// Its port.
        port: u16,
    },
    /// A name in Consul's DNS.
    ExternalName(String),
}

/// A Service as it is. Only what we write is read.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct LiveService {
    pub(super) metadata: Metadata,
    #[serde(default, deserialize_with = "or_default")]
    spec: ServiceSpec,
}

/// An `EndpointSlice` as it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LiveSlice {
    pub(super) metadata: Metadata,
    address_type: String,
    #[serde(default, deserialize_with = "or_default")]
    ports: Vec<Port>,
    #[serde(default, deserialize_with = "or_default")]
    endpoints: Vec<Endpoint>,
}

/// Who an object is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    /// Since when it is about to go.
    #[serde(default)]
    pub(super) deletion_timestamp: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    labels: Texts,
    #[serde(default, deserialize_with = "or_default")]
    annotations: Texts,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "type")]
    kind: String,
    external_name: Option<String>,
    #[serde(deserialize_with = "or_default")]
    selector: Texts,
    #[serde(deserialize_with = "or_default")]
    ports: Vec<Port>,
}

#[derive(Clone, Debug, Deserialize)]
struct Port {
    #[serde(default)]
    name: Option<String>,
    #[serde(default, rename = "port")]
    number: Option<i64>,
    #[serde(default)]
    protocol: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Endpoint {
    #[serde(default, deserialize_with = "or_default")]
    addresses: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    conditions: Conditions,
    /// What somebody else has added: none of it is wanted.
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

// === impl Marks ===

impl Marks {
    /// Those of a cluster's import; `labels` are the user's.
    pub(super) fn new(cluster: &str, namespace: &str, labels: &Texts) -> Self {
        let mut labels = labels.clone();
        labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
        labels.insert(CLUSTER.to_owned(), cluster.to_owned());
        Self { namespace: namespace.to_owned(), labels, cluster: cluster.to_owned() }
    }

    /// Whether an object is ours.
    pub(super) fn own(&self, metadata: &Metadata) -> bool {
        let is = |key: &str, value: &str| metadata.labels.get(key).is_some_and(|it| it == value);
        is(MANAGED_BY.0, MANAGED_BY.1) && is(CLUSTER, &self.cluster)
    }

    /// A Service that is not there.
    pub(super) fn new_service(&self, name: &str, consul: &str, form: &Form) -> Value {
        let metadata = json!({"name": name, "namespace": self.namespace, "labels": self.labels, "annotations": annotations(consul)});
        let spec = match form {
            Form::Endpoints { port } => {
                // On a cluster with one family it is that one.
                json!({"type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack", "ports": [port_of(*port)]})
            }
            Form::ExternalName(target) => json!({"type": "ExternalName", "externalName": target}),
        };
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    }

    /// What makes a Service of ours what it should be; `None` if it is that already.
    pub(super) fn mend_service(&self, live: &LiveService, consul: &str, form: &Form) -> Option<Value> {
        let annotations = annotations(consul);
        let LiveService { metadata, spec } = live;
        let is_marked = holds(&metadata.labels, &self.labels) && holds(&metadata.annotations, &annotations);
        let is_form = match form {
            Form::Endpoints { port } => {
                spec.kind == "ClusterIP" && matches!(spec.ports.as_slice(), [only] if only.is(*port))
            }
            Form::ExternalName(target) => {
                spec.kind == "ExternalName" && spec.external_name.as_ref() == Some(target) && spec.ports.is_empty()
            }
        };
        if is_marked && is_form && spec.selector.is_empty() {
            return None;
        }
        // What is null goes: a selector would send the requests to pods.
        let spec = match form {
            Form::Endpoints { port } => {
                json!({"type": "ClusterIP", "externalName": null, "selector": null, "ports": [port_of(*port)]})
            }
            Form::ExternalName(target) => {
                json!({"type": "ExternalName", "externalName": target, "selector": null, "ports": null, "clusterIP": null,
                       "clusterIPs": null, "ipFamilies": null, "ipFamilyPolicy": null})
            }
        };
        Some(json!({"metadata": {"labels": self.labels, "annotations": annotations}, "spec": spec}))
    }

    /// An `EndpointSlice` that is not there.
    pub(super) fn new_slice(&self, name: &str, service: &str, slice: &Slice) -> Value {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": self.namespace, "labels": self.slice_labels(service)},
            "addressType": slice.family.word(), "ports": [port_of(slice.port)], "endpoints": endpoints(slice),
        })
    }

    /// What makes an `EndpointSlice` of ours what it should be; `None` if it is that already.
    pub(super) fn mend_slice(&self, live: &LiveSlice, service: &str, slice: &Slice) -> Option<Value> {
        let labels = self.slice_labels(service);
        let is_same = holds(&live.metadata.labels, &labels)
            && matches!(live.ports.as_slice(), [only] if only.is(slice.port))
            && live.endpoints.len() == slice.endpoints.len()
            && live.endpoints.iter().zip(&slice.endpoints).all(|(live, (address, ready))| live.is(*address, *ready));
        (!is_same).then(
            || json!({"metadata": {"labels": labels}, "ports": [port_of(slice.port)], "endpoints": endpoints(slice)}),
        )
    }

    fn slice_labels(&self, service: &str) -> Texts {
        let mut labels = self.labels.clone();
        labels.insert(SLICE_SERVICE.to_owned(), service.to_owned());
        labels.insert(SLICE_MANAGER.0.to_owned(), SLICE_MANAGER.1.to_owned());
        labels
    }
}

// === impl Live ===

impl LiveService {
    /// Leaves of one that is not ours who it is.
    pub(super) fn slim(&mut self) {
        (self.metadata.labels, self.metadata.annotations) = (Texts::new(), Texts::new());
        self.spec = ServiceSpec::default();
    }
}

impl LiveSlice {
    /// The family of its addresses, which nobody can change.
    pub(super) fn address_type(&self) -> &str {
        &self.address_type
    }
}

impl Port {
    fn is(&self, port: u16) -> bool {
        self.name.as_deref().unwrap_or_default().is_empty()
            && self.number == Some(port.into())
            && self.protocol.as_deref().unwrap_or(PROTOCOL) == PROTOCOL
    }
}

impl Endpoint {
    fn is(&self, address: std::net::IpAddr, ready: bool) -> bool {
        let conditions = Conditions { ready: Some(ready), serving: Some(ready), terminating: Some(false) };
        let is_address = matches!(self.addresses.as_slice(), [only] if *only == address.to_string());
        is_address && self.conditions == conditions && self.more.is_empty()
    }
}

fn annotations(consul: &str) -> Texts {
    [(CONSUL_SERVICE, consul), SYNC].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// What others have added is theirs.
fn holds(live: &Texts, wanted: &Texts) -> bool {
    wanted.iter().all(|(key, value)| live.get(key) == Some(value))
}

fn port_of(port: u16) -> Value {
    json!({"name": "", "port": port, "protocol": PROTOCOL})
}

fn endpoints(slice: &Slice) -> Vec<Value> {
    let endpoint = |(address, ready): &(std::net::IpAddr, bool)| json!({"addresses": [address], "conditions": {"ready": ready, "serving": ready, "terminating": false}});
    slice.endpoints.iter().map(endpoint).collect()
}
