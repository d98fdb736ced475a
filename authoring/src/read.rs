//! Reading authored documents into a [`Policy`]: Consul config entries as its HTTP API returns them, HCL-shaped, or as
//! Kubernetes resources, and Portcullis' own kinds.
//!
//! All three spellings of a key are one: `PathPrefix`, `path_prefix` and `pathPrefix` differ in letter case and underscores
//! only, so keys are folded once (`node.rs`) and there is one reader. Reading never stops at the first fault: it returns
//! what could be read, with everything else marked as broken (denied), and every [`Problem`].

mod api_key;
mod criteria;
#[cfg(feature = "full")]
mod duration;
#[cfg(feature = "full")]
mod identity;
mod intention;
#[cfg(feature = "full")]
mod jwt_provider;
mod mesh;
mod mode;
mod node;
mod permission;
#[cfg(feature = "full")]
mod rate_limits;
mod requirement;
#[cfg(feature = "full")]
mod subject;
#[cfg(feature = "full")]
mod trust;

use serde_json::Value;

#[cfg(feature = "full")]
pub use subject::{Subject, entries_of, subject};

use node::{Node, Object};
use portcullis_policy::{
    model::{Policy, PolicySettings},
    problem::{Problem, Severity},
};

/// Kinds of Consul config entries that say nothing about who may call whom. Any other unknown kind is fatal: a misspelt
/// `service-intentions` may be a deny.
const OTHER_KINDS: [&str; 15] = [
    "apigateway",
    "boundapigateway",
    "controlplanerequestlimit",
    "exportedservices",
    "fileystemcertificate",
    "httproute",
    "ingressgateway",
    "inlinecertificate",
    "ratelimit",
    "samenessgroup",
    "serviceresolver",
    "servicerouter",
    "servicesplitter",
    "tcproute",
    "terminatinggateway",
];

/// Reads documents. Each comes with its place (a file name and the document's number in it), which problems repeat. A
/// document is one entry or a list of entries.
pub fn entries(documents: &[(String, Value)], settings: PolicySettings) -> (Policy, Vec<Problem>) {
    let mut policy = Policy { settings, ..Policy::default() };
    let mut problems = Vec::new();
    for (place, document) in documents {
        match document {
            Value::Null => {}
            Value::Array(list) => {
                for (index, entry) in list.iter().enumerate() {
                    read_entry(&Node::new(entry, format!("{place}: [{index}]")), &mut policy, &mut problems);
                }
            }
            entry => read_entry(&Node::new(entry, format!("{place}: ")), &mut policy, &mut problems),
        }
    }
    if policy.settings.trust_domains.is_empty() && policy.trust_bundles.is_empty() {
        problems.push(Problem {
            severity: Severity::Warning,
            at: "settings".to_owned(),
            what: "no trust domain is configured, so every client certificate is refused".to_owned(),
            hint: "set trustDomains to the TrustDomain of Consul's /v1/connect/ca/roots".to_owned(),
        });
    }
    (policy, problems)
}

/// Kinds that need the feature `full`.
const FULL_KINDS: [&str; 6] = ["caroots", "identity", "jwtprovider", "network", "peertrustbundle", "ratelimits"];

#[cfg(feature = "full")]
fn read_full(kind: &str, object: &Object<'_>, entry: &Node<'_>, policy: &mut Policy, problems: &mut Vec<Problem>) {
    match kind {
        "caroots" => policy.trust_bundles.extend(trust::read_ca_roots(object, entry, problems)),
        "identity" => identity::read_order(object, entry, policy, problems),
        "jwtprovider" => policy.providers.extend(jwt_provider::read(object, entry, problems)),
        "network" => identity::read_network(object, entry, policy, problems),
        "ratelimits" => rate_limits::read(object, entry, policy, problems),
        "servicedefaults" => rate_limits::read_instance_level(object, entry, policy, problems),
        _ => policy.trust_bundles.extend(trust::read_peer(object, entry, problems)),
    }
}

#[cfg(not(feature = "full"))]
fn read_full(_: &str, _: &Object<'_>, entry: &Node<'_>, _: &mut Policy, problems: &mut Vec<Problem>) {
    problems.push(entry.problem(
        Severity::Fatal,
        "an inline policy cannot hold this kind",
        "let the sidecar make a snapshot of it, or leave it to `portcullis render`",
    ));
}

fn read_entry(entry: &Node<'_>, policy: &mut Policy, problems: &mut Vec<Problem>) {
    let Some(object) = entry.object(problems) else { return };
    let kind = object.get("kind").and_then(|kind| kind.text());
    let Some(kind) = kind else {
        problems.push(entry.problem(Severity::Fatal, "the entry has no Kind", "write `Kind: service-intentions`"));
        return;
    };
    match node::fold(kind).as_str() {
        "serviceintentions" => intention::read(&object, entry, policy, problems),
        "apikey" => api_key::read(&object, entry, policy, problems),
        "mesh" => mesh::read(&object, entry, policy, problems),
        "proxydefaults" => intention::read_default_protocol(&object, policy),
        full if FULL_KINDS.contains(&full) => read_full(full, &object, entry, policy, problems),
        "servicedefaults" => {
            intention::read_protocol(&object, policy);
            let spec = object.filled("spec").and_then(|spec| spec.try_object());
            if let Some(limits) = spec.as_ref().unwrap_or(&object).filled("ratelimits") {
                read_full("servicedefaults", &object, &limits, policy, problems);
            }
        }
        "list" => {
            for item in object.get("items").map(|items| items.list()).unwrap_or_default() {
                read_entry(&item, policy, problems);
            }
        }
        // Ours, misspelt: it would limit nothing.
        "ratelimit" if object.filled("limits").is_some() => {
            problems.push(entry.problem(Severity::Fatal, "unknown Kind `rate-limit`", "write `Kind: rate-limits`"));
        }
        other if OTHER_KINDS.contains(&other) => {}
        _ => problems.push(entry.problem(
            Severity::Fatal,
            &format!("unknown Kind `{kind}`"),
            "known are service-intentions, service-defaults, rate-limits, jwt-provider, mesh, api-key, identity, network, ca-roots, \
             peer-trust-bundle, and Consul's other config entries, which are ignored",
        )),
    }
}
