//! What callers are told, and that it holds.

use super::*;
use portcullis_policy::limit::{OnUnavailable, Scope};

const RATE: Amount = Amount::Rate { requests: 100, period_ms: 1000, burst: 20 };
const MS: u64 = 1_000_000;

fn charge(name: &str, amount: Amount, mode: Mode) -> Charge {
    Charge {
        rule: format!("rate-limits/db/{name}"),
        name: name.to_owned(),
        key: 1,
        label: String::new(),
        amount,
        cost: 1,
        mode,
        scope: Scope::Host,
        on_unavailable: OnUnavailable::Deny,
    }
}

fn standing(admitted: bool, remaining: u64, reset_ns: u64, retry_ns: u64) -> Standing {
    Standing { admitted, remaining, reset_ns, retry_ns }
}

fn shown(told: &Told) -> Vec<String> {
    told.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

#[test]
fn a_rate_is_told_with_what_is_left_and_when_there_is_more() {
    let charges = [charge("per-caller", RATE, Mode::Enforce)];
    let told = tell(RateLimitHeaders::Standard, &charges, &[standing(true, 19, 10 * MS, 0)], 0, false);
    assert_eq!(
        shown(&told),
        ["RateLimit-Policy: \"per-caller\";q=100;w=1;portcullis-burst=20", "RateLimit: \"per-caller\";r=19;t=1"]
    );
    assert_eq!(told.violated, "");
    let slow = Amount::Rate { requests: 6, period_ms: 60_000, burst: 6 };
    // Two of six are left, the third in 4 s, the others every 10 s.
    let told = tell(
        RateLimitHeaders::Standard,
        &[charge("slow", slow, Mode::Enforce)],
        &[standing(true, 2, 34_000 * MS, 0)],
        0,
        false,
    );
    assert_eq!(shown(&told), ["RateLimit-Policy: \"slow\";q=6;w=60", "RateLimit: \"slow\";r=2;t=4"]);
}

#[test]
fn a_period_that_is_no_whole_number_of_seconds_is_told_as_one_that_allows_no_more() {
    for (requests, period_ms, told) in [
        (100, 1000, ";q=100;w=1"),
        (1, 1500, ";q=1;w=2"),
        (5, 250, ";q=20;w=1"),
        (1, 999, ";q=1;w=1"),
        (7, 3001, ";q=9;w=4"),
        (u32::MAX, 1, ";q=4294967295000;w=1"),
    ] {
        let mut list = String::new();
        push_policy(&mut list, Amount::Rate { requests, period_ms, burst: 1 });
        assert_eq!(list.replace(";portcullis-burst=1", ""), told);
    }
}

#[test]
fn a_refusal_says_when_to_come_back_and_who_refuses() {
    let day = Amount::Quota { requests: 1000, begin_s: 0, end_s: 86_400 };
    let charges = [
        charge("burst", RATE, Mode::Enforce),
        charge("daily", day, Mode::Enforce),
        charge("at \"once\"", Amount::Concurrency { requests: 3, lease_s: 60 }, Mode::Enforce),
        charge("later", RATE, Mode::Shadow),
    ];
    let now = 86_000 * SECOND_NS + 500 * MS;
    let standings = [
        standing(false, 0, 200 * MS, 10 * MS),
        standing(true, 400, 0, 0),
        standing(false, 0, 60 * SECOND_NS, 60 * SECOND_NS),
        standing(false, 0, 200 * MS, 10 * MS),
    ];
    let told = tell(RateLimitHeaders::Both, &charges, &standings, now, true);
    assert_eq!(
        shown(&told),
        [
            "Retry-After: 1",
            "RateLimit-Policy: \"burst\";q=100;w=1;portcullis-burst=20, \"daily\";q=1000;w=86400, \
             \"at \\\"once\\\"\";q=3;qu=\"concurrent-requests\"",
            "RateLimit: \"burst\";r=0;t=1, \"at \\\"once\\\"\";r=0",
            "X-RateLimit-Limit: 3",
            "X-RateLimit-Remaining: 0",
        ]
    );
    assert_eq!(told.violated, r#""burst","at \"once\"""#);
    // The quota is what takes longest.
    let used_up = [standing(false, 0, 200 * MS, 10 * MS), standing(false, 0, 0, 399_500 * MS)];
    let told = tell(RateLimitHeaders::Legacy, &charges[..2], &used_up, now, true);
    assert_eq!(
        shown(&told),
        ["Retry-After: 400", "X-RateLimit-Limit: 1000", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 400"]
    );
}

#[test]
fn a_request_that_can_never_pass_is_not_told_to_come_back() {
    let charges = [charge("a", RATE, Mode::Enforce)];
    let told = tell(RateLimitHeaders::Off, &charges, &[standing(false, 20, 0, u64::MAX)], 0, true);
    assert_eq!(told, Told::default());
}

#[test]
fn nothing_is_told_of_limits_in_shadow_or_when_it_is_switched_off() {
    let charges = [charge("a", RATE, Mode::Enforce), charge("b", RATE, Mode::Shadow)];
    let standings = [standing(true, 19, 10 * MS, 0), standing(false, 0, 10 * MS, 10 * MS)];
    assert_eq!(tell(RateLimitHeaders::Off, &charges, &standings, 0, false), Told::default());
    assert_eq!(tell(RateLimitHeaders::Both, &charges[1..], &standings[1..], 0, false), Told::default());
    let told = tell(RateLimitHeaders::Off, &charges, &[standing(false, 0, 200 * MS, 10 * MS), standings[1]], 0, true);
    assert_eq!((shown(&told), told.violated.as_str()), (vec!["Retry-After: 1".to_owned()], ""));
}

#[test]
fn names_are_strings_of_a_structured_field_whatever_they_hold_and_differ() {
    let charges = ["a\\b", "\u{e4}\n", "a\\b", "a\\b"].map(|name| charge(name, RATE, Mode::Enforce));
    let told = tell(RateLimitHeaders::Standard, &charges, &[standing(true, 5, 10 * MS, 0); 4], 0, false);
    let (_, limits) = &told.headers[1];
    assert_eq!(limits, r#""a\\b";r=5;t=1, "??";r=5;t=1, "a\\b-2";r=5;t=1, "a\\b-3";r=5;t=1"#);
}

/// The bucket as the limiter keeps it: the time when it is full again.
struct Bucket {
    interval: u64,
    burst: u64,
    tat: u64,
}

impl Bucket {
    fn standing(&self, now: u64) -> Standing {
        let used = self.tat.saturating_sub(now);
        let left = (self.burst * self.interval).saturating_sub(used) / self.interval;
        standing(true, left, used, 0)
    }

    fn take(&mut self, now: u64) -> bool {
        let tat = self.tat.max(now) + self.interval;
        let admitted = tat - now <= self.burst * self.interval;
        if admitted {
            self.tat = tat;
        }
        admitted
    }
}

#[test]
fn a_caller_that_believes_what_it_is_told_is_never_refused() {
    for (requests, period_ms, burst) in [(100, 1000, 20), (1, 1500, 1), (3, 7000, 2), (5, 250, 40), (7, 60_000, 7)] {
        let amount = Amount::Rate { requests, period_ms, burst };
        let mut bucket = Bucket { interval: interval_ns(amount), burst: burst.into(), tat: 0 };
        let mut now = SECOND_NS;
        // Always the worst that is allowed: everything that remains at once, then as soon as there is said to be more.
        let mut served = 0;
        while now < 120 * SECOND_NS {
            assert!(bucket.take(now), "{amount} at {now}");
            served += 1;
            let left = bucket.standing(now).remaining;
            for _ in 0..left {
                assert!(bucket.take(now), "{amount} at {now}");
                served += 1;
            }
            let wait = next(amount, &bucket.standing(now), now).unwrap();
            // And what came between two answers, with a wait that began just after the bucket changed.
            now += wait * SECOND_NS;
        }
        assert!(served >= 14, "{amount}: {served}");
    }
}
