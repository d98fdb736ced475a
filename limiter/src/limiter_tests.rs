//! Charging: several limits at once, races, rotation and failures.

use super::*;
use crate::{charge::Rule, disk::Disk};

const SECOND: u64 = 1_000_000_000;
/// When tests begin.
const T0: u64 = 1_800_000_000 * SECOND;

fn disk() -> (tempfile::TempDir, Disk) {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    (directory, disk)
}

fn rate(key: u64, interval_ns: u64, burst: u32) -> Charge {
    charge(key, Rule::Rate { interval_ns, burst })
}

fn charge(key: u64, rule: Rule) -> Charge {
    Charge { key, tag: 7, label: format!("key {key}"), rule, cost: 1, enforced: true, global: false }
}

#[test]
fn a_bucket_admits_its_burst_and_then_its_rate() {
    let (_directory, disk) = disk();
    let mut limiter = Limiter::new(disk);
    let charges = [rate(1, SECOND / 10, 5)];
    for left in (0..5).rev() {
        let outcome = limiter.charge(&charges, T0).unwrap();
        assert!(outcome.admitted && outcome.slots.is_empty());
        let standing = Standing { admitted: true, remaining: left, reset_ns: (5 - left) * SECOND / 10, retry_ns: 0 };
        assert_eq!(outcome.standings, [standing]);
    }
    let refused = limiter.charge(&charges, T0).unwrap();
    assert!(!refused.admitted);
    let standing = Standing { admitted: false, remaining: 0, reset_ns: SECOND / 2, retry_ns: SECOND / 10 };
    assert_eq!(refused.standings, [standing]);
    assert!(!limiter.charge(&charges, T0 + SECOND / 10 - 1).unwrap().admitted);
    assert!(limiter.charge(&charges, T0 + SECOND / 10).unwrap().admitted);
    assert!(!limiter.charge(&charges, T0 + SECOND / 10).unwrap().admitted);
}

#[test]
fn instances_share_a_bucket_and_it_survives_them() {
    let (_directory, disk) = disk();
    let charges = [rate(1, SECOND, 3)];
    let (mut one, mut other) = (Limiter::new(disk.clone()), Limiter::new(disk.clone()));
    assert!(one.charge(&charges, T0).unwrap().admitted);
    assert!(other.charge(&charges, T0).unwrap().admitted);
    assert!(one.charge(&charges, T0).unwrap().admitted);
    drop((one, other));
    assert!(!Limiter::new(disk).charge(&charges, T0).unwrap().admitted);
}

#[test]
fn all_limits_are_charged_or_none() {
    let (_directory, disk) = disk();
    let mut limiter = Limiter::new(disk);
    let both = [rate(1, SECOND, 10), rate(2, SECOND, 1)];
    assert!(limiter.charge(&both, T0).unwrap().admitted);
    for _ in 0..5 {
        let refused = limiter.charge(&both, T0).unwrap();
        assert!(!refused.admitted && refused.standings[0].admitted && !refused.standings[1].admitted);
        assert_eq!(refused.standings[0].remaining, 9);
    }
    // Nothing was taken from the first, in another bucket or in the same.
    assert_eq!(limiter.charge(&both[..1], T0).unwrap().standings[0].remaining, 8);
    let same_bucket = [rate(1, SECOND, 10), rate(1 + u64::from(BUCKETS), SECOND, 1)];
    assert_eq!(limiter.charge(&same_bucket, T0).unwrap().standings[0].remaining, 7);
    assert_eq!(limiter.charge(&same_bucket, T0).unwrap().standings[0].remaining, 7);
}

#[test]
fn a_limit_in_shadow_is_counted_and_stops_nothing() {
    let (_directory, disk) = disk();
    let mut limiter = Limiter::new(disk);
    let shadow = Charge { enforced: false, ..rate(1, SECOND, 1) };
    let charges = [shadow, rate(2, SECOND, 2)];
    assert_eq!(limiter.charge(&charges, T0).unwrap().standings.map_admitted(), [true, true]);
    let second = limiter.charge(&charges, T0).unwrap();
    assert!(second.admitted);
    assert_eq!(second.standings.map_admitted(), [false, true]);
    assert!(!limiter.charge(&charges, T0).unwrap().admitted);
}

trait Admitted {
    fn map_admitted(&self) -> Vec<bool>;
}

impl Admitted for Vec<Standing> {
    fn map_admitted(&self) -> Vec<bool> {
        self.iter().map(|standing| standing.admitted).collect()
    }
}

