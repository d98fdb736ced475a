//! Limits on real logs in a temporary folder.

use super::*;
use portcullis_policy::Change;

const START: u64 = 1_795_262_400_000_000_000;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

const RATE: Amount = Amount::Rate { requests: 10, period_ms: 1000, burst: 5 };
const TWO: Amount = Amount::Concurrency { requests: 2, lease_s: 60 };

fn charge(name: &str, amount: Amount) -> Charge {
    Charge {
        rule: format!("rate-limits/db/{name}"),
        name: name.to_owned(),
        key: tag(name).into(),
        label: "web".to_owned(),
        amount,
        cost: 1,
        mode: Mode::Enforce,
        scope: Scope::Host,
        on_unavailable: OnUnavailable::Deny,
    }
}

fn shadow(name: &str, amount: Amount) -> Charge {
    Charge { mode: Mode::Shadow, ..charge(name, amount) }
}

fn lenient(name: &str, amount: Amount) -> Charge {
    Charge { on_unavailable: OnUnavailable::Allow, ..charge(name, amount) }
}

fn allowed(charges: &[Charge]) -> Decision {
    let changes = vec![Change::SetUri("/".to_owned())];
    Decision {
        verdict: Verdict::Allow,
        status: 200,
        source: "web".to_owned(),
        changes,
        charges: charges.to_vec(),
        ..Decision::refuse(200, "service-intentions/db/sources/web", "allowed")
    }
}

/// A folder and two instances on it.
fn shared() -> (tempfile::TempDir, Limits, Limits) {
    let state = tempfile::tempdir().unwrap();
    let limits = || Limits::new(state.path().to_str());
    let (one, other) = (limits(), limits());
    (state, one, other)
}

fn ask(limits: &mut Limits, charges: &[Charge], now: u64) -> (Decision, Limited) {
    let mut decision = allowed(charges);
    let limited = limits.charge(&mut decision, RateLimitHeaders::Standard, now);
    (decision, limited)
}

fn passes(limits: &mut Limits, charges: &[Charge], now: u64) -> bool {
    ask(limits, charges, now).0.verdict == Verdict::Allow
}

#[test]
fn without_charges_nothing_is_touched() {
    let (state, mut limits, _) = shared();
    let (decision, limited) = ask(&mut limits, &[], START);
    assert_eq!((decision.verdict, limited.told.headers.len(), limited.context), (Verdict::Allow, 0, 0));
    assert!(!state.path().join("limits").exists());
}

#[test]
fn instances_of_one_folder_admit_one_bucket_together() {
    let (_state, mut one, mut other) = shared();
    let charges = [charge("a", RATE)];
    let admitted = (0..20).filter(|n| passes(if n % 2 == 0 { &mut one } else { &mut other }, &charges, START)).count();
    assert_eq!(admitted, 5);
    // Two units in 250 ms, whoever asks.
    let later = START + 250 * MS;
    let admitted = (0..20).filter(|n| passes(if n % 3 == 0 { &mut one } else { &mut other }, &charges, later)).count();
    assert_eq!(admitted, 2);
}

#[test]
fn a_refusal_names_the_limit_and_charges_nothing() {
    let (_state, mut limits, _) = shared();
    let both = [charge("wide", RATE), charge("narrow", Amount::Rate { requests: 1, period_ms: 1000, burst: 1 })];
    assert!(passes(&mut limits, &both, START));
    let (decision, limited) = ask(&mut limits, &both, START);
    assert_eq!((decision.status, decision.rule.as_str()), (429, "rate-limits/db/narrow"));
    assert_eq!((decision.reason.as_ref(), decision.source.as_str()), ("the limit is used up", "web"));
    assert_eq!((decision.changes.len(), limited.refused, limited.context), (0, true, 0));
    assert_eq!(limited.told.headers[0], ("Retry-After", "1".to_owned()));
    // Of the wide one only the first request was taken.
    assert_eq!((0..9).filter(|_| passes(&mut limits, &both[..1], START)).count(), 4);
}

#[test]
fn a_limit_in_shadow_stops_nothing_and_is_named() {
    let (_state, mut limits, _) = shared();
    let charges = [shadow("later", Amount::Rate { requests: 1, period_ms: 1000, burst: 1 })];
    let (decision, limited) = ask(&mut limits, &charges, START);
    assert_eq!((decision.shadow, limited.told.headers.len()), (None, 0));
    let (decision, _) = ask(&mut limits, &charges, START);
    assert_eq!((decision.verdict, decision.shadow.as_deref()), (Verdict::Allow, Some("rate-limits/db/later")));
    // Refused all the same: the shadow would not have decided otherwise.
    let charges = [charges[0].clone(), charge("now", Amount::Rate { requests: 1, period_ms: 1000, burst: 1 })];
    assert!(passes(&mut limits, &charges, START));
    let (decision, _) = ask(&mut limits, &charges, START);
    assert_eq!((decision.rule.as_str(), decision.shadow), ("rate-limits/db/now", None));
}

