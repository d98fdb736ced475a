//! What files lead to.

use serde_json::json;

use super::*;

fn nodes(probe: &str) -> Vec<Node> {
    let node = json!({"name": "vm-1", "address": "192.0.2.1", "probe": probe, "meta": {"rack": "r1"}, "services": [
        {"name": "db", "port": 5432, "checks": [{"tcp": true, "intervalSeconds": 90}]},
        {"name": "api", "port": 80, "address": "2001:db8::1", "tags": ["traefik.http.routers.api.rule=Host(`api.test`)", "x"]},
    ]});
    vec![serde_json::from_value(node).unwrap()]
}

#[test]
fn each_node_is_one_of_its_own_with_marks_that_nobody_else_has() {
    let found = desired(&nodes("sidecar"), "vms", &SyncOptions::default());
    let [api, db] = found.registrations.as_slice() else { panic!("{found:?}") };
    assert_eq!((api.node.as_str(), api.address.as_str()), ("external-vms-vm-1", "192.0.2.1"));
    assert_eq!(api.id, db.id, "one node");
    assert_eq!(api.service.address, "2001:db8::1");
    assert_eq!(api.service.tags, ["x", "portcullis.http.routers.api.rule=Host(`api.test`)"]);
    for meta in [&api.node_meta, &api.service.meta, &db.service.meta] {
        assert_eq!((meta["external-source"].as_str(), meta["portcullis-external"].as_str()), ("portcullis", "vms"));
    }
    assert_eq!((api.node_meta["rack"].as_str(), api.node_meta.get("external-node")), ("r1", None));
    assert_eq!((api.check.status.as_str(), db.check.status.as_str()), ("passing", "critical"));
    assert_eq!(found.probes.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(found.probes[1][0].target(), "tcp://192.0.2.1:5432");
}

#[test]
fn consul_esm_is_given_the_node_and_the_probe_and_the_sidecar_probes_nothing() {
    let found = desired(&nodes("esm"), "vms", &SyncOptions::default());
    assert!(found.probes.iter().all(Vec::is_empty));
    let db = &found.registrations[1];
    assert_eq!((db.node_meta["external-node"].as_str(), db.node_meta["external-probe"].as_str()), ("true", "true"));
    let definition = db.check.definition.as_ref().unwrap();
    assert_eq!(
        (definition.tcp.as_str(), definition.interval.as_str(), definition.timeout.as_str()),
        ("192.0.2.1:5432", "1m30s", "2s")
    );
    assert_eq!(found.registrations[0].check.definition, None);
}

#[test]
fn durations_are_as_go_prints_them() {
    assert_eq!([1, 59, 60, 90, 3600].map(go_duration), ["1s", "59s", "1m0s", "1m30s", "1h0m0s"]);
}
