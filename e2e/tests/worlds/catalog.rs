//! What the catalog holds, read and compared without the sidecar's own code.

use std::collections::BTreeMap;
use std::fs;

use portcullis_e2e::kubernetes::ApiServer;
use portcullis_e2e::registry::Registry;
use portcullis_e2e::sidecar::{Layout, command};
use serde_json::{Value, json};

/// The name of the cluster: the mark of what is ours.
pub(crate) const CLUSTER: &str = "east";

/// Consul node and ID of an instance.
pub(crate) type Place = (String, String);

/// Everything in the catalog but Consul itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Catalog {
    /// What bears our mark, in the shape of [`planned`].
    pub(crate) ours: BTreeMap<Place, Value>,
    /// What does not, as Consul tells it.
    pub(crate) others: BTreeMap<Place, Value>,
    /// Of ours: the index of the last write to the instance, and of those to its checks.
    pub(crate) written: BTreeMap<Place, Vec<u64>>,
    /// Consul nodes of ours, with their address.
    pub(crate) nodes: BTreeMap<String, String>,
}

/// What is compared of an instance.
fn shape(service: &Value, check: &Value) -> Value {
    let name = service.get("Service").cloned().unwrap_or_default();
    json!({
        "name": name, "tags": service["Tags"], "address": service["Address"], "port": service["Port"],
        "meta": service["Meta"], "weights": service["Weights"],
        "check": [check["CheckID"], check["Name"], check["Status"], check["Output"]],
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Reads it; an error while Consul is away.
pub(crate) async fn read(registry: &Registry) -> anyhow::Result<Catalog> {
    let mut found = Catalog::default();
    for node in registry.get("/v1/catalog/nodes").await?.as_array().into_iter().flatten() {
        let name = text(&node["Node"]);
        if name.starts_with("k8s-sync") {
            found.nodes.insert(name, text(&node["Address"]));
        }
    }
    let names = registry.get("/v1/catalog/services").await?;
    for name in names.as_object().into_iter().flat_map(|names| names.keys()).filter(|name| *name != "consul") {
        let entries = registry.get(&format!("/v1/health/service/{name}")).await?;
        for entry in entries.as_array().into_iter().flatten() {
            let service = &entry["Service"];
            let place = (text(&entry["Node"]["Node"]), text(&service["ID"]));
            let checks: Vec<&Value> = entry["Checks"].as_array().into_iter().flatten().collect();
            let checks: Vec<&Value> = checks.into_iter().filter(|check| check["ServiceID"] != "").collect();
            let is_ours = service["Meta"]["external-k8s-cluster"] == CLUSTER && place.0.starts_with("k8s-sync");
            if is_ours {
                let index = |it: &&Value| it["ModifyIndex"].as_u64().unwrap_or_default();
                let written = std::iter::once(index(&service)).chain(checks.iter().map(index)).collect();
                found.written.insert(place.clone(), written);
                // A second check would be nobody's plan.
                let check = if checks.len() == 1 { checks[0].clone() } else { json!(checks) };
                found.ours.insert(place, shape(service, &check));
            } else {
                found.others.insert(place, json!({"service": service, "checks": checks}));
            }
        }
    }
    Ok(found)
}

/// What `plan` says of the API server's objects, dumped into a file: the instances by place, and the nodes.
pub(crate) async fn planned(
    binary: &std::path::Path,
    layout: &Layout,
    server: &ApiServer,
    consul_nodes: &str,
) -> (BTreeMap<Place, Value>, BTreeMap<String, String>) {
    let dump = layout.root().join("dump.json");
    fs::write(&dump, server.dump().await.unwrap().to_string()).unwrap();
    let set = [format!("clusterName={CLUSTER}"), format!("consulNodes={consul_nodes}")];
    let arguments = ["plan", "--json", "--manifests", dump.to_str().unwrap(), "--set", &set[0], "--set", &set[1]];
    let output = command(binary, layout, &arguments).unwrap();
    // Errors about single services make it fail, and are part of this world; what it prints is whole.
    let printed: Vec<Value> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let place = |it: &Value| ((text(&it["Node"]), text(&it["Service"]["ID"])), shape(&it["Service"], &it["Check"]));
    let nodes = printed.iter().map(|it| (text(&it["Node"]), text(&it["Address"]))).collect();
    (printed.iter().map(place).collect(), nodes)
}

/// Where two differ, a line each.
pub(crate) fn differences(found: &BTreeMap<Place, Value>, wanted: &BTreeMap<Place, Value>) -> Vec<String> {
    let places = found.keys().chain(wanted.keys()).collect::<std::collections::BTreeSet<_>>();
    let differs = places.into_iter().filter(|place| found.get(place) != wanted.get(place));
    let show = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    differs
        .map(|place| {
            format!("{place:?}: in the catalog {}, planned {}", show(found.get(place)), show(wanted.get(place)))
        })
        .collect()
}
