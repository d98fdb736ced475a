//! Files of external services: what an operator writes, read and judged as a whole. Pure but for the reading.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
};

use serde::Deserialize;

use crate::{
    documents,
    sources::{SourceError, SourceErrors},
    sync::accepted_key,
};

/// Most instances in all files.
const MAX_INSTANCES: usize = 10_000;
/// Most checks of one instance, and tags.
const MAX_CHECKS: usize = 8;
const MAX_TAGS: usize = 512;
/// Consul's limits, less what the marks take.
const MAX_META: usize = 60;
const MAX_META_VALUE: usize = 512;

/// One file, or one document of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    nodes: Vec<Node>,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// 1 to 63 characters of `A-Z a-z 0-9 . _ -`; once in all files.
    pub name: String,
    /// IP address or host name.
    pub address: String,
    /// Pairs of the Consul node's meta.
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
    /// Who finds out whether its services live (default: the sidecar).
    #[serde(default)]
    pub probe: Prober,
    /// What runs on it.
    #[serde(default)]
    pub services: Vec<Service>,
}

/// Who runs the checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Prober {
    /// The leader among the sidecars.
    #[default]
    Sidecar,
    /// Consul's external service monitor, which pings the node besides.
    Esm,
}

/// A service on a node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Consul name: 1 to 255 characters of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// Tells apart what has one name on one node (default: the name).
    #[serde(default)]
    pub id: Option<String>,
    /// 1 to 65535.
    pub port: u16,
    /// Where it is reached (default: the node's address).
    #[serde(default)]
    pub address: Option<String>,
    /// As in Consul: `traefik.*` and `portcullis.*` are routing, everything else is kept.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Pairs of the instance's meta.
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
    /// Its share in DNS, 1 to 65535 (default: 1).
    #[serde(default = "one")]
    pub weight: u16,
    /// All must hold; without one it counts as passing.
    #[serde(default)]
    pub checks: Vec<Check>,
}

/// One check of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Check {
    /// The path that must answer 200 to 299 to a GET by HTTP.
    #[serde(default)]
    pub http: Option<String>,
    /// The same by HTTPS, with a certificate for the address that `external.caFile` or the system vouches for.
    #[serde(default)]
    pub https: Option<String>,
    /// Whether the port must take a connection.
    #[serde(default)]
    pub tcp: bool,
    /// Another port than the service's.
    #[serde(default)]
    pub port: Option<u16>,
    /// From one probe to the next, 1 to 3600, give or take a tenth (default: 10).
    #[serde(default = "ten")]
    pub interval_seconds: u16,
    /// How long one may take, 1 to 60 (default: 2).
    #[serde(default = "two")]
    pub timeout_seconds: u16,
    /// Probes that must fail in a row before the service is critical, 1 to 10 (default: 2).
    #[serde(default = "two")]
    pub failures: u16,
    /// Probes that must succeed in a row before it is passing again, 1 to 10 (default: 2).
    #[serde(default = "two")]
    pub successes: u16,
}

fn one() -> u16 {
    1
}

fn two() -> u16 {
    2
}

fn ten() -> u16 {
    10
}

/// Reads every file of the directory: all nodes, sorted by name, or everything that is wrong.
pub fn load(directory: &Path) -> Result<Vec<Node>, SourceErrors> {
    const HINT: &str = "see docs/guide/catalog.md for what a file holds";
    let (mut nodes, mut errors, mut seen): (Vec<Node>, _, BTreeMap<String, String>) =
        (Vec::new(), Vec::new(), BTreeMap::new());
    for (place, document) in documents::read(directory)? {
        let file: File = match serde_json::from_value(document) {
            Ok(file) => file,
            Err(error) => {
                errors.push(SourceError::new(&place, error.to_string(), HINT));
                continue;
            }
        };
        for node in file.nodes {
            if let Err((what, hint)) = node.check() {
                errors.push(SourceError::new(&place, format!("node {:?}: {what}", node.name), hint));
            }
            // Consul compares names of nodes without case.
            if let Some(first) = seen.insert(node.name.to_lowercase(), place.clone()) {
                let what = format!("node {:?} is defined twice, first at {first}", node.name);
                errors.push(SourceError::new(&place, what, "keep one of them"));
            }
            nodes.push(node);
        }
    }
    let n_instances: usize = nodes.iter().map(|node| node.services.len()).sum();
    if n_instances > MAX_INSTANCES {
        let what = format!("{n_instances} services on nodes, more than {MAX_INSTANCES}");
        errors.push(SourceError::new(&directory.display().to_string(), what, "register some of them by an agent"));
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    if errors.is_empty() { Ok(nodes) } else { Err(SourceErrors(errors)) }
}

type Fault = (String, &'static str);

const NAME_HINT: &str = "use A-Z a-z 0-9 . _ -, beginning with a letter or a digit";

impl Node {
    fn check(&self) -> Result<(), Fault> {
        name("the name", &self.name, 63)?;
        address(&self.address)?;
        meta(&self.meta)?;
        let mut ids = BTreeSet::new();
        for service in &self.services {
            let at = |(what, hint): Fault| (format!("service {:?}: {what}", service.name), hint);
            service.check(self.probe).map_err(at)?;
            if !ids.insert(service.id().to_lowercase()) {
                return Err(at(("it is on the node twice".to_owned(), "give each an id of its own")));
            }
        }
        Ok(())
    }
}

impl Service {
    /// What tells it apart on its node.
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.name)
    }

    fn check(&self, prober: Prober) -> Result<(), Fault> {
        name("the name", &self.name, 255)?;
        name("the id", self.id(), 255)?;
        if let Some(text) = &self.address {
            address(text)?;
        }
        meta(&self.meta)?;
        if self.port == 0 || self.weight == 0 {
            return Err(("port and weight are 1 to 65535".to_owned(), "correct it"));
        }
        if self.tags.len() > MAX_TAGS || self.checks.len() > MAX_CHECKS {
            return Err((format!("more than {MAX_TAGS} tags or {MAX_CHECKS} checks"), "use fewer"));
        }
        if prober == Prober::Esm && self.checks.len() > 1 {
            return Err(("consul-esm is given one check for each service".to_owned(), "keep one of them"));
        }
        self.checks.iter().try_for_each(Check::check)
    }
}

