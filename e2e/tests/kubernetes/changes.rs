//! What happens in the cluster is in Consul soon after, and nothing else is written.

use std::time::Duration;

use portcullis_e2e::report::say;
use serde_json::json;
use tokio::time::sleep;

use crate::setup::{PATIENCE, WATCHED, World, node, passing, service, slice, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn readiness_nodes_and_services_are_followed_and_heartbeats_are_not() {
    let Some(world) = World::start().await else { return };
    let sidecar = world.in_step_sidecar().await;
    assert_eq!(world.in_step(), (true, String::new()));
    let (server, registry) = (&world.server, &world.registry);

    let mut times = Vec::new();
    for ready in [false, true].into_iter().cycle().take(20) {
        server.put(&slice("web", &[0, 1, 2], ready)).await.unwrap();
        let wanted = if ready { 3 } else { 0 };
        times.push(wait_for("the readiness", PATIENCE, async || passing(registry, "web").await == wanted).await);
    }
    times.sort();
    say(&format!("readiness in Consul after: median {:?}, longest {:?}", times[10], times[19]));
    assert!(times[10] < Duration::from_secs(1), "{times:?}");

    // A node turns NotReady, gets another address, and goes; its pods' slices stay as they are.
    let mut lost = node(1);
    lost["status"]["conditions"][0]["status"] = "Unknown".into();
    server.put(&lost).await.unwrap();
    say(&format!(
        "NotReady after {:?}",
        wait_for("critical", PATIENCE, async || passing(registry, "web").await == 2).await
    ));
    let mut moved = node(1);
    moved["status"]["addresses"][0]["address"] = "192.0.2.99".into();
    server.put(&moved).await.unwrap();
    let has = async |address: &str| world.services().await.iter().any(|it| it["Address"] == address);
    say(&format!(
        "another address after {:?}",
        wait_for("the address", PATIENCE, async || has("192.0.2.99").await).await
    ));
    assert!(!has("192.0.2.2").await);
    server.delete(&node(1)).await.unwrap();
    say(&format!("a node is gone after {:?}", world.wait_for_instances(4).await));
    server.put(&node(1)).await.unwrap();
    world.wait_for_instances(6).await;
    wait_for("all pass", PATIENCE, async || passing(registry, "web").await == 3).await;

    // News that mean nothing.
    let before = world.writes().await;
    for beat in 0..5 {
        let mut same = node(0);
        let condition = &mut same["status"]["conditions"][0];
        condition["lastHeartbeatTime"] = format!("2026-01-01T00:0{beat}:00Z").into();
        same["status"]["images"] = json!([{"names": [format!("image-{beat}")], "sizeBytes": beat}]);
        server.put(&same).await.unwrap();
        let mut same = slice("web", &[0, 1, 2], true);
        same["metadata"]["annotations"] = json!({"beat": beat.to_string()});
        server.put(&same).await.unwrap();
        sleep(WATCHED / 5).await;
    }
    assert_eq!(world.writes().await, before);

    server.put(&service("new", 31000)).await.unwrap();
    server.put(&slice("new", &[2], true)).await.unwrap();
    say(&format!("a new service after {:?}", world.wait_for_instances(7).await));
    server.delete(&service("new", 31000)).await.unwrap();
    say(&format!("a service is gone after {:?}", world.wait_for_instances(6).await));
    assert_eq!(world.in_step(), (true, String::new()));
    assert!(!sidecar.log().unwrap().contains("ERROR"), "{}", sidecar.log().unwrap());
}
