//! A Consul with ACLs and TLS: the shipped policy is what it takes, no rule of it is spare, and a token may be replaced at any time.

use std::fs;

use portcullis_e2e::parts::{RegistryParts, root};
use portcullis_e2e::registry::Registry;
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::Sidecar;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::setup::{
    Manifests, PATIENCE, SHOP, TAKEOVER, WATCHED, has_tag, layout, services, wait_for, wait_for_instances, writes,
};

/// The management token.
pub(crate) const MANAGEMENT: &str = "11111111-2222-3333-4444-555555555555";
const KEYS: &str = "/v1/kv/portcullis/services/kubernetes/?keys";

/// The rules of the shipped policy, but for those by which policy is read, of which `control_planes` knows.
fn shipped() -> Vec<String> {
    rules("policy.hcl")
}

/// The same of any of the shipped policies, one a line.
pub(crate) fn rules(file: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("deploy/consul").join(file)).unwrap();
    let registering = text.split("\n# Reading policy").next().unwrap();
    registering.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// A token with these rules: its accessor and its secret.
pub(crate) async fn token(registry: &Registry, name: &str, rules: &[String]) -> (String, String) {
    registry.put("/v1/acl/policy", &json!({"Name": name, "Rules": rules.join("\n")})).await.unwrap();
    let token = registry.put("/v1/acl/token", &json!({"Policies": [{"Name": name}]})).await.unwrap();
    let text = |key: &str| token[key].as_str().unwrap().to_owned();
    (text("AccessorID"), text("SecretID"))
}

/// Ends every session, as if all that held a lock had died long ago.
pub(crate) async fn end_sessions(registry: &Registry) {
    for session in registry.get("/v1/session/list").await.unwrap().as_array().unwrap() {
        let path = format!("/v1/session/destroy/{}", session["ID"].as_str().unwrap());
        registry.put(&path, &Value::Null).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_policy_suffices_and_with_one_rule_less_an_error_names_the_right_that_lacks() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), Some(MANAGEMENT)).await.unwrap();
    let file = folder.path().join("token");
    let more = json!({"tokenFile": file, "kvImport": {}});
    let rules = shipped();
    // For each rule, by its place, what the log says without it.
    let named: [&str; 6] = [
        "lacks permission 'node:write' on \"k8s-sync\"",
        "lacks permission 'service:write' on",
        "lacks permission 'session:write' on \"server\"",
        "lacks permission 'key:",
        "lacks permission 'key:",
        // Of a list, Consul leaves out what is hidden; that is seen, and what may be hidden is not taken for gone.
        "Consul has left out of the answer",
    ];
    assert_eq!(rules.len(), named.len(), "{rules:?}");
    for (place, said) in named.iter().enumerate() {
        let mut less = rules.clone();
        let without = less.remove(place);
        let (_, secret) = token(&registry, &format!("less-{place}"), &less).await;
        fs::write(&file, secret).unwrap();
        let layout = layout(folder.path(), if place == 0 { "first" } else { "again" }, &registry, &more);
        if place == 0 {
            SHOP.write(&layout);
        }
        let sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
        let log = || sidecar.log().unwrap();
        wait_for(&format!("the error without {without}"), TAKEOVER, || async { log().contains(*said) }).await;
        let line = log().lines().find(|line| line.contains(*said)).unwrap_or_default().to_owned();
        say(&format!("without {without}: {}", line.split("ERROR").last().unwrap_or_default().trim()));
        // The keys follow the catalog; the catalog does not wait for them, nor for what others have registered.
        let is_for_keys = without.contains("portcullis/services/");
        let is_for_others = without.starts_with("node_prefix \"\"");
        wait_for_instances(&registry, if is_for_keys || is_for_others { 6 } else { 0 }).await;
        if is_for_others {
            wait_for("the keys", PATIENCE, || async { registry.get(KEYS).await.is_ok() }).await;
        } else {
            assert!(registry.get(KEYS).await.is_err(), "keys were written without {without}");
        }
        drop(sidecar);
        registry.delete("/v1/kv/portcullis/services?recurse").await.unwrap();
        end_sessions(&registry).await;
        registry.put("/v1/catalog/deregister", &json!({"Node": "k8s-sync"})).await.unwrap();
        fs::remove_file(layout.root().join("portcullis.log")).unwrap();
    }
    let (_, secret) = token(&registry, "all", &rules).await;
    fs::write(&file, secret).unwrap();
    let layout = layout(folder.path(), "whole", &registry, &more);
    let sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    wait_for_instances(&registry, 6).await;
    wait_for("the keys", PATIENCE, || async {
        registry
            .get(KEYS)
            .await
            .is_ok_and(|it| it == json!(["portcullis/services/kubernetes/db", "portcullis/services/kubernetes/web"]))
    })
    .await;
    assert!(!sidecar.log().unwrap().contains("ERROR"), "{}", sidecar.log().unwrap());
}

#[test]
fn the_guide_shows_the_shipped_policy() {
    let guide = fs::read_to_string(root().join("docs/guide/registrations.md")).unwrap();
    let shown = guide.split("```hcl\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(shown.lines().collect::<Vec<_>>(), shipped());
}

#[tokio::test(flavor = "multi_thread")]
async fn by_tls_and_with_a_token_file_that_is_replaced_the_sync_goes_on() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), Some(MANAGEMENT)).await.unwrap();
    let file = folder.path().join("token");
    let (old, secret) = token(&registry, "old", &shipped()).await;
    fs::write(&file, secret).unwrap();
    let more =
        json!({"address": registry.tls_address(), "caFile": registry.authority(), "tokenFile": file, "kvImport": {}});
    let layout = layout(folder.path(), "first", &registry, &more);
    SHOP.write(&layout);
    let sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    wait_for_instances(&registry, 6).await;

    // Replaced in time: nobody notices.
    let (new, secret) = token(&registry, "new", &shipped()).await;
    fs::write(&file, secret).unwrap();
    registry.delete(&format!("/v1/acl/token/{old}")).await.unwrap();
    Manifests { tags: "b", ..SHOP }.write(&layout);
    wait_for("the change", PATIENCE, || async { has_tag(&registry, "b").await }).await;
    assert!(!sidecar.log().unwrap().contains("ERROR"), "{}", sidecar.log().unwrap());

    // Revoked first: nothing is taken out, and the next token mends it.
    registry.delete(&format!("/v1/acl/token/{new}")).await.unwrap();
    let before = writes(&registry).await;
    Manifests { services: &["web"], tags: "c", ..SHOP }.write(&layout);
    wait_for("the complaint", TAKEOVER, || async { sidecar.log().unwrap().contains("check the token") }).await;
    sleep(WATCHED).await;
    assert_eq!(writes(&registry).await, before);
    let (_, secret) = token(&registry, "newest", &shipped()).await;
    fs::write(&file, secret).unwrap();
    wait_for("the change", TAKEOVER, || async {
        services(&registry).await.len() == 3 && has_tag(&registry, "c").await
    })
    .await;
}
