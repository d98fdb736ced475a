//! What Consul answers about the instances of one service, and the registration that each amounts to. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::sync::{Check, RegisteredService, Registration, Weights};

/// One instance of `/v1/health/service/NAME`. Numbers are wide: Consul stores any.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    node: Node,
    service: Service,
    #[serde(default, deserialize_with = "or_default")]
    checks: Vec<Checked>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Node")]
    name: String,
    #[serde(default)]
    address: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    /// Empty for what answers requests itself.
    #[serde(default)]
    kind: String,
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Service")]
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    tags: Vec<String>,
    #[serde(default)]
    address: String,
    #[serde(default, deserialize_with = "or_default")]
    meta: BTreeMap<String, String>,
    #[serde(default)]
    port: i64,
}

/// A check of an instance, or of its node.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Checked {
    #[serde(default)]
    pub(super) node: String,
    #[serde(rename = "CheckID", default)]
    pub(super) id: String,
    #[serde(default)]
    pub(super) status: String,
    #[serde(rename = "ServiceID", default)]
    pub(super) service_id: String,
    /// Empty for one of the node.
    #[serde(default)]
    pub(super) service_name: String,
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

// === impl Entry ===

impl Entry {
    /// The meta of the instance, which says whose it is.
    pub(super) fn meta(&self) -> &BTreeMap<String, String> {
        &self.service.meta
    }

    /// Where it is.
    pub(super) fn node(&self) -> &str {
        &self.node.name
    }

    /// Its own checks and its node's.
    pub(super) fn checks(&self) -> &[Checked] {
        &self.checks
    }

    /// As a registration with the one check that sums up all; `None` for what no request can be sent to: proxies and gateways
    /// of the mesh, which speak the mesh's TLS, and an instance without a place.
    pub(super) fn registration(self) -> Option<Registration> {
        let Self { node, service, checks } = self;
        let port = u16::try_from(service.port).ok().filter(|port| *port != 0)?;
        if !service.kind.is_empty() || (service.address.is_empty() && node.address.is_empty()) {
            return None;
        }
        Some(Registration {
            check: Check {
                check_id: String::new(),
                name: String::new(),
                kind: String::new(),
                status: sum(&checks).to_owned(),
                output: String::new(),
                service_id: service.id.clone(),
                node: node.name.clone(),
                definition: None,
            },
            id: node.id,
            node: node.name,
            address: node.address,
            node_meta: BTreeMap::new(),
            skip_node_update: true,
            service: RegisteredService {
                id: service.id,
                service: service.name,
                tags: service.tags,
                address: service.address,
                meta: service.meta,
                port,
                weights: Weights::default(),
            },
        })
    }
}

/// The worst of all checks, as Consul's own readers have it; a status that nobody knows is the worst.
fn sum(checks: &[Checked]) -> &'static str {
    let worst = checks.iter().map(|check| match check.status.as_str() {
        "passing" => 0,
        "warning" => 1,
        _ => 2,
    });
    ["passing", "warning", "critical"][worst.max().unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(service: &Value, statuses: &[&str]) -> Option<Registration> {
        let checks: Vec<_> = statuses.iter().map(|status| json!({"CheckID": "c", "Status": status})).collect();
        let entry = json!({"Node": {"ID": "i", "Node": "vm", "Address": "192.0.2.1", "Meta": null},
            "Service": service, "Checks": checks});
        serde_json::from_value::<Entry>(entry).unwrap().registration()
    }

    #[test]
    fn the_worst_check_decides() {
        let status =
            |statuses: &[&str]| read(&json!({"ID": "a", "Service": "a", "Port": 1}), statuses).unwrap().check.status;
        assert_eq!(status(&[]), "passing");
        assert_eq!(status(&["passing", "warning"]), "warning");
        assert_eq!(status(&["passing", "critical", "warning"]), "critical");
        assert_eq!(status(&["maintenance"]), "critical");
        assert_eq!(status(&[""]), "critical");
    }

    #[test]
    fn proxies_gateways_and_instances_without_a_place_are_left_out() {
        for kind in ["connect-proxy", "ingress-gateway", "mesh-gateway", "terminating-gateway", "api-gateway"] {
            assert_eq!(read(&json!({"ID": "a", "Service": "a", "Port": 1, "Kind": kind}), &[]), None, "{kind}");
        }
        for port in [0, -1, 65536] {
            assert_eq!(read(&json!({"ID": "a", "Service": "a", "Port": port}), &[]), None, "{port}");
        }
        let plain = read(&json!({"ID": "a", "Service": "a", "Port": 65535, "Kind": "", "Tags": null}), &[]).unwrap();
        assert_eq!((plain.address.as_str(), plain.service.port), ("192.0.2.1", 65535));
    }
}
