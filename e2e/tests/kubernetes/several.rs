//! Two clusters on one Consul: neither touches what is the other's, whatever happens.

use std::time::Duration;

use portcullis_e2e::kubernetes::ApiServer;
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::{Layout, Sidecar};
use serde_json::{Value, json};

use crate::setup::{World, configure, in_step, service, services, shop, slice, wait_for};

/// Longer than a lock may outlive its holder.
const TAKEOVER: Duration = Duration::from_secs(90);
const ROUNDS: usize = 12;

/// What the catalog has of everybody but one cluster.
async fn others(world: &World, cluster: &str) -> Vec<Value> {
    let mut found = services(&world.registry).await;
    found.retain(|it| it["Meta"]["external-k8s-cluster"] != cluster);
    found.sort_by_key(|it| it["ID"].to_string());
    found
}

async fn upset(server: &ApiServer, random: &mut fastrand::Rng) {
    let name = if random.bool() { "web" } else { "db" };
    let mut nodes: Vec<usize> = (0..3).filter(|_| random.bool()).collect();
    nodes.push(random.usize(0..3));
    nodes.sort_unstable();
    nodes.dedup();
    match random.usize(0..4) {
        0 => server.delete(&service(name, 30000)).await.unwrap(),
        1 => {
            let mut tagged = service(name, if name == "web" { 30000 } else { 30001 });
            tagged["metadata"]["annotations"]["tags"] = format!("t{}", random.u8(..)).into();
            server.put(&tagged).await.unwrap();
        }
        2 => server.put(&slice(name, &nodes, random.bool())).await.unwrap(),
        _ => server.delete(&slice(name, &[], true)).await.unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_on_one_consul_leave_each_other_alone_in_all_that_happens() {
    let Some(mut world) = World::start().await else { return };
    let mut west = ApiServer::start(&world.parts, &world.folder.path().join("west")).await.unwrap();
    shop(&west).await;
    let file = world.folder.path().join("west-kubeconfig");
    west.kubeconfig(&file, &west.url(), &world.token).unwrap();
    let western = Layout::new(&world.folder.path().join("western")).unwrap();
    let of_west = json!({"name": "west", "kubeconfig": file});
    configure(&western, &world.registry, &json!([of_west]));
    // Somebody else's instance, with our tag, on our node.
    let foreign = json!({"ID": "theirs", "Service": "web", "Address": "198.51.100.1", "Port": 1, "Tags": ["k8s"]});
    let node = json!({"Node": "k8s-sync", "Address": "127.0.0.1", "SkipNodeUpdate": true, "Service": foreign});

    let binary = world.parts.registry.sidecar.clone();
    let mut sidecars = [Some(world.sidecar().await), Some(Sidecar::start(&binary, &western).await.unwrap())];
    world.wait_for_instances(12).await;
    world.registry.put("/v1/catalog/register", &node).await.unwrap();

    let seed = fastrand::u64(..);
    say(&format!("seed {seed}"));
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..ROUNDS {
        let (cluster, layout) = if random.bool() { ("east", &world.layout) } else { ("west", &western) };
        let before = others(&world, cluster).await;
        let is_east = cluster == "east";
        let disaster = round % 6;
        if disaster == 2 {
            let server = if is_east { &mut world.server } else { &mut west };
            server.kill();
            server.resume().await.unwrap();
        }
        if disaster == 4 {
            sidecars[usize::from(!is_east)] = None;
        }
        let server = if is_east { &world.server } else { &west };
        upset(server, &mut random).await;
        if disaster == 4 {
            sidecars[usize::from(!is_east)] = Some(Sidecar::start(&binary, layout).await.unwrap());
        }
        let took = wait_for("in step", TAKEOVER, async || in_step(&world.parts, layout).0).await;
        assert_eq!(others(&world, cluster).await, before, "round {round} in {cluster}, in step after {took:?}");
    }

    // One sidecar for both takes over, and writes nothing that is not news.
    let both = Layout::new(&world.folder.path().join("both")).unwrap();
    let of_east = json!({"name": "east", "kubeconfig": world.layout.root().join("kubeconfig")});
    configure(&both, &world.registry, &json!([of_east, of_west]));
    let _both = Sidecar::start(&binary, &both).await.unwrap();
    drop(sidecars);
    let before = others(&world, "nobody").await;
    assert!(in_step(&world.parts, &both).0);
    assert_eq!(others(&world, "nobody").await, before);
    upset(&world.server, &mut random).await;
    upset(&west, &mut random).await;
    wait_for("in step", TAKEOVER, async || in_step(&world.parts, &both).0).await;
    assert!(others(&world, "nobody").await.iter().any(|it| it["ID"] == "theirs"));
}
