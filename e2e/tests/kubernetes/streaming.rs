//! Lists are streamed where the API server does that, and read in pages where it does not.

use portcullis_e2e::report::say;

use crate::setup::{PATIENCE, World, passing, service, slice, wait_for, wait_for_word};

const KINDS: [&str; 3] = ["services", "endpointslices", "nodes"];

/// How often a kind was listed so.
fn listed(log: &str, kind: &str, how: &str) -> usize {
    let is_it = |line: &&str| line.contains(&format!("listed, {how}")) && line.contains(&format!("kind={kind} "));
    log.lines().filter(is_it).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_of_today_streams_and_a_second_list_takes_out_what_went_meanwhile() {
    let Some(mut world) = World::start().await else { return };
    let sidecar = world.in_step_sidecar().await;
    let log = sidecar.log().unwrap();
    // The API server asks etcd how far it is, which one before 3.4.31 and 3.5.13 does not say; Debian's is such a one.
    let (how, other) = if log.contains("storage feature RequestWatchProgress is disabled") {
        say("this etcd is too old for streamed lists: seen is the way back to pages");
        ("in pages", "streamed")
    } else {
        ("streamed", "in pages")
    };
    for kind in KINDS {
        assert_eq!((listed(&log, kind, how), listed(&log, kind, other)), (1, 0), "{log}");
    }
    assert_eq!(world.in_step(), (true, String::new()));
    // A gap: the server forgets what the sidecar has not seen.
    world.server.kill();
    wait_for_word(&sidecar, "check that the API server runs").await;
    world.server.resume().await.unwrap();
    world.server.delete(&service("db", 30001)).await.unwrap();
    world.server.compact().await.unwrap();
    say(&format!("in step {:?} after a gap", world.wait_for_instances(3).await));
    world.server.put(&slice("web", &[0, 1, 2], false)).await.unwrap();
    wait_for("a change behind it", PATIENCE, async || passing(&world.registry, "web").await == 0).await;
    let log = sidecar.log().unwrap();
    assert!(KINDS.iter().all(|kind| listed(&log, kind, other) == 0), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_does_not_stream_is_read_in_pages() {
    let Some(world) = World::start_with(&["--feature-gates=WatchList=false"]).await else { return };
    let sidecar = world.in_step_sidecar().await;
    let log = sidecar.log().unwrap();
    for kind in KINDS {
        assert_eq!((listed(&log, kind, "streamed"), listed(&log, kind, "in pages")), (0, 1), "{log}");
    }
    assert!(log.contains("does not stream lists"), "{log}");
    world.server.put(&slice("web", &[0, 1, 2], false)).await.unwrap();
    wait_for("a change behind it", PATIENCE, async || passing(&world.registry, "web").await == 0).await;
    assert_eq!(world.in_step(), (true, String::new()));
}
