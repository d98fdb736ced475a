//! What a log says, slot by slot.

use super::*;
use proptest::prelude::*;

const T0: u64 = 1_800_000_000_000_000_000;
const BUCKET: u16 = 5;
/// So long that no quota is over in the time of a test.
const HOUR: u64 = 3_600_000_000_000;

/// A log with an empty checkpoint.
fn open() -> Fold {
    let mut fold = Fold::new(BUCKET, 1);
    feed(&mut fold, &Fold::new(BUCKET, 0).checkpoint(BUCKET, 1));
    assert!(fold.is_open());
    fold
}

fn feed(fold: &mut Fold, bytes: &[u8]) {
    for bytes in bytes.as_chunks().0 {
        fold.push(bytes);
    }
}

fn put(fold: &mut Fold, slot: &Slot) -> Effect {
    fold.push(&slot.encode(fold.seed())).1
}

fn charge(key: u64, t: u64, rule: Rule, cost: u32) -> Slot {
    Slot { kind: kind::CHARGE, key, t, tag: 9, ..Slot::default() }.with_rule(&rule, cost)
}

fn rate(key: u64, t: u64, interval_ns: u64) -> Slot {
    charge(key, t, Rule::Rate { interval_ns, burst: 3 }, 1)
}

/// Anything that a writer may write, and what it would not.
fn slots() -> impl Strategy<Value = Vec<Slot>> {
    let rule = prop_oneof![
        (1..2000u64, 1..5u32).prop_map(|(interval_ns, burst)| Rule::Rate { interval_ns, burst }),
        (1..9u64, 0..3u64).prop_map(|(units, n)| Rule::Quota { units, begin_ns: n * HOUR, end_ns: n * HOUR + HOUR }),
        (1..5u32, 1..9000u64).prop_map(|(units, lease_ns)| Rule::Concurrency { units, lease_ns }),
    ];
    let kinds = prop_oneof![6 => Just(kind::CHARGE), 2 => Just(kind::RELEASE), 2 => Just(kind::REFUND),
        1 => Just(kind::FOREIGN), 1 => Just(kind::STEP), 1 => Just(kind::LABEL), 1 => 0..20u8];
    let slot = (kinds, 0..6u64, 0..9000u64, rule, 1..4u32, 0..40u64, any::<bool>());
    let slot = slot.prop_map(|(kind, key, t, rule, cost, id, is_back)| {
        let t = if is_back && kind == kind::STEP { T0 - 5_000_000_000 } else { T0 + t };
        let slot = Slot { kind, key, t, tag: 9, ..Slot::default() }.with_rule(&rule, cost);
        match kind {
            kind::RELEASE | kind::REFUND => Slot { words: [1 << 32 | id, 100, 0, 0], ..slot },
            kind::LABEL => slot.with_text(&[b'x'; 40]),
            _ => slot,
        }
    });
    proptest::collection::vec(slot, 0..60)
}

/// Takes back what came at such a place of the first generation or later: there no two logs that differ in their generation
/// have the same names for what they hold.
fn is_taken_back_from(slot: &Slot, place: u64) -> bool {
    matches!(slot.kind, kind::RELEASE | kind::REFUND) && slot.words[0] >= 1 << 32 | place
}

proptest! {
    /// What a generation says goes over into the next, and whoever goes on from the checkpoint answers as who has read
    /// everything.
    #[test]
    fn a_checkpoint_says_what_the_log_says(before in slots(), after in slots()) {
        let mut whole = open();
        for slot in &before {
            if slot.kind != kind::SEAL {
                put(&mut whole, slot);
            }
        }
        let bytes = whole.checkpoint(BUCKET, 2);
        let mut next = Fold::new(BUCKET, 2);
        feed(&mut next, &bytes);
        prop_assert!(next.is_open());
        prop_assert_eq!(next.checkpoint(BUCKET, 3), whole.checkpoint(BUCKET, 3));
        let sealed = whole.position / LEN as u64;
        for slot in after.iter().filter(|slot| slot.kind != kind::SEAL && !is_taken_back_from(slot, sealed)) {
            match (put(&mut whole, slot), put(&mut next, slot)) {
                (Effect::Admitted { at, now, .. }, Effect::Admitted { at: next_at, now: next_now, .. }) => {
                    prop_assert_eq!((at, now), (next_at, next_now));
                }
                (one, other) => prop_assert_eq!(one, other),
            }
        }
    }

    #[test]
    fn any_bytes_are_a_log(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut fold = Fold::new(BUCKET, 1);
        feed(&mut fold, &bytes);
        prop_assert!(!fold.is_open() && fold.entries().is_empty());
    }

    /// A part of a checkpoint is none, wherever it was torn, and a whole one behind it counts.
    #[test]
    fn a_torn_checkpoint_is_none(before in slots(), torn: prop::sample::Index) {
        let mut whole = open();
        for slot in &before {
            put(&mut whole, slot);
        }
        let bytes = whole.checkpoint(BUCKET, 2);
        let torn = torn.index(bytes.len() / LEN) * LEN;
        let mut fold = Fold::new(BUCKET, 2);
        feed(&mut fold, &bytes[..torn]);
        prop_assert!(!fold.is_open());
        prop_assert_eq!(put(&mut fold, &rate(1, T0, 10)), Effect::Void);
        feed(&mut fold, &bytes);
        prop_assert!(fold.is_open());
        prop_assert_eq!(fold.checkpoint(BUCKET, 3), whole.checkpoint(BUCKET, 3));
    }
}

