//! A changed policy file changes the verdict at once, without a reload, without a lost request, without a leak.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use portcullis_e2e::client::{Client, Connection, empty, request};
use portcullis_e2e::load::{Bound, Load, Target, start};
use portcullis_e2e::parts::Parts;
use portcullis_e2e::report::{mebibytes, say};
use portcullis_e2e::world::World;

/// The promise.
const WITHIN: Duration = Duration::from_secs(1);
/// How long the new verdict is watched for a guest that still gives the old one.
const WATCHED: Duration = Duration::from_millis(400);
const FLIPS: usize = 20;
/// Connections that watch the verdict; each meets other guests.
const WATCHERS: usize = 4;
/// Load on another service meanwhile: enough for many guests, little enough to leave processors for everybody else.
const LOAD: Load = Load { connections: 16, rate: Some(400.0), bound: Bound::Time(Duration::from_secs(180)) };

/// Writes the file as an editor does: beside, then renamed.
fn write_policy(world: &World, name: &str, text: &str) {
    let file: PathBuf = world.layout.policy().join(name);
    let beside = file.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, file).unwrap();
}

fn database_policy(source: &str, comment: usize) -> String {
    format!("# {comment}\nKind: service-intentions\nName: db\nSources:\n  - {{Name: {source}, Action: allow}}\n")
}

async fn status(connection: &mut Connection) -> u16 {
    let request = request("GET", "db.localhost", "/rows", &[], empty()).unwrap();
    connection.send(request).await.unwrap().status
}

/// Makes the change and returns when the new verdict was first seen and when the old one was last seen.
async fn flip(client: &Client, expected: u16, change: impl FnOnce()) -> (Duration, Duration) {
    let mut connections = Vec::new();
    for _ in 0..WATCHERS {
        let mut connection = client.connect("db.localhost").await.unwrap();
        assert_ne!(status(&mut connection).await, expected, "the verdict was the new one before the change");
        connections.push(connection);
    }
    change();
    let changed = Instant::now();
    let mut watchers = tokio::task::JoinSet::new();
    for mut connection in connections {
        watchers.spawn(async move {
            let (mut first_new, mut last_old) = (None, Duration::ZERO);
            loop {
                let asked = changed.elapsed();
                let status = status(&mut connection).await;
                let now = changed.elapsed();
                if status == expected {
                    first_new.get_or_insert(now);
                } else {
                    assert!(matches!(status, 200 | 403), "{status} during a change");
                    last_old = asked;
                }
                let over = first_new.is_some_and(|first| now > first.max(last_old) + WATCHED);
                if over || now > WITHIN * 5 {
                    return (first_new.unwrap_or(now), last_old);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    watchers
        .join_all()
        .await
        .into_iter()
        .fold((WITHIN * 5, Duration::ZERO), |(first, last), (f, l)| (first.min(f), last.max(l)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_file_changes_the_verdict_within_a_second_without_a_reload_or_a_failed_request() {
    let Some(parts) = Parts::for_test() else { return };
    let world = World::start(&parts).await.unwrap();
    let web = world.caller("web").unwrap();
    let load = start(LOAD, &Target::get(&web, "api.localhost", "/v1/items"));
    let reloads = world.traefik.reloads().await.unwrap();

    let (mut first_new, mut last_old) = (Vec::new(), Vec::new());
    for number in 0..FLIPS {
        let (source, expected) = if number % 2 == 0 { ("web", 200) } else { ("api", 403) };
        let (first, last) =
            flip(&web, expected, || write_policy(&world, "db.yaml", &database_policy(source, number))).await;
        first_new.push(first);
        last_old.push(last);
    }
    let outcome = load.finish().await.unwrap();
    first_new.sort();
    last_old.sort();
    let show = |times: &[Duration]| format!("{:.0?} / {:.0?} / {:.0?}", times[0], times[FLIPS / 2], times[FLIPS - 1]);
    say(&format!("{FLIPS} flips, min / median / max: new verdict first seen after {}", show(&first_new)));
    say(&format!("    old verdict last asked for and still given at {}", show(&last_old)));
    say(&format!(
        "    {} requests to another service meanwhile: {:?}, {} failed, p99 {:?}",
        outcome.answered(),
        outcome.statuses,
        outcome.failures,
        outcome.quantile(0.99)
    ));
    assert!(first_new[FLIPS - 1] < WITHIN, "{first_new:?}");
    assert!(last_old[FLIPS - 1] < WITHIN, "{last_old:?}");
    assert_eq!(world.traefik.reloads().await.unwrap(), reloads, "Traefik reloaded");
    assert_eq!((outcome.failures, outcome.with_status(200)), (0, outcome.answered()), "{:?}", outcome.first_failure);
    assert!(outcome.answered() > 1_000, "too little load to say anything");
}

/// Changes before memory is first looked at, and after.
const WARM_UP: usize = 200;
const CHANGES: usize = 1_000;
/// Growth that is no leak: Go's and the allocator's own ease. 1,000 lost generations of a snapshot, or of a descriptor's
/// bookkeeping in each of 16 guests, would show well above it.
const MARGIN_BYTES: u64 = 12 * 1024 * 1024;

/// Makes one change and waits until the sidecar has written the snapshot for it.
async fn change(world: &World, number: usize) {
    let before = fs::read(world.layout.snapshot()).unwrap();
    let source = if number.is_multiple_of(2) { "web" } else { "api" };
    write_policy(world, "db.yaml", &database_policy(source, number));
    let deadline = Instant::now() + WITHIN * 5;
    while fs::read(world.layout.snapshot()).unwrap() == before {
        assert!(Instant::now() < deadline, "no new snapshot for change {number}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn resident(world: &World) -> (u64, u64) {
    let sidecar = world.sidecar.as_ref().unwrap();
    (world.traefik.usage().unwrap().resident_bytes, sidecar.usage().unwrap().resident_bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_changes_leave_the_memory_of_gateway_and_sidecar_flat() {
    let Some(parts) = Parts::for_test() else { return };
    let world = World::start(&parts).await.unwrap();
    let web = world.caller("web").unwrap();
    let load = start(LOAD, &Target::get(&web, "api.localhost", "/v1/items"));
    let reloads = world.traefik.reloads().await.unwrap();
    for number in 0..WARM_UP {
        change(&world, number).await;
    }
    let (before, started) = (resident(&world), Instant::now());
    // The highest value on the way is no end state, but worth seeing.
    let mut highest = before;
    for number in WARM_UP..WARM_UP + CHANGES {
        change(&world, number).await;
        if number % 20 == 0 {
            let (traefik, sidecar) = resident(&world);
            highest = (highest.0.max(traefik), highest.1.max(sidecar));
        }
    }
    let after = resident(&world);
    let outcome = load.finish().await.unwrap();
    say(&format!("{CHANGES} changes in {:.1?} after {WARM_UP} for warm-up", started.elapsed()));
    for (name, before, after, highest) in
        [("Traefik", before.0, after.0, highest.0), ("sidecar", before.1, after.1, highest.1)]
    {
        say(&format!(
            "    {name}: {} before, {} after, {} at most",
            mebibytes(before),
            mebibytes(after),
            mebibytes(highest)
        ));
        assert!(after < before + MARGIN_BYTES, "{name} grew from {before} to {after} bytes");
    }
    assert_eq!(world.traefik.reloads().await.unwrap(), reloads, "Traefik reloaded");
    assert_eq!((outcome.failures, outcome.with_status(200)), (0, outcome.answered()), "{:?}", outcome.first_failure);
}
