//! Leaders that die or sleep, a Consul that is away, tokens that do not fit: nothing that lives is taken out.

use std::fs;
use std::process::Command;
use std::time::Duration;

use portcullis_e2e::parts::{RegistryParts, root};
use portcullis_e2e::registry::Registry;
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::Sidecar;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::setup::{
    Manifests, PATIENCE, SHOP, TAKEOVER, WATCHED, has_tag, layout, services, wait_for, wait_for_instances, writes,
};

/// The management token of a Consul with ACLs.
const MANAGEMENT: &str = "11111111-2222-3333-4444-555555555555";

/// Sends a signal by its name.
fn signal(sidecar: &Sidecar, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), sidecar.id().to_string()]).status();
    assert!(status.unwrap().success());
}

/// A token with these rules.
async fn token(registry: &Registry, name: &str, rules: &str) -> String {
    let policy = json!({"Name": name, "Rules": rules});
    registry.put("/v1/acl/policy", &policy).await.unwrap();
    let token = registry.put("/v1/acl/token", &json!({"Policies": [{"Name": name}]})).await.unwrap();
    token["SecretID"].as_str().unwrap().to_owned()
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

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_or_blind_token_says_so_and_takes_nothing_out() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), Some(MANAGEMENT)).await.unwrap();
    let guide = fs::read_to_string(root().join("docs/guide/registrations.md")).unwrap();
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
    if registry.version().await.unwrap() < (1, 21) {
        let said = "this Consul ties no check to a session; use Consul 1.21.5 or newer";
        wait_for("the complaint", PATIENCE, || async { sidecar.log().unwrap().contains(said) }).await;
        assert!(!has_check().await, "a check that says passing for ever");
        assert_eq!(passing().await, 3);
        return;
    }
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
