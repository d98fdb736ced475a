//! Services as keys: what a template reads, whose keys they are, and nginx following a deployment by them.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis_e2e::backend::Backend;
use portcullis_e2e::client::Client;
use portcullis_e2e::parts::{RegistryParts, TemplateParts};
use portcullis_e2e::pods::{Pods, Service};
use portcullis_e2e::registry::Registry;
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::{Layout, Sidecar, command};
use portcullis_e2e::synced;
use portcullis_e2e::templating::Templating;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long "nothing happens" is watched.
const WATCHED: Duration = Duration::from_secs(5);
const FOLDER: &str = "portcullis/services/kubernetes";

fn layout(registry: &Registry, folder: &std::path::Path, more: &Value) -> Layout {
    let layout = Layout::new(folder).unwrap();
    let mut consul = json!({"address": registry.address(), "kvImport": {}});
    consul.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    layout.write_configuration_with(&json!({"consul": consul})).unwrap();
    layout
}

/// The value of a key as it is written, and the index of its last write.
async fn entry(registry: &Registry, key: &str) -> Option<(String, u64)> {
    let found = registry.get(&format!("/v1/kv/{key}")).await.ok()?;
    let value = STANDARD.decode(found[0]["Value"].as_str().unwrap_or_default()).unwrap();
    Some((String::from_utf8(value).unwrap(), found[0]["ModifyIndex"].as_u64().unwrap()))
}

async fn service(registry: &Registry, name: &str) -> Option<Value> {
    let (value, _) = entry(registry, &format!("{FOLDER}/{name}")).await?;
    serde_json::from_str(&value).ok()
}

/// `node address:port status` of each instance in a key.
async fn instances(registry: &Registry, name: &str) -> Vec<String> {
    let value = service(registry, name).await.unwrap_or_default();
    let text = |it: &Value, key: &str| it[key].as_str().unwrap_or_default().to_owned();
    let show =
        |it: &Value| format!("{} {}:{} {}", text(it, "node"), text(it, "address"), it["port"], text(it, "status"));
    value["instances"].as_array().into_iter().flatten().map(show).collect()
}

async fn wait_for(what: &str, holds: impl AsyncFn() -> bool) -> Duration {
    synced::wait_for(what, PATIENCE, holds).await
}

