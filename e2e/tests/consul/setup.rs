//! Manifests, sidecars and questions to the catalog that the tests share.

use std::fs;
use std::path::Path;
use std::time::Duration;

use portcullis_e2e::parts::RegistryParts;
use portcullis_e2e::registry::Registry;
use portcullis_e2e::sidecar::{Layout, command};
pub(crate) use portcullis_e2e::synced::{services, wait_for, writes};
use serde_json::{Value, json};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Consul may end a session of 10 s twice as late, and a busy machine adds to it.
pub(crate) const TAKEOVER: Duration = Duration::from_secs(40);
/// How long "nothing happens" is watched: several looks of the watch on the catalog fit in.
pub(crate) const WATCHED: Duration = Duration::from_secs(5);

/// What a sidecar is given: services by name with the nodes that they run on, and an annotation `tags`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manifests<'a> {
    /// Their names.
    pub(crate) services: &'a [&'a str],
    /// How many nodes each runs on.
    pub(crate) nodes: usize,
    /// The annotation of all.
    pub(crate) tags: &'a str,
}

impl Manifests<'_> {
    /// As one file.
    pub(crate) fn text(&self) -> String {
        let node = |number: usize| {
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{number}")},
                   "status": {"addresses": [{"type": "InternalIP", "address": format!("192.0.2.{}", number + 1)}]}})
        };
        let mut items: Vec<Value> = (0..self.nodes).map(node).collect();
        for (index, name) in self.services.iter().enumerate() {
            items.push(json!({"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": name, "namespace": "shop", "annotations": {"tags": self.tags}},
                "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30000 + index}]}}));
            let endpoint = |number: usize| json!({"addresses": [format!("10.0.0.{}", number + 1)], "nodeName": format!("n{number}")});
            items.push(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": null,
                "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": name}},
                "endpoints": (0..self.nodes).map(endpoint).collect::<Vec<_>>()}));
        }
        json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
    }

    /// Written as an editor does: beside, then renamed.
    pub(crate) fn write(&self, layout: &Layout) {
        let file = layout.manifests().join("all.json");
        fs::write(file.with_extension("new"), self.text()).unwrap();
        fs::rename(file.with_extension("new"), file).unwrap();
    }
}

/// Two services on three nodes.
pub(crate) const SHOP: Manifests<'_> = Manifests { services: &["web", "db"], nodes: 3, tags: "a" };

/// A sidecar's folder whose configuration names this Consul, with more keys of `consul`, and `sync`. All share the manifests of
/// the one called `first`.
pub(crate) fn layout(folder: &Path, name: &str, registry: &Registry, more: &Value) -> Layout {
    let layout = Layout::new(&folder.join(name)).unwrap();
    let (mut consul, mut more) = (json!({"address": registry.address()}), more.clone());
    let sync = more.as_object_mut().unwrap().remove("sync").unwrap_or(json!({}));
    consul.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let configuration = json!({
        "manifests": "../first/kubernetes", "policy": {"directory": "./policy"},
        "snapshot": {"file": layout.snapshot()}, "gate": {"file": layout.gate()}, "consul": consul, "sync": sync,
    });
    fs::write(layout.configuration(), configuration.to_string()).unwrap();
    layout
}

/// Waits until the synthetic node has so many.
pub(crate) async fn wait_for_instances(registry: &Registry, n: usize) -> Duration {
    wait_for(&format!("{n} instances"), PATIENCE, || async { services(registry).await.len() == n }).await
}

/// Whether `plan --diff` finds nothing to do, with what it prints.
pub(crate) fn in_step(parts: &RegistryParts, layout: &Layout) -> (bool, String) {
    let configuration = layout.configuration();
    let output = command(&parts.sidecar, layout, &["plan", "--diff", "-c", configuration.to_str().unwrap()]).unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

/// Whether every instance has a tag.
pub(crate) async fn has_tag(registry: &Registry, tag: &str) -> bool {
    let has = |it: &Value| it["Tags"].as_array().is_some_and(|tags| tags.iter().any(|it| it == tag));
    services(registry).await.iter().all(has)
}
