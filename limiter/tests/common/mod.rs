//! A second reading of logs, written from `docs/reference/limits-log.md` and sharing nothing with the crate: what the
//! writers answered is compared with it.
#![allow(dead_code, reason = "each test takes its part of it")]

use portcullis_limiter::{Charge, Rule};
use std::collections::BTreeMap;
use xxhash_rust::xxh64::xxh64;

pub(crate) const SECOND: u64 = 1_000_000_000;
/// When tests begin.
pub(crate) const T0: u64 = 1_800_000_000 * SECOND;

/// A charge whose tag tells it from all others.
pub(crate) fn rate(key: u64, tag: u32, interval_ns: u64, burst: u32) -> Charge {
    charge(key, tag, Rule::Rate { interval_ns, burst })
}

pub(crate) fn charge(key: u64, tag: u32, rule: Rule) -> Charge {
    Charge { key, tag, label: String::new(), rule, cost: 1, enforced: true, global: false }
}

/// A record that was admitted at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(crate) key: u64,
    pub(crate) tag: u32,
    pub(crate) cost: u64,
    pub(crate) interval: u64,
    pub(crate) burst: u64,
    /// The log's time.
    pub(crate) at: u64,
    pub(crate) refunded: bool,
}

/// What a bucket's generations say, in their order. Of rates only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Naive {
    pub(crate) now: u64,
    pub(crate) shift: i128,
    /// When each key's bucket will be full.
    pub(crate) full: BTreeMap<u64, u64>,
    pub(crate) admitted: Vec<Admitted>,
    /// Tags of records that had no effect, because the bucket did not admit them.
    pub(crate) refused: Vec<u32>,
}

/// Words of a slot: head, key, time, and four more.
pub(crate) type Words = [u64; 7];

pub(crate) fn words(slot: &[u8], bucket: u16, generation: u64) -> Option<Words> {
    let seed = u64::from_le_bytes(*b"limits01") ^ u64::from(bucket) << 48 ^ generation;
    let word = |n: usize| u64::from_le_bytes(slot[n * 8..n * 8 + 8].try_into().unwrap());
    (word(7) == xxh64(&slot[..56], seed)).then(|| std::array::from_fn(word))
}

impl Naive {
    /// Reads a whole generation; `false` when it has no checkpoint. The checkpoint has to say what is known already.
    pub(crate) fn read(&mut self, bytes: &[u8], bucket: u16, generation: u64) -> bool {
        let slots: Vec<_> = bytes.chunks_exact(64).map(|slot| words(slot, bucket, generation)).collect();
        let Some(first) = self.checkpoint(&slots) else { return false };
        for words in slots[first..].iter().flatten() {
            let [head, key, t, a, b, c, _] = *words;
            match head & 0xff {
                1 => {
                    assert_eq!(head >> 16 & 0xffff, 0, "rates only");
                    self.charge(key, (head >> 32) as u32, t, a, b, c);
                }
                3 => self.refund(key, (head >> 32) as u32, t, a, b),
                5 if i128::from(t) + self.shift + 1_000_000_000 < i128::from(self.now) => {
                    self.shift = i128::from(self.now) - i128::from(t);
                }
                7 => break,
                _ => {}
            }
        }
        true
    }

    /// Where the first complete checkpoint ends.
    fn checkpoint(&self, slots: &[Option<Words>]) -> Option<usize> {
        let kind = |n: usize| slots.get(n).copied().flatten().map(|words| words[0] & 0xff);
        for begin in 0..slots.len() {
            let Some([head, _, now, shift, n_slots, ..]) = slots[begin] else { continue };
            let end = begin.saturating_add(n_slots as usize).saturating_add(1);
            let is_whole = head & 0xff == 8 && kind(end) == Some(10);
            if !is_whole || !(begin + 1..end).all(|n| matches!(kind(n), Some(6 | 9))) {
                continue;
            }
            assert_eq!((now, i128::from(shift.cast_signed())), (self.now, self.shift), "the checkpoint's time");
            let states = slots[begin + 1..end].iter().flatten().filter(|words| words[0] & 0xff == 9);
            let states: BTreeMap<_, _> = states.map(|words| (words[1], words[2])).collect();
            let live = self.full.iter().filter(|(_, full)| **full > self.now).map(|(key, full)| (*key, *full));
            assert_eq!(states, live.collect(), "the checkpoint's entries");
            return Some(end + 1);
        }
        None
    }

    fn time(&mut self, t: u64) -> u64 {
        self.now = self.now.max(u64::try_from(i128::from(t) + self.shift).unwrap_or(0));
        self.now
    }

    fn charge(&mut self, key: u64, tag: u32, t: u64, interval: u64, burst: u64, cost: u64) {
        let now = self.time(t);
        let full = self.full.get(&key).copied().unwrap_or(0).max(now);
        let after = u128::from(full) + u128::from(interval) * u128::from(cost);
        if after - u128::from(now) <= u128::from(interval) * u128::from(burst) {
            self.full.insert(key, after as u64);
            self.admitted.push(Admitted { key, tag, cost, interval, burst, at: now, refunded: false });
        } else {
            self.refused.push(tag);
        }
    }

    fn refund(&mut self, key: u64, tag: u32, t: u64, since: u64, units: u64) {
        let now = self.time(t);
        if let Some(full) = self.full.get_mut(&key) {
            *full = (*full).max(now).saturating_sub(units.saturating_sub(now - since)).max(now);
        }
        let charge = self.admitted.iter_mut().find(|one| one.tag == tag && one.key == key);
        charge.expect("a refund is of something").refunded = true;
    }

    /// Whether a key's record with this tag stands.
    pub(crate) fn stands(&self, key: u64, tag: u32) -> bool {
        self.admitted.iter().any(|one| one.tag == tag && one.key == key && !one.refunded)
    }

    /// In no window was more admitted than the bucket allows.
    pub(crate) fn check_windows(&self) {
        let kept: Vec<_> = self.admitted.iter().filter(|one| !one.refunded).collect();
        for (n, first) in kept.iter().enumerate() {
            let mut units = 0;
            for last in kept[n..].iter().filter(|last| last.key == first.key) {
                units += u128::from(last.cost);
                let allowed = u128::from(first.burst) * u128::from(first.interval) + u128::from(last.at - first.at);
                assert!(units * u128::from(first.interval) <= allowed, "{units} units in {first:?} … {last:?}");
            }
        }
    }
}
