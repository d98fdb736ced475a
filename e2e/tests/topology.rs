//! The whole topology that Portcullis was asked for, with the shipped rights, and what the gateway does without all the rest.

use std::time::Duration;

use portcullis_e2e::access::Access;
use portcullis_e2e::client::Client;
use portcullis_e2e::parts::{KubernetesParts, Parts};
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::command;
use portcullis_e2e::synced::wait_for;
use portcullis_e2e::topology::stops::{ORDER, ORDER_AGAIN, STOPS};
use portcullis_e2e::topology::{CLUSTERS, Topology};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

/// All requests but the one order of an hour, which was made.
async fn again(access: &Access<'_>) {
    for stop in STOPS.iter().filter(|stop| stop.title != ORDER.title) {
        assert_eq!(access.ask(stop, false).await.unwrap(), stop.expected(), "{}", stop.title);
    }
}

fn in_step(topology: &Topology) -> bool {
    let configuration = topology.layout.configuration();
    let arguments = ["plan", "--diff", "-c", configuration.to_str().unwrap()];
    command(&topology.binary, &topology.layout, &arguments).unwrap().status.success()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_a_machine_and_consul_are_one_gateway_which_outlives_them() {
    let (Some(parts), Some(kubernetes)) = (Parts::for_test(), KubernetesParts::for_test()) else { return };
    let mut topology = Topology::start(&parts, &kubernetes).await.unwrap();
    for stop in &STOPS {
        assert_eq!(topology.access().unwrap().ask(stop, false).await.unwrap(), stop.expected(), "{}", stop.title);
    }
    let took = wait_for("Consul is in step", PATIENCE, async || in_step(&topology)).await;
    say(&format!("Consul in step {took:?} after the routes"));
    let log = topology.sidecar.log().unwrap();
    assert!(!log.contains("ERROR") && !log.contains("may not"), "{log}");

    // Each is in Consul as its origin says, and Consul's interface can group them.
    for (cluster, service) in CLUSTERS {
        let found = topology.registry.get(&format!("/v1/health/service/{service}?passing")).await.unwrap();
        let meta = &found[0]["Service"]["Meta"];
        assert_eq!((&meta["external-source"], &meta["external-k8s-cluster"]), (&json!("kubernetes"), &json!(cluster)));
    }

    // Telemetry: numbers of the sidecar, numbers of Traefik, and who asked whom in the access log.
    let address = topology.metrics.parse().unwrap();
    for line in
        ["portcullis_catalog_whole 1", "portcullis_limit_admitted_units_total{limit=\"rate-limits/shop/orders\"} 1"]
    {
        wait_for(line, PATIENCE, async || {
            let numbers = Client::plain(address).get("localhost", "/metrics", &[]).await.unwrap().text();
            numbers.lines().any(|it| it == line)
        })
        .await;
    }
    let traefik = topology.traefik.internal("/metrics").await.unwrap();
    assert!(traefik.contains("traefik_entrypoint_requests_total"), "{traefik}");
    let said = |it: &Value| {
        let text = |name: &str| it[format!("request_X-Portcullis-{name}")].as_str().unwrap_or_default().to_owned();
        (text("Source"), text("Destination"), text("Decision"))
    };
    let told: Vec<_> = topology.traefik.access_log().unwrap().iter().map(said).collect();
    for (source, destination, decision) in [("web", "stock", "allow"), ("batch", "billing", "deny")] {
        let is_it = |(s, d, v): &&(String, String, String)| s.contains(source) && d == destination && v == decision;
        assert!(told.iter().any(|it| is_it(&it)), "{source} {destination} {decision}: {told:?}");
    }

    // Kubernetes and Consul are gone: nothing changes for anybody who asks.
    for server in &mut topology.clusters {
        server.kill();
    }
    topology.registry.kill();
    wait_for("the sidecar says so", PATIENCE, async || topology.sidecar.log().unwrap().contains("ERROR")).await;
    again(&topology.access().unwrap()).await;

    // They come back, and so does all that the sidecar does.
    topology.registry.resume().await.unwrap();
    for server in &mut topology.clusters {
        server.resume().await.unwrap();
    }
    let took = wait_for("everything is in step again", PATIENCE, async || in_step(&topology)).await;
    say(&format!("in step {took:?} after everything was gone"));
    again(&topology.access().unwrap()).await;
    assert_eq!(topology.access().unwrap().ask(&ORDER_AGAIN, false).await.unwrap(), ORDER_AGAIN.expected());
}
