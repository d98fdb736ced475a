//! Registrations in a real Consul: what `plan` says is there, changes arrive, and nothing that lives is ever taken out.

use std::fs;
use std::path::Path;
use std::time::Duration;

use portcullis_e2e::client::{empty, request};
use portcullis_e2e::parts::RegistryParts;
use portcullis_e2e::registry::Registry;
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::{Layout, Sidecar, command};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(60);
/// Consul may end a session of 10 s twice as late, and a busy machine adds to it.
const TAKEOVER: Duration = Duration::from_secs(40);
/// How long "nothing happens" is watched: several looks of the watch on the catalog fit in.
const WATCHED: Duration = Duration::from_secs(5);
const MANAGEMENT: &str = "11111111-2222-3333-4444-555555555555";

/// What a sidecar is given: services by name with the nodes that they run on, and an annotation `tags`.
struct Manifests<'a> {
    services: &'a [&'a str],
    nodes: usize,
    tags: &'a str,
}

impl Manifests<'_> {
    fn text(&self) -> String {
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
    fn write(&self, layout: &Layout) {
        let file = layout.manifests().join("all.json");
        fs::write(file.with_extension("new"), self.text()).unwrap();
        fs::rename(file.with_extension("new"), file).unwrap();
    }
}

const SHOP: Manifests<'_> = Manifests { services: &["web", "db"], nodes: 3, tags: "a" };

/// A sidecar's folder whose configuration names this Consul, with more keys of `consul`, and `sync`. All share the manifests of
/// the one called `first`.
fn layout(folder: &Path, name: &str, registry: &Registry, more: &Value) -> Layout {
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

async fn services(registry: &Registry) -> Vec<Value> {
    let node = registry.get("/v1/catalog/node-services/k8s-sync").await.unwrap();
    node["Services"].as_array().cloned().unwrap_or_default()
}

/// IDs of all instances on the node with the index of their last write.
async fn writes(registry: &Registry) -> Vec<(String, u64)> {
    let of = |it: &Value| (it["ID"].as_str().unwrap().to_owned(), it["ModifyIndex"].as_u64().unwrap());
    services(registry).await.iter().map(of).collect()
}

async fn wait_for<F: Future<Output = bool>>(what: &str, within: Duration, holds: impl Fn() -> F) -> Duration {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < within, "waited for {what}");
        sleep(Duration::from_millis(20)).await;
    }
    start.elapsed()
}

async fn wait_for_instances(registry: &Registry, n: usize) -> Duration {
    wait_for(&format!("{n} instances"), PATIENCE, || async { services(registry).await.len() == n }).await
}

