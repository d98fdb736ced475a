//! B5, E3, E4, G1: the meta of an instance, never more than Consul accepts.

use std::collections::BTreeMap;

use super::{annotations, note::Notes, options::SyncOptions, ports, subject::Subject};

/// Marks (G1).
pub(crate) const SOURCE: (&str, &str) = ("external-source", "kubernetes");
/// The same for external services, which come from files.
pub(crate) const EXTERNAL_SOURCE: (&str, &str) = ("external-source", "portcullis");
pub(crate) const EXTERNAL_CLUSTER: &str = "portcullis-external";
pub(crate) const NAMESPACE: &str = "external-k8s-ns";
pub(crate) const CLUSTER: &str = "external-k8s-cluster";
/// Of single instances (E3).
pub(crate) const NODE_NAME: &str = "external-k8s-node-name";
pub(crate) const ZONE: &str = "external-k8s-topology-zone";

/// Consul's limits for service meta: pairs, bytes of a key, bytes of a value.
const MAX_PAIRS: usize = 64;
const MAX_KEY: usize = 128;
const MAX_VALUE: usize = 512;
/// Pairs that are kept free for [`NODE_NAME`] and [`ZONE`], so that all instances carry the same others.
const OF_INSTANCE: usize = 2;
/// Keys that annotations cannot set: marks of ownership, Consul's own, and the ports.
const RESERVED: [&str; 4] = ["external-k8s-", "consul-", "port-", "nodeport-"];

/// The pairs that all instances of a service share: marks, then ports, then the annotations' in the order of their keys.
pub(super) fn shared(subject: &Subject<'_>, options: &SyncOptions, notes: &mut Notes) -> BTreeMap<String, String> {
    let mut meta = BTreeMap::from([
        (SOURCE.0.to_owned(), SOURCE.1.to_owned()),
        (NAMESPACE.to_owned(), subject.key.namespace.clone()),
        (CLUSTER.to_owned(), options.cluster_name.clone()),
    ]);
    add_ports(&mut meta, subject, notes);
    for (annotation, value) in subject.annotations {
        if let Some(key) = annotation.strip_prefix(annotations::META_PREFIX) {
            match refusal(key, value, meta.len()) {
                None => drop(meta.insert(key.to_owned(), value.clone())),
                Some((why, hint)) => notes.warn(annotation, format!("{why}, the pair is left out"), hint),
            }
        }
    }
    meta
}

/// `port-<name>` and `nodeport-<name>` for every port (B5).
fn add_ports(meta: &mut BTreeMap<String, String>, subject: &Subject<'_>, notes: &mut Notes) {
    let mut left_out = 0;
    for (index, entry) in subject.ports().iter().enumerate() {
        let named = entry.name.clone().filter(|name| !name.is_empty());
        let name = named.unwrap_or_else(|| format!("port{}", index + 1));
        let pairs = [("port-", ports::service_port(entry)), ("nodeport-", ports::node_port(entry))]
            .map(|(kind, number)| number.map(|number| (format!("{kind}{name}"), number.to_string())));
        for (key, value) in pairs.into_iter().flatten() {
            if meta.len() + OF_INSTANCE < MAX_PAIRS && accepted_key(&key) {
                meta.entry(key).or_insert(value);
            } else {
                left_out += 1;
            }
        }
    }
    if left_out > 0 {
        let what = format!("{left_out} of the port pairs are more than Consul takes, they are left out of the meta");
        notes.warn("spec.ports", what, "split the service, or read those ports from Kubernetes");
    }
}

/// Whether a key is none that an annotation can set.
pub(crate) fn is_reserved(key: &str) -> bool {
    key == SOURCE.0 || RESERVED.iter().any(|prefix| key.starts_with(prefix))
}

/// Why Consul, or we, would refuse a pair of an annotation (E4).
fn refusal(key: &str, value: &str, pairs: usize) -> Option<(String, &'static str)> {
    if is_reserved(key) {
        return Some((format!("the meta key {key} is reserved"), "choose another key"));
    }
    if !accepted_key(key) {
        return Some((format!("Consul refuses the meta key {key:?}"), "use 1 to 128 characters of A-Z a-z 0-9 _ -"));
    }
    if value.len() > MAX_VALUE {
        return Some((format!("a value of {} bytes", value.len()), "use at most 512 bytes"));
    }
    if pairs + OF_INSTANCE >= MAX_PAIRS {
        return Some((format!("more than {MAX_PAIRS} meta pairs"), "use fewer meta annotations"));
    }
    None
}

/// Whether Consul takes this key of a meta pair.
pub(crate) fn accepted_key(key: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(fits)
}
