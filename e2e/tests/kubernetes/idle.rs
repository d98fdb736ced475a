//! Where nothing happens nothing is written, however long it is watched (`PORTCULLIS_IDLE_SECONDS`; 600 for the ten minutes
//! that are promised).

use std::env;
use std::fs;
use std::time::Duration;

use portcullis_e2e::client::Client;
use portcullis_e2e::ports;
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::{Layout, Sidecar};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::setup::{PATIENCE, World, configure, node, service, slice, wait_for, wait_for_word};

/// Without the variable.
const IDLE: u64 = 10;
/// Services beside the shop's two, of three instances each.
const SERVICES: usize = 40;
/// How often a node says that it is alive, and a slice is written anew with the same content.
const BEAT: Duration = Duration::from_secs(1);

/// Everything in Consul that somebody could have written: the indexes of all of it.
async fn indexes(world: &World) -> Value {
    let mut all = json!({"instances": world.writes().await});
    for (what, path) in [
        ("keys", "/v1/kv/portcullis?recurse"),
        ("nodes", "/v1/catalog/nodes"),
        ("checks", "/v1/health/state/any"),
        ("sessions", "/v1/session/list"),
    ] {
        let found = world.registry.get(path).await.unwrap();
        let index = |it: &Value| json!([it["Key"], it["Node"], it["CheckID"], it["ID"], it["ModifyIndex"]]);
        all[what] = found.as_array().unwrap().iter().map(index).collect();
    }
    all
}

/// The number of a line of the metrics.
async fn number(address: std::net::SocketAddr, name: &str) -> u64 {
    let text = Client::plain(address).get("localhost", "/metrics", &[]).await.unwrap().text();
    let of_line = |line: &str| line.strip_prefix(name)?.rsplit(' ').next()?.parse::<u64>().ok();
    text.lines().filter_map(of_line).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_where_nothing_happens() {
    let Some(world) = World::start().await else { return };
    let seconds = env::var("PORTCULLIS_IDLE_SECONDS").map_or(IDLE, |text| text.parse().unwrap());
    for number in 0..SERVICES {
        let name = format!("s{number}");
        world.server.put(&service(&name, 31000 + number)).await.unwrap();
        world.server.put(&slice(&name, &[0, 1, 2], true)).await.unwrap();
    }
    let standby = Layout::new(&world.folder.path().join("standby")).unwrap();
    let cluster = json!([{"name": "east", "kubeconfig": world.layout.root().join("kubeconfig")}]);
    let metrics = ports::free().unwrap();
    for layout in [&world.layout, &standby] {
        configure(layout, &world.registry, &cluster);
        let mut more: Value = serde_json::from_slice(&fs::read(layout.configuration()).unwrap()).unwrap();
        more["consul"]["kvImport"] = json!({});
        // Lives by renewing a session, which is no write either.
        more["consul"]["deadManSeconds"] = json!(30);
        if layout.root() == world.layout.root() {
            more["metrics"] = json!({"listen": metrics});
        }
        fs::write(layout.configuration(), more.to_string()).unwrap();
    }
    let leader = world.sidecar().await;
    world.wait_for_instances(6 + 3 * SERVICES).await;
    let standby = Sidecar::start(&world.parts.registry.sidecar, &standby).await.unwrap();
    wait_for_word(&standby, "standby: ").await;
    let has_keys = async || world.registry.get("/v1/kv/portcullis/services/east/web").await.is_ok();
    wait_for("the keys", PATIENCE, has_keys).await;
    let checked = async || {
        let checks = world.registry.get("/v1/health/node/k8s-sync").await.unwrap();
        checks.as_array().unwrap().iter().any(|it| it["CheckID"] == "portcullis-alive-east")
    };
    // Older servers have no such check.
    if world.registry.version().await.unwrap() >= (1, 21) {
        wait_for("the check", PATIENCE, checked).await;
    }

    let raft = async || {
        let stats = world.registry.get("/v1/agent/self").await.unwrap();
        stats["Stats"]["raft"]["last_log_index"].as_str().unwrap().parse::<u64>().unwrap()
    };
    let before = (indexes(&world).await, raft().await, number(metrics, "portcullis_consul_transactions_total").await);
    let (start, mut beats) = (Instant::now(), 0_u64);
    while start.elapsed() < Duration::from_secs(seconds) {
        sleep(BEAT).await;
        beats += 1;
        let mut same = node(0);
        same["status"]["conditions"][0]["lastHeartbeatTime"] =
            format!("2026-01-01T{:02}:{:02}:00Z", beats / 60 % 24, beats % 60).into();
        world.server.put(&same).await.unwrap();
        let mut same = slice("web", &[0, 1, 2], true);
        same["metadata"]["annotations"] = json!({"beat": beats.to_string()});
        world.server.put(&same).await.unwrap();
    }
    let after = (indexes(&world).await, raft().await, number(metrics, "portcullis_consul_transactions_total").await);
    say(&format!(
        "idle for {:?} with {beats} heartbeats and {} instances: {} transactions of ours, {} entries of any writer in Consul's log",
        start.elapsed(),
        6 + 3 * SERVICES,
        after.2 - before.2,
        after.1 - before.1
    ));
    assert_eq!(after.0, before.0);
    assert!(before.2 > 0 && after.2 == before.2);
    for log in [leader.log().unwrap(), standby.log().unwrap()] {
        assert!(!log.contains("ERROR"), "{log}");
    }
}
