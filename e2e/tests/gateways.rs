//! Two gateways that share a limit through real Redis: together they stay within the limit and the declared error, and
//! neither a gateway that dies nor a Redis that stops makes a request fail.

use std::time::Duration;

use portcullis_e2e::limits::attack::{Attack, Pattern, Report, Target, run_all};
use portcullis_e2e::limits::bound::{Bucket, Shot, worst};
use portcullis_e2e::limits::is_long;
use portcullis_e2e::limits::stand::{Setup, Stand, everybody, guard, host};
use portcullis_e2e::parts::{self, Parts};
use portcullis_e2e::redis::Redis;
use portcullis_e2e::report::say;
use serde_json::json;

const BUCKET: Bucket = Bucket { rate: 100.0, burst: 20.0 };
/// Connections to each gateway.
const CONNECTIONS: usize = 32;
/// Within which the bound has to hold again.
const AGAIN: Duration = Duration::from_secs(5);
/// What is allowed for the way from one host to the other, in seconds (docs/reference/global-limits.md).
const LAG: f64 = 0.25;
/// What two hosts together keep to, by the same page: the other host's burst, and what comes in meanwhile, once more.
const BOUND: Bucket = Bucket { burst: 2.0 * BUCKET.burst + BUCKET.rate * LAG, ..BUCKET };
const NAME: &str = "shared";

async fn gateway(parts: &Parts, redis: &Redis, store_down: &str) -> Stand {
    let limit = json!({"Name": "calls", "Key": ["source"], "Scope": "global",
        "Rate": {"Requests": 100, "Period": "1s", "Burst": 20}});
    let redis = json!({"url": format!("redis://{}", redis.address()), "storeDown": store_down, "hosts": 2});
    let setup = Setup {
        policy: vec![everybody(NAME), json!({"Kind": "rate-limits", "Name": NAME, "Limits": [limit]})],
        hosts: vec![(NAME.to_owned(), vec![guard(NAME)])],
        sidecar: Some(json!({"redis": redis})),
        ..Setup::default()
    };
    Stand::start(parts, setup).await.unwrap()
}

fn target(stand: &Stand) -> Target {
    let keys = vec![stand.caller("web").unwrap()];
    Target { address: stand.traefik.plain(), host: host(NAME), path: "/v1/small".to_owned(), keys }
}

/// Only good answers, no failures.
fn check(report: &Report) {
    assert_eq!(report.failures, 0, "{:?}", report.first_failure);
    let statuses = report.statuses();
    assert!(statuses.keys().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
}

/// The shots that were sent and answered in this time.
fn within(shots: &[Shot], from: Duration, to: Duration) -> Vec<Shot> {
    shots.iter().filter(|shot| shot.sent >= from && shot.answered < to).copied().collect()
}

/// Admitted by both over the stated bound, in the worst window.
fn say_phase(what: &str, shots: &[Shot], from: Duration, to: Duration) -> f64 {
    let shots = within(shots, from, to);
    let admitted = shots.iter().filter(|shot| shot.admitted()).count();
    let (exact, ratio) = (worst(BUCKET, &shots), worst(BOUND, &shots));
    let allowed = BUCKET.rate * to.saturating_sub(from).as_secs_f64();
    say(&format!(
        "    {what}, {from:.0?} to {to:.0?}: {admitted} admitted, {allowed:.0} come in; worst window {exact:.3} of the limit, {ratio:.3} of the bound"
    ));
    ratio
}

fn seconds(short: u64, long: u64) -> Duration {
    Duration::from_secs(if is_long() { long } else { short })
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_keep_to_one_limit_and_survive_redis_and_each_other() {
    let (Some(parts), Some(binary)) = (Parts::for_test(), parts::redis_for_test()) else { return };
    let mut redis = Redis::start(&binary).await.unwrap();
    let (one, other) = (gateway(&parts, &redis, "local").await, gateway(&parts, &redis, "local").await);

    let (before, outage, after) = (seconds(3, 10), seconds(2, 60), AGAIN + seconds(2, 10));
    let lasting = before + outage + after;
    let attack = Attack { connections: CONNECTIONS, pattern: Pattern::Flood, lasting };
    let running = tokio::spawn(run_all(attack, vec![target(&one), target(&other)]));
    tokio::time::sleep(before).await;
    redis.stop();
    tokio::time::sleep(outage).await;
    redis.resume().await.unwrap();
    let reports = running.await.unwrap().unwrap();
    let mut shots = Vec::new();
    for report in &reports {
        check(report);
        shots.extend_from_slice(&report.shots);
    }
    let together = say_phase("both", &shots, Duration::ZERO, before);
    say_phase("both, Redis stopped", &shots, before, before + outage);
    say_phase("both, Redis back", &shots, before + outage, before + outage + AGAIN);
    let again = say_phase("both, settled", &shots, before + outage + AGAIN, lasting);
    assert!(together <= 1.0, "{together}");
    assert!(again <= 1.0, "{again}");

    // One dies with its sidecar: what it used is over in time, and the other goes on alone.
    let (before, after) = (seconds(1, 5), seconds(2, 10));
    let lasting = before + AGAIN + after;
    let running = tokio::spawn(run_all(Attack { lasting, ..attack }, vec![target(&one), target(&other)]));
    tokio::time::sleep(before).await;
    drop(other);
    let report = running.await.unwrap().unwrap().swap_remove(0);
    check(&report);
    let alone = say_phase("one, the other killed", &report.shots, before + AGAIN, lasting);
    assert!(alone <= 1.0, "{alone}");
    let settled = within(&report.shots, before + AGAIN, lasting);
    let admitted = settled.iter().filter(|shot| shot.admitted()).count();
    #[allow(clippy::cast_precision_loss)] // small counts
    let share = admitted as f64 / (BUCKET.rate * after.as_secs_f64());
    assert!(share >= 0.9, "the survivor gets {share} of the limit");
}

/// Of every pair of gateways that share what comes in when the store is down, neither takes the other's part.
#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_that_cannot_hear_each_other_take_a_share_each_where_that_is_said() {
    let (Some(parts), Some(binary)) = (Parts::for_test(), parts::redis_for_test()) else { return };
    let mut redis = Redis::start(&binary).await.unwrap();
    let (one, other) = (gateway(&parts, &redis, "share").await, gateway(&parts, &redis, "share").await);
    redis.stop();
    tokio::time::sleep(seconds(2, 5)).await;
    let lasting = seconds(3, 20);
    let attack = Attack { connections: CONNECTIONS, pattern: Pattern::Flood, lasting };
    let reports = run_all(attack, vec![target(&one), target(&other)]).await.unwrap();
    let shots: Vec<Shot> = reports.iter().flat_map(|report| report.shots.clone()).collect();
    for report in &reports {
        check(report);
    }
    // Each bucket is full at first: what they share is what comes in.
    let ratio = say_phase("a share each", &shots, seconds(1, 1), lasting);
    assert!(ratio <= 1.0, "{ratio}");
}
