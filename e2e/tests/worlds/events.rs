//! What may happen to a cluster and to a catalog, chosen by a seed.

use fastrand::Rng;
use portcullis_e2e::kubernetes::ApiServer;
use serde_json::{Map, Value, json};

use crate::reader::CALM;

/// Services that things happen to.
pub(crate) const SERVICES: [&str; 5] = ["web", "db", "api", "shop-a", "big"];
/// Nodes that things happen to.
const NODES: usize = 6;
/// More nodes, for the one service that does not fit into one transaction.
const MANY: usize = 80;
/// Nodes of the service that nothing happens to.
const CALM_NODES: [usize; 2] = [98, 99];

/// What all objects are in.
pub(crate) async fn begin(server: &ApiServer) {
    server.put(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})).await.unwrap();
    for number in (0..MANY).chain(CALM_NODES) {
        server.put(&node(number, &format!("192.0.2.{}", number + 1), true)).await.unwrap();
    }
    let mut calm = service(CALM, 31000, &Map::new());
    calm["metadata"]["annotations"] =
        json!({"tags": "a,b", "traefik.http.routers.calm.rule": "Host(`calm.localhost`)"});
    server.put(&calm).await.unwrap();
    let endpoints = CALM_NODES.map(|number| endpoint(number, true, false));
    server.put(&slice(CALM, 1, &endpoints)).await.unwrap();
}

/// One change of one object of the cluster.
pub(crate) async fn of_cluster(server: &ApiServer, random: &mut Rng) {
    let index = random.usize(0..SERVICES.len());
    let name = SERVICES[index];
    match random.usize(0..20) {
        0..7 => {
            let port = 30000 + index * 10 + random.usize(0..3);
            server.put(&service(name, port, &annotations(name, random))).await.unwrap();
        }
        7..8 => server.delete(&service(name, 30000, &Map::new())).await.unwrap(),
        8..14 => {
            let endpoints: Vec<Value> = match name {
                "big" if random.bool() => (0..MANY).map(|number| endpoint(number, true, false)).collect(),
                _ => (0..random.usize(0..6)).map(|_| some_endpoint(random)).collect(),
            };
            server.put(&slice(name, random.usize(1..3), &endpoints)).await.unwrap();
        }
        14..15 => server.delete(&slice(name, random.usize(1..3), &[])).await.unwrap(),
        15..19 => {
            let address = format!("192.0.2.{}", 200 + random.usize(0..8));
            let mut changed = node(random.usize(0..NODES), &address, random.usize(0..3) > 0);
            if random.bool() {
                changed["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": format!("z{}", random.u8(0..2))});
            }
            if random.bool() {
                let more = json!({"type": "ExternalIP", "address": format!("198.51.100.{}", random.usize(1..9))});
                changed["status"]["addresses"].as_array_mut().unwrap().push(more);
            }
            server.put(&changed).await.unwrap();
        }
        _ => server.delete(&node(random.usize(0..NODES), "", true)).await.unwrap(),
    }
}

fn node(number: usize, address: &str, ready: bool) -> Value {
    let status = if ready { "True" } else { "Unknown" };
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{number}")},
           "status": {"addresses": [{"type": "InternalIP", "address": address}],
                      "conditions": [{"type": "Ready", "status": status, "reason": "x", "message": "x"}]}})
}

fn service(name: &str, node_port: usize, annotations: &Map<String, Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop", "annotations": annotations},
           "spec": {"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": node_port},
                                                  {"name": "admin", "port": 81, "nodePort": node_port + 5}]}})
}

fn slice(service: &str, number: usize, endpoints: &[Value]) -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
           "ports": [{"name": "http", "port": 8080}, {"name": "admin", "port": 8081}],
           "metadata": {"name": format!("{service}-{number}"), "namespace": "shop", "labels": {"kubernetes.io/service-name": service}},
           "endpoints": endpoints})
}

fn endpoint(node: usize, ready: bool, terminating: bool) -> Value {
    json!({"addresses": [format!("10.0.0.{}", node + 1)], "nodeName": format!("n{node}"),
           "conditions": {"ready": ready && !terminating, "serving": ready, "terminating": terminating}})
}

fn some_endpoint(random: &mut Rng) -> Value {
    endpoint(random.usize(0..NODES), random.usize(0..4) > 0, random.usize(0..5) == 0)
}

/// Good, bad and contradicting ones.
fn annotations(name: &str, random: &mut Rng) -> Map<String, Value> {
    let mut chosen = Map::new();
    chosen.insert("tags".to_owned(), format!("t{}", random.u8(0..9)).into());
    let router = format!("traefik.http.routers.{name}.rule");
    let menu = [
        ("consul.hashicorp.com/service-name", "shared".to_owned()),
        ("consul.hashicorp.com/service-name", " ".to_owned()),
        ("consul.hashicorp.com/service-sync", "false".to_owned()),
        ("consul.hashicorp.com/service-port", "admin".to_owned()),
        ("consul.hashicorp.com/service-port", "0x50".to_owned()),
        ("consul.hashicorp.com/service-port", "8443".to_owned()),
        ("consul.hashicorp.com/service-weight", "5".to_owned()),
        ("consul.hashicorp.com/service-meta-team", format!("team {}", random.u8(0..3))),
        ("consul.hashicorp.com/service-meta-external-k8s-cluster", "forged".to_owned()),
        ("portcullis.io/exposure", "tags".to_owned()),
        ("portcullis.io/exposure", "none".to_owned()),
        ("portcullis.io/exposure", "nonsense".to_owned()),
        (router.as_str(), format!("Host(`{name}.localhost`)")),
        (router.as_str(), "Host(`same.localhost`)".to_owned()),
        (router.as_str(), "Host(".to_owned()),
        ("traefik.http.routers.same.rule", format!("Host(`{name}.localhost`)")),
        ("traefik.frontend.rule", format!("Host:{name}.localhost")),
        ("traefik.frontend.rule", "Nonsense:x".to_owned()),
    ];
    for _ in 0..random.usize(0..4) {
        let (key, value) = &menu[random.usize(0..menu.len())];
        chosen.insert((*key).to_owned(), value.clone().into());
    }
    chosen
}
