//! Limits through real Traefik as their users meet them: what the answers say, and what a neighbour's flood does.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use portcullis_e2e::client::{Answer, empty, request};
use portcullis_e2e::limits::attack::{Attack, Pattern, Target, run};
use portcullis_e2e::limits::bound::{Bucket, Shot, Tally};
use portcullis_e2e::limits::fields::Fields;
use portcullis_e2e::limits::is_long;
use portcullis_e2e::limits::scenarios::CONNECTIONS;
use portcullis_e2e::limits::stand::{Setup, Stand, TENANT, everybody, guard, host};
use portcullis_e2e::load::{self, Bound, Load};
use portcullis_e2e::parts::Parts;
use portcullis_e2e::report::say;
use serde_json::{Value, json};

const PATH: &str = "/v1/small";
/// What the client that obeys wants in a second: 1.5 times what its limit allows.
const DEMAND: f64 = 30.0;
/// Neighbours of the greedy caller, and what everybody may ask in a second.
const OTHERS: usize = 8;
const RATE: u32 = 10;

fn limits(name: &str, limits: &Value) -> [Value; 2] {
    [everybody(name), json!({"Kind": "rate-limits", "Name": name, "Limits": limits})]
}

fn rate(requests: u32, burst: u32) -> Value {
    json!({"Requests": requests, "Period": "1s", "Burst": burst})
}

