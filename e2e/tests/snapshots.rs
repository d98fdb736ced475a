//! What the gateway does when the snapshot is missing or broken: the last good one or nothing, never more than that.

use std::fs;
use std::time::Duration;

use portcullis_e2e::parts::Parts;
use portcullis_e2e::world::{Backends, Setup, World};

/// More than the interval at which a guest looks at the file (200 ms).
const NOTICED: Duration = Duration::from_millis(500);
/// Requests on each side, one after another.
const REQUESTS: usize = 20;

/// Statuses of an allowed and of a denied request, many times.
async fn ask(world: &World) -> (Vec<u16>, Vec<u16>) {
    let (web, billing) = (world.caller("web").unwrap(), world.caller("billing").unwrap());
    let (mut allowed, mut denied) = (Vec::new(), Vec::new());
    for _ in 0..REQUESTS {
        allowed.push(web.get("api.localhost", "/v1/items", &[]).await.unwrap().status);
        denied.push(billing.get("api.localhost", "/v1/items", &[]).await.unwrap().status);
    }
    (allowed, denied)
}

/// Writes beside and renames, as the sidecar does.
fn replace(world: &World, bytes: &[u8]) {
    let beside = world.layout.snapshots().join("new");
    fs::write(&beside, bytes).unwrap();
    fs::rename(beside, world.layout.snapshot()).unwrap();
}

/// Every way to break a snapshot that a full disk, a bad copy or a bad actor would choose.
fn broken(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let flipped = |at: usize| {
        let mut bytes = good.to_vec();
        bytes[at] ^= 0x40;
        bytes
    };
    vec![
        ("empty", Vec::new()),
        ("not a snapshot", b"{\"default\": \"allow\"}".repeat(50)),
        ("cut in its header", good[..64].to_vec()),
        ("cut in its middle", good[..good.len() / 2].to_vec()),
        ("changed magic", flipped(0)),
        ("changed header", flipped(40)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_never_had_a_snapshot_answers_503_and_says_so() {
    let Some(parts) = Parts::for_test() else { return };
    let mut world = World::start(&parts).await.unwrap();
    let good = fs::read(world.layout.snapshot()).unwrap();
    world.sidecar = None;
    fs::remove_file(world.layout.snapshot()).unwrap();
    world.restart_traefik().await.unwrap();
    assert_eq!(ask(&world).await, (vec![503; REQUESTS], vec![503; REQUESTS]));
    let answer = world.caller("web").unwrap().get("api.localhost", "/v1/never-there", &[]).await.unwrap();
    assert_eq!(answer.status, 503);
    let lines: Vec<String> = world.traefik.log().unwrap().iter().map(ToString::to_string).collect();
    let lines: Vec<&String> = lines.iter().filter(|line| line.contains("/v1/never-there")).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("rule=snapshot") && lines[0].contains("no policy"), "{}", lines[0]);

    // And it comes to life by itself.
    replace(&world, &good);
    tokio::time::sleep(NOTICED).await;
    assert_eq!(ask(&world).await, (vec![200; REQUESTS], vec![403; REQUESTS]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_snapshot_answers_503_when_there_was_no_good_one() {
    let Some(parts) = Parts::for_test() else { return };
    let mut world = World::start(&parts).await.unwrap();
    let good = fs::read(world.layout.snapshot()).unwrap();
    world.sidecar = None;
    replace(&world, b"");
    world.restart_traefik().await.unwrap();
    for (what, bytes) in broken(&good) {
        replace(&world, &bytes);
        tokio::time::sleep(NOTICED).await;
        assert_eq!(ask(&world).await, (vec![503; REQUESTS], vec![503; REQUESTS]), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_corrupt_snapshot_leaves_the_last_good_one_in_force() {
    let Some(parts) = Parts::for_test() else { return };
    // Without Go's collector no guest is ever taken away. With it, a new guest may come without a good policy to fall
    // back on; it answers 503, as the other tests show.
    let setup = Setup { environment: vec![("GOGC", "off".to_owned())], ..Setup::default() };
    let mut world = World::with(&parts, Backends::start().await.unwrap(), setup).await.unwrap();
    let good = fs::read(world.layout.snapshot()).unwrap();
    world.sidecar = None;
    assert_eq!(ask(&world).await, (vec![200; REQUESTS], vec![403; REQUESTS]));
    let mut cases = broken(&good);
    cases.push(("removed", Vec::new()));
    for (what, bytes) in cases {
        replace(&world, &bytes);
        if what == "removed" {
            fs::remove_file(world.layout.snapshot()).unwrap();
        }
        tokio::time::sleep(NOTICED).await;
        assert_eq!(ask(&world).await, (vec![200; REQUESTS], vec![403; REQUESTS]), "{what}");
        replace(&world, &good);
        tokio::time::sleep(NOTICED).await;
        assert_eq!(ask(&world).await, (vec![200; REQUESTS], vec![403; REQUESTS]), "after {what}");
    }
}