#[test]
fn slots_are_held_until_they_are_given_back_or_their_lease_is_over() {
    let (_directory, disk) = disk();
    let (mut one, mut other) = (Limiter::new(disk.clone()), Limiter::new(disk));
    let charges = [charge(1, Rule::Concurrency { units: 2, lease_ns: 60 * SECOND })];
    let first = one.charge(&charges, T0).unwrap();
    let second = other.charge(&charges, T0).unwrap();
    assert!(first.admitted && second.admitted && first.slots[0].id != second.slots[0].id);
    let refused = other.charge(&charges, T0 + SECOND).unwrap();
    assert!(!refused.admitted && refused.slots.is_empty());
    assert_eq!(refused.standings[0].retry_ns, 59 * SECOND);
    other.release(&first.slots, T0 + SECOND);
    other.release(&first.slots, T0 + SECOND);
    let third = one.charge(&charges, T0 + SECOND).unwrap();
    assert!(third.admitted && !one.charge(&charges, T0 + SECOND).unwrap().admitted);
    // The second was never given back.
    assert!(one.charge(&charges, T0 + 60 * SECOND).unwrap().admitted);
    assert!(!one.charge(&charges, T0 + 60 * SECOND).unwrap().admitted);
}

#[test]
fn a_quota_is_for_its_window() {
    let (_directory, disk) = disk();
    let mut limiter = Limiter::new(disk);
    let window = |n: u64| {
        let (begin_ns, end_ns) = (n * 3600 * SECOND, (n + 1) * 3600 * SECOND);
        [charge(1, Rule::Quota { units: 2, begin_ns, end_ns })]
    };
    assert!(limiter.charge_at(&window(500_000), T0, T0).unwrap().admitted);
    assert!(limiter.charge_at(&window(500_000), T0, T0).unwrap().admitted);
    let refused = limiter.charge_at(&window(500_000), T0 + SECOND, T0 + 60 * SECOND).unwrap();
    assert_eq!(
        refused.standings[0],
        Standing { admitted: false, remaining: 0, reset_ns: 3540 * SECOND, retry_ns: 3540 * SECOND }
    );
    let next = limiter.charge(&window(500_001), T0 + 3600 * SECOND).unwrap();
    assert_eq!((next.admitted, next.standings[0].remaining), (true, 1));
    // The clock goes back, and forth again: nothing is forgotten.
    assert!(!limiter.charge(&window(500_000), T0 + 3600 * SECOND).unwrap().admitted);
    assert!(limiter.charge(&window(500_001), T0 + 3600 * SECOND).unwrap().admitted);
    assert!(!limiter.charge(&window(500_001), T0 + 3600 * SECOND).unwrap().admitted);
}

#[test]
fn what_never_fits_is_never_admitted() {
    let (_directory, disk) = disk();
    let mut limiter = Limiter::new(disk);
    let rules = [
        Rule::Rate { interval_ns: SECOND, burst: 9 },
        Rule::Rate { interval_ns: 0, burst: 90 },
        Rule::Rate { interval_ns: u64::MAX, burst: u32::MAX },
        Rule::Quota { units: 9, begin_ns: 1, end_ns: 2 },
        Rule::Quota { units: 90, begin_ns: 2, end_ns: 2 },
        Rule::Concurrency { units: 9, lease_ns: SECOND },
    ];
    for (key, rule) in (1..).zip(rules) {
        let outcome = limiter.charge(&[Charge { cost: 10, ..charge(key, rule) }], T0).unwrap();
        assert!(!outcome.admitted, "{rule:?}");
    }
    let outcome = limiter.charge(&[Charge { cost: 10, ..rate(1, SECOND, 9) }], T0).unwrap();
    assert_eq!(outcome.standings[0].retry_ns, u64::MAX);
    for no_time in [crate::clock::UNKNOWN, MAX_T, u64::MAX] {
        assert_eq!(limiter.charge(&[rate(1, SECOND, 9)], no_time).unwrap_err(), Unavailable::Clock);
    }
}

#[test]
fn a_clock_that_goes_back_goes_on_from_where_it_was() {
    let (_directory, disk) = disk();
    let mut limiter = Limiter::new(disk.clone());
    let charges = [rate(1, SECOND, 2)];
    assert!(limiter.charge(&charges, T0).unwrap().admitted);
    assert!(limiter.charge(&charges, T0).unwrap().admitted);
    let back = T0 - 3600 * SECOND;
    assert!(!limiter.charge(&charges, back).unwrap().admitted);
    assert!(!limiter.charge(&charges, back + SECOND - 1).unwrap().admitted);
    assert!(Limiter::new(disk).charge(&charges, back + SECOND).unwrap().admitted);
    assert!(!limiter.charge(&charges, back + SECOND).unwrap().admitted);
}