/// Whether `plan --diff` finds nothing to do, with what it prints.
fn in_step(parts: &RegistryParts, layout: &Layout) -> (bool, String) {
    let configuration = layout.configuration();
    let output = command(&parts.sidecar, layout, &["plan", "--diff", "-c", configuration.to_str().unwrap()]).unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

async fn has_tag(registry: &Registry, tag: &str) -> bool {
    let has = |it: &Value| it["Tags"].as_array().is_some_and(|tags| tags.iter().any(|it| it == tag));
    services(registry).await.iter().all(has)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_is_what_plan_says_and_only_changes_are_written() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let layout = layout(folder.path(), "first", &registry, &json!({}));
    SHOP.write(&layout);
    let (holds, text) = in_step(&parts, &layout);
    assert!(!holds && text.lines().filter(|line| line.starts_with("+ ")).count() == 7, "{text}");

    let sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    say(&format!("6 instances after {:?}", wait_for_instances(&registry, 6).await));
    assert_eq!(in_step(&parts, &layout), (true, String::new()));
    let health = registry.get("/v1/health/service/web?passing").await.unwrap();
    assert_eq!(health.as_array().unwrap().len(), 3);
    assert_eq!(health[0]["Checks"][0]["Type"], "kubernetes-readiness");

    // Idle: Consul's own log of writes stands still.
    let raft = || async {
        let stats = registry.get("/v1/agent/self").await.unwrap();
        stats["Stats"]["raft"]["last_log_index"].as_str().unwrap().parse::<u64>().unwrap()
    };
    let before = (raft().await, writes(&registry).await);
    sleep(WATCHED).await;
    say(&format!("{} entries of any writer in Consul's log in {WATCHED:?}", raft().await - before.0));
    assert_eq!(writes(&registry).await, before.1);

    // A foreign instance on our node, and a foreign change of ours.
    let foreign = json!({"ID": "theirs", "Service": "web", "Address": "198.51.100.1", "Port": 1, "Tags": ["k8s"],
        "Meta": {"external-source": "kubernetes", "external-k8s-cluster": "west"}});
    let node = json!({"Node": "k8s-sync", "Address": "127.0.0.1", "SkipNodeUpdate": true, "Service": foreign});
    registry.put("/v1/catalog/register", &node).await.unwrap();
    let ours = services(&registry).await.into_iter().find(|it| it["ID"] != "theirs").unwrap();
    let changed = json!({"ID": ours["ID"], "Service": ours["Service"], "Address": ours["Address"], "Port": 1, "Meta": ours["Meta"]});
    let node = json!({"Node": "k8s-sync", "Address": "127.0.0.1", "SkipNodeUpdate": true, "Service": changed});
    registry.put("/v1/catalog/register", &node).await.unwrap();
    let mended = wait_for("the repair", PATIENCE, || async { in_step(&parts, &layout).0 }).await;
    say(&format!("drift repaired after {mended:?}"));

    // A change, and a removal.
    Manifests { tags: "b", ..SHOP }.write(&layout);
    let all = || async {
        let ours: Vec<_> = services(&registry).await.into_iter().filter(|it| it["ID"] != "theirs").collect();
        ours.len() == 6 && ours.iter().all(|it| it["Tags"].as_array().unwrap().contains(&json!("b")))
    };
    say(&format!("a change is there after {:?}", wait_for("the change", PATIENCE, all).await));
    Manifests { services: &["web"], tags: "b", ..SHOP }.write(&layout);
    say(&format!("a removal is there after {:?}", wait_for_instances(&registry, 4).await));
    assert!(services(&registry).await.iter().any(|it| it["ID"] == "theirs" && it["Address"] == "198.51.100.1"));

    // A restart writes nothing.
    let before = writes(&registry).await;
    drop(sidecar);
    let restarted = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    wait_for("the lock", TAKEOVER, || async { restarted.log().unwrap().matches("keeps Consul in step").count() >= 3 })
        .await;
    sleep(WATCHED).await;
    assert_eq!(writes(&registry).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_from_a_killed_leader() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let first = layout(folder.path(), "first", &registry, &json!({}));
    let second = layout(folder.path(), "second", &registry, &json!({}));
    SHOP.write(&first);
    let leader = Sidecar::start(&parts.sidecar, &first).await.unwrap();
    wait_for_instances(&registry, 6).await;
    let standby = Sidecar::start(&parts.sidecar, &second).await.unwrap();
    wait_for("the standby", PATIENCE, || async { standby.log().unwrap().contains("standby: ") }).await;
    let before = writes(&registry).await;
    drop(leader);
    Manifests { tags: "b", ..SHOP }.write(&first);
    let took = wait_for("the takeover", TAKEOVER, || async { has_tag(&registry, "b").await }).await;
    say(&format!("the standby wrote {took:?} after the leader was killed"));
    let ids = |of: Vec<(String, u64)>| of.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(ids(writes(&registry).await), ids(before));
}

/// Sends a signal by its name.
fn signal(sidecar: &Sidecar, name: &str) {
    let status = std::process::Command::new("kill").args([format!("-{name}"), sidecar.id().to_string()]).status();
    assert!(status.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_through_its_deposition_stands_by_and_takes_over_at_once_from_one_that_is_stopped() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let first = layout(folder.path(), "first", &registry, &json!({}));
    let second = layout(folder.path(), "second", &registry, &json!({}));
    SHOP.write(&first);
    let sleeper = Sidecar::start(&parts.sidecar, &first).await.unwrap();
    wait_for_instances(&registry, 6).await;
    let other = Sidecar::start(&parts.sidecar, &second).await.unwrap();
    wait_for("the standby", PATIENCE, || async { other.log().unwrap().contains("standby: ") }).await;

    signal(&sleeper, "STOP");
    Manifests { tags: "b", ..SHOP }.write(&first);
    wait_for("the takeover", TAKEOVER, || async { has_tag(&registry, "b").await }).await;
    let before = writes(&registry).await;
    signal(&sleeper, "CONT");
    wait_for("the deposed one", PATIENCE, || async { sleeper.log().unwrap().contains("standby: ") }).await;
    assert!(sleeper.log().unwrap().contains("the lock is lost"));
    assert_eq!(writes(&registry).await, before);

    signal(&other, "TERM");
    let start = Instant::now();
    Manifests { tags: "c", ..SHOP }.write(&first);
    wait_for("the way back", PATIENCE, || async { has_tag(&registry, "c").await }).await;
    say(&format!("the standby wrote {:?} after the leader was told to stop", start.elapsed()));
    assert!(start.elapsed() < TAKEOVER / 8, "it waited for the session's end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_consul_loses_nothing() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let layout = layout(folder.path(), "first", &registry, &json!({}));
    SHOP.write(&layout);
    let sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    wait_for_instances(&registry, 6).await;
    let before = writes(&registry).await;
    registry.kill();
    wait_for("the complaint", PATIENCE, || async { sidecar.log().unwrap().contains("tried again") }).await;
    registry.resume().await.unwrap();
    assert_eq!(writes(&registry).await, before, "nothing was lost");
    Manifests { tags: "b", ..SHOP }.write(&layout);
    wait_for("a change after the restart", TAKEOVER, || async { has_tag(&registry, "b").await }).await;
    assert_eq!(services(&registry).await.len(), 6);
}

/// A token with these rules.
async fn token(registry: &Registry, name: &str, rules: &str) -> String {
    let policy = json!({"Name": name, "Rules": rules});
    registry.put("/v1/acl/policy", &policy).await.unwrap();
    let token = registry.put("/v1/acl/token", &json!({"Policies": [{"Name": name}]})).await.unwrap();
    token["SecretID"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_or_blind_token_says_so_and_takes_nothing_out() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), Some(MANAGEMENT)).await.unwrap();
    let guide = fs::read_to_string(portcullis_e2e::parts::root().join("docs/guide/registrations.md")).unwrap();
    let documented = guide.split("```hcl\n").nth(1).unwrap().split("```").next().unwrap();
    let good = token(&registry, "good", documented).await;
    let blind =
        documented.replace("service_prefix \"\" { policy = \"write\" }", "service \"web\" { policy = \"write\" }");
    assert_ne!(blind, documented, "the guide's policy is written in another way");
    let blind = token(&registry, "blind", &blind).await;
    let file = folder.path().join("token");
    fs::write(&file, &good).unwrap();

    let layout = layout(folder.path(), "first", &registry, &json!({"tokenFile": file}));
    SHOP.write(&layout);
    let sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    wait_for_instances(&registry, 6).await;
    let before = writes(&registry).await;

    fs::write(&file, "99999999-2222-3333-4444-555555555555").unwrap();
    Manifests { services: &["web"], tags: "b", ..SHOP }.write(&layout);
    wait_for("the complaint", PATIENCE, || async { sidecar.log().unwrap().contains("check the token") }).await;
    assert_eq!(writes(&registry).await, before);

    fs::write(&file, &blind).unwrap();
    let said = "Consul has left out of the answer what the token may not see";
    wait_for("the other complaint", TAKEOVER, || async { sidecar.log().unwrap().contains(said) }).await;
    sleep(WATCHED).await;
    assert_eq!(writes(&registry).await, before);

    fs::write(&file, &good).unwrap();
    wait_for_instances(&registry, 3).await;
    assert!(has_tag(&registry, "b").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_source_removes_nothing_until_a_person_lets_it() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let layout = layout(folder.path(), "first", &registry, &json!({}));
    SHOP.write(&layout);
    let sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    wait_for_instances(&registry, 6).await;
    let before = writes(&registry).await;

    fs::write(layout.manifests().join("all.json"), "{").unwrap();
    wait_for("the first complaint", PATIENCE, || async { sidecar.log().unwrap().contains("all.json") }).await;
    fs::remove_file(layout.manifests().join("all.json")).unwrap();
    let said = "consul kv put portcullis/sync/kubernetes/allow-removal 6";
    wait_for("the brake", PATIENCE, || async { sidecar.log().unwrap().contains(said) }).await;
    assert_eq!(writes(&registry).await, before);

    registry.put("/v1/kv/portcullis/sync/kubernetes/allow-removal", &json!(6)).await.unwrap();
    wait_for_instances(&registry, 0).await;
    let key = registry.get("/v1/kv/portcullis/sync/kubernetes/allow-removal").await;
    assert!(key.is_err(), "the permission holds once: {key:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_their_own_come_and_go_with_the_option_and_no_instance_is_missing_meanwhile() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let per_node = layout(folder.path(), "first", &registry, &json!({"sync": {"consulNodes": "perNode"}}));
    SHOP.write(&per_node);
    let sidecar = Sidecar::start(&parts.sidecar, &per_node).await.unwrap();
    let web = || async { registry.get("/v1/catalog/service/web").await.unwrap().as_array().unwrap().clone() };
    wait_for("the instances", PATIENCE, || async { web().await.len() == 3 }).await;
    let found = web().await;
    assert_eq!((&found[0]["Node"], &found[0]["Address"]), (&json!("k8s-sync-kubernetes-n0"), &json!("192.0.2.1")));
    assert!(in_step(&parts, &per_node).0);

    // The address of a node changes; so does its Consul node.
    let text = SHOP.text().replace("192.0.2.1\"", "192.0.2.99\"");
    fs::write(per_node.manifests().join("all.json"), text).unwrap();
    wait_for("the address", PATIENCE, || async { web().await[0]["Address"] == "192.0.2.99" }).await;
    drop(sidecar);

    let synthetic = layout(folder.path(), "second", &registry, &json!({}));
    let watched = async {
        loop {
            let places: std::collections::BTreeSet<_> =
                web().await.iter().map(|it| it["ServiceAddress"].to_string()).collect();
            assert_eq!(places.len(), 3, "{places:?}");
            sleep(Duration::from_millis(5)).await;
        }
    };
    let changed = async {
        let _sidecar = Sidecar::start(&parts.sidecar, &synthetic).await.unwrap();
        wait_for("the end of the nodes", TAKEOVER, || async {
            registry.get("/v1/catalog/nodes").await.unwrap().as_array().unwrap().len() == 2
        })
        .await;
    };
    tokio::select! {
        () = watched => {}
        () = changed => {}
    }
    assert!(in_step(&parts, &synthetic).0);
}

#[tokio::test(flavor = "multi_thread")]
async fn consul_is_reached_by_tls_only_if_its_certificate_is_verified() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let trusting = json!({"address": registry.tls_address(), "caFile": registry.authority()});
    let trusting = layout(folder.path(), "first", &registry, &trusting);
    SHOP.write(&trusting);
    let doubting = layout(folder.path(), "second", &registry, &json!({"address": registry.tls_address()}));
    let (holds, text) = in_step(&parts, &doubting);
    assert!(!holds && text.contains("certificate"), "{text}");
    let _sidecar = Sidecar::start(&parts.sidecar, &trusting).await.unwrap();
    wait_for_instances(&registry, 6).await;
    assert!(in_step(&parts, &trusting).0);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_dead_mans_check_instances_turn_critical_after_the_last_sidecar_and_come_back_with_the_next() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let with = layout(folder.path(), "first", &registry, &json!({"deadManSeconds": 10}));
    let without = layout(folder.path(), "second", &registry, &json!({}));
    SHOP.write(&with);
    let passing = || async { registry.get("/v1/health/service/web?passing").await.unwrap().as_array().unwrap().len() };
    let has_check = || async {
        let checks = registry.get("/v1/health/node/k8s-sync").await.unwrap();
        checks.as_array().unwrap().iter().any(|it| it["CheckID"] == "portcullis-alive-kubernetes")
    };
    let sidecar = Sidecar::start(&parts.sidecar, &with).await.unwrap();
    wait_for("the check", PATIENCE, has_check).await;
    // Longer than twice the session's life: it is renewed.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(22) {
        assert_eq!(passing().await, 3);
        sleep(Duration::from_millis(100)).await;
    }
    drop(sidecar);
    let took = wait_for("critical", TAKEOVER, || async { passing().await == 0 }).await;
    say(&format!("critical {took:?} after the last sidecar was killed"));
    let sidecar = Sidecar::start(&parts.sidecar, &with).await.unwrap();
    wait_for("passing again", TAKEOVER, || async { passing().await == 3 }).await;
    drop(sidecar);
    let _sidecar = Sidecar::start(&parts.sidecar, &without).await.unwrap();
    wait_for("the end of the check", TAKEOVER, || async { !has_check().await }).await;
    assert_eq!(passing().await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_change_over_60_instances_is_never_seen_half_done() {
    const INSTANCES: usize = 60;
    const CHANGES: usize = 20;
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let layout = layout(folder.path(), "first", &registry, &json!({}));
    let shop = Manifests { services: &["web"], nodes: INSTANCES, tags: "t0" };
    shop.write(&layout);
    let _sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    wait_for_instances(&registry, INSTANCES).await;

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (mut connection, stopped) = (registry.connect().await.unwrap(), stopped.clone());
        readers.spawn(async move {
            let (mut reads, mut seen) = (0_usize, std::collections::BTreeSet::new());
            while !*stopped.borrow() {
                let request = request("GET", "localhost", "/v1/health/service/web", &[], empty()).unwrap();
                let text = connection.send(request).await.unwrap().text();
                // Without reading it as JSON, which would take longer than Consul does.
                let tags: Vec<_> = text.split("\"Tags\":").skip(1).filter_map(|it| it.split(']').next()).collect();
                assert_eq!(tags.len(), INSTANCES, "{text}");
                let tags: std::collections::BTreeSet<_> = tags.into_iter().map(str::to_owned).collect();
                assert_eq!(tags.len(), 1, "half done: {tags:?}");
                seen.extend(tags);
                reads += 1;
            }
            (reads, seen.len())
        });
    }
    for number in 1..=CHANGES {
        let tag = format!("t{number}");
        Manifests { tags: &tag, ..shop }.write(&layout);
        wait_for("the change", PATIENCE, || async { has_tag(&registry, &tag).await }).await;
    }
    stop.send(true).unwrap();
    for (reads, seen) in readers.join_all().await {
        say(&format!("{reads} reads saw {seen} sets of tags, each whole"));
        assert!(seen > CHANGES / 2, "the reader was too slow to say anything");
    }
}
