//! What a log is made of: slots of [`LEN`] bytes, each with its own checksum.
//!
//! A slot that does not check is nobody's: the rest of an append that was cut short, or bytes from elsewhere. The checksum
//! is seeded with the format, the bucket and the generation, so that a slot means something in its own log only.

use crate::charge::{MAX_LABEL_LEN, Rule};
use xxhash_rust::xxh64::xxh64;

/// Length of a slot in bytes.
pub(crate) const LEN: usize = 64;
/// Where the checksum stands.
const COVERED: usize = 56;
/// Names the format: a slot of another one does not check.
const SEED: u64 = u64::from_le_bytes(*b"limits01");

/// Records that a time cannot reach: the year 2116.
pub(crate) const MAX_T: u64 = 1 << 62;

/// What a slot is for.
pub(crate) mod kind {
    /// Units are asked for: by rate, by quota or as a slot of concurrency.
    pub(crate) const CHARGE: u8 = 1;
    /// A slot of concurrency is given back.
    pub(crate) const RELEASE: u8 = 2;
    /// A charge is taken back, because another of the same request was lost.
    pub(crate) const REFUND: u8 = 3;
    /// Units that were admitted on other hosts.
    pub(crate) const FOREIGN: u8 = 4;
    /// The clock went back.
    pub(crate) const STEP: u8 = 5;
    /// The text of a key.
    pub(crate) const LABEL: u8 = 6;
    /// The last record of a generation.
    pub(crate) const SEAL: u8 = 7;
    /// A checkpoint begins.
    pub(crate) const BEGIN: u8 = 8;
    /// A live entry, or one holder of a slot.
    pub(crate) const STATE: u8 = 9;
    /// A checkpoint ends.
    pub(crate) const END: u8 = 10;
}

/// What a key counts. One key counts each apart, so that a limit whose rule changes takes nothing over.
pub(crate) mod class {
    /// A token bucket.
    pub(crate) const RATE: u16 = 0;
    /// Units in a window.
    pub(crate) const QUOTA: u16 = 1;
    /// Units at once.
    pub(crate) const HELD: u16 = 2;
    /// Added to the above where keys of one limit are counted together; the key is the limit's tag.
    pub(crate) const SHARED: u16 = 0x100;
}

/// The charge decides.
pub(crate) const ENFORCED: u8 = 1;
/// Other hosts are to be told.
pub(crate) const GLOBAL: u8 = 2;

/// A slot that checks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) class: u16,
    pub(crate) tag: u32,
    pub(crate) key: u64,
    /// When, by the writer's clock, where the kind has a time.
    pub(crate) t: u64,
    /// By kind and class; see `docs/reference/limits-log.md`.
    pub(crate) words: [u64; 4],
}

/// What checksums of a log are seeded with.
pub(crate) fn seed(bucket: u16, generation: u64) -> u64 {
    SEED ^ (u64::from(bucket) << 48) ^ generation
}

/// A word's lower and higher half.
#[allow(clippy::cast_possible_truncation, reason = "that is what halves are")]
pub(crate) fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

/// A log's time for a writer's.
pub(crate) fn log_time(t: u64, shift: i64) -> u64 {
    t.saturating_add_signed(shift).min(MAX_T)
}

/// The class of a rule.
pub(crate) fn class_of(rule: &Rule) -> u16 {
    match rule {
        Rule::Rate { .. } => class::RATE,
        Rule::Quota { .. } => class::QUOTA,
        Rule::Concurrency { .. } => class::HELD,
    }
}

// === impl Slot ===

impl Slot {
    /// A rule and units of it, as [`kind::CHARGE`] and [`kind::FOREIGN`] have them.
    pub(crate) fn with_rule(self, rule: &Rule, cost: u32) -> Self {
        let cost = u64::from(cost.max(1));
        let words = match *rule {
            Rule::Rate { interval_ns, burst } => [interval_ns, u64::from(burst), cost, 0],
            Rule::Quota { units, begin_ns, end_ns } => [units, begin_ns, cost, end_ns],
            Rule::Concurrency { units, lease_ns } => [u64::from(units), lease_ns, cost, 0],
        };
        Self { class: class_of(rule), words, ..self }
    }

    /// The rule and the units; `None` when the words are none.
    pub(crate) fn rule(&self) -> Option<(Rule, u32)> {
        let [first, second, cost, fourth] = self.words;
        let cost = u32::try_from(cost).ok().filter(|cost| *cost > 0)?;
        let rule = match self.class {
            class::RATE => Rule::Rate { interval_ns: first, burst: u32::try_from(second).ok()? },
            class::QUOTA => Rule::Quota { units: first, begin_ns: second, end_ns: fourth },
            class::HELD => Rule::Concurrency { units: u32::try_from(first).ok()?, lease_ns: second },
            _ => return None,
        };
        Some((rule, cost))
    }

    /// A key's text, in the room of the time and the words.
    pub(crate) fn label(key: u64, class: u16, text: &str) -> Self {
        let mut bytes = [0; MAX_LABEL_LEN];
        // Between two characters.
        let cut = (0..=MAX_LABEL_LEN).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let cut = if text.len() <= MAX_LABEL_LEN { text.len() } else { cut };
        for (to, from) in bytes.iter_mut().zip(text.as_bytes().iter().take(cut)) {
            *to = *from;
        }
        Self { kind: kind::LABEL, class, key, ..Self::default() }.with_text(&bytes)
    }

    pub(crate) fn with_text(mut self, text: &[u8; MAX_LABEL_LEN]) -> Self {
        let (words, _) = text.as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        self.t = words.next().unwrap_or_default();
        self.words = core::array::from_fn(|_| words.next().unwrap_or_default());
        self
    }

    pub(crate) fn text(&self) -> [u8; MAX_LABEL_LEN] {
        let mut bytes = [0; MAX_LABEL_LEN];
        let (chunks, _) = bytes.as_chunks_mut::<8>();
        for (chunk, word) in chunks.iter_mut().zip([self.t].iter().chain(&self.words)) {
            *chunk = word.to_le_bytes();
        }
        bytes
    }

    pub(crate) fn encode(&self, seed: u64) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let head =
            u64::from(self.kind) | u64::from(self.flags) << 8 | u64::from(self.class) << 16 | u64::from(self.tag) << 32;
        let (covered, checksum) = bytes.split_at_mut(COVERED);
        let (chunks, _) = covered.as_chunks_mut::<8>();
        for (chunk, word) in chunks.iter_mut().zip([head, self.key, self.t].iter().chain(&self.words)) {
            *chunk = word.to_le_bytes();
        }
        checksum.copy_from_slice(&xxh64(covered, seed).to_le_bytes());
        bytes
    }

    /// `None` when these bytes are no slot of the log with this seed.
    pub(crate) fn decode(bytes: &[u8; LEN], seed: u64) -> Option<Self> {
        let (covered, checksum) = bytes.split_at_checked(COVERED)?;
        if checksum != xxh64(covered, seed).to_le_bytes() {
            return None;
        }
        let (words, _) = covered.as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        let mut next = || words.next().unwrap_or_default();
        let (low, tag) = halves(next());
        let [kind, flags, class @ ..] = low.to_le_bytes();
        Some(Self {
            kind,
            flags,
            class: u16::from_le_bytes(class),
            tag,
            key: next(),
            t: next(),
            words: core::array::from_fn(|_| next()),
        })
    }
}

#[cfg(test)]
#[path = "slot_tests.rs"]
mod tests;