fn borrowed(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

async fn ask(stand: &Stand, name: &str, headers: &[(String, String)]) -> Answer {
    stand.client().get(&host(name), PATH, &borrowed(headers)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_limit_says_how_it_stands_in_structured_fields() {
    let Some(parts) = Parts::for_test() else { return };
    let hour = json!({"Requests": 3, "Period": "1h", "Burst": 3});
    let kinds = [
        ("rate", json!([{"Name": "a.rate", "Key": ["source"], "Rate": hour}])),
        ("quota", json!([{"Name": "day", "Key": ["source"], "Quota": {"Requests": 3, "Window": "day"}}])),
        ("month", json!([{"Name": "month", "Key": [], "Quota": {"Requests": 3, "Window": "month"}}])),
        (
            "several",
            json!([
                {"Name": "rate", "Key": [{"Header": TENANT}], "Rate": hour},
                {"Name": "quota", "Key": ["source"], "Quota": {"Requests": 5, "Window": "hour"}},
                {"Name": "at-once", "Key": ["source"], "Concurrency": {"Requests": 4, "Lease": "1h"}},
                {"Name": "shadow", "Key": [], "Mode": "shadow", "Rate": {"Requests": 1, "Period": "1h", "Burst": 1}},
            ]),
        ),
        ("slots", json!([{"Name": "at-once", "Key": ["source"], "Concurrency": {"Requests": 2, "Lease": "1h"}}])),
    ];
    let stand = Stand::start(
        &parts,
        Setup {
            policy: kinds.iter().flat_map(|(name, it)| limits(name, it)).collect(),
            hosts: kinds.iter().map(|(name, _)| ((*name).to_owned(), vec![guard(name)])).collect(),
            ..Setup::default()
        },
    )
    .await
    .unwrap();
    let web = stand.caller("web").unwrap();
    for (name, names) in [
        ("rate", vec!["a.rate"]),
        ("quota", vec!["day"]),
        ("month", vec!["month"]),
        ("several", vec!["at-once", "quota", "rate"]),
    ] {
        for round in 0..5 {
            let answer = ask(&stand, name, &web).await;
            let fields = Fields::read(&answer.headers).unwrap();
            if round == 0 || round == 3 {
                say(&format!("    {name}, {}: {:?}", answer.status, shown(&answer)));
            }
            assert_eq!(answer.status, if round < 3 { 200 } else { 429 }, "{name}, {round}");
            let told: BTreeSet<&str> = fields.policies.iter().map(|policy| policy.name.as_str()).collect();
            assert_eq!(told, names.iter().copied().collect(), "{name}: {fields:?}");
            assert_eq!(fields.retry_after.is_some(), answer.status == 429, "{name}: {fields:?}");
            if answer.status == 429 {
                assert!(fields.left.iter().any(|left| left.remaining == 0), "{name}: {fields:?}");
                assert_eq!(answer.headers["content-type"], "application/problem+json");
                assert!(answer.json().unwrap().is_object());
            }
        }
    }

    // Two that take their time hold both slots; the third is refused, and they are given back at the end.
    let slots = host("slots");
    let client = stand.client();
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut connection = client.connect(&slots).await.unwrap();
        let started = connection.start(request("GET", &slots, "/events", &borrowed(&web), empty()).unwrap()).await;
        held.push((connection, started.unwrap()));
    }
    let answer = ask(&stand, "slots", &web).await;
    say(&format!("    slots, {}: {:?}", answer.status, shown(&answer)));
    assert_eq!(answer.status, 429);
    Fields::read(&answer.headers).unwrap();
    drop(held);
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let answer = ask(&stand, "slots", &web).await;
        Fields::read(&answer.headers).unwrap();
        if answer.status == 200 {
            break;
        }
        assert!(Instant::now() < deadline, "the slots are not given back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The fields of an answer, for whoever reads along.
fn shown(answer: &Answer) -> Vec<String> {
    let told = ["ratelimit-policy", "ratelimit", "retry-after"];
    told.iter().filter_map(|name| Some(format!("{name}: {}", answer.headers.get(*name)?.to_str().ok()?))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_obeys_the_fields_is_never_refused() {
    let Some(parts) = Parts::for_test() else { return };
    let limit = json!([{"Name": "calls", "Key": ["source"], "Rate": rate(20, 10)}]);
    let stand = Stand::start(
        &parts,
        Setup {
            policy: limits("polite", &limit).to_vec(),
            hosts: vec![("polite".to_owned(), vec![guard("polite")])],
            sidecar: Some(json!({})),
            ..Setup::default()
        },
    )
    .await
    .unwrap();
    let web = stand.caller("web").unwrap();
    let host = host("polite");
    let mut connection = stand.client().connect(&host).await.unwrap();
    let lasting = Duration::from_secs(if is_long() { 120 } else { 15 });
    let (start, mut sent, mut waited) = (Instant::now(), 0_u32, Duration::ZERO);
    let mut due = start;
    while start.elapsed() < lasting {
        tokio::time::sleep_until(due.into()).await;
        let answer = connection.send(request("GET", &host, PATH, &borrowed(&web), empty()).unwrap()).await.unwrap();
        let fields = Fields::read(&answer.headers).unwrap();
        assert_eq!(answer.status, 200, "after {sent} requests, {:?}: {fields:?}", start.elapsed());
        assert_eq!(fields.left.len(), 1, "{fields:?}");
        sent += 1;
        waited += fields.wait();
        due = (due + Duration::from_secs_f64(1.0 / DEMAND)).max(Instant::now() + fields.wait());
    }
    let rate = f64::from(sent) / lasting.as_secs_f64();
    say(&format!(
        "    {sent} requests in {lasting:?} ({rate:.1}/s of 20/s allowed, {DEMAND}/s wanted), waited {waited:?}"
    ));
    assert!(rate > 5.0, "obeying starves the client: {rate}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_caller_at_a_hundred_times_its_limit_leaves_the_others_theirs() {
    let Some(parts) = Parts::for_test() else { return };
    let limit = json!([{"Name": "calls", "Key": ["source"], "Rate": rate(RATE, 5)}]);
    let stand = Stand::start(
        &parts,
        Setup {
            policy: limits("fair", &limit).to_vec(),
            hosts: vec![("fair".to_owned(), vec![guard("fair")])],
            sidecar: Some(json!({})),
            ..Setup::default()
        },
    )
    .await
    .unwrap();
    let lasting = Duration::from_secs(if is_long() { 30 } else { 4 });
    let target = |name: &str| load::Target {
        headers: stand.caller(name).unwrap(),
        ..load::Target::get(&stand.client(), &host("fair"), PATH)
    };
    let load = |connections, rate: u32| Load { connections, rate: Some(f64::from(rate)), bound: Bound::Time(lasting) };
    let flood = load::start(load(CONNECTIONS, 100 * RATE), &target("greedy"));
    let others: Vec<_> =
        (0..OTHERS).map(|index| load::start(load(1, RATE), &target(&format!("caller-{index}")))).collect();
    let mut shares = Vec::new();
    for other in others {
        let outcome = other.finish_at_bound().await.unwrap();
        assert_eq!(outcome.failures, 0, "{:?}", outcome.first_failure);
        #[allow(clippy::cast_precision_loss)] // small counts
        shares.push(outcome.with_status(200) as f64 / (f64::from(RATE) * lasting.as_secs_f64()));
    }
    let flood = flood.finish_at_bound().await.unwrap();
    let admitted = flood.with_status(200);
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    say(&format!(
        "    greedy: {:.0}/s asked, {admitted} admitted; the others got at least {least:.3} of what they asked: {shares:.3?}",
        flood.throughput()
    ));
    assert!(least >= 0.99, "{shares:?}");
    assert!(admitted <= 5 + u64::from(RATE) * (lasting.as_secs() + 1), "{admitted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_unit() {
    let Some(parts) = Parts::for_test() else { return };
    // Traefik's own limiter would hold a request back for up to half the time that a unit takes: here 5 s.
    let limit = json!([{"Name": "calls", "Key": [], "Rate": {"Requests": 6, "Period": "1m", "Burst": 3}}]);
    let stand = Stand::start(
        &parts,
        Setup {
            policy: limits("idle", &limit).to_vec(),
            hosts: vec![("idle".to_owned(), vec![guard("idle")])],
            ..Setup::default()
        },
    )
    .await
    .unwrap();
    let keys = vec![stand.caller("web").unwrap()];
    let target = Target { address: stand.traefik.plain(), host: host("idle"), path: PATH.to_owned(), keys };
    let attack = Attack { connections: 2, pattern: Pattern::Flood, lasting: Duration::from_secs(1) };
    let report = run(attack, target).await.unwrap();
    let tally = Tally::new(Bucket { rate: 0.1, burst: 3.0 }, &report.shots);
    assert!(tally.holds() && tally.suffices(), "{tally:?}");
    let longest = report.shots.iter().map(Shot::latency).max().unwrap();
    let (median, last) = (report.quantile(429, 0.5).unwrap(), report.quantile(429, 0.99).unwrap());
    say(&format!("    refused by two connections: {median:.1?} median, {last:.1?} p99; longest of all {longest:.1?}"));
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}
