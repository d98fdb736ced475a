//! Attacks on a limit through real Traefik at 64 connections, with Go's collector emptying the pool of instances: never
//! more than the bucket, in any window, and nothing less.
//!
//! Short by default; `PORTCULLIS_LONG=1` makes them as long as the table in docs/bench.md (`cargo xtask bench --only
//! limits`), and `PORTCULLIS_CLOCK=1` sets the machine's clock for one of them.

use portcullis_e2e::limits::clock::Clock;
use portcullis_e2e::limits::fold::{Story, follow};
use portcullis_e2e::limits::scenarios::{Limiter, Outcome, Scenario, attack, stand};
use portcullis_e2e::limits::{is_long, stand::Stand};
use portcullis_e2e::parts::Parts;
use portcullis_e2e::report::say;

/// Makes the attack and follows what the limiter writes down.
async fn followed(stand: &mut Stand, scenario: Scenario, clock: Option<&Clock>) -> (Outcome, Story) {
    let follower = follow(stand.state());
    let outcome = attack(stand, scenario, is_long(), clock).await.unwrap();
    (outcome, follower.finish().unwrap())
}

fn check(outcome: &Outcome) {
    let Outcome { scenario, tally, report, collections, .. } = outcome;
    let name = scenario.name();
    let quantile = |status, share| report.quantile(status, share).unwrap_or_default();
    say(&format!(
        "    {name}: {} of {} admitted, {:.0} allowed ({:.3}), worst window {:.3}; p50, p99 {:.1?}, {:.1?} admitted, {:.1?}, {:.1?} refused; {collections:?} collections",
        tally.admitted,
        tally.answered,
        tally.allowed,
        tally.ratio(),
        tally.worst,
        quantile(200, 0.5),
        quantile(200, 0.99),
        quantile(429, 0.5),
        quantile(429, 0.99),
    ));
    assert!(tally.holds(), "{name}: too much: {tally:?}");
    assert!(tally.suffices(), "{name}: too little: {tally:?}");
    let statuses = report.statuses();
    assert!(statuses.keys().all(|status| matches!(status, 200 | 429)), "{name}: {statuses:?}");
    assert!(tally.answered > tally.admitted + tally.admitted / 4, "{name}: no attack: {tally:?}");
    if *scenario != Scenario::Restart {
        assert_eq!(report.failures, 0, "{name}: {:?}", report.first_failure);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_attack_gets_more_than_the_bucket_or_less() {
    let Some(parts) = Parts::for_test() else { return };
    let mut stand = stand(&parts, Limiter::Portcullis).await.unwrap();
    let mut before = Story::default();
    let clock = Clock::allowed();
    let mut scenarios = vec![Scenario::Flood, Scenario::Pulse, Scenario::Keys];
    scenarios.extend(clock.is_some().then_some(Scenario::ClockStep));
    for scenario in scenarios {
        let (outcome, story) = followed(&mut stand, scenario, clock.as_ref()).await;
        check(&outcome);
        say(&format!("        in the logs: {story:?}"));
        // The logs of the attacks before may be there yet, and be removed meanwhile: at most those count twice.
        assert_eq!(story.foreign, 0, "{story:?}");
        let admitted = outcome.tally.admitted;
        assert!((admitted..=admitted + before.admitted).contains(&story.admitted), "{admitted}: {story:?}, {before:?}");
        before.admitted += admitted;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_and_started_gives_nothing_away() {
    let Some(parts) = Parts::for_test() else { return };
    let mut stand = stand(&parts, Limiter::Portcullis).await.unwrap();
    let (outcome, story) = followed(&mut stand, Scenario::Restart, None).await;
    check(&outcome);
    say(&format!("        in the logs: {story:?}"));
    // What was judged when the gateway was killed may be in the log without an answer.
    let admitted = outcome.tally.admitted;
    assert!((admitted..=admitted + outcome.report.lost).contains(&story.admitted), "{admitted}: {story:?}");
}
