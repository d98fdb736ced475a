//! External services from files: registered, probed, taken out and back; one status is one write.

use std::fs;

use portcullis_e2e::backend::Backend;
use serde_json::{Value, json};

use crate::setup::{Stage, ground};

/// A file with one machine, written as an editor does.
fn write(stage_root: &std::path::Path, node: &Value) {
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
    let start = tokio::time::Instant::now();
    loop {
        let found = stage.registry.get("/v1/catalog/service/billing").await.unwrap();
        if found[0]["ServiceTags"].as_array().is_some_and(|tags| tags.contains(&json!("b"))) {
            break;
        }
        assert!(start.elapsed() < crate::setup::PATIENCE, "{found}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
