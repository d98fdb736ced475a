//! D: names and identities in Consul.

use sha2::{Digest, Sha256};

use super::{annotations, note::Notes, options::SyncOptions, subject::Subject};
use crate::kube::ObjectKey;

/// Longest Consul service name, in bytes (D3).
const MAX_NAME: usize = 255;

/// What makes an instance itself, within its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Identity<'a> {
    /// The Kubernetes node it is reached through.
    Node(&'a str),
    /// An endpoint's, balancer's or external address (X1-X3).
    Address(&'a str),
}

/// The Consul name of a service (D2, D3), or `None` with a note if it must not be synced.
pub(super) fn service_name(subject: &Subject<'_>, options: &SyncOptions, notes: &mut Notes) -> Option<String> {
    let annotated = subject.annotation(annotations::NAME).map(str::trim);
    let name = if let Some(name) = annotated {
        name.to_owned()
    } else {
        let suffix =
            if options.add_k8s_namespace_suffix { format!("-{}", subject.key.namespace) } else { String::new() };
        format!("{}{}{suffix}", options.consul_service_prefix, subject.key.name)
    };
    if (1..=MAX_NAME).contains(&name.len()) {
        return Some(name);
    }
    let key = if annotated.is_some() { annotations::NAME } else { "metadata.name" };
    let what = format!("a Consul name of {} bytes, the service is not synced", name.len());
    notes.error(key, what, "use 1 to 255 bytes");
    None
}

/// `<Kubernetes service>-<12 hex digits>`, the digits from the SHA-256 of cluster, namespace, service and identity (D1).
///
/// Neither the Consul name nor address, port or tags take part: changing an annotation changes the instance in place.
/// The readable part is the Kubernetes name, so that two services can only meet if they have one name as well as the
/// same 48 bits.
pub(super) fn service_id(cluster: &str, key: &ObjectKey, identity: Identity<'_>) -> String {
    let (kind, of) = match identity {
        Identity::Node(node) => ("node", node),
        Identity::Address(address) => ("address", address),
    };
    let digest = digest(&["service", cluster, &key.namespace, &key.name, kind, of]);
    format!("{}-{}", key.name, hex(&digest[..6]))
}

/// The UUID of a Consul node (version 8: our own derivation), from cluster and Consul node name (D4).
pub(crate) fn node_id(cluster: &str, node: &str) -> String {
    let mut bytes = digest(&["node", cluster, node]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let part = |range: std::ops::Range<usize>| hex(&bytes[range]);
    [part(0..4), part(4..6), part(6..8), part(8..10), part(10..16)].join("-")
}

/// The same for an instance of the external services of a name: `<id>-<12 hex digits>`.
pub(crate) fn external_id(name: &str, node: &str, id: &str) -> String {
    format!("{id}-{}", hex(&digest(&["external", name, node, id])[..6]))
}

/// SHA-256 over the parts, each with its length before it, so that no two lists of parts read alike.
fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
