//! Limits: what they cost, call by call, and that instances which share a folder share a bucket.

use crate::{
    host::{Answer, Guest, STATE_MOUNT, StateFolder},
    support::{FILE, call, gate, policy, snapshot},
};
use portcullis_limiter::clock::Beat;
use serde_json::{Value, json};
use std::{cell::RefCell, rc::Rc};

/// One limit for `db`: five at once, ten a second, each caller for itself.
pub(crate) fn rate() -> Value {
    json!({"Name": "per-caller", "Key": ["source"], "Rate": {"Requests": 10, "Period": "1s", "Burst": 5}})
}

/// A gate whose policy has these limits for `db`, on this folder.
pub(crate) fn limited(limits: &Value, folder: Option<&StateFolder>, settings: &[(&str, &str)]) -> Guest {
    limited_by(json!({"Kind": "rate-limits", "Name": "db", "Limits": limits}), folder, settings)
}

/// As [`limited`], with the whole entry.
pub(crate) fn limited_by(entry: Value, folder: Option<&StateFolder>, settings: &[(&str, &str)]) -> Guest {
    let mut config = gate();
    if folder.is_some() {
        config["state"] = STATE_MOUNT.into();
    }
    for (key, value) in settings {
        config[*key] = (*value).into();
    }
    let mut guest = Guest::start(&config);
    if let Some(folder) = folder {
        guest.mount_state(folder);
    }
    guest.publish(FILE, snapshot(&policy().into_iter().chain([entry]).collect::<Vec<_>>(), 1));
    guest
}

/// As [`limited`], warm.
fn warm(limits: &Value, folder: &StateFolder) -> Guest {
    let mut guest = limited(limits, Some(folder), &[]);
    assert!(guest.request(call("web")).forwarded);
    guest
}

/// How many of so many requests pass at once.
fn passing(guest: &mut Guest, n: usize) -> usize {
    (0..n).filter(|_| guest.request(call("web")).forwarded).count()
}

fn header(answer: &Answer, name: &str) -> Option<String> {
    answer.reply.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.clone())
}

#[test]
fn the_first_charge_of_all_makes_the_log() {
    let folder = StateFolder::default();
    let answer = limited(&json!([rate()]), Some(&folder), &[]).request(call("web"));
    assert!(answer.forwarded);
    let [log] = &folder.logs()[..] else { panic!("{:?}", folder.logs()) };
    assert!(log.starts_with("limits/") && log.len() == "limits/000/0000000000000000".len(), "{log}");
    assert_eq!(folder.bytes(log).len() % 64, 0);
}

#[test]
fn a_later_charge_costs_six_host_calls() {
    let folder = StateFolder::default();
    folder.put("limits/clock", [Beat::first(START_NS, 1).closed().encode(), [0; 64]].concat());
    let mut guest = warm(&json!([rate()]), &folder);
    guest.request(call("web"));
    let end = folder.bytes(&folder.logs()[0]).len();
    let answer = guest.request(call("web"));
    assert!(answer.forwarded);
    answer.expect_calls(&[
        "get_method",
        "get_uri",
        "get_header_names",
        "get_header_values x-portcullis-destination",
        "get_header_values x-forwarded-tls-client-cert",
        "remove x-forwarded-tls-client-cert",
        "clock",
        "pread state 128 at 0",
        &format!("pread state 8192 at {end}"),
        "write state 64",
        "tell state",
        "set X-Portcullis-Source: web",
        "set X-Portcullis-Decision: allow",
        "set X-Portcullis-Rule: service-intentions/db/sources/web",
        "reply RateLimit-Policy: \"per-caller\";q=10;w=1;portcullis-burst=5",
        "reply RateLimit: \"per-caller\";r=2;t=1",
    ]);
    assert_eq!(folder.bytes(&folder.logs()[0]).len(), end + 64);
}

const START_NS: u64 = crate::host::START_MS * 1_000_000;

