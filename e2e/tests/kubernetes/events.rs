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
    for mut object in portcullis_e2e::kubernetes::shipped("rbac.yaml", "sidecar").unwrap() {
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

/// A service that wants this host.
fn with_rule(name: &str, node_port: usize, host: &str) -> Value {
    let mut service = service(name, node_port);
    let rule = format!("traefik.http.routers.{name}.rule");
    service["metadata"]["annotations"] = json!({rule: format!("Host(`{host}`)")});
    service
}

/// What Events say, by the Service that they are about.
async fn said(server: &ApiServer) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut said: Vec<_> =
        events(server).await.iter().map(|it| (text(&it["regarding"]["name"]), text(&it["note"]))).collect();
    said.sort();
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_two_services_have_is_one_event_on_each_of_them_for_as_long_as_it_stands() {
    let Some(world) = World::start().await else { return };
    let metrics = portcullis_e2e::ports::free().unwrap();
    let mut whole: Value = serde_json::from_slice(&fs::read(world.layout.configuration()).unwrap()).unwrap();
    whole["metrics"] = json!({"listen": metrics});
    fs::write(world.layout.configuration(), whole.to_string()).unwrap();
    let closed = async |wanted: usize| {
        let client = portcullis_e2e::client::Client::plain(metrics);
        let line = format!("portcullis_sync_closed_services{{cluster=\"east\"}} {wanted}");
        let numbers = client.get("localhost", "/metrics", &[]).await;
        numbers.is_ok_and(|answer| answer.text().lines().any(|it| it == line))
    };
    world.server.put(&with_rule("web", 30000, "same.localhost")).await.unwrap();
    world.server.put(&with_rule("db", 30001, "same.localhost")).await.unwrap();
    let sidecar = world.in_step_sidecar().await;
    wait_for("two events", PATIENCE, async || events(&world.server).await.len() == 2).await;
    wait_for("the number", PATIENCE, async || closed(2).await).await;
    let found = said(&world.server).await;
    assert_eq!((found[0].0.as_str(), found[1].0.as_str()), ("db", "web"));
    assert!(found[0].1.contains("same rule and rank as one of web"), "{found:?}");
    assert!(found[1].1.contains("same rule and rank as one of db"), "{found:?}");
    assert!(events(&world.server).await.iter().all(|it| it["reason"] == "NotExposed"));

    // What changes nothing, a restart, and another service say nothing new.
    let mut again = with_rule("web", 30000, "same.localhost");
    again["metadata"]["annotations"]["tags"] = json!("b");
    world.server.put(&again).await.unwrap();
    drop(sidecar);
    let sidecar = world.in_step_sidecar().await;
    let leads = async || sidecar.log().unwrap().matches("keeps Consul in step").count() == 2;
    wait_for("the lock", PATIENCE, leads).await;
    sleep(WATCHED).await;
    assert_eq!(said(&world.server).await, found);
    // The end is no Event, and a new conflict is.
    world.server.put(&with_rule("db", 30001, "other.localhost")).await.unwrap();
    wait_for("the number", PATIENCE, async || closed(0).await).await;
    let mut named = with_rule("db", 30001, "other.localhost");
    named["metadata"]["annotations"]["traefik.http.routers.web.rule"] = json!("Host(`third.localhost`)");
    world.server.put(&named).await.unwrap();
    wait_for("the other conflict", PATIENCE, async || said(&world.server).await.len() == 4).await;
    let found = said(&world.server).await;
    assert!(found.iter().filter(|(_, note)| note.contains("router web is also defined by")).count() == 2, "{found:?}");
}
