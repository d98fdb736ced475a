//! A service of a real agent is reached through the gate and by no other way, and nobody changes it but its agent.

use std::time::Duration;

use portcullis_e2e::agent::Agent;
use portcullis_e2e::backend::Backend;
use portcullis_e2e::client::Client;
use portcullis_e2e::ports;
use portcullis_e2e::report::say;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::setup::{PATIENCE, allow, ground};

/// The service definition of a machine that was made for Traefik's catalog provider.
fn billing(backend: &Backend) -> Value {
    let address = backend.address();
    json!({
        "name": "billing", "id": "billing-vm", "address": "127.0.0.1", "port": address.port(),
        "tags": [
            "traefik.enable=true", "traefik.http.routers.billing.rule=Host(`billing.localhost`)",
            "traefik.http.routers.billing.entrypoints=websecure", "traefik.http.routers.billing.tls=true",
        ],
        "check": {"http": format!("http://{address}/v1/small"), "interval": "200ms", "timeout": "1s"},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_a_real_agent_is_reached_only_through_the_gate() {
    let Some(ground) = ground().await else { return };
    let backend = Backend::start("billing", "billing-vm").await.unwrap();
    let services = json!([billing(&backend)]);
    let agent = Agent::start(&ground.consul, ground.folder.path(), &ground.registry, "vm-1", &services).await.unwrap();
    let metrics = ports::free().unwrap();
    let mut stage = ground.rise(json!({"metrics": {"listen": metrics}}), "not-traefik").await;
    stage.traefik.router("billing-root@file", PATIENCE).await.unwrap();

    let allowed = stage.wait_for_status(Some("web"), "billing.localhost", 200).await;
    assert_eq!(allowed.service().as_deref(), Some("billing"));
    for (caller, status) in [(Some("stranger"), 403), (None, 401)] {
        let refused = stage.get(caller, "billing.localhost").await;
        assert_eq!((refused.status, refused.service()), (status, None), "{caller:?}");
    }
    assert_eq!(stage.routers("billing.localhost").await, ["billing-root@file"]);
    // Traefik's own provider could read these tags, as far as the sidecar knows: it says so.
    stage.wait_for_line("billing: traefik.*: Traefik's catalog provider reads its traefik. tags").await;
    let numbers = Client::plain(metrics).get("localhost", "/metrics", &[]).await.unwrap().text();
    for line in ["portcullis_catalog_whole 1", "portcullis_catalog_services 1", "portcullis_catalog_bypasses 1"] {
        assert!(numbers.lines().any(|it| it == line), "no {line}:\n{numbers}");
    }

    allow(&stage.layout, "billing", &["nobody"]);
    stage.wait_for_status(Some("web"), "billing.localhost", 403).await;
    allow(&stage.layout, "billing", &["web"]);
    stage.wait_for_status(Some("web"), "billing.localhost", 200).await;

    // Its check turns critical: no server is left. And back.
    let address = backend.address();
    drop(backend);
    stage.wait_for_status(Some("web"), "billing.localhost", 503).await;
    let backend = Backend::start_at(address, "billing", "billing-vm-2").await.unwrap();
    stage.wait_for_status(Some("web"), "billing.localhost", 200).await;

    // A proxy of the mesh beside it changes nothing.
    let proxy = json!({"Node": "vm-2", "Address": "127.0.0.1", "Service": {
        "ID": "p", "Service": "billing-sidecar-proxy", "Kind": "connect-proxy", "Port": 21000, "Address": "127.0.0.1",
        "Proxy": {"DestinationServiceName": "billing"}, "Tags": billing(&backend)["tags"]}});
    stage.registry.put("/v1/catalog/register", &proxy).await.unwrap();
    let other = json!({"Node": "vm-2", "Address": "127.0.0.1", "Service": {"ID": "o", "Service": "other", "Port": backend.address().port(),
        "Address": "127.0.0.1", "Tags": ["portcullis.http.routers.other.rule=Host(`other.localhost`)"]}});
    stage.registry.put("/v1/catalog/register", &other).await.unwrap();
    stage.wait_for_status(Some("web"), "other.localhost", 403).await;

    // Nobody but its agent has written to it.
    let found = stage.registry.get("/v1/catalog/service/billing").await.unwrap();
    assert_eq!(
        (&found[0]["CreateIndex"], found[0]["ServiceTags"].as_array().unwrap().len()),
        (&found[0]["ModifyIndex"], 4)
    );
    assert_eq!(stage.get(Some("web"), "billing.localhost").await.status, 200);

    // The machine is gone: so is the route.
    drop(agent);
    stage.registry.put("/v1/catalog/deregister", &json!({"Node": "vm-1"})).await.unwrap();
    stage.wait_for_status(Some("web"), "billing.localhost", 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_claim_neither_takes_nor_closes_a_route_of_ours() {
    let Some(ground) = ground().await else { return };
    let (web, evil) = (Backend::start("web", "web-1").await.unwrap(), Backend::start("evil", "evil-1").await.unwrap());
    let manifests = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
         "status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}},
        {"apiVersion": "v1", "kind": "Service",
         "metadata": {"name": "web", "annotations": {"traefik.http.routers.web.rule": "Host(`web.localhost`)"}},
         "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": web.address().port()}]}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": null,
         "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
         "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "n1"}]},
    ]});
    std::fs::write(ground.layout.manifests().join("all.json"), manifests.to_string()).unwrap();
    let stage = ground.rise(json!({"catalog": {"traefikPrefix": "not-traefik"}}), "not-traefik").await;
    stage.wait_for_status(Some("web"), "web.localhost", 200).await;

    let register = |id: &str, name: &str, tags: &[&str]| {
        json!({"Node": "vm-evil", "Address": "127.0.0.1", "Service": {
            "ID": id, "Service": name, "Address": "127.0.0.1", "Port": evil.address().port(), "Tags": tags}})
    };
    for (registration, said) in [
        (
            register("1", "evil", &["traefik.http.routers.web.rule=Host(`web.localhost`)"]),
            "router web is defined by web, which is ours",
        ),
        (
            register("2", "evil2", &["portcullis.http.routers.e.rule=Host(`web.localhost`)"]),
            "has the same rule and rank as one of web, which is ours",
        ),
        (
            register("3", "web", &["portcullis.http.routers.x.rule=Host(`evil.localhost`)"]),
            "carries other routing tags than ours",
        ),
        (register("4", "WEB", &["portcullis.http.routers.web.rule=Host(`web.localhost`)"]), "which is ours, as one"),
    ] {
        stage.registry.put("/v1/catalog/register", &registration).await.unwrap();
        stage.wait_for_line(said).await;
        // Or it and the next one would be rivals as well.
        if registration["Service"]["ID"] == "1" {
            stage.registry.put("/v1/catalog/deregister", &json!({"Node": "vm-evil"})).await.unwrap();
        }
    }
    // One that harms nobody comes last: once it is there, the others have been taken.
    let last = register("5", "other", &["traefik.http.routers.other.rule=Host(`other.localhost`)"]);
    stage.registry.put("/v1/catalog/register", &last).await.unwrap();
    allow(&stage.layout, "other", &["web"]);
    stage.wait_for_status(Some("web"), "other.localhost", 200).await;
    for _ in 0..10 {
        let answer = stage.get(Some("web"), "web.localhost").await;
        assert_eq!((answer.status, answer.service().as_deref()), (200, Some("web")));
    }
    assert_eq!(stage.get(Some("web"), "evil.localhost").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consul_that_is_away_or_comes_back_without_its_data_takes_no_route_away() {
    let Some(ground) = ground().await else { return };
    let backend = Backend::start("billing", "billing-1").await.unwrap();
    let services: Vec<_> = ["billing", "s1", "s2", "s3", "s4"]
        .into_iter()
        .map(|name| {
            json!({"Node": "vm-1", "Address": "127.0.0.1", "Service": {
            "ID": name, "Service": name, "Address": "127.0.0.1", "Port": backend.address().port(),
            "Tags": [format!("portcullis.http.routers.{name}.rule=Host(`{name}.localhost`)")]}})
        })
        .collect();
    for service in &services {
        ground.registry.put("/v1/catalog/register", service).await.unwrap();
    }
    let mut stage = ground.rise(json!({}), "not-traefik").await;
    stage.wait_for_status(Some("web"), "billing.localhost", 200).await;

    stage.registry.kill();
    stage.wait_for_line("routes of services that others registered stay as they are").await;
    assert_eq!(stage.get(Some("web"), "billing.localhost").await.status, 200);
    stage.registry.wipe().unwrap();
    stage.registry.resume().await.unwrap();
    stage.wait_for_line("5 of 5 services that others registered are gone at once").await;
    assert_eq!(stage.get(Some("web"), "billing.localhost").await.status, 200);

    // They come back, and one of them is elsewhere.
    let moved = Backend::start("billing", "billing-2").await.unwrap();
    for service in &services[1..] {
        stage.registry.put("/v1/catalog/register", service).await.unwrap();
    }
    let mut billing = services[0].clone();
    billing["Service"]["Port"] = json!(moved.address().port());
    stage.registry.put("/v1/catalog/register", &billing).await.unwrap();
    let start = Instant::now();
    while stage.get(Some("web"), "billing.localhost").await.json().unwrap()["instance"] != "billing-2" {
        assert!(start.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_flaps_among_many_costs_a_bounded_part_of_the_time() {
    const SERVICES: usize = 500;
    const FLAPS: Duration = Duration::from_secs(6);
    let Some(ground) = ground().await else { return };
    let register = |name: &str, status: &str| {
        json!({"Node": "vm-1", "Address": "127.0.0.1", "SkipNodeUpdate": true, "Service": {
            "ID": name, "Service": name, "Address": "127.0.0.1", "Port": 9,
            "Tags": [format!("portcullis.http.routers.{name}.rule=Host(`{name}.localhost`)")]},
            "Check": {"CheckID": name, "ServiceID": name, "Name": "c", "Status": status}})
    };
    for number in 0..SERVICES {
        ground.registry.put("/v1/catalog/register", &register(&format!("s{number}"), "passing")).await.unwrap();
    }
    let start = Instant::now();
    let mut stage = ground.rise(json!({"catalog": {"traefikPrefix": ""}}), "not-traefik").await;
    stage.traefik.router("s499-root@file", PATIENCE).await.unwrap();
    say(&format!("{SERVICES} services are routed {:?} after the start", start.elapsed()));
    let (before, start, mut flaps) = (stage.sidecar.usage().unwrap(), Instant::now(), 0);
    while start.elapsed() < FLAPS {
        for status in ["critical", "passing"] {
            stage.registry.put("/v1/catalog/register", &register("s0", status)).await.unwrap();
            flaps += 1;
        }
        sleep(Duration::from_millis(20)).await;
    }
    let usage = stage.sidecar.usage().unwrap();
    let part = (usage.cpu - before.cpu).as_secs_f64() / start.elapsed().as_secs_f64();
    say(&format!("{flaps} changes: {part:.3} of a processor, {} MB", usage.resident_bytes >> 20));
    // Built for tests it is many times slower than for use.
    assert!(part < 0.5, "{part}");
    // And the last word is in force.
    stage.registry.put("/v1/catalog/register", &register("s0", "critical")).await.unwrap();
    let gate = || std::fs::read_to_string(stage.layout.gate()).unwrap();
    let start = Instant::now();
    while gate().matches("http://127.0.0.1:9").count() != SERVICES - 1 {
        assert!(start.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20)).await;
    }
    say(&format!("its last change is in the file after {:?}", start.elapsed()));
}
