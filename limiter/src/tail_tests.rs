use super::*;
use crate::{Charge, Limiter, disk::Disk};

const SECOND: u64 = 1_000_000_000;
const T0: u64 = 1_800_000_000 * SECOND;
const RULE: Rule = Rule::Rate { interval_ns: SECOND, burst: 200 };

fn charge(key: u64) -> Charge {
    Charge { key, tag: 7, label: "web".to_owned(), rule: RULE, cost: 1, enforced: true, global: true }
}

#[test]
fn a_tail_tells_every_charge_once_and_how_keys_stand() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    let mut tail = Tail::new(1);
    assert_eq!(tail.poll(&disk).unwrap(), []);
    let mut limiter = Limiter::new(disk.clone()).with_long(8);
    let mut n_seen = 0;
    for n in 1..=100_u64 {
        assert!(limiter.charge(&[charge(1)], T0).unwrap().admitted);
        if n % 3 == 0 {
            let seen = tail.poll(&disk).unwrap();
            assert!(seen.iter().all(|seen| seen.admitted && seen.global && !seen.foreign && seen.rule == RULE));
            n_seen += seen.iter().map(|seen| u64::from(seen.cost)).sum::<u64>();
            assert_eq!(n_seen, n);
        }
    }
    assert_eq!(tail.poll(&disk).unwrap().len(), 1);
    let entries: Vec<_> = tail.entries().collect();
    assert_eq!((entries.len(), entries[0].label.as_deref(), entries[0].total), (1, Some("web"), 100));
    assert_eq!(entries[0].standing(T0, T0).remaining, 100);
    assert_eq!(entries[0].standing(T0 + SECOND, T0).remaining, 101);
    assert!(entries[0].is_live(T0 + SECOND) && !entries[0].is_live(T0 + 100 * SECOND));
}

#[test]
fn what_came_and_went_between_two_polls_is_told_in_sum() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    let mut tail = Tail::new(1);
    let mut limiter = Limiter::new(disk.clone()).with_long(8);
    assert!(limiter.charge(&[charge(1)], T0).unwrap().admitted);
    assert_eq!(tail.poll(&disk).unwrap().len(), 1);
    for n in 0..99 {
        let key = 1 + 1024 * (n % 2);
        assert!(limiter.charge(&[charge(key)], T0).unwrap().admitted);
    }
    let seen = tail.poll(&disk).unwrap();
    let of = |key| seen.iter().filter(|seen| seen.key == key).map(|seen| seen.cost).sum::<u32>();
    assert_eq!((of(1), of(1025)), (50, 49));
    assert_eq!(tail.poll(&disk).unwrap(), []);
}

#[test]
fn foreign_units_are_taken_and_told_as_such() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    let mut tail = Tail::new(1);
    let foreign = Foreign { key: 1, tag: 7, rule: RULE, cost: 150, debt_ns: 10 * SECOND };
    tail.add_foreign(&disk, &[foreign, Foreign { key: 2, ..foreign }], T0).unwrap();
    let mut limiter = Limiter::new(disk.clone());
    assert_eq!(limiter.charge(&[charge(1)], T0).unwrap().standings[0].remaining, 49);
    let seen = tail.poll(&disk).unwrap();
    assert_eq!(seen.iter().map(|seen| (seen.cost, seen.foreign)).collect::<Vec<_>>(), [(150, true), (1, false)]);
    // The debt goes no further than it may.
    tail.add_foreign(&disk, &[Foreign { cost: 10_000, ..foreign }], T0).unwrap();
    let refused = limiter.charge(&[charge(1)], T0).unwrap();
    assert_eq!((refused.admitted, refused.standings[0].retry_ns), (false, 11 * SECOND));
    // A log that was sealed in between.
    let mut limiter = Limiter::new(disk.clone()).with_long(2);
    for _ in 0..5 {
        let quota = Rule::Quota { units: 9, begin_ns: T0, end_ns: T0 + SECOND };
        let charges = [Charge { rule: quota, ..charge(2049) }];
        assert!(limiter.charge(&charges, T0).unwrap().admitted);
        let foreign = Foreign { key: 3073, rule: quota, cost: 1, ..foreign };
        tail.add_foreign(&disk, &[foreign], T0).unwrap();
    }
    let quota = tail.entries().find(|entry| entry.key == 3073).unwrap();
    assert_eq!(quota.standing(T0, T0).remaining, 4);
}