fn three_nodes() -> Pods {
    Pods::new([("n1", "192.0.2.1"), ("n2", "192.0.2.2"), ("n3", "192.0.2.3")])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_one_value_that_changes_only_with_it_and_goes_with_it() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let layout = layout(&registry, &folder.path().join("sidecar"), &json!({}));
    let mut pods = three_nodes();
    let mut web = Service::on(30080, ["n1", "n2"])
        .annotated("tags", "red,blue")
        .annotated("consul.hashicorp.com/service-weight", "5")
        .annotated("consul.hashicorp.com/service-meta-team", "shop");
    web.more_ports.push(("admin".to_owned(), 81, 30081));
    pods.set("web", web.clone());
    pods.set("db", Service::on(30090, ["n3"]));
    pods.write(&layout).unwrap();

    let told = |layout: &Layout| {
        let configuration = layout.configuration();
        let arguments = ["plan", "--diff", "-c", configuration.to_str().unwrap()];
        String::from_utf8(command(&parts.sidecar, layout, &arguments).unwrap().stdout).unwrap()
    };
    assert!(told(&layout).contains(&format!("+ key {FOLDER}/web\n")), "{}", told(&layout));

    let sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    wait_for("both keys", || async {
        service(&registry, "web").await.is_some() && service(&registry, "db").await.is_some()
    })
    .await;
    let value = service(&registry, "web").await.unwrap();
    let id = |place: usize| value["instances"][place]["id"].as_str().unwrap().to_owned();
    let instance = |place: usize, node: &str, address: &str| {
        json!({"namespace": "shop", "node": node, "address": address, "port": 30080, "id": id(place), "status": "passing",
            "weight": 5})
    };
    let expected = json!({
        "name": "web", "cluster": "kubernetes", "namespace": "shop", "tags": ["k8s", "red", "blue"], "meta": {"team": "shop"},
        "ports": [{"name": "admin", "port": 81, "nodePort": 30081}, {"name": "http", "port": 80, "nodePort": 30080}],
        "instances": [instance(0, "n1", "192.0.2.1"), instance(1, "n2", "192.0.2.2")],
    });
    assert_eq!(value, expected);
    assert_eq!(told(&layout), "", "in step");

    // Pods that are others at the same places, and an idle time: no key is written.
    let before = entry(&registry, &format!("{FOLDER}/web")).await.unwrap();
    pods.restart();
    pods.write(&layout).unwrap();
    sleep(WATCHED).await;
    assert_eq!(entry(&registry, &format!("{FOLDER}/web")).await.unwrap(), before, "a restart of pods is no news");

    // A pod that is not ready, and one that moves.
    web.pods = vec![("n1".to_owned(), false), ("n3".to_owned(), true)];
    pods.set("web", web);
    pods.write(&layout).unwrap();
    let expected = ["n1 192.0.2.1:30080 critical", "n3 192.0.2.3:30080 passing"];
    let took = wait_for("the change", || async { instances(&registry, "web").await == expected }).await;
    say(&format!("a change is in the key after {took:?}"));

    // Taken away by hand: it comes back.
    registry.delete(&format!("/v1/kv/{FOLDER}/web")).await.unwrap();
    let took = wait_for("the key to come back", || async { instances(&registry, "web").await == expected }).await;
    say(&format!("a key that was taken away is back after {took:?}"));

    // With its service it goes.
    pods.services.remove("db");
    pods.write(&layout).unwrap();
    wait_for("the end of the key", || async { entry(&registry, &format!("{FOLDER}/db")).await.is_none() }).await;
    assert!(service(&registry, "web").await.is_some());
    drop(sidecar);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_somebody_else_is_told_and_left_alone() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let layout = layout(&registry, &folder.path().join("sidecar"), &json!({}));
    registry.put(&format!("/v1/kv/{FOLDER}/web"), &json!("mine")).await.unwrap();
    registry.put(&format!("/v1/kv/{FOLDER}/notes"), &json!("keep")).await.unwrap();
    let mut pods = three_nodes();
    pods.set("web", Service::on(30080, ["n1"]));
    pods.set("db", Service::on(30090, ["n3"]));
    pods.write(&layout).unwrap();
    let sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    wait_for("the other key", || async { service(&registry, "db").await.is_some() }).await;
    let said = |name: &str| format!("key {FOLDER}/{name} was written by somebody else and is left alone");
    wait_for("the note", || async { sidecar.log().unwrap().contains(&said("web")) }).await;

    // One that we wrote and somebody wrote over is theirs from then on.
    registry.put(&format!("/v1/kv/{FOLDER}/db"), &json!("over")).await.unwrap();
    wait_for("the other note", || async { sidecar.log().unwrap().contains(&said("db")) }).await;
    pods.services.clear();
    pods.set("api", Service::on(30070, ["n2"]));
    pods.write(&layout).unwrap();
    wait_for("the new key", || async { service(&registry, "api").await.is_some() }).await;
    for (name, value) in [("web", "\"mine\""), ("notes", "\"keep\""), ("db", "\"over\"")] {
        assert_eq!(entry(&registry, &format!("{FOLDER}/{name}")).await.unwrap().0, value, "{name}");
    }
    assert!(!sidecar.log().unwrap().contains("notes"), "what nobody wants to write is nobody's business");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_stay_while_removals_wait_and_go_when_a_person_lets_them() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let layout = layout(&registry, &folder.path().join("sidecar"), &json!({}));
    let mut pods = three_nodes();
    for number in 0..20 {
        pods.set(&format!("s{number}"), Service::on(30000 + number, ["n1"]));
    }
    pods.write(&layout).unwrap();
    let sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    let count = || async {
        let keys = registry.get(&format!("/v1/kv/{FOLDER}/?keys")).await.unwrap_or_default();
        keys.as_array().map_or(0, Vec::len)
    };
    wait_for("the keys", || async { count().await == 20 }).await;
    let kept = pods.services.split_off("s8");
    let gone = std::mem::replace(&mut pods.services, kept);
    assert_eq!(gone.len(), 18);
    pods.write(&layout).unwrap();
    let said = "consul kv put portcullis/sync/kubernetes/allow-removal 18";
    wait_for("the brake", || async { sidecar.log().unwrap().contains(said) }).await;
    assert_eq!(count().await, 20);
    registry.put("/v1/kv/portcullis/sync/kubernetes/allow-removal", &json!(18)).await.unwrap();
    wait_for("the removal", || async { count().await == 2 }).await;

    // A source that cannot be read removes nothing, one without anything waits.
    fs::write(layout.manifests().join("all.json"), "{").unwrap();
    wait_for("the complaint", || async { sidecar.log().unwrap().contains("all.json") }).await;
    pods.services.clear();
    pods.nodes.clear();
    pods.write(&layout).unwrap();
    wait_for("the other brake", || async { sidecar.log().unwrap().contains("neither a Service nor a Node") }).await;
    assert_eq!(count().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leads_next_goes_on_with_the_keys_and_writes_none_that_is_right() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let first = layout(&registry, &folder.path().join("first"), &json!({}));
    let second = layout(&registry, &folder.path().join("second"), &json!({}));
    let mut pods = three_nodes();
    for name in ["web", "db", "old"] {
        pods.set(name, Service::on(30080, ["n1"]));
    }
    pods.write(&first).unwrap();
    let leader = Sidecar::start(&parts.sidecar, &first).await.unwrap();
    wait_for("the keys", || async { service(&registry, "web").await.is_some() }).await;
    wait_for("the last key", || async { service(&registry, "old").await.is_some() }).await;
    let before = entry(&registry, &format!("{FOLDER}/db")).await.unwrap();
    // While nobody leads, one service changes and another goes.
    drop(leader);
    pods.services.remove("old");
    pods.set("web", Service::on(30080, ["n2"]));
    pods.write(&second).unwrap();
    let next = Sidecar::start(&parts.sidecar, &second).await.unwrap();
    let took =
        wait_for("the takeover", || async { instances(&registry, "web").await == ["n2 192.0.2.2:30080 passing"] })
            .await;
    say(&format!("the next leader wrote {took:?} after its start"));
    wait_for("the end of the key", || async { entry(&registry, &format!("{FOLDER}/old")).await.is_none() }).await;
    assert_eq!(entry(&registry, &format!("{FOLDER}/db")).await.unwrap(), before);
    drop(next);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_too_large_is_refused_with_a_note_and_the_others_are_written() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let layout = layout(&registry, &folder.path().join("sidecar"), &json!({}));
    let mut pods = three_nodes();
    // The tags are of each instance in the catalog and once in the key: 380 KB of them fit into a transaction, not into a key.
    let tags = |n: usize| (0..n).map(|number| format!("tag-{number:0>95}")).collect::<Vec<_>>().join(",");
    pods.set("large", Service::on(30080, ["n1"]).annotated("tags", &tags(3800)));
    pods.set("full", Service::on(30081, ["n1"]).annotated("tags", &tags(3500)));
    pods.set("web", Service::on(30082, ["n1"]));
    pods.write(&layout).unwrap();
    let sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    wait_for("the others", || async {
        service(&registry, "web").await.is_some() && service(&registry, "full").await.is_some()
    })
    .await;
    let said = format!("key {FOLDER}/large is not written: large needs ");
    wait_for("the note", || async { sidecar.log().unwrap().contains(&said) }).await;
    assert!(entry(&registry, &format!("{FOLDER}/large")).await.is_none());
    let catalog = registry.get("/v1/catalog/service/large").await.unwrap();
    assert_eq!(catalog.as_array().unwrap().len(), 1, "the catalog is another matter");
    let (value, _) = entry(&registry, &format!("{FOLDER}/full")).await.unwrap();
    say(&format!("the largest value that was written has {} bytes", value.len()));
}

/// Which backends answer, by asking until each of `expected` has answered and nobody else does.
async fn wait_for_answers(what: &str, client: &Client, host: &str, expected: &[&str]) -> Duration {
    let start = Instant::now();
    loop {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..12 {
            let answer = client.get(host, "/", &[]).await.unwrap();
            if answer.status == 200 {
                seen.insert(answer.json().unwrap()["instance"].as_str().unwrap_or_default().to_owned());
            } else {
                seen.insert(answer.status.to_string());
            }
        }
        if seen.iter().eq(expected) {
            return start.elapsed();
        }
        assert!(start.elapsed() < PATIENCE, "waited for {what}: {seen:?}, not {expected:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_follows_a_deployment_by_the_keys_and_by_the_catalog() {
    let Some(parts) = TemplateParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.registry.consul, folder.path(), None).await.unwrap();
    let layout = layout(&registry, &folder.path().join("sidecar"), &json!({}));
    // Node addresses where somebody answers: every pod's node has an address of its own on this machine.
    let first = Backend::start("app", "n1").await.unwrap();
    let node_port = first.address().port();
    let at = |last: u8| SocketAddr::from(([127, 0, 0, last], node_port));
    let second = Backend::start_at(at(2), "app", "n2").await.unwrap();
    let third = Backend::start_at(at(3), "app", "n3").await.unwrap();
    let mut pods = Pods::new([("n1", "127.0.0.1"), ("n2", "127.0.0.2"), ("n3", "127.0.0.3")]);
    pods.set("app", Service::on(node_port, ["n1"]));
    // A name that would be more than a name in nginx's configuration.
    let hostile = "x { } server { listen 127.0.0.1:1; }";
    pods.set("evil", Service::on(node_port, ["n1"]).annotated("consul.hashicorp.com/service-name", hostile));
    pods.write(&layout).unwrap();
    let _sidecar = Sidecar::start(&parts.registry.sidecar, &layout).await.unwrap();
    let gateway = Templating::start(&parts, &folder.path().join("nginx"), &registry.address()).await.unwrap();
    let (keys, catalog) = (gateway.by_keys(), gateway.by_catalog());
    let host = "app.example.com";
    wait_for("the first rendering", || async { gateway.rendered("from-keys.conf").contains("upstream app {") }).await;
    wait_for("the other one", || async { catalog.get(host, "/", &[]).await.is_ok_and(|it| it.status == 200) }).await;
    wait_for_answers("one backend", &keys, host, &["n1"]).await;
    assert_eq!(keys.get("nobody.example.com", "/", &[]).await.unwrap().status, 404);
    assert!(
        !gateway.rendered("from-keys.conf").contains("listen 127.0.0.1:1;"),
        "{}",
        gateway.rendered("from-keys.conf")
    );

    // Scaled up, and a part of it unready, and scaled down to other nodes.
    pods.set("app", Service::on(node_port, ["n1", "n2", "n3"]));
    pods.write(&layout).unwrap();
    let took = wait_for_answers("three backends", &keys, host, &["n1", "n2", "n3"]).await;
    say(&format!("by the keys, requests reach the new backends after {took:?}"));
    let took = wait_for_answers("three backends", &catalog, host, &["n1", "n2", "n3"]).await;
    say(&format!("by the catalog after {took:?} more"));
    assert!(first.requests() > 0 && second.requests() > 0 && third.requests() > 0);
    let mut service = Service::on(node_port, ["n1", "n2", "n3"]);
    service.pods[1].1 = false;
    pods.set("app", service);
    pods.write(&layout).unwrap();
    wait_for_answers("those that are ready", &keys, host, &["n1", "n3"]).await;
    wait_for_answers("those that are ready", &catalog, host, &["n1", "n3"]).await;
    pods.set("app", Service::on(node_port, ["n2"]));
    pods.write(&layout).unwrap();
    wait_for_answers("the one that is left", &keys, host, &["n2"]).await;
    wait_for_answers("the one that is left", &catalog, host, &["n2"]).await;

    // Without pods nobody is asked, and nginx lives on.
    pods.services.remove("app");
    pods.write(&layout).unwrap();
    wait_for_answers("nobody", &keys, host, &["404"]).await;
    wait_for_answers("nobody", &catalog, host, &["502"]).await;
    let log = gateway.log().unwrap();
    assert!(!log.contains("[emerg]"), "nginx refused a configuration:\n{log}");
}
