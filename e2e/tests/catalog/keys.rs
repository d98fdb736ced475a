//! The gate in Consul's key-value store, read by real Traefik's provider: guarded at every moment, and kept in step.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use portcullis_e2e::backend::Backend;
use portcullis_e2e::report::say;
use portcullis_e2e::traefik::GUEST_POLICY;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::setup::{PATIENCE, Stage, ground};

const PREFIX: &str = "infra/traefik";
const SERVICES: usize = 120;

fn register(name: &str, port: u16) -> Value {
    json!({"Node": "vm-1", "Address": "127.0.0.1", "Service": {"ID": name, "Service": name, "Port": port, "Address": "127.0.0.1",
        "Tags": [format!("traefik.http.routers.{name}.rule=Host(`{name}.localhost`)")]}})
}

async fn rise() -> Option<(Stage, Backend)> {
    let ground = ground().await?;
    let backend = Backend::start("billing", "vm-1").await.unwrap();
    ground.registry.put("/v1/catalog/register", &register("billing", backend.address().port())).await.unwrap();
    let foreign = json!({"addPrefix": {"prefix": "/x"}});
    ground.registry.put(&format!("/v1/kv/{PREFIX}/http/middlewares/theirs/addPrefix/prefix"), &foreign).await.unwrap();
    // What the stage waits for; nobody writes to it.
    fs::write(ground.layout.gate(), "# The gate is in Consul.\n").unwrap();
    let gate = json!({
        "kv": {"prefix": PREFIX}, "snapshot": format!("{GUEST_POLICY}/policy.snapshot"), "entryPoints": ["websecure"],
        "tls": {"options": "mtls@file"}, "clientCertificate": "verifiedByTraefik",
    });
    let provider = json!({"consul": {"rootKey": PREFIX, "endpoints": [ground.registry.address()]}});
    Some((ground.rise_with(json!({"gate": gate, "catalog": {"traefikPrefix": ""}}), provider).await, backend))
}

async fn keys(stage: &Stage) -> Vec<String> {
    let keys = stage.registry.get(&format!("/v1/kv/{PREFIX}/?keys")).await.unwrap();
    serde_json::from_value(keys).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn traefik_s_key_value_provider_reads_the_gate_and_drift_is_mended() {
    let Some((mut stage, _backend)) = rise().await else { return };
    for router in ["billing-root@consul", "gate@consul", "billing-leaf@consul"] {
        stage.traefik.router(router, PATIENCE).await.unwrap();
    }
    assert_eq!(
        stage.wait_for_status(Some("web"), "billing.localhost", 200).await.service().as_deref(),
        Some("billing")
    );
    assert_eq!(stage.get(Some("stranger"), "billing.localhost").await.status, 403);
    assert_eq!(stage.get(None, "billing.localhost").await.status, 401);
    // A forged certificate header is removed by an empty value, which the provider has to keep.
    let stamp = stage.traefik.internal("/api/http/middlewares/billing-destination@consul").await.unwrap();
    let stamp: Value = serde_json::from_str(&stamp).unwrap();
    let wanted = json!({"X-Portcullis-Destination": "billing", "X-Forwarded-Tls-Client-Cert": ""});
    assert_eq!(stamp["headers"]["customRequestHeaders"], wanted);
    let leaf: Value =
        serde_json::from_str(&stage.traefik.internal("/api/http/routers/billing-leaf@consul").await.unwrap()).unwrap();
    assert_eq!(leaf["parentRefs"], json!(["gate@consul"]), "{leaf}");

    // Somebody takes the gate away: it comes back, and until then nobody gets through.
    stage.registry.delete(&format!("/v1/kv/{PREFIX}/http/routers/gate?recurse")).await.unwrap();
    let start = Instant::now();
    while !keys(&stage).await.iter().any(|key| key.ends_with("gate/middlewares")) {
        assert_ne!(stage.get(Some("stranger"), "billing.localhost").await.status, 200);
        assert!(start.elapsed() < PATIENCE);
        sleep(std::time::Duration::from_millis(20)).await;
    }
    say(&format!("the gate is back after {:?}", start.elapsed()));
    stage.wait_for_status(Some("web"), "billing.localhost", 200).await;

    // Somebody writes inside of it: told, and nothing more is written.
    let inside = format!("{PREFIX}/http/routers/billing-leaf/service");
    stage.registry.delete(&format!("/v1/kv/{inside}")).await.unwrap();
    stage.registry.put(&format!("/v1/kv/{inside}"), &json!("x")).await.unwrap();
    stage.wait_for_line(&format!("key {inside} stands inside the gate and is not ours")).await;
    stage.registry.delete(&format!("/v1/kv/{inside}")).await.unwrap();
    stage.wait_for_status(Some("web"), "billing.localhost", 200).await;
    assert!(keys(&stage).await.iter().any(|key| key.contains("/theirs/")), "what is not ours stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_many_services_come_and_go_nobody_gets_past_the_gate() {
    let Some((stage, backend)) = rise().await else { return };
    stage.wait_for_status(Some("web"), "billing.localhost", 200).await;
    let (over, port) = (AtomicBool::new(false), backend.address().port());
    let asks = async {
        let mut n_refused = 0;
        while !over.load(Ordering::Relaxed) {
            for caller in [Some("stranger"), None] {
                let answer = stage.get(caller, "billing.localhost").await;
                assert!(
                    matches!(answer.status, 401 | 403 | 404 | 503) && answer.service().is_none(),
                    "{}",
                    answer.status
                );
                n_refused += 1;
            }
        }
        n_refused
    };
    let changes = async {
        let stage = &stage;
        let wait = |n: usize| async move {
            let start = Instant::now();
            while keys(stage).await.iter().filter(|key| key.ends_with("-leaf/parentRefs")).count() != n {
                assert!(start.elapsed() < PATIENCE);
                sleep(std::time::Duration::from_millis(20)).await;
            }
            say(&format!("{n} services in the tree after {:?}", start.elapsed()));
        };
        for _ in 0..2 {
            for number in 0..SERVICES {
                stage.registry.put("/v1/catalog/register", &register(&format!("s{number}"), port)).await.unwrap();
            }
            wait(SERVICES + 1).await;
            // Not more than half at once, which would be doubted.
            for number in SERVICES / 2..SERVICES {
                let gone = json!({"Node": "vm-1", "ServiceID": format!("s{number}")});
                stage.registry.put("/v1/catalog/deregister", &gone).await.unwrap();
            }
            wait(SERVICES / 2 + 1).await;
        }
        over.store(true, Ordering::Relaxed);
    };
    let (n_refused, ()) = tokio::join!(asks, changes);
    say(&format!("{n_refused} requests were refused meanwhile"));
    assert_eq!(
        stage.wait_for_status(Some("web"), "billing.localhost", 200).await.service().as_deref(),
        Some("billing")
    );
}
