//! `consulNodes: perNode`: the catalog and Consul's DNS answer with the nodes where pods run.

use std::time::Duration;

use portcullis_e2e::dns;
use portcullis_e2e::parts::RegistryParts;
use portcullis_e2e::pods::{Pods, Service};
use portcullis_e2e::registry::Registry;
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::{Layout, Sidecar};
use serde_json::json;
use tokio::time::{Instant, sleep};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
const NODE_PORT: u16 = 30080;

/// What `curl /v1/catalog/service/NAME | jq -r '.[] | [.Address, .ServicePort] | @tsv'` prints, sorted.
async fn catalog(registry: &Registry, name: &str) -> Vec<String> {
    let found = registry.get(&format!("/v1/catalog/service/{name}")).await.unwrap();
    let line = |it: &serde_json::Value| format!("{}\t{}", it["Address"].as_str().unwrap(), it["ServicePort"]);
    let mut lines: Vec<_> = found.as_array().unwrap().iter().map(line).collect();
    lines.sort();
    lines
}

async fn addresses(registry: &Registry, name: &str) -> Vec<String> {
    let found = dns::addresses(registry.dns(), &format!("{name}.service.consul")).await.unwrap();
    found.iter().map(ToString::to_string).collect()
}

/// Waits until catalog and DNS both say so.
async fn wait_for(registry: &Registry, name: &str, in_catalog: &[&str], in_dns: &[&str]) -> Duration {
    let start = Instant::now();
    let lines: Vec<_> = in_catalog.iter().map(|address| format!("{address}\t{NODE_PORT}")).collect();
    loop {
        let found = (catalog(registry, name).await, addresses(registry, name).await);
        if found.0 == lines && found.1 == in_dns {
            return start.elapsed();
        }
        assert!(start.elapsed() < PATIENCE, "{found:?}, not {lines:?} and {in_dns:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_and_dns_say_where_pods_run() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let layout = Layout::new(&folder.path().join("sidecar")).unwrap();
    let sections =
        json!({"consul": {"address": registry.address()}, "sync": {"consulNodes": "perNode", "clusterName": "east"}});
    layout.write_configuration_with(&sections).unwrap();
    let mut pods = Pods::new([("n1", "192.0.2.1"), ("n2", "192.0.2.2"), ("n3", "192.0.2.3")]);
    let place = |pods: &mut Pods, places: &[(&str, bool)]| {
        let places = places.iter().map(|(node, ready)| ((*node).to_owned(), *ready)).collect();
        pods.set("app", Service { node_port: NODE_PORT, pods: places, ..Service::default() });
        pods.write(&layout).unwrap();
    };
    // Two pods on one node are one place.
    place(&mut pods, &[("n1", true), ("n1", true), ("n2", true)]);
    pods.set("other", Service::on(30090, ["n3"]));
    let _sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    let took = wait_for(&registry, "app", &["192.0.2.1", "192.0.2.2"], &["192.0.2.1", "192.0.2.2"]).await;
    say(&format!("catalog and DNS know the nodes after {took:?}"));
    assert_eq!(dns::ports(registry.dns(), "app.service.consul").await.unwrap(), [NODE_PORT, NODE_PORT]);
    let found = registry.get("/v1/catalog/service/app").await.unwrap();
    assert_eq!((&found[0]["Node"], &found[0]["ServiceAddress"]), (&json!("k8s-sync-east-n1"), &json!("192.0.2.1")));

    // A pod moves; it leaves nothing behind.
    place(&mut pods, &[("n1", true), ("n3", true)]);
    let took = wait_for(&registry, "app", &["192.0.2.1", "192.0.2.3"], &["192.0.2.1", "192.0.2.3"]).await;
    say(&format!("a pod that moved is found after {took:?}"));

    // Critical: in the catalog, not in DNS; and back.
    place(&mut pods, &[("n1", true), ("n3", false)]);
    let took = wait_for(&registry, "app", &["192.0.2.1", "192.0.2.3"], &["192.0.2.1"]).await;
    say(&format!("a pod that is not ready has left DNS after {took:?}"));
    place(&mut pods, &[("n1", true), ("n3", true)]);
    wait_for(&registry, "app", &["192.0.2.1", "192.0.2.3"], &["192.0.2.1", "192.0.2.3"]).await;

    // The node itself takes another address.
    pods.nodes.insert("n3".to_owned(), "192.0.2.33".to_owned());
    pods.write(&layout).unwrap();
    wait_for(&registry, "app", &["192.0.2.1", "192.0.2.33"], &["192.0.2.1", "192.0.2.33"]).await;
    assert_eq!(addresses(&registry, "nobody").await, Vec::<String>::new());
    assert_eq!(catalog(&registry, "nobody").await, Vec::<String>::new());
}
