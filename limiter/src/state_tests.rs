use super::*;
use crate::slot::class_of;
use proptest::prelude::*;

const T0: u64 = 1_800_000_000 * SECOND;

/// What is done to a key: after how long, and what.
#[derive(Debug, Clone, Copy)]
enum Step {
    Charge(u32),
    /// The so-many-last admitted one is taken back.
    Refund(usize),
    Foreign(u32, u64),
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let step = prop_oneof![
        8 => (1..4u32).prop_map(Step::Charge),
        2 => (0..4usize).prop_map(Step::Refund),
        1 => (1..20u32, 0..20_000u64).prop_map(|(units, debt)| Step::Foreign(units, debt)),
    ];
    proptest::collection::vec((0..3000u64, step), 1..80)
}

fn add(state: &mut State, rule: &Rule, cost: u32, now: u64, id: u64) -> bool {
    let admitted = state.admits(rule, cost, now);
    if admitted {
        state.add(rule, cost, now, false, 0, id);
    }
    admitted
}

proptest! {
    /// A naive token bucket, which knows nothing of arrival times: tokens in the smallest unit there is.
    #[test]
    fn gcra_is_a_token_bucket(interval in 1..2000u64, burst in 1..12u32, steps in steps()) {
        let rule = Rule::Rate { interval_ns: interval, burst };
        let mut state = State::new(class_of(&rule));
        let full = interval * u64::from(burst);
        let (mut tokens, mut now) = (full, T0);
        for (wait, step) in steps {
            now += wait;
            tokens = full.min(tokens + wait);
            if let Step::Charge(cost) = step {
                let admitted = tokens >= interval * u64::from(cost);
                tokens -= if admitted { interval * u64::from(cost) } else { 0 };
                let retry = state.retry_ns(&rule, cost, now, now);
                prop_assert_eq!(add(&mut state, &rule, cost, now, 0), admitted);
                let standing = state.standing(&rule, admitted, now, now);
                prop_assert_eq!((standing.remaining, standing.reset_ns), (tokens / interval, full - tokens));
                if admitted {
                    prop_assert_eq!(retry, 0);
                } else if cost <= burst {
                    prop_assert!(state.admits(&rule, cost, now + retry) && !state.admits(&rule, cost, now + retry - 1));
                } else {
                    prop_assert_eq!(retry, u64::MAX);
                }
            }
        }
    }

    /// Charges that were taken back are as if they had never been, or the bucket is stricter; whatever other hosts do.
    #[test]
    fn no_window_is_above_the_bucket_with_refunds_and_foreign_units(
        interval in 1..2000u64, burst in 1..12u32, steps in steps()
    ) {
        let rule = Rule::Rate { interval_ns: interval, burst };
        let mut state = State::new(class_of(&rule));
        let mut now = T0;
        let mut kept: Vec<(u64, u32)> = Vec::new();
        for (wait, step) in steps {
            now += wait;
            match step {
                Step::Charge(cost) => {
                    if add(&mut state, &rule, cost, now, 0) {
                        kept.push((now, cost));
                    }
                }
                Step::Refund(back) if back < kept.len() => {
                    let (at, cost) = kept.remove(kept.len() - 1 - back);
                    state.take_back(at, interval * u64::from(cost), now);
                }
                Step::Refund(_) => {}
                Step::Foreign(units, debt) => state.add(&rule, units, now, true, debt, 0),
            }
            let mut units = 0;
            for (at, cost) in kept.iter().rev() {
                units += u64::from(*cost);
                prop_assert!(units * interval <= interval * u64::from(burst) + (now - at), "{} since {}", units, at);
            }
        }
    }

    #[test]
    fn a_window_never_has_more_than_its_units(
        units in 1..9u64, steps in proptest::collection::vec((0..6u64, 1..3u32, any::<bool>()), 1..100)
    ) {
        // Windows of an hour; requests come in order, or from the window before.
        let mut state = State::new(class::QUOTA);
        let mut counted = std::collections::BTreeMap::new();
        let mut hour = 500_000;
        for (step, cost, late) in steps {
            hour += u64::from(step == 5);
            let window = hour - u64::from(late);
            let rule = Rule::Quota { units, begin_ns: window * 3600 * SECOND, end_ns: (window + 1) * 3600 * SECOND };
            let used = counted.entry(window).or_insert(0);
            if add(&mut state, &rule, cost, hour * 3600 * SECOND, 0) {
                *used += u64::from(cost);
            } else if !late {
                prop_assert!(*used + u64::from(cost) > units);
            }
            prop_assert!(*used <= units);
        }
    }

    #[test]
    fn no_more_are_held_than_there_are(
        units in 1..9u32, steps in proptest::collection::vec((0..40u64, 1..3u32, 0..4usize), 1..100)
    ) {
        let rule = Rule::Concurrency { units, lease_ns: 100 };
        let mut state = State::new(class::HELD);
        let (mut now, mut held): (u64, Vec<(u64, u64, u32)>) = (T0, Vec::new());
        for (id, (wait, cost, back)) in (0..).zip(steps) {
            now += wait;
            if back < held.len() {
                let (id, ..) = held.remove(back);
                state.take_back(id, 0, now);
                state.take_back(id, 0, now);
            }
            held.retain(|(_, end, _)| *end > now);
            let used: u32 = held.iter().map(|(.., cost)| cost).sum();
            let admitted = add(&mut state, &rule, cost, now, id);
            prop_assert_eq!(admitted, used + cost <= units);
            if admitted {
                held.push((id, now + 100, cost));
            }
            let used: u32 = held.iter().map(|(.., cost)| cost).sum();
            prop_assert_eq!(state.standing(&rule, admitted, now, now).remaining, u64::from(units - used));
        }
    }

    #[test]
    fn no_numbers_overflow(numbers: [u64; 8], burst: u32, cost in 1..=u32::MAX) {
        let [a, b, c, now, tat, first, units, debt] = numbers;
        let now = now >> 2;
        let rules = [
            Rule::Rate { interval_ns: a, burst },
            Rule::Quota { units: a, begin_ns: b, end_ns: c },
            Rule::Concurrency { units: burst, lease_ns: b },
        ];
        for rule in rules {
            let mut state = State::new(class_of(&rule));
            state.add(&rule, cost, tat >> 2, false, 0, 1);
            state.admits(&rule, cost, now);
            state.standing(&rule, true, now, now);
            state.retry_ns(&rule, cost, now, now);
            state.add(&rule, cost, now, true, debt, 2);
            state.take_back(first, units, now);
            state.expiry();
        }
    }
}

#[test]
fn a_leap_over_windows_forgets_neither() {
    let window = |n: u64| Rule::Quota { units: 3, begin_ns: n * SECOND, end_ns: (n + 1) * SECOND };
    let mut state = State::new(class::QUOTA);
    assert!(add(&mut state, &window(10), 3, T0, 0));
    assert!(add(&mut state, &window(20), 1, T0, 0));
    assert!(add(&mut state, &window(30), 1, T0, 0));
    assert!(!add(&mut state, &window(10), 1, T0, 0), "the clock was set forth and back");
    assert!(add(&mut state, &window(31), 1, T0, 0));
    assert!(add(&mut state, &window(30), 2, T0, 0), "late");
    assert!(!add(&mut state, &window(30), 1, T0, 0));
}
