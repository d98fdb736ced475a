//! What every test here begins with: an API server with a shop in it, a Consul, and a sidecar's folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_e2e::kubernetes::{ADMINISTRATOR, ApiServer};
use portcullis_e2e::parts::KubernetesParts;
use portcullis_e2e::registry::Registry;
use portcullis_e2e::sidecar::{Layout, Sidecar, command};
pub(crate) use portcullis_e2e::synced::{services, wait_for, writes};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long "nothing happens" is watched.
pub(crate) const WATCHED: Duration = Duration::from_secs(5);

/// A cluster with a shop, a Consul, and what connects them.
pub(crate) struct World {
    pub(crate) parts: KubernetesParts,
    pub(crate) folder: TempDir,
    pub(crate) registry: Registry,
    pub(crate) server: ApiServer,
    /// The sidecar's folder; its one cluster is called `east` and read with the token in `token`.
    pub(crate) layout: Layout,
    pub(crate) token: PathBuf,
}

impl World {
    /// `None` after a printed skip where a part is missing.
    pub(crate) async fn start() -> Option<World> {
        Self::start_with(&[]).await
    }

    /// The same with more arguments for the API server.
    pub(crate) async fn start_with(more: &[&str]) -> Option<World> {
        let parts = KubernetesParts::for_test()?;
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::start(&parts.registry.consul, folder.path(), None).await.unwrap();
        let server = ApiServer::start_with(&parts, &folder.path().join("east"), more).await.unwrap();
        shop(&server).await;
        let token = folder.path().join("token");
        fs::write(&token, ADMINISTRATOR).unwrap();
        let layout = Layout::new(&folder.path().join("sidecar")).unwrap();
        let world = World { parts, folder, registry, server, layout, token };
        world.configure(&world.server.url(), &json!({}));
        Some(world)
    }

    /// Lets the sidecar read the cluster at this address, with more keys of the cluster.
    pub(crate) fn configure(&self, url: &str, more: &Value) {
        let file = self.layout.root().join("kubeconfig");
        self.server.kubeconfig(&file, url, &self.token).unwrap();
        let mut cluster = json!({"name": "east", "kubeconfig": file});
        cluster.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        configure(&self.layout, &self.registry, &json!([cluster]));
    }

    pub(crate) async fn sidecar(&self) -> Sidecar {
        Sidecar::start(&self.parts.registry.sidecar, &self.layout).await.unwrap()
    }

    /// One whose source may not answer.
    pub(crate) fn launch(&self) -> Sidecar {
        Sidecar::launch(&self.parts.registry.sidecar, &self.layout).unwrap()
    }

    /// A sidecar that has written the shop's six instances.
    pub(crate) async fn in_step_sidecar(&self) -> Sidecar {
        let sidecar = self.sidecar().await;
        self.wait_for_instances(6).await;
        sidecar
    }

    pub(crate) async fn services(&self) -> Vec<Value> {
        services(&self.registry).await
    }

    pub(crate) async fn writes(&self) -> Vec<(String, u64)> {
        writes(&self.registry).await
    }

    pub(crate) async fn wait_for_instances(&self, n: usize) -> Duration {
        wait_for(&format!("{n} instances"), PATIENCE, async || self.services().await.len() == n).await
    }

    /// Whether `plan --diff` against the live cluster finds nothing to do, with what it prints.
    pub(crate) fn in_step(&self) -> (bool, String) {
        in_step(&self.parts, &self.layout)
    }
}

/// Writes a sidecar's configuration.
pub(crate) fn configure(layout: &Layout, registry: &Registry, clusters: &Value) {
    let configuration = json!({
        "clusters": clusters, "policy": {"directory": "./policy"}, "snapshot": {"file": layout.snapshot()},
        "gate": {"file": layout.gate()}, "consul": {"address": registry.address()},
    });
    fs::write(layout.configuration(), configuration.to_string()).unwrap();
}

/// Two services on three nodes.
pub(crate) async fn shop(server: &ApiServer) {
    server.put(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})).await.unwrap();
    for number in 0..3 {
        server.put(&node(number)).await.unwrap();
    }
    for (index, name) in ["web", "db"].into_iter().enumerate() {
        server.put(&service(name, 30000 + index)).await.unwrap();
        server.put(&slice(name, &[0, 1, 2], true)).await.unwrap();
    }
}

pub(crate) fn node(number: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{number}")},
           "status": {"addresses": [{"type": "InternalIP", "address": format!("192.0.2.{}", number + 1)}],
                      "conditions": [{"type": "Ready", "status": "True", "reason": "x", "message": "x"}]}})
}

pub(crate) fn service(name: &str, node_port: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop", "annotations": {"tags": "a"}},
           "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": node_port}]}})
}

pub(crate) fn slice(service: &str, nodes: &[usize], ready: bool) -> Value {
    let endpoint = |number: &usize| {
        json!({"addresses": [format!("10.0.0.{}", number + 1)], "nodeName": format!("n{number}"),
               "conditions": {"ready": ready, "serving": ready, "terminating": false}})
    };
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": [{"name": "", "port": 8080}],
           "metadata": {"name": format!("{service}-1"), "namespace": "shop", "labels": {"kubernetes.io/service-name": service}},
           "endpoints": nodes.iter().map(endpoint).collect::<Vec<_>>()})
}

/// How many instances of a service pass.
pub(crate) async fn passing(registry: &Registry, service: &str) -> usize {
    let found = registry.get(&format!("/v1/health/service/{service}?passing")).await.unwrap();
    found.as_array().unwrap().len()
}

/// Waits until the sidecar has said something.
pub(crate) async fn wait_for_word(sidecar: &Sidecar, word: &str) -> Duration {
    wait_for(word, PATIENCE, async || sidecar.log().unwrap().contains(word)).await
}

/// Whether `plan --diff` finds nothing to do, with what it prints.
pub(crate) fn in_step(parts: &KubernetesParts, layout: &Layout) -> (bool, String) {
    let output = plan(&parts.registry.sidecar, layout, &["--diff"]);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

/// `plan` for a sidecar's configuration.
pub(crate) fn plan(binary: &Path, layout: &Layout, more: &[&str]) -> std::process::Output {
    let configuration = layout.configuration();
    command(binary, layout, &[&["plan", "-c", configuration.to_str().unwrap()], more].concat()).unwrap()
}