impl Check {
    fn check(&self) -> Result<(), Fault> {
        let kinds = usize::from(self.http.is_some()) + usize::from(self.https.is_some()) + usize::from(self.tcp);
        if kinds != 1 {
            return Err(("a check is one of http, https and tcp: true".to_owned(), "write one of them"));
        }
        let fits = |path: &str| path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
        if let Some(path) = self.http.iter().chain(&self.https).find(|path| !fits(path)) {
            return Err((format!("{path:?} is no path"), "begin it with /, in ASCII without blanks"));
        }
        for (key, number, most) in [
            ("port", self.port.unwrap_or(1), 65535),
            ("intervalSeconds", self.interval_seconds, 3600),
            ("timeoutSeconds", self.timeout_seconds, 60),
            ("failures", self.failures, 10),
            ("successes", self.successes, 10),
        ] {
            if !(1..=most).contains(&number) {
                return Err((format!("{key} is 1 to {most}"), "correct it"));
            }
        }
        Ok(())
    }
}

fn name(what: &str, text: &str, most: usize) -> Result<(), Fault> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fine = (1..=most).contains(&text.len())
        && text.bytes().all(fits)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric());
    if fine { Ok(()) } else { Err((format!("{what} {text:?} cannot be used"), NAME_HINT)) }
}

fn address(text: &str) -> Result<(), Fault> {
    let label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(fits)
    };
    let fine = match text.parse::<IpAddr>() {
        // Consul refuses it, and readers would take it for themselves.
        Ok(ip) => !ip.is_unspecified() && !ip.is_multicast(),
        // What is made of numbers alone is an address that is mistyped.
        Err(_) => {
            text.len() <= 253 && text.split('.').all(label) && text.bytes().any(|byte| byte.is_ascii_alphabetic())
        }
    };
    if fine { Ok(()) } else { Err((format!("{text:?} is no address"), "write an IP address or a host name")) }
}

fn meta(pairs: &BTreeMap<String, String>) -> Result<(), Fault> {
    const OURS: [&str; 3] = ["external-", "portcullis-", "consul-"];
    if pairs.len() > MAX_META {
        return Err((format!("more than {MAX_META} pairs of meta"), "use fewer"));
    }
    for (key, value) in pairs {
        if !accepted_key(key) || OURS.iter().any(|prefix| key.starts_with(prefix)) {
            let hint = "use 1 to 128 of A-Z a-z 0-9 _ -, not beginning with external-, portcullis- or consul-";
            return Err((format!("the meta key {key:?} cannot be used"), hint));
        }
        if value.len() > MAX_META_VALUE {
            return Err((format!("meta {key}: a value of {} bytes", value.len()), "use at most 512 bytes"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read(text: &str) -> Result<Vec<Node>, String> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("vms.yaml"), text).unwrap();
        load(directory.path()).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_file_names_nodes_with_services_and_their_checks() {
        let nodes = read(
            "nodes:\n- name: vm-2\n  address: 192.0.2.2\n- name: vm-1\n  address: db.example.com\n  probe: esm\n  services:\n  \
             - {name: db, port: 5432, checks: [{tcp: true, intervalSeconds: 5}]}\n",
        )
        .unwrap();
        assert_eq!(nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["vm-1", "vm-2"]);
        let check = &nodes[0].services[0].checks[0];
        assert_eq!((check.interval_seconds, check.timeout_seconds, check.failures), (5, 2, 2));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_as_a_whole_and_says_why() {
        let node = |rest: &str| format!("nodes: [{{name: vm, address: 192.0.2.1{rest}}}]");
        let service = |rest: &str| node(&format!(", services: [{{name: a, port: 1{rest}}}]"));
        for (text, what) in [
            ("nodes: [{name: vm, address: 0.0.0.0}]".to_owned(), "no address"),
            ("nodes: [{name: vm, address: 192.0.2.300}]".to_owned(), "no address"),
            ("nodes: [{name: 'a b', address: 192.0.2.1}]".to_owned(), "cannot be used"),
            ("nodes: [{name: vm, address: a}, {name: VM, address: b}]".to_owned(), "defined twice"),
            (node(", services: [{name: a, port: 1}, {name: a, port: 2}]"), "on the node twice"),
            (node(", services: [{name: a, port: 65536}]"), "65536"),
            (node(", meta: {external-source: kubernetes}"), "meta key"),
            (service(", checks: [{http: /, tcp: true}]"), "one of http"),
            (service(", checks: [{}]"), "one of http"),
            (service(", checks: [{http: health}]"), "no path"),
            (service(", checks: [{tcp: true, intervalSeconds: 0}]"), "intervalSeconds"),
            (service(", chekcs: []"), "unknown field"),
            (node(", probe: esm, services: [{name: a, port: 1, checks: [{tcp: true}, {http: /}]}]"), "one check"),
        ] {
            let found = read(&text).unwrap_err();
            assert!(found.contains(what) && found.contains("vms.yaml"), "{text}: {found}");
        }
    }
}