#[test]
fn a_request_without_limits_touches_nothing() {
    let folder = StateFolder::default();
    let mut guest =
        limited(&json!([{"Name": "others", "Sources": [{"Name": "x"}], "Rate": {"Requests": 1}}]), Some(&folder), &[]);
    let answer = guest.request(call("web"));
    assert!(answer.forwarded && answer.reply.headers.is_empty() && folder.logs().is_empty());
    // Nor does one that is refused anyway.
    assert!(!guest.request(call("bad")).forwarded);
    assert!(folder.logs().is_empty());
}

#[test]
fn a_refused_request_is_told_when_to_come_back_and_writes_nothing() {
    let folder = StateFolder::default();
    let mut guest = warm(&json!([rate()]), &folder);
    assert_eq!(passing(&mut guest, 10), 4);
    guest.world().now_ms += 1000;
    assert_eq!(passing(&mut guest, 9), 5);
    let end = folder.bytes(&folder.logs()[0]).len();
    let answer = guest.request(call("web"));
    answer.expect_calls(&[
        "get_method",
        "get_uri",
        "get_header_names",
        "get_header_values x-portcullis-destination",
        "get_header_values x-forwarded-tls-client-cert",
        "remove x-forwarded-tls-client-cert",
        "clock",
        &format!("pread state 8192 at {end}"),
        "set X-Portcullis-Source: web",
        "set X-Portcullis-Decision: deny",
        "set X-Portcullis-Rule: rate-limits/db/per-caller",
        "set X-Portcullis-Reason: the limit is used up",
        "reply Content-Type: application/problem+json",
        "reply Cache-Control: no-store",
        "reply Retry-After: 1",
        "reply RateLimit-Policy: \"per-caller\";q=10;w=1;portcullis-burst=5",
        "reply RateLimit: \"per-caller\";r=0;t=1",
        "set_status_code 429",
        "write_body",
    ]);
    assert_eq!(folder.bytes(&folder.logs()[0]).len(), end);
    assert_eq!(answer.context, 0);
    assert_eq!(
        serde_json::from_str::<Value>(&answer.reply.body).unwrap(),
        json!({"type": "https://iana.org/assignments/http-problem-types#quota-exceeded", "title": "Too Many Requests",
            "status": 429, "detail": "a limit on requests is used up", "violated-policies": ["per-caller"]})
    );
    guest.world().now_ms += 1000;
    assert_eq!(passing(&mut guest, 5), 5);
    let line = "info denied: GET /v1/x destination=db source=web rule=rate-limits/db/per-caller \
                reason=\"the limit is used up\" unsaid=";
    let answer = guest.request(call("web"));
    assert!(matches!(answer.logged()[..], [logged] if logged.starts_with(line)), "{:?}", answer.logged());
    assert_eq!(guest.request(call("web")).logged(), Vec::<&str>::new());
}