#[test]
fn logs_are_rotated_and_the_old_ones_go() {
    let (directory, disk) = disk();
    let mut limiters = [Limiter::new(disk.clone()).with_long(8), Limiter::new(disk.clone()).with_long(8)];
    let charges = [rate(1, SECOND, 100), charge(1025, Rule::Concurrency { units: 90, lease_ns: 60 * SECOND })];
    let mut slots = Vec::new();
    for n in 0..90 {
        let outcome = limiters[n % 2].charge(&charges, T0).unwrap();
        assert!(outcome.admitted, "{n}");
        assert_eq!(outcome.standings[0].remaining, 99 - n as u64);
        slots.extend(outcome.slots);
    }
    assert!(!limiters[0].charge(&charges, T0).unwrap().admitted);
    assert!(disk.newest(1).unwrap().unwrap() > 2);
    let n_files = std::fs::read_dir(directory.path().join("limits/001")).unwrap().count();
    assert!(n_files <= 2, "{n_files}");
    limiters[1].release(&slots, T0);
    assert_eq!(limiters[0].charge(&charges, T0).unwrap().standings[1].remaining, 89);
}

#[test]
fn a_directory_that_is_not_there_or_cannot_be_written_to_is_unavailable() {
    let (directory, _) = disk();
    let mut limiter = Limiter::new(Disk::new(directory.path().join("missing")));
    assert_eq!(limiter.charge(&[rate(1, SECOND, 1)], T0).unwrap_err(), Unavailable::NoDirectory);
    std::fs::write(directory.path().join("file"), "").unwrap();
    let mut limiter = Limiter::new(Disk::new(directory.path().join("file")));
    assert!(limiter.charge(&[rate(1, SECOND, 1)], T0).is_err());
}

#[test]
fn a_directory_that_is_emptied_under_the_limiter_costs_nothing_that_was_counted() {
    let (directory, disk) = disk();
    let mut limiters = [Limiter::new(disk.clone()), Limiter::new(disk.clone())];
    let charges = [rate(1, 3600 * SECOND, 10)];
    for limiter in &mut limiters {
        assert!(limiter.charge(&charges, T0).unwrap().admitted);
    }
    std::fs::remove_dir_all(directory.path().join("limits")).unwrap();
    // One that is new knows nothing of it.
    assert!(Limiter::new(disk.clone()).charge(&charges, T0).unwrap().admitted);
    for limiter in &mut limiters {
        limiter.charge(&charges, T0 + 10 * SECOND).unwrap();
    }
    let outcome = Limiter::new(disk).charge(&charges, T0 + 10 * SECOND).unwrap();
    assert_eq!(outcome.standings[0].remaining, 5);
}

/// A directory of which every operation is counted, and none works any more when so many are done.
struct Counting(Disk, std::rc::Rc<std::cell::Cell<(usize, usize)>>);

struct CountingFile(crate::disk::DiskFile, std::rc::Rc<std::cell::Cell<(usize, usize)>>);

fn count(cell: &std::cell::Cell<(usize, usize)>) -> std::io::Result<()> {
    let (done, most) = cell.get();
    if done >= most {
        return Err(std::io::ErrorKind::StorageFull.into());
    }
    cell.set((done + 1, most));
    Ok(())
}

impl Directory for Counting {
    type File = CountingFile;

    fn newest(&self, bucket: u16) -> std::io::Result<Option<u64>> {
        count(&self.1)?;
        self.0.newest(bucket)
    }

    fn open(&self, bucket: u16, generation: u64, create: bool) -> std::io::Result<CountingFile> {
        count(&self.1)?;
        Ok(CountingFile(self.0.open(bucket, generation, create)?, self.1.clone()))
    }

    fn remove(&self, bucket: u16, generation: u64) -> std::io::Result<()> {
        count(&self.1)?;
        self.0.remove(bucket, generation)
    }
}

impl crate::LogFile for CountingFile {
    fn read(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        count(&self.1)?;
        self.0.read(offset, buf)
    }

    fn append(&self, bytes: &[u8]) -> std::io::Result<u64> {
        count(&self.1)?;
        self.0.append(bytes)
    }
}

