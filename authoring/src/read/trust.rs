//! Whose CAs sign for whom: `ca-roots`, which is Consul's `/v1/connect/ca/roots` with a `Kind`, and `peer-trust-bundle`
//! `{Name, TrustDomain, ExportedPartition, RootPEMs}`, which Consul has in no HTTP API (consul-policy §1.2, §1.3, §8).
//!
//! A root that cannot be read is left out, so that its certificates are refused; a bundle whose trust domain cannot be
//! read is left out as a whole, for an ID of an unknown trust domain is refused before any intention is asked.

use super::node::{Node, Object};
use portcullis_policy::{
    certificate::{CaRoot, TrustBundle},
    model::DEFAULT_TENANCY,
    problem::{Problem, Severity},
};

/// Longest trust domain (SPIFFE-ID specification §2.1) and longest name, in bytes.
const MAX_NAME: usize = 255;
/// Most roots of one trust domain: Consul keeps one for each rotation in the last days.
const MAX_ROOTS: usize = 32;
const PEER_KEYS: [&str; 6] = ["kind", "name", "peername", "trustdomain", "exportedpartition", "rootpems"];

/// Reads this cluster's roots. Fields that Consul adds beside them say nothing about trust.
pub(super) fn read_ca_roots(object: &Object<'_>, entry: &Node<'_>, problems: &mut Vec<Problem>) -> Option<TrustBundle> {
    let trust_domain = read_trust_domain(object, entry, problems)?;
    let mut texts = Vec::new();
    for root in list(object, "roots", problems) {
        // Intermediates are sent along by whoever they signed for; only roots are trusted, as in Consul's own proxies.
        match root.try_object().and_then(|root| root.get("rootcert")) {
            Some(text) => texts.push(text),
            None => problems.push(root.problem(Severity::Error, "the root has no RootCert; it is not trusted", "")),
        }
    }
    let roots = read_roots(texts, entry, problems);
    Some(TrustBundle { trust_domain, peer: None, partition: DEFAULT_TENANCY.to_owned(), roots })
}

/// Reads a peer's trust bundle.
pub(super) fn read_peer(object: &Object<'_>, entry: &Node<'_>, problems: &mut Vec<Problem>) -> Option<TrustBundle> {
    problems.extend(
        object.unknown(&PEER_KEYS).iter().map(|node| node.problem(Severity::Warning, "this field is not known", "")),
    );
    // `PeerName` is what Consul calls it inside.
    let name = object.filled("name").or_else(|| object.filled("peername"));
    let Some(peer) = name.and_then(|name| name.text()).filter(|name| name.len() <= MAX_NAME) else {
        problems.push(entry.problem(
            Severity::Error,
            "the trust bundle has no Name; no certificate of its peer is accepted",
            "write the peer's name, as `Peer` in intentions has it",
        ));
        return None;
    };
    let trust_domain = read_trust_domain(object, entry, problems)?;
    let partition = match object.filled("exportedpartition") {
        None => DEFAULT_TENANCY,
        Some(node) => match node.text().filter(|text| text.len() <= MAX_NAME) {
            Some(text) => text,
            None => {
                problems.push(node.problem(
                    Severity::Error,
                    "this must be a name; no certificate of the peer is accepted",
                    "",
                ));
                return None;
            }
        },
    };
    let roots = read_roots(list(object, "rootpems", problems), entry, problems);
    Some(TrustBundle { trust_domain, peer: Some(peer.to_owned()), partition: partition.to_owned(), roots })
}

/// The trust domain in lower case, as IDs spell it.
fn read_trust_domain(object: &Object<'_>, entry: &Node<'_>, problems: &mut Vec<Problem>) -> Option<String> {
    let domain = object.filled("trustdomain").and_then(|node| node.text()).map(str::to_ascii_lowercase);
    let belongs = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let domain = domain.filter(|domain| domain.len() <= MAX_NAME && domain.bytes().all(belongs));
    if domain.is_none() {
        problems.push(entry.problem(
            Severity::Error,
            "there is no TrustDomain of letters, digits, `.`, `-` and `_`; no certificate of it is accepted",
            "for a cluster it is `<cluster id>.consul`",
        ));
    }
    domain
}

fn list<'a>(object: &Object<'a>, key: &str, problems: &mut Vec<Problem>) -> Vec<Node<'a>> {
    let Some(node) = object.get(key) else { return Vec::new() };
    node.try_list().unwrap_or_else(|| {
        problems.push(node.problem(Severity::Error, "a list was expected here; no root is trusted", ""));
        Vec::new()
    })
}

fn read_roots(texts: Vec<Node<'_>>, entry: &Node<'_>, problems: &mut Vec<Problem>) -> Vec<CaRoot> {
    let mut roots = Vec::new();
    for node in texts {
        let read = node.text().map_or(Err("this is not text".to_owned()), |text| {
            CaRoot::from_pem(text).map_err(|invalid| invalid.to_string())
        });
        match read {
            Ok(root) if roots.contains(&root) => {}
            Ok(_) if roots.len() == MAX_ROOTS => {
                problems.push(node.problem(Severity::Error, "there are too many roots; this one is not trusted", ""));
            }
            Ok(root) => roots.push(root),
            Err(why) => problems.push(node.problem(
                Severity::Error,
                &format!("{why}; certificates that it signs are refused"),
                "one block of PEM with a CA's certificate was expected",
            )),
        }
    }
    if roots.is_empty() {
        problems.push(entry.problem(
            Severity::Error,
            "there is no usable root; every certificate of this trust domain is refused",
            "",
        ));
    }
    roots
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
