//! External services from files: registered, probed, taken out and back; one status is one write.

use std::fs;
use std::path::Path;
use std::time::Duration;

use portcullis_e2e::backend::Backend;
use portcullis_e2e::parts::RegistryParts;
use portcullis_e2e::registry::Registry;
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::{Layout, Sidecar, command};
use portcullis_e2e::synced;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::setup::{PATIENCE, Stage, ground};

/// A file with one machine, written as an editor does.
fn write(stage_root: &Path, node: &Value) {
    let folder = stage_root.join("external");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("vms.json.new"), json!({"nodes": [node]}).to_string()).unwrap();
    fs::rename(folder.join("vms.json.new"), folder.join("vms.json")).unwrap();
}

fn vm(port: u16, more_tag: &str) -> Value {
    json!({"name": "vm-7", "address": "127.0.0.1", "meta": {"rack": "r1"}, "services": [{
        "name": "billing", "port": port,
        "tags": ["traefik.http.routers.billing.rule=Host(`billing.localhost`)", more_tag],
        "checks": [{"http": "/v1/small", "intervalSeconds": 1, "timeoutSeconds": 1, "failures": 2, "successes": 2}, {"tcp": true}],
    }]})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_service_is_registered_probed_and_guarded() {
    let Some(ground) = ground().await else { return };
    let backend = Backend::start("billing", "vm-7").await.unwrap();
    let address = backend.address();
    write(ground.layout.root(), &vm(address.port(), "a"));
    let stage: Stage = ground.rise(json!({"external": {"directory": "./external"}}), "traefik").await;

    let found = stage.wait_for_health("billing", "passing").await;
    assert_eq!(found["Node"]["Node"], "external-vms-vm-7");
    assert_eq!(
        (&found["Node"]["Meta"]["rack"], &found["Service"]["Meta"]["external-source"]),
        (&json!("r1"), &json!("portcullis"))
    );
    let tags = found["Service"]["Tags"].as_array().unwrap();
    assert!(
        tags.contains(&json!("a")) && tags.iter().all(|tag| !tag.as_str().unwrap().starts_with("traefik.")),
        "{tags:?}"
    );
    stage.wait_for_status(Some("web"), "billing.localhost", 200).await;
    assert_eq!(stage.get(None, "billing.localhost").await.status, 401);

    let before = stage.registry.get("/v1/health/service/billing").await.unwrap();
    drop(backend);
    let gone = stage.wait_for_health("billing", "critical").await;
    stage.wait_for_status(Some("web"), "billing.localhost", 503).await;
    // Only the check was written, and the instance not.
    assert_eq!(gone["Service"]["ModifyIndex"], before[0]["Service"]["ModifyIndex"]);
    let _backend = Backend::start_at(address, "billing", "vm-7").await.unwrap();
    stage.wait_for_health("billing", "passing").await;
    stage.wait_for_status(Some("web"), "billing.localhost", 200).await;

    // A file that cannot be read changes nothing, one that says otherwise is followed.
    let folder = stage.layout.root().join("external");
    fs::write(folder.join("broken.yaml"), "nodes: [{name: x}]").unwrap();
    stage.wait_for_line("broken.yaml").await;
    assert_eq!(stage.get(Some("web"), "billing.localhost").await.status, 200);
    fs::remove_file(folder.join("broken.yaml")).unwrap();
    write(stage.layout.root(), &vm(address.port(), "b"));
    let changed = || async {
        let found = stage.registry.get("/v1/catalog/service/billing").await.unwrap();
        found[0]["ServiceTags"].as_array().is_some_and(|tags| tags.contains(&json!("b")))
    };
    wait_for("the change", changed).await;
}

/// The check of the only instance of `billing`.
async fn check(registry: &Registry) -> Value {
    let found = registry.get("/v1/health/checks/billing").await.unwrap();
    found[0].clone()
}

async fn wait_for(what: &str, holds: impl AsyncFn() -> bool) {
    say(&format!("{what} after {:?}", synced::wait_for(what, PATIENCE, holds).await));
}

/// Another gateway's sidecar on the same files, and a Consul.
fn layout(folder: &Path, name: &str, registry: &Registry) -> Layout {
    let layout = Layout::new(&folder.join(name)).unwrap();
    // Whose services of others may have routes does not matter for ours.
    let sections = json!({"consul": {"address": registry.address()}, "external": {"directory": "../external"},
        "catalog": {"services": ["nobody-s"]}});
    layout.write_configuration_with(&sections).unwrap();
    layout
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leader_probes_a_standby_takes_its_word_and_later_its_place() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let backend = Backend::start("billing", "vm-7").await.unwrap();
    write(folder.path(), &vm(backend.address().port(), "a"));
    let first = layout(folder.path(), "first", &registry);
    let leader = Sidecar::start(&parts.sidecar, &first).await.unwrap();
    wait_for("the first status", || async { check(&registry).await["Status"] == "passing" }).await;
    let second = layout(folder.path(), "second", &registry);
    let standby = Sidecar::start(&parts.sidecar, &second).await.unwrap();
    let place = format!("http://{}", backend.address());
    let routes = || async { fs::read_to_string(second.gate()).unwrap_or_default().contains(&place) };
    wait_for("the standby's route", routes).await;
    wait_for("the standby", || async { standby.log().unwrap().contains("standby: ") }).await;
    // A second prober would show.
    let before = backend.requests();
    sleep(Duration::from_secs(4)).await;
    let n_probes = backend.requests() - before;
    assert!((2..=6).contains(&n_probes), "{n_probes} probes in 4 s");

    let written = check(&registry).await["ModifyIndex"].clone();
    drop(leader);
    let leads = "this sidecar keeps Consul in step key=portcullis/sync/external/vms/lock";
    wait_for("the takeover", || async { standby.log().unwrap().contains(leads) }).await;
    let before = backend.requests();
    wait_for("its first probes", || async { backend.requests() > before }).await;
    assert_eq!(check(&registry).await["ModifyIndex"], written, "a takeover writes nothing");
    drop(backend);
    wait_for("the new leader's word", || async { check(&registry).await["Status"] == "critical" }).await;
    let emptied = || async { !fs::read_to_string(second.gate()).unwrap_or_default().contains(&place) };
    wait_for("the server's end", emptied).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consul_esm_s_word_stays_and_nodes_of_others_are_left_alone() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let mut node = vm(80, "a");
    node["probe"] = json!("esm");
    node["services"][0]["checks"] = json!([{"http": "/health", "intervalSeconds": 90}]);
    write(folder.path(), &node);
    let layout = layout(folder.path(), "first", &registry);
    let sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    wait_for("the check", || async { check(&registry).await["Status"] == "critical" }).await;
    let found = check(&registry).await;
    assert_eq!(
        found["Definition"],
        json!({"HTTP": "http://127.0.0.1:80/health", "Interval": "1m30s", "Timeout": "2s"})
    );
    let meta = registry.get("/v1/catalog/node/external-vms-vm-7").await.unwrap()["Node"]["Meta"].clone();
    assert_eq!((&meta["external-node"], &meta["external-probe"]), (&json!("true"), &json!("true")));

    // As consul-esm writes.
    let mut theirs = json!({"Status": "passing", "Output": "HTTP GET: 200"});
    for key in ["Node", "CheckID", "Name", "ServiceID", "ServiceName", "Type", "Definition"] {
        theirs[key] = found[key].clone();
    }
    let set = json!([{"Check": {"Verb": "set", "Check": theirs}}]);
    registry.put("/v1/txn", &set).await.unwrap();
    let routed = || async { fs::read_to_string(layout.gate()).unwrap_or_default().contains("http://127.0.0.1:80") };
    wait_for("the route", routed).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(check(&registry).await["Output"], "HTTP GET: 200");
    let configuration = layout.configuration();
    let plan = || command(&parts.sidecar, &layout, &["plan", "--diff", "-c", configuration.to_str().unwrap()]).unwrap();
    let output = plan();
    assert!(output.status.success() && output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));

    // A node of that name that somebody else made.
    let theirs = json!({"Node": "external-vms-vm-8", "Address": "192.0.2.8", "NodeMeta": {"a": "b"}});
    registry.put("/v1/catalog/register", &theirs).await.unwrap();
    let before = registry.get("/v1/catalog/node/external-vms-vm-8").await.unwrap();
    node["name"] = json!("vm-8");
    write(folder.path(), &node);
    let said = "Consul node external-vms-vm-8 is not ours";
    wait_for("the conflict", || async { sidecar.log().unwrap().contains(said) }).await;
    assert_eq!(registry.get("/v1/catalog/node/external-vms-vm-8").await.unwrap(), before);
}
