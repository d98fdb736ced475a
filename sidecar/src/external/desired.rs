//! External services as registrations, and the probes that decide about them. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use super::file::{self, Node, Prober, Service};
use crate::sync::{
    Check, Definition, EXTERNAL_MARK, EXTERNAL_SOURCE, Note, RegisteredService, Registration, SyncOptions, Weights,
    naming, routing_tags,
};

/// Meta by which consul-esm knows its nodes, and those that it shall ping.
const ESM: [&str; 2] = ["external-node", "external-probe"];

/// What files lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Sorted by node and ID. Checks that are probed say so and are critical.
    pub registrations: Vec<Registration>,
    /// By index of the registration: the probes of the sidecar's, none for what others probe or nobody does.
    pub probes: Vec<Vec<Probe>>,
    /// About their routing tags.
    pub notes: Vec<Note>,
}

/// One probe of one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Probe {
    /// IP address or host name.
    pub address: String,
    /// Port, 1-65535.
    pub port: u16,
    /// What is tried there, and how often.
    pub check: file::Check,
}

/// Derives the registrations of all nodes.
pub fn desired(nodes: &[Node], name: &str, options: &SyncOptions) -> Desired {
    let mut found = Desired::default();
    for node in nodes {
        let mut services: Vec<_> = node.services.iter().collect();
        services.sort_by_key(|service| service.id());
        for service in services {
            let (tags, notes) = routing_tags(&service.name, &service.tags, options);
            found.notes.extend(notes);
            let (registration, probes) = register(node, service, name, tags);
            found.registrations.push(registration);
            found.probes.push(probes);
        }
    }
    found.notes.sort();
    found.notes.dedup();
    found
}

fn register(node: &Node, service: &Service, name: &str, tags: Vec<String>) -> (Registration, Vec<Probe>) {
    let consul_node = format!("external-{name}-{}", node.name);
    let id = naming::external_id(name, &node.name, service.id());
    let address = service.address.clone().unwrap_or_else(|| node.address.clone());
    let marks =
        || [(EXTERNAL_SOURCE.0, EXTERNAL_SOURCE.1), (EXTERNAL_MARK, name)].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let with_marks = |meta: &BTreeMap<String, String>| meta.clone().into_iter().chain(marks()).collect();
    let mut node_meta: BTreeMap<_, _> = with_marks(&node.meta);
    if node.probe == Prober::Esm {
        node_meta.extend(ESM.map(|key| (key.to_owned(), "true".to_owned())));
    }
    let probe = |check: &file::Check| Probe {
        address: address.clone(),
        port: check.port.unwrap_or(service.port),
        check: check.clone(),
    };
    let mut probes: Vec<_> = service.checks.iter().map(probe).collect();
    let (status, output) =
        if probes.is_empty() { ("passing", "no check is configured") } else { ("critical", "not probed yet") };
    let definition = match node.probe {
        Prober::Esm => probes.pop().map(|probe| probe.definition()),
        Prober::Sidecar => None,
    };
    let registration = Registration {
        check: Check {
            check_id: format!("external/{id}"),
            name: "External Service Check".to_owned(),
            kind: "external".to_owned(),
            status: status.to_owned(),
            output: output.to_owned(),
            service_id: id.clone(),
            node: consul_node.clone(),
            definition,
        },
        id: naming::node_id(name, &consul_node),
        node: consul_node,
        address: node.address.clone(),
        node_meta,
        skip_node_update: false,
        service: RegisteredService {
            id,
            service: service.name.clone(),
            tags,
            address,
            meta: with_marks(&service.meta),
            port: service.port,
            weights: Weights { passing: service.weight, warning: 1 },
        },
    };
    (registration, probes)
}

// === impl Probe ===

impl Probe {
    /// What is asked for, as a URL or `tcp://…`.
    pub fn target(&self) -> String {
        let host = match self.address.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
            _ => self.address.clone(),
        };
        let port = self.port;
        match (&self.check.http, &self.check.https) {
            (Some(path), _) => format!("http://{host}:{port}{path}"),
            (None, Some(path)) => format!("https://{host}:{port}{path}"),
            (None, None) => format!("tcp://{host}:{port}"),
        }
    }

    /// The same as consul-esm reads it.
    fn definition(&self) -> Definition {
        let target = self.target();
        let place = target.strip_prefix("tcp://").map(str::to_owned);
        Definition {
            http: if place.is_none() { target } else { String::new() },
            tcp: place.unwrap_or_default(),
            interval: go_duration(self.check.interval_seconds),
            timeout: go_duration(self.check.timeout_seconds),
        }
    }
}

/// Seconds as Go prints them.
fn go_duration(seconds: u16) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests;
