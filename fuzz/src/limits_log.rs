//! The logs of limits, which everything on the state mount could have written to. The first byte chooses what the others
//! are:
//!
//! * the bytes of a log: none of them checks, so that they are as nothing;
//! * slots that check, behind what a key was charged, and of any kind that gives nothing back: nothing is left of that key;
//! * slots that check, from the log's begin on.
//!
//! Whatever stands there: an instance that has followed the log and one that comes now say the same, a bucket admits no
//! more than it holds, and what is appended in the end is bounded.

use portcullis_limiter::{Charge, Directory, Limiter, LogFile, Rule, Tail};
use std::{cell::RefCell, collections::BTreeMap, io, rc::Rc};
use xxhash_rust::xxh64::xxh64;

const T: u64 = 1_800_000_000_000_000_000;
const BUCKET: u16 = 1;
const BURST: u32 = 5;

/// A disk in memory.
#[derive(Clone, Default)]
struct Files(Rc<RefCell<BTreeMap<u64, Bytes>>>);

#[derive(Clone, Default)]
struct Bytes(Rc<RefCell<Vec<u8>>>);

impl Directory for Files {
    type File = Bytes;

    fn newest(&self, _: u16) -> io::Result<Option<u64>> {
        Ok(self.0.borrow().last_key_value().map(|(generation, _)| *generation))
    }

    fn open(&self, _: u16, generation: u64, create: bool) -> io::Result<Bytes> {
        let mut files = self.0.borrow_mut();
        if create {
            files.entry(generation).or_default();
        }
        files.get(&generation).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove(&self, _: u16, generation: u64) -> io::Result<()> {
        self.0.borrow_mut().remove(&generation);
        Ok(())
    }
}

impl LogFile for Bytes {
    fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.0.borrow();
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<u64> {
        let mut log = self.0.borrow_mut();
        log.extend_from_slice(bytes);
        Ok((log.len() - bytes.len()) as u64)
    }
}

/// The target's body.
pub fn run(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    let files = Files::default();
    let mut old = Limiter::new(files.clone());
    match mode % 3 {
        0 => {
            files.open(BUCKET, 1, true).and_then(|log| log.append(data)).unwrap_or_default();
            let mut limiter = Limiter::new(files.clone());
            for (n, rule) in rules().into_iter().enumerate() {
                let standing = ask(&mut limiter, n as u64, rule, 1).1;
                assert_eq!(standing, u64::from(BURST) - 1, "the bytes say something");
            }
        }
        1 => {
            for _ in 0..BURST {
                for (n, rule) in rules().into_iter().enumerate() {
                    assert!(ask(&mut old, n as u64, rule, 1).0);
                }
            }
            append(&files, data, |slot| {
                // A window that is to come ends the one that is.
                let begin = u64::from_le_bytes([32, 33, 34, 35, 36, 37, 38, 39].map(|at: usize| slot[at]));
                !matches!(slot[0], 2 | 3 | 5) && (slot[2] != 1 || begin < T)
            });
            for (n, rule) in rules().into_iter().enumerate() {
                assert!(!ask(&mut Limiter::new(files.clone()), n as u64, rule, 1).0, "units out of nothing: {rule:?}");
                assert!(!ask(&mut old, n as u64, rule, 1).0, "units out of nothing: {rule:?}");
            }
        }
        _ => {
            files.open(BUCKET, 1, true).map(|_| ()).unwrap_or_default();
            append(&files, data, |_| true);
        }
    }
    for (n, rule) in rules().into_iter().enumerate() {
        // Of cost 2 first: it is refused or taken, and both have seen it.
        let (mut one, mut other) = (Limiter::new(files.clone()), Limiter::new(files.clone()));
        let mut admitted = 0;
        for _ in 0..=BURST {
            let first = ask(&mut one, n as u64, rule, 2);
            let second = ask(&mut other, n as u64, rule, 1);
            let third = ask(&mut Limiter::new(files.clone()), n as u64, rule, 1);
            admitted += 2 * u32::from(first.0) + u32::from(second.0) + u32::from(third.0);
            let all = [ask(&mut one, n as u64, rule, BURST + 1), ask(&mut other, n as u64, rule, BURST + 1)];
            assert_eq!(all[0], all[1], "two that have read the same");
        }
        assert!(admitted <= BURST, "{admitted} of {BURST} by {rule:?}");
    }
    let mut tail = Tail::new(BUCKET);
    let _ = tail.poll(&files);
    tail.entries().for_each(|entry| _ = entry.standing(T, T));
    let n_bytes: usize = files.0.borrow().values().map(|log| log.0.borrow().len()).sum();
    assert!(n_bytes <= 100_000 + 4 * data.len(), "{n_bytes} bytes for {}", data.len());
}

/// One of each kind, of the same size.
fn rules() -> [Rule; 3] {
    let (units, lease_ns) = (BURST, 1 << 60);
    [
        Rule::Rate { interval_ns: 1 << 40, burst: BURST },
        Rule::Quota { units: u64::from(BURST), begin_ns: T - 1, end_ns: T + (1 << 50) },
        Rule::Concurrency { units, lease_ns },
    ]
}

/// Whether it is admitted, and how many are left.
fn ask(limiter: &mut Limiter<Files>, n: u64, rule: Rule, cost: u32) -> (bool, u64) {
    let key = u64::from(BUCKET) + n * 1024;
    let charge = Charge { key, tag: 1, label: "key".to_owned(), rule, cost, enforced: true, global: false };
    let outcome = limiter.charge(&[charge], T).unwrap_or_else(|error| panic!("{error}"));
    (outcome.admitted, outcome.standings[0].remaining)
}

/// Puts 56 bytes each into a slot that checks, if it is wanted, and with a time that is not to come.
fn append(files: &Files, data: &[u8], wanted: impl Fn(&[u8; 64]) -> bool) {
    let generation = files.newest(BUCKET).ok().flatten().unwrap_or(1);
    let Ok(log) = files.open(BUCKET, generation, true) else { return };
    let seed = u64::from_le_bytes(*b"limits01") ^ u64::from(BUCKET) << 48 ^ generation;
    for chunk in data.chunks(56) {
        let mut slot = [0; 64];
        slot[..chunk.len()].copy_from_slice(chunk);
        slot[0] %= 16;
        if !wanted(&slot) {
            continue;
        }
        let t = u64::from_le_bytes([16, 17, 18, 19, 20, 21, 22, 23].map(|at: usize| slot[at]));
        slot[16..24].copy_from_slice(&t.min(T).to_le_bytes());
        let checksum = xxh64(&slot[..56], seed);
        slot[56..].copy_from_slice(&checksum.to_le_bytes());
        log.append(&slot).unwrap_or_default();
    }
}