#[test]
fn what_stands_behind_a_seal_is_void() {
    let mut fold = open();
    assert!(matches!(put(&mut fold, &rate(1, T0, 10)), Effect::Admitted { .. }));
    assert_eq!(put(&mut fold, &Slot { kind: kind::SEAL, ..Slot::default() }), Effect::Other);
    assert_eq!(put(&mut fold, &rate(1, T0, 10)), Effect::Void);
}

#[test]
fn a_record_from_no_time_at_all_has_no_effect() {
    let mut fold = open();
    assert_eq!(put(&mut fold, &rate(1, MAX_T, 10)), Effect::Refused);
    assert!(matches!(put(&mut fold, &rate(1, T0, 10)), Effect::Admitted { now: T0, .. }));
    // Late, it is judged at the time of those before.
    assert!(matches!(put(&mut fold, &rate(1, T0 - 5, 10)), Effect::Admitted { now: T0, .. }));
}

#[test]
fn keys_beyond_the_room_of_a_bucket_are_counted_together() {
    let mut fold = open();
    for key in 0..MAX_KEYS as u64 {
        assert!(matches!(put(&mut fold, &rate(key, T0, 1 << 40)), Effect::Admitted { .. }));
    }
    let admitted = (0..10).filter(|key| {
        let effect = put(&mut fold, &rate(u64::MAX - key, T0, 1 << 40));
        assert!(!matches!(effect, Effect::Admitted { at, .. } if at.class & class::SHARED == 0));
        matches!(effect, Effect::Admitted { .. })
    });
    assert_eq!(admitted.count(), 3, "one burst for all of them");
    assert!(matches!(put(&mut fold, &rate(7, T0, 1 << 40)), Effect::Admitted { at: At { key: 7, .. }, .. }));
    // What is over makes room.
    let late = T0 + (1 << 43);
    assert!(
        matches!(put(&mut fold, &rate(1 << 50, late, 1)), Effect::Admitted { at: At { key, .. }, .. } if key == 1 << 50)
    );
    assert_eq!(fold.entries().len(), 1);
}

#[test]
fn limits_beyond_the_room_of_a_bucket_are_refused() {
    let mut fold = open();
    let mut n_admitted = 0;
    for tag in 0..10_000 {
        let slot = Slot { tag, ..rate(u64::from(tag), T0, 1 << 40) };
        n_admitted += usize::from(matches!(put(&mut fold, &slot), Effect::Admitted { .. }));
    }
    assert_eq!((n_admitted, fold.entries().len()), (MAX_ENTRIES, MAX_ENTRIES));
    let mut holders = 0;
    for _ in 0..40_000 {
        let slot = charge(0, T0, Rule::Concurrency { units: u32::MAX, lease_ns: 1 << 40 }, 1);
        holders += usize::from(matches!(put(&mut fold, &slot), Effect::Admitted { .. }));
    }
    assert_eq!(holders, 0, "no room for a key more");
    let mut fold = open();
    for _ in 0..40_000 {
        let slot = charge(0, T0, Rule::Concurrency { units: u32::MAX, lease_ns: 1 << 40 }, 1);
        holders += usize::from(matches!(put(&mut fold, &slot), Effect::Admitted { .. }));
    }
    assert_eq!(holders, MAX_WEIGHT);
    let bytes = fold.checkpoint(BUCKET, 2);
    let mut next = Fold::new(BUCKET, 2);
    feed(&mut next, &bytes);
    assert!(next.is_open());
}
