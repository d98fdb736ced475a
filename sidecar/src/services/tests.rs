//! Several clusters on one gateway: none costs another one its routes, and none its own.

use serde_json::json;

use super::*;
use crate::{
    input::Change,
    kube::{Cluster, Manifests, ObjectKey, Packed},
};

fn cluster(names: &[&str]) -> Cluster {
    let mut all = vec![json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}})];
    for name in names {
        let rule = format!("traefik.http.routers.{name}.rule");
        all.push(json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "annotations": {rule: format!("Host(`{name}`)")}},
            "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}}));
        all.push(
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": null,
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "n1"}]}),
        );
    }
    Cluster::from_manifests([Manifests::from_values("test", all).unwrap()]).unwrap()
}

fn start() -> (Services, Table, Numbers) {
    start_with(&json!({}))
}

fn start_with(more: &serde_json::Value) -> (Services, Table, Numbers) {
    let (table, numbers) = (Table::new(), Numbers::default());
    let clusters = ["east", "west"].map(|name| json!({"name": name, "events": false}));
    let mut config = json!({"clusters": clusters, "policy": {"directory": "policy"}, "snapshot": {"file": "snapshot"},
        "gate": {"file": "gate.yml"}});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config = serde_json::from_value(config).unwrap();
    (Services::start(&config, table.clone(), numbers.clone()).unwrap(), table, numbers)
}

#[tokio::test(start_paused = true)]
async fn only_the_first_gate_of_all_is_written_without_what_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gate.yml");
    for is_first in [true, false] {
        let more = json!({"external": {"directory": folder.path()}, "gate": {"file": file}});
        let (mut services, table, _) = start_with(&more);
        whole(&mut services, "east", &["web"]);
        assert!(services.due().is_none());
        whole(&mut services, "west", &["db"]);
        assert!(!table.is_released());
        assert_eq!(services.due().is_some(), is_first);
        tokio::time::advance(FIRST).await;
        services.tell();
        assert_eq!(table.is_released(), is_first, "a file that is there holds everybody's routes");
        assert!(services.due().is_none());
        std::fs::write(&file, "").unwrap();
    }
}

fn whole(services: &mut Services, name: &str, objects: &[&str]) {
    services.take(Input::Cluster(name.to_owned(), Said::Whole(Box::new(cluster(objects)))));
    services.tell();
}

fn destinations(table: &Table) -> Vec<String> {
    table.routes().iter().map(|route| route.destination.clone()).collect()
}

#[test]
fn nothing_is_ready_before_every_cluster_was_read_whole() {
    let (mut services, table, numbers) = start();
    whole(&mut services, "east", &["web"]);
    assert!(!table.is_released());
    assert_eq!(numbers.ready(), Err("cluster west was not read whole yet".to_owned()));
    services.take(Input::Cluster("west".to_owned(), Said::Broken(vec!["no answer".to_owned()])));
    let gone = Arc::new(ObjectKey { namespace: "default".to_owned(), name: "db".to_owned() });
    services.take(Input::Cluster("west".to_owned(), Said::Changes(vec![Change::Service(gone, None)])));
    services.tell();
    assert!(!table.is_released());
    whole(&mut services, "west", &["db"]);
    assert!(table.is_released());
    assert_eq!((numbers.ready(), destinations(&table)), (Ok(()), vec!["db".to_owned(), "web".to_owned()]));
}

#[test]
fn a_broken_cluster_keeps_its_routes_and_everybody_else_s() {
    let (mut services, table, _) = start();
    whole(&mut services, "east", &["web", "api"]);
    whole(&mut services, "west", &["db", "web"]);
    services.take(Input::Cluster("west".to_owned(), Said::Broken(vec!["no answer".to_owned()])));
    whole(&mut services, "east", &["web"]);
    assert_eq!(destinations(&table), ["db", "web"]);
    let servers = |table: &Table| table.routes().iter().map(|route| route.servers.len()).sum::<usize>();
    assert_eq!(servers(&table), 2, "both clusters' instances are one place here");
    whole(&mut services, "west", &[]);
    assert_eq!(destinations(&table), ["web"]);
}

#[tokio::test(start_paused = true)]
async fn removals_wait_from_the_end_of_the_grace_until_the_source_can_be_read() {
    let mut known = Known::new(SyncOptions::default(), None);
    known.take(Said::Whole(Box::new(cluster(&["web"]))));
    let broken = || Said::Broken(vec!["no answer".to_owned()]);
    let start = Instant::now();
    known.take(broken());
    assert!(!known.source(start).is_broken);
    // It is said again behind the changes of the watches that go on.
    known.take(Said::Changes(Vec::new()));
    known.take(broken());
    assert!(!known.source(start + GRACE / 2).is_broken);
    assert!(known.source(start + GRACE).is_broken);
    known.take(Said::Changes(Vec::new()));
    assert!(!known.source(start + GRACE * 2).is_broken);
    known.take(broken());
    assert!(!known.source(start + GRACE * 3).is_broken, "a new fault has a grace of its own");
}

#[test]
fn a_route_that_two_services_claim_closes_a_service_of_each_cluster() {
    let (mut services, table, _) = start();
    whole(&mut services, "east", &["web", "api"]);
    // Another Consul name with the same rule.
    let mut rival = cluster(&["web"]);
    let (key, service) = rival.services.pop_first().unwrap();
    let mut service = service.get();
    let name = ("consul.hashicorp.com/service-name".to_owned(), "rival".to_owned());
    service.metadata.annotations.get_or_insert_default().extend([name]);
    rival.services.insert(key, Packed::of(service));
    services.take(Input::Cluster("west".to_owned(), Said::Whole(Box::new(rival))));
    services.tell();
    assert_eq!(destinations(&table), ["api"]);
    let closed =
        |services: &Services| services.clusters.values().map(Known::counts).map(|it| it.closed).collect::<Vec<_>>();
    assert_eq!(closed(&services), [1, 1]);
    whole(&mut services, "west", &["db"]);
    assert_eq!(
        (destinations(&table), closed(&services)),
        (vec!["api".to_owned(), "db".to_owned(), "web".to_owned()], vec![0, 0])
    );
}
