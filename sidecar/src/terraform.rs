//! The catalog as input variables of Terraform modules, in the shape of Consul-Terraform-Sync ("service definition protocol v0"),
//! so that modules that were written for it go on working. Pure; the same catalog gives the same text.
//!
//! Maps and lists are empty, never null: the modules' variables say so.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

/// Checks by which an operator takes a node or an instance out; they outrank every other.
const NODE_MAINTENANCE: &str = "_node_maintenance";
const SERVICE_MAINTENANCE: &str = "_service_maintenance:";

/// What `terraform.tfvars.json` holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Variables {
    /// Instances by `<service id>.<node>[.<namespace>].<datacenter>`.
    pub services: BTreeMap<String, Service>,
    /// All tags of each service; `None` for modules that do not declare it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog_services: Option<BTreeMap<String, BTreeSet<String>>>,
}

/// One instance; every field is required by the modules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Service {
    id: String,
    name: String,
    kind: String,
    /// The instance's own, else its node's.
    address: String,
    port: i64,
    meta: BTreeMap<String, String>,
    tags: BTreeSet<String>,
    /// Empty in Community Edition.
    namespace: String,
    status: &'static str,
    node: String,
    node_id: String,
    node_address: String,
    node_datacenter: String,
    node_tagged_addresses: BTreeMap<String, String>,
    node_meta: BTreeMap<String, String>,
    /// Consul-Terraform-Sync takes it from its own configuration; here there is none.
    cts_user_defined_meta: BTreeMap<String, String>,
}

/// An entry of Consul's `/v1/health/service/<name>`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthEntry {
    node: NodeEntry,
    service: ServiceEntry,
    #[serde(default, deserialize_with = "or_default")]
    checks: Vec<CheckEntry>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NodeEntry {
    #[serde(rename = "ID")]
    id: String,
    node: String,
    address: String,
    datacenter: String,
    #[serde(deserialize_with = "or_default")]
    tagged_addresses: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    meta: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ServiceEntry {
    #[serde(rename = "ID")]
    id: String,
    service: String,
    kind: String,
    address: String,
    port: i64,
    namespace: String,
    #[serde(deserialize_with = "or_default")]
    tags: BTreeSet<String>,
    #[serde(deserialize_with = "or_default")]
    meta: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CheckEntry {
    #[serde(rename = "CheckID")]
    id: String,
    status: String,
}

/// Go writes empty lists and maps as `null`.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

// === impl Variables ===

impl Variables {
    /// Takes up what Consul says of one service.
    pub fn add(&mut self, entries: impl IntoIterator<Item = HealthEntry>) {
        for entry in entries {
            let (key, service) = named(entry);
            self.services.insert(key, service);
        }
    }
}

fn named(HealthEntry { node, service, checks }: HealthEntry) -> (String, Service) {
    let parts = [&service.id, &node.node, &service.namespace, &node.datacenter];
    let filled: Vec<&str> = parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    let key = filled.join(".");
    let address = if service.address.is_empty() { node.address.clone() } else { service.address };
    let service = Service {
        id: service.id,
        name: service.service,
        kind: service.kind,
        address,
        port: service.port,
        meta: service.meta,
        tags: service.tags,
        namespace: service.namespace,
        status: status(&checks),
        node: node.node,
        node_id: node.id,
        node_address: node.address,
        node_datacenter: node.datacenter,
        node_tagged_addresses: node.tagged_addresses,
        node_meta: node.meta,
        cts_user_defined_meta: BTreeMap::new(),
    };
    (key, service)
}

/// As Consul's own library sums checks up: maintenance, then the worst.
fn status(checks: &[CheckEntry]) -> &'static str {
    let is_out = |check: &CheckEntry| check.id == NODE_MAINTENANCE || check.id.starts_with(SERVICE_MAINTENANCE);
    let any = |status: &str| checks.iter().any(|check| check.status == status);
    match () {
        () if checks.iter().any(is_out) => "maintenance",
        () if any("critical") => "critical",
        () if any("warning") => "warning",
        () if checks.iter().all(|check| check.status == "passing") => "passing",
        // A status that nobody knows is no reason to send anything there.
        () => "critical",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn entry(service: &Value, checks: &Value) -> HealthEntry {
        let node = json!({"ID": "n-1", "Node": "vm-1", "Address": "192.0.2.7", "Datacenter": "dc1",
            "TaggedAddresses": null, "Meta": {"rack": "7"}});
        serde_json::from_value(json!({"Node": node, "Service": service, "Checks": checks})).unwrap()
    }

    fn exported(service: &Value, checks: &Value) -> Value {
        let mut variables = Variables::default();
        variables.add([entry(service, checks)]);
        serde_json::to_value(variables).unwrap()
    }

    #[test]
    fn an_instance_has_every_field_that_modules_require_and_nothing_is_null() {
        let service =
            json!({"ID": "web-1", "Service": "web", "Tags": ["z", "a", "z"], "Address": "", "Port": 80, "Meta": null});
        let found = exported(&service, &json!([{"CheckID": "c", "Status": "passing"}]));
        let expected = json!({"services": {"web-1.vm-1.dc1": {
            "id": "web-1", "name": "web", "kind": "", "address": "192.0.2.7", "port": 80, "meta": {}, "tags": ["a", "z"],
            "namespace": "", "status": "passing", "node": "vm-1", "node_id": "n-1", "node_address": "192.0.2.7",
            "node_datacenter": "dc1", "node_tagged_addresses": {}, "node_meta": {"rack": "7"}, "cts_user_defined_meta": {},
        }}});
        assert_eq!(found, expected);
    }

    #[test]
    fn an_address_of_its_own_comes_first_and_a_namespace_is_part_of_the_key() {
        let service =
            json!({"ID": "web-1", "Service": "web", "Address": "192.0.2.9", "Namespace": "shop", "Tags": null});
        let found = exported(&service, &Value::Null);
        assert_eq!(found["services"]["web-1.vm-1.shop.dc1"]["address"], "192.0.2.9");
    }

    #[test]
    fn checks_are_summed_up_as_consul_does() {
        let summed = |checks: &[(&str, &str)]| {
            let check = |(id, status): &(&str, &str)| CheckEntry { id: (*id).to_owned(), status: (*status).to_owned() };
            status(&checks.iter().map(check).collect::<Vec<_>>())
        };
        assert_eq!(summed(&[]), "passing");
        assert_eq!(summed(&[("a", "passing"), ("b", "warning")]), "warning");
        assert_eq!(summed(&[("a", "critical"), ("b", "warning")]), "critical");
        assert_eq!(summed(&[("a", "odd"), ("b", "passing")]), "critical");
        assert_eq!(summed(&[("_service_maintenance:web-1", "critical")]), "maintenance");
        assert_eq!(summed(&[("_node_maintenance", "critical"), ("a", "passing")]), "maintenance");
    }
}