#[test]
fn the_headers_are_a_setting() {
    for (setting, names) in [
        ("standard", &["RateLimit-Policy", "RateLimit"][..]),
        ("legacy", &["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]),
        ("both", &["RateLimit-Policy", "RateLimit", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]),
        ("off", &[]),
    ] {
        let folder = StateFolder::default();
        let mut guest = limited(&json!([rate()]), Some(&folder), &[("rateLimitHeaders", setting)]);
        let answer = guest.request(call("web"));
        let sent: Vec<_> = answer.reply.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(sent, names, "{setting}");
        assert_eq!(passing(&mut guest, 5), 4);
        let answer = guest.request(call("web"));
        assert_eq!(header(&answer, "Retry-After").as_deref(), Some("1"));
        assert_eq!(answer.reply.body.contains("per-caller"), setting != "off");
    }
}

#[test]
fn a_limit_in_shadow_lets_pass_and_says_so() {
    let folder = StateFolder::default();
    let mut limit = rate();
    limit["Mode"] = "shadow".into();
    let mut guest = warm(&json!([limit]), &folder);
    assert_eq!(passing(&mut guest, 4), 4);
    let answer = guest.request(call("web"));
    assert!(answer.forwarded && answer.reply.headers.is_empty());
    assert_eq!(answer.request.header("x-portcullis-shadow").as_deref(), Some("rate-limits/db/per-caller"));
}

#[test]
fn all_limits_are_asked_before_any_is_charged() {
    let folder = StateFolder::default();
    let narrow = json!({"Name": "narrow", "Rate": {"Requests": 1, "Period": "10s", "Burst": 2}});
    let mut guest = limited(&json!([rate(), narrow]), Some(&folder), &[]);
    assert_eq!(passing(&mut guest, 20), 2);
    let answer = guest.request(call("web"));
    assert_eq!(answer.verdict().1, "rate-limits/db/narrow");
    assert_eq!(header(&answer, "Retry-After").as_deref(), Some("10"));
    assert_eq!(header(&answer, "RateLimit").as_deref(), Some("\"narrow\";r=0;t=10"));
    // The wide one lost two units and no more.
    assert_eq!(passing(&mut limited(&json!([rate()]), Some(&folder), &[]), 20), 3);
}

#[test]
fn instances_share_one_bucket_and_a_new_one_goes_on_where_they_were() {
    let folder = StateFolder::default();
    let mut guests: Vec<_> = (0..4).map(|_| limited(&json!([rate()]), Some(&folder), &[])).collect();
    let admitted: usize = (0..40).map(|n| passing(&mut guests[n % 4], 1)).sum();
    assert_eq!(admitted, 5);
    drop(guests);
    let mut new = limited(&json!([rate()]), Some(&folder), &[]);
    assert_eq!(passing(&mut new, 10), 0);
    new.world().now_ms += 300;
    assert_eq!(passing(&mut new, 10), 3);
}

#[test]
fn whoever_comes_between_a_look_and_an_append_is_counted() {
    // The others come just before the call that begins like this, for each call of a charge.
    for at in ["pread state", "write state", "tell state"] {
        for others_take in 0..=5 {
            let folder = StateFolder::default();
            let mut guest = warm(&json!([rate()]), &folder);
            let mut other = limited(&json!([rate()]), Some(&folder), &[]);
            let took = Rc::new(RefCell::new(0));
            let count = took.clone();
            guest.world().before = Some((at, Box::new(move || *count.borrow_mut() = passing(&mut other, others_take))));
            let own = passing(&mut guest, 1);
            let took = *took.borrow();
            let rest = passing(&mut guest, 10);
            // One unit went when the guest was warmed up.
            assert_eq!(1 + own + took + rest, 5, "{at}: {others_take} others: {own} {took} {rest}");
            assert!(took == others_take.min(4) || (at == "tell state" && took == 3), "{at}: {took}");
        }
    }
}

#[test]
fn a_loser_of_two_limits_gives_back_what_it_took() {
    let limits = json!([rate(), {"Name": "narrow", "Rate": {"Requests": 1, "Period": "100s", "Burst": 2}}]);
    let folder = StateFolder::default();
    let mut guest = warm(&limits, &folder);
    let mut other = limited(&limits, Some(&folder), &[]);
    guest.world().before = Some(("write state", Box::new(move || assert_eq!(passing(&mut other, 1), 1))));
    assert_eq!(passing(&mut guest, 1), 0);
    assert_eq!(passing(&mut limited(&json!([rate()]), Some(&folder), &[]), 10), 3);
}

#[test]
fn a_clock_that_is_set_back_neither_fills_nor_blocks_a_bucket() {
    let folder = StateFolder::default();
    let mut guest = warm(&json!([rate()]), &folder);
    assert_eq!(passing(&mut guest, 10), 4);
    guest.world().now_ms -= 3_600_000;
    assert_eq!(passing(&mut guest, 10), 0);
    guest.world().now_ms += 500;
    assert_eq!(passing(&mut guest, 10), 5);
}

#[test]
fn a_clock_that_is_set_forward_gives_nothing_away_while_the_sidecar_beats() {
    let ms = 1_000_000;
    let folder = StateFolder::default();
    let first = Beat::first(START_NS, ms);
    folder.put("limits/clock", [first.encode(), [0; 64]].concat());
    let mut guest = warm(&json!([rate()]), &folder);
    assert_eq!(passing(&mut guest, 10), 4);
    // An hour. Before the sidecar has seen it, time stands still where it was last said to be.
    guest.world().now_ms += 3_600_000;
    assert_eq!(passing(&mut guest, 10), 0);
    let hour = 3_600_000 * ms;
    let second = first.next(START_NS + hour + 50 * ms, 51 * ms);
    folder.put("limits/clock", [second.encode(), [0; 64]].concat());
    guest.world().now_ms += 60;
    assert_eq!(passing(&mut guest, 10), 0);
    guest.world().now_ms += 50;
    assert_eq!(passing(&mut guest, 10), 1, "110 ms went by, and an hour did not");
    // The sidecar dies: somebody says so, and after a tenth of a second time goes on.
    guest.world().now_ms += 300;
    assert_eq!(passing(&mut guest, 10), 0);
    guest.world().now_ms += 99;
    assert_eq!(passing(&mut guest, 10), 0);
    guest.world().now_ms += 1;
    assert_eq!(passing(&mut guest, 10), 4);
    let mut new = limited(&json!([rate()]), Some(&folder), &[]);
    new.world().now_ms = guest.world().now_ms;
    assert_eq!(passing(&mut new, 10), 0, "a new instance agrees");
}

#[test]
fn places_are_given_back_when_the_answer_is_over_however_it_ended() {
    let folder = StateFolder::default();
    let limits = json!([{"Name": "at-once", "Concurrency": {"Requests": 2, "Lease": "60s"}}]);
    let (mut one, mut other) = (limited(&limits, Some(&folder), &[]), limited(&limits, Some(&folder), &[]));
    let first = one.request(call("web"));
    assert_eq!(header(&first, "RateLimit-Policy").as_deref(), Some("\"at-once\";q=2;qu=\"concurrent-requests\""));
    assert_eq!(header(&first, "RateLimit").as_deref(), Some("\"at-once\";r=1"));
    let second = other.request(call("web"));
    assert!(first.context > 0 && second.forwarded);
    let refused = one.request(call("web"));
    assert_eq!((refused.verdict().2, refused.context), (429, 0));
    assert_eq!(header(&refused, "Retry-After").as_deref(), Some("1"));
    assert_eq!(one.finish(first.context, false).unwrap().last().map(String::as_str), Some("tell state"));
    let third = one.request(call("web"));
    assert!(third.forwarded && !other.request(call("web")).forwarded);
    // Broken off: the trap comes after the place is free.
    assert!(other.finish(second.context, true).is_err());
    assert!(one.request(call("web")).forwarded);
    assert!(!one.finish(third.context, false).unwrap().is_empty());
    assert_eq!(one.finish(third.context, false).unwrap(), Vec::<String>::new());
}

#[test]
fn a_place_whose_instance_is_gone_is_free_when_its_lease_is_over() {
    let folder = StateFolder::default();
    let limits = json!([{"Name": "at-once", "Concurrency": {"Requests": 1, "Lease": "60s"}}]);
    assert!(limited(&limits, Some(&folder), &[]).request(call("web")).forwarded);
    let mut next = limited(&limits, Some(&folder), &[]);
    assert!(!next.request(call("web")).forwarded);
    next.world().now_ms += 61_000;
    assert!(next.request(call("web")).forwarded);
}

#[test]
fn a_flood_leaves_files_and_memory_within_bounds() {
    let folder = StateFolder::default();
    let everybody = json!({"Name": "all", "Key": [], "Rate": {"Requests": 1000, "Period": "1s", "Burst": 10}});
    let mut guest = warm(&json!([everybody]), &folder);
    let web = call("web");
    let flood = |guest: &mut Guest, n: usize| {
        let mut admitted = 0;
        for _ in 0..n {
            guest.world().now_ms += 1;
            admitted += usize::from(guest.request(web.clone()).forwarded);
        }
        admitted
    };
    assert_eq!(flood(&mut guest, 1500), 1500);
    let before = guest.memory_bytes();
    assert_eq!(flood(&mut guest, 3000), 3000);
    assert_eq!(guest.memory_bytes(), before);
    assert!(folder.logs().len() <= 2, "{:?}", folder.logs());
    assert!(folder.logs().iter().all(|log| folder.bytes(log).len() <= 64 * 1024));
}