#[test]
fn a_charge_is_one_read_and_one_append_and_a_refusal_one_read() {
    let (_directory, disk) = disk();
    let cell = std::rc::Rc::new(std::cell::Cell::new((0, usize::MAX)));
    let mut limiter = Limiter::new(Counting(disk, cell.clone()));
    let charges = [rate(1, SECOND, 3)];
    let mut counts = Vec::new();
    for _ in 0..5 {
        let before = cell.get().0;
        limiter.charge(&charges, T0).unwrap();
        counts.push(cell.get().0 - before);
    }
    assert_eq!(counts[1..], [2, 2, 1, 1]);
    assert!(counts[0] <= 12, "{}", counts[0]);
}

#[test]
fn where_plenty_is_left_a_charge_is_one_append_and_what_others_took_counts_all_the_same() {
    let (_directory, disk) = disk();
    let cell = std::rc::Rc::new(std::cell::Cell::new((0, usize::MAX)));
    let mut limiter = Limiter::new(Counting(disk.clone(), cell.clone()));
    let charges = [rate(1, SECOND, 20)];
    assert!(limiter.charge(&charges, T0).unwrap().admitted);
    let before = cell.get().0;
    assert!(limiter.charge(&charges, T0).unwrap().admitted);
    assert_eq!(cell.get().0 - before, 1);
    // It still believes in 18 units.
    let mut other = Limiter::new(disk);
    assert_eq!((0..30).filter(|_| other.charge(&charges, T0).unwrap().admitted).count(), 18);
    let refused = limiter.charge(&charges, T0).unwrap();
    assert!(!refused.admitted && refused.standings[0].remaining == 0);
    let before = cell.get().0;
    assert!(!limiter.charge(&charges, T0).unwrap().admitted);
    assert_eq!(cell.get().0 - before, 1, "and now it knows");
    assert!(limiter.charge(&charges, T0 + SECOND).unwrap().admitted);
}

#[test]
fn whatever_fails_and_whenever_nothing_too_much_is_admitted_and_it_mends() {
    for most in 0..40 {
        let (_directory, disk) = disk();
        let cell = std::rc::Rc::new(std::cell::Cell::new((0, most)));
        let mut limiter = Limiter::new(Counting(disk.clone(), cell.clone())).with_long(3);
        let charges = [rate(1, SECOND, 5), rate(2, SECOND, 6)];
        let mut n_admitted = 0;
        for _ in 0..9 {
            match limiter.charge(&charges, T0) {
                Ok(outcome) => n_admitted += usize::from(outcome.admitted),
                Err(error) => assert_eq!(error, Unavailable::Full),
            }
        }
        cell.set((0, usize::MAX));
        let mut other = Limiter::new(disk).with_long(3);
        for _ in 0..9 {
            n_admitted += usize::from(limiter.charge(&charges, T0).unwrap().admitted);
            n_admitted += usize::from(other.charge(&charges, T0).unwrap().admitted);
        }
        assert!((4..=5).contains(&n_admitted), "{n_admitted} after {most} operations");
    }
}

#[test]
fn a_torn_append_costs_nobody_anything() {
    use std::io::Write as _;
    let (directory, disk) = disk();
    let mut limiters = [Limiter::new(disk.clone()), Limiter::new(disk.clone())];
    let charges = [rate(1, SECOND, 20)];
    for torn in [1, 63, 64, 65, 100, 200] {
        for limiter in &mut limiters {
            assert!(limiter.charge(&charges, T0).unwrap().admitted);
        }
        let path = directory.path().join("limits/001/0000000000000001");
        std::fs::File::options().append(true).open(path).unwrap().write_all(&vec![0xab; torn]).unwrap();
    }
    assert_eq!(Limiter::new(disk).charge(&charges, T0).unwrap().standings[0].remaining, 7);
}

#[test]
fn an_instance_keeps_no_more_than_its_room() {
    let (_directory, disk) = disk();
    let mut limiter = Limiter::new(disk);
    for key in 0..100 {
        assert!(limiter.charge(&[rate(key, SECOND, 1)], T0).unwrap().admitted);
        assert!(limiter.logs.len() <= MAX_LOGS);
    }
    for key in 0..9000 {
        let key = key % 3 + key / 3 * u64::from(BUCKETS);
        limiter.charge(&[rate(key, 3600 * SECOND, 1)], T0).unwrap();
        assert!(limiter.logs.iter().map(|log| log.fold.weight()).sum::<usize>() <= MAX_KEPT);
    }
    for key in 0..100 {
        assert!(!limiter.charge(&[rate(key, SECOND, 1)], T0).unwrap().admitted, "what is not kept is not forgotten");
    }
}