#[test]
fn places_are_held_until_the_answer_is_over() {
    let (_state, mut one, mut other) = shared();
    let charges = [charge("at-once", TWO)];
    let (_, first) = ask(&mut one, &charges, START);
    let (_, second) = ask(&mut other, &charges, START);
    let (decision, third) = ask(&mut one, &charges, START);
    assert_eq!((decision.status, third.context), (429, 0));
    assert!(first.context != 0 && second.context != 0);
    one.release(first.context, || START);
    one.release(first.context, || START);
    one.release(12345, || START);
    assert!(passes(&mut other, &charges, START));
    assert!(!passes(&mut other, &charges, START));
    other.release(second.context, || START);
    assert!(passes(&mut one, &charges, START));
    // What nobody gives back is free when its lease is over.
    assert!(!passes(&mut one, &charges, START + 59 * SECOND));
    assert!(passes(&mut one, &charges, START + 61 * SECOND));
}

#[test]
fn what_cannot_be_counted_is_refused_and_reported_once() {
    for state in [None, Some("/nowhere")] {
        let mut limits = Limits::new(state);
        for n in 0..3 {
            let (decision, limited) =
                ask(&mut limits, &[lenient("a", RATE), charge("b", RATE)], START + n * 100 * SECOND);
            assert_eq!(
                (decision.verdict, decision.status, decision.rule.as_str()),
                (Verdict::Deny, 503, "rate-limits/db/b")
            );
            assert!(limited.told.headers.is_empty() && limited.refused);
            assert_eq!(limited.notice.is_some(), n == 0, "{:?}", limited.notice);
        }
    }
}

#[test]
fn what_may_pass_uncounted_does_and_is_reported_once() {
    let mut limits = Limits::new(None);
    for n in 0..3 {
        let (decision, limited) = ask(&mut limits, &[lenient("a", RATE), shadow("b", RATE)], START + n * 100 * SECOND);
        assert_eq!((decision.verdict, decision.changes.len()), (Verdict::Allow, 1));
        assert!(limited.told.headers.is_empty() && !limited.refused);
        assert_eq!(limited.notice.is_some(), n == 0);
        if let Some((_, line)) = limited.notice {
            assert_eq!(
                line,
                "limits cannot be counted, rate-limits/db/a for one: no `state` folder is set; such requests pass uncounted"
            );
        }
    }
}

#[test]
fn what_was_over_for_a_while_is_reported_anew() {
    let parent = tempfile::tempdir().unwrap();
    let state = parent.path().join("state");
    let mut limits = Limits::new(state.to_str());
    let charges = [charge("a", RATE)];
    let mut said = |now| ask(&mut limits, &charges, START + now * SECOND).1.notice.is_some();
    assert!(said(0));
    std::fs::create_dir(&state).unwrap();
    assert!(!said(5));
    std::fs::remove_dir_all(&state).unwrap();
    assert!(!said(10), "it comes and goes: once is enough");
    std::fs::create_dir(&state).unwrap();
    assert!(!said(70));
    std::fs::remove_dir_all(&state).unwrap();
    assert!(said(80));
}

#[test]
fn refusals_by_one_limit_are_one_line_a_second_and_counted() {
    let mut limits = Limits::new(None);
    assert_eq!(limits.line("a", START), Some(0));
    assert_eq!(limits.line("b", START), Some(0));
    for n in 1..100 {
        assert_eq!(limits.line("a", START + n * 10 * MS), None);
    }
    assert_eq!(limits.line("a", START + SECOND), Some(99));
    assert_eq!(limits.line("a", START - 10 * SECOND), Some(0), "a clock that goes back silences nothing");
    for n in 0..1000 {
        assert_eq!(limits.line(&format!("other {n}"), START), Some(0));
    }
    assert!(limits.lines.len() <= MAX_LOGGED);
}

#[test]
fn contexts_are_never_zero_and_kept_within_bounds() {
    let (_state, mut limits, _) = shared();
    limits.last_context = i32::MAX - 1;
    let many = [charge("at-once", Amount::Concurrency { requests: 1000, lease_s: 60 })];
    let contexts: Vec<_> = (0..300).map(|_| ask(&mut limits, &many, START).1.context).collect();
    assert_eq!(contexts[..3], [i32::MAX, 1, 2]);
    assert_eq!(limits.held.len(), MAX_HELD);
}

#[test]
fn the_clock_of_the_folder_is_what_counts() {
    use portcullis_limiter::clock::Beat;
    let (state, mut limits, mut fresh) = shared();
    let charges = [charge("a", Amount::Rate { requests: 1, period_ms: 60_000, burst: 1 })];
    let beat = Beat::first(START, SECOND);
    let write = |beat: &Beat| std::fs::write(state.path().join("limits/clock"), beat.encode()).unwrap();
    std::fs::create_dir(state.path().join("limits")).unwrap();
    write(&beat);
    assert!(passes(&mut limits, &charges, START));
    // An hour forward, before the sidecar has seen it and after.
    let hour = 3600 * SECOND;
    assert!(!passes(&mut limits, &charges, START + hour));
    write(&beat.next(START + hour + 50 * MS, SECOND + 50 * MS));
    assert!(!passes(&mut limits, &charges, START + hour + 60 * MS));
    assert!(!passes(&mut fresh, &charges, START + hour + 60 * MS));
    write(&beat.next(START + hour + 50 * MS, SECOND + 50 * MS).next(START + hour + 60 * SECOND, 61 * SECOND));
    assert!(passes(&mut fresh, &charges, START + hour + 60 * SECOND));
}
