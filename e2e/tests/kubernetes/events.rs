//! What is wrong with a Service is an Event on it.

use std::fs;

use portcullis_e2e::kubernetes::ApiServer;
use portcullis_e2e::sidecar::{Layout, Sidecar};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::setup::{PATIENCE, WATCHED, World, configure, service, wait_for, wait_for_word};

const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/shop/events";
const PORT: &str = "consul.hashicorp.com/service-port";

async fn events(server: &ApiServer) -> Vec<Value> {
    server.get(EVENTS).await.unwrap()["items"].as_array().unwrap().clone()
}

fn with_port(port: &str) -> Value {
    let mut web = service("web", 30000);
    web["metadata"]["annotations"] = json!({"tags": "a", PORT: port});
    web
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_annotation_is_one_event_whoever_says_it_and_however_often() {
    let Some(world) = World::start().await else { return };
    world.server.put(&with_port("0x50")).await.unwrap();
    let sidecar = world.in_step_sidecar().await;
    let standby = Layout::new(&world.folder.path().join("standby")).unwrap();
    let cluster = json!([{"name": "east", "kubeconfig": world.layout.root().join("kubeconfig")}]);
    configure(&standby, &world.registry, &cluster);
    let standby = Sidecar::start(&world.parts.registry.sidecar, &standby).await.unwrap();
    wait_for("an event", PATIENCE, async || events(&world.server).await.len() == 1).await;
    let event = &events(&world.server).await[0];
    let uid = world.server.get("/api/v1/namespaces/shop/services/web").await.unwrap()["metadata"]["uid"].clone();
    assert_eq!((&event["regarding"]["name"], &event["regarding"]["uid"]), (&json!("web"), &uid));
    assert_eq!((&event["type"], &event["reason"]), (&json!("Warning"), &json!("ValueIgnored")));
    assert!(event["note"].as_str().unwrap().contains(PORT), "{event}");

    // Again, after a while, by another process, and after a change that does not mend it.
    world.server.put(&owned(with_port("0x50"))).await.unwrap();
    drop(sidecar);
    wait_for_word(&standby, "keeps Consul in step").await;
    sleep(WATCHED).await;
    assert_eq!(events(&world.server).await.len(), 1);
    world.server.put(&with_port("-1")).await.unwrap();
    wait_for("another event", PATIENCE, async || events(&world.server).await.len() == 2).await;
}

/// With an annotation that nobody minds.
fn owned(mut service: Value) -> Value {
    service["metadata"]["annotations"]["example.com/owner"] = "somebody".into();
    service
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_say_it_there_is_one_line_and_nothing_else_is_missing() {
    let Some(world) = World::start().await else { return };
    fs::write(&world.token, "sidecar").unwrap();
    for mut object in crate::rights::shipped("rbac.yaml", "sidecar") {
        if object["kind"] == "ClusterRole" {
            let rules = object["rules"].as_array_mut().unwrap();
            rules.retain(|rule| rule["resources"] != json!(["events"]));
        }
        world.server.put(&object).await.unwrap();
    }
    world.server.put(&with_port("0x50")).await.unwrap();
    let sidecar = world.in_step_sidecar().await;
    wait_for_word(&sidecar, "cluster east: events: may not create events: ").await;
    world.server.put(&with_port("-1")).await.unwrap();
    wait_for_word(&sidecar, "-1").await;
    sleep(WATCHED).await;
    assert_eq!(sidecar.log().unwrap().matches("may not create events").count(), 1);
    assert_eq!(events(&world.server).await.len(), 0);
}
