//! What is in the catalog, and how it gets there and away.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use portcullis_e2e::client::{empty, request};
use portcullis_e2e::parts::RegistryParts;
use portcullis_e2e::registry::Registry;
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::Sidecar;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::setup::{
    self, Manifests, PATIENCE, SHOP, TAKEOVER, WATCHED, has_tag, in_step, layout, services, wait_for,
    wait_for_instances, writes,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_is_what_plan_says_and_only_changes_are_written() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let layout = layout(folder.path(), "first", &registry, &json!({}));
    SHOP.write(&layout);
    let (holds, text) = in_step(&parts, &layout);
    assert!(!holds && text.lines().filter(|line| line.starts_with("+ ")).count() == 7, "{text}");

    let dry = setup::layout(folder.path(), "dry", &registry, &json!({"dryRun": true}));
    let dry = Sidecar::start(&parts.sidecar, &dry).await.unwrap();
    wait_for("the dry run", PATIENCE, || async { dry.log().unwrap().contains("dry run, not written: + web") }).await;
    assert_eq!(services(&registry).await, Vec::<Value>::new());
    drop(dry);

    let sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    say(&format!("6 instances after {:?}", wait_for_instances(&registry, 6).await));
    assert_eq!(in_step(&parts, &layout), (true, String::new()));
    let health = registry.get("/v1/health/service/web?passing").await.unwrap();
    assert_eq!(health.as_array().unwrap().len(), 3);
    // In a transaction, older servers take no type of a check.
    let kind = if registry.version().await.unwrap() < (1, 20) { "" } else { "kubernetes-readiness" };
    assert_eq!(health[0]["Checks"][0]["Type"], kind);

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
            let places: BTreeSet<_> = web().await.iter().map(|it| it["ServiceAddress"].to_string()).collect();
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
            let (mut reads, mut seen) = (0_usize, BTreeSet::new());
            while !*stopped.borrow() {
                let request = request("GET", "localhost", "/v1/health/service/web", &[], empty()).unwrap();
                let text = connection.send(request).await.unwrap().text();
                // Without reading it as JSON, which would take longer than Consul does.
                let tags: Vec<_> = text.split("\"Tags\":").skip(1).filter_map(|it| it.split(']').next()).collect();
                assert_eq!(tags.len(), INSTANCES, "{text}");
                let tags: BTreeSet<_> = tags.into_iter().map(str::to_owned).collect();
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
