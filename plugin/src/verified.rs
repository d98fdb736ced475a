//! Signatures that were verified before, by any instance on this host.
//!
//! ```text
//!  remembers ─► near (this instance's own) ─hit─────────────────────► true
//!                 └─miss─► the digest's set in the file: one read ─hit─► near, true
//!                                                         └──────────miss─► false: the caller verifies
//!  remember ──► near, and one slot of the set: one read, one write
//! ```
//!
//! Guests share nothing but a mounted directory, and a verification takes a millisecond in this runtime, so what one
//! instance has verified is written to a file that all of them read. Nobody locks it: every instance writes slots of the
//! same fixed length at fixed places, and a slot that two of them tore fails its checksum and is empty. Whatever happens to
//! the file, a slot is believed only for the digest that it spells out, and only for a while ([`MAX_KEPT_S`]); everything
//! else costs a verification and nothing more. Who may write to the file is trusted like who writes the snapshot (ADR 7).
//!
//! The file never grows above [`FILE_LEN`]. Reference: `docs/reference/state.md`.

use crate::{config::Level, source::Notice};
use portcullis_policy::Memory;
use std::{cell::Cell, io};
use xxhash_rust::xxh64::xxh64;

/// The file's name in the state directory.
pub const FILE_NAME: &str = "verified";
/// Length of the file when every slot has been written, in bytes.
pub const FILE_LEN: u64 = SETS * SET_LEN as u64;

/// Longest time for which a verification is believed, in seconds. The digests of a removed key or root are never asked
/// for again, so this is not what revokes; it bounds what a foreign byte could do, and lets the slots of credentials
/// without an end of their own fall out of use in the order in which they were written.
pub const MAX_KEPT_S: u64 = 3600;

/// Sets in the file. With all slots in use that is room for the credentials that 16,384 callers use in an hour.
const SETS: u64 = 4096;
/// Slots in a set: a set is one read, and four make it rare that a credential in use is pushed out.
const WAYS: usize = 4;
const SET_LEN: usize = WAYS * SLOT_LEN;
/// Digest (32), end (8), checksum (8).
const SLOT_LEN: usize = 48;
/// What the checksum covers.
const COVERED: usize = 40;
/// Seeds the checksum, together with the place. It names the format: a slot of another one is empty.
const SEED: u64 = u64::from_le_bytes(*b"verifie1");

/// Entries that an instance keeps for itself; each is an answer without a host call.
const NEAR: usize = 64;
/// How long a part of the file that failed is left alone, in seconds.
const PAUSE_S: u64 = 10;

/// Where the slots lie.
pub trait Slots {
    /// Reads at most `buf.len()` bytes; fewer only at the end. Nothing has to exist.
    fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Writes all of it, in one piece if the system can; bytes that were never written before it read as zeros.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// What it is called in the log.
    fn name(&self) -> &str;
}

/// An instance's view of what was verified. For use within one instance, which has one thread.
pub struct Verified<S> {
    slots: Option<S>,
    near: Box<[Cell<Option<Slot>>]>,
    /// The last time that was asked about, in Unix seconds; 0 before that.
    now: Cell<u64>,
    reads: Pause,
    writes: Pause,
    notice: Cell<Option<Notice>>,
    warned: Cell<bool>,
}

/// One credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    digest: [u8; 32],
    /// Not believed from this time on, in Unix seconds.
    until: u64,
}

/// When something failed last, in Unix seconds.
#[derive(Debug, Default)]
struct Pause(Cell<Option<u64>>);

// === impl Slot ===

impl Slot {
    /// Whether it is to be believed at `now`. An end that nobody can have written by now is none.
    fn is_good(&self, now: u64) -> bool {
        self.until.checked_sub(now).is_some_and(|left| left > 0 && left <= MAX_KEPT_S)
    }

    fn encode(&self, place: u64) -> [u8; SLOT_LEN] {
        let mut bytes = [0; SLOT_LEN];
        let (covered, checksum) = bytes.split_at_mut(COVERED);
        let (digest, until) = covered.split_at_mut(32);
        digest.copy_from_slice(&self.digest);
        until.copy_from_slice(&self.until.to_le_bytes());
        checksum.copy_from_slice(&xxh64(covered, SEED ^ place).to_le_bytes());
        bytes
    }

    /// `None` when there is no slot in these bytes.
    fn decode(bytes: &[u8], place: u64) -> Option<Self> {
        let (covered, checksum) = bytes.split_at_checked(COVERED)?;
        if checksum != xxh64(covered, SEED ^ place).to_le_bytes() {
            return None;
        }
        let (digest, until) = covered.split_at_checked(32)?;
        Some(Self { digest: digest.try_into().ok()?, until: u64::from_le_bytes(until.try_into().ok()?) })
    }
}

// === impl Pause ===

impl Pause {
    fn is_over(&self, now: u64) -> bool {
        // Wall time may jump either way, and must not make the pause longer.
        self.0.get().is_none_or(|began| now.abs_diff(began) >= PAUSE_S)
    }
}

// === impl Verified ===

impl<S: Slots> Verified<S> {
    /// A memory on these slots; `None` is one inside the instance only. Touches nothing yet.
    pub fn new(slots: Option<S>) -> Self {
        Self {
            slots,
            near: std::iter::repeat_with(|| Cell::new(None)).take(NEAR).collect(),
            now: Cell::new(0),
            reads: Pause::default(),
            writes: Pause::default(),
            notice: Cell::new(None),
            warned: Cell::new(false),
        }
    }

    /// What is to be said in the log: the first failure of the file, once in an instance's life.
    pub fn notice(&self) -> Option<Notice> {
        self.notice.take()
    }

    fn near(&self, digest: &[u8; 32]) -> Option<&Cell<Option<Slot>>> {
        // Another byte than those that choose the set: both would be crowded at once.
        self.near.get(usize::from(digest[31]) % NEAR)
    }

    /// The set of a digest: what it holds, each slot with its place, and nothing when it cannot be read.
    fn read_set(&self, slots: &S, digest: &[u8; 32], now: u64) -> Option<[(u64, Option<Slot>); WAYS]> {
        if !self.reads.is_over(now) {
            return None;
        }
        let first = u64::from(u16::from_le_bytes([digest[0], digest[1]])) % SETS * SET_LEN as u64;
        let mut bytes = [0; SET_LEN];
        match slots.read(first, &mut bytes) {
            // What lies behind the end stays zero, and a slot of zeros is none.
            Ok(_) => {}
            Err(error) => {
                self.fail(&self.reads, now, slots.name(), "read", &error);
                return None;
            }
        }
        let (found, _) = bytes.as_chunks::<SLOT_LEN>();
        let mut set = [(first, None); WAYS];
        let mut place = first;
        for (entry, bytes) in set.iter_mut().zip(found) {
            *entry = (place, Slot::decode(bytes, place));
            place += SLOT_LEN as u64;
        }
        Some(set)
    }

    /// Writes a slot over its own older one, else a free one, else the one that ends first: that one is over, or it is
    /// the one which will be verified again soonest anyway.
    fn write(&self, slots: &S, slot: &Slot, now: u64) {
        if !self.writes.is_over(now) {
            return;
        }
        let Some(set) = self.read_set(slots, &slot.digest, now) else { return };
        let worth = |held: &Option<Slot>| match held {
            Some(held) if held.digest == slot.digest => (0, 0),
            Some(held) if held.is_good(now) => (2, held.until),
            _ => (1, 0),
        };
        let Some((place, _)) = set.iter().min_by_key(|(_, held)| worth(held)) else { return };
        if let Err(error) = slots.write(*place, &slot.encode(*place)) {
            self.fail(&self.writes, now, slots.name(), "written", &error);
        }
    }

    fn fail(&self, what: &Pause, now: u64, name: &str, done: &str, error: &io::Error) {
        what.0.set(Some(now));
        if !self.warned.replace(true) {
            let line = format!(
                "{name} cannot be {done}: {}; signatures are verified more often than they have to be (is the folder mounted \
                 without `:ro`, and is there room in it?)",
                error.kind()
            );
            self.notice.set(Some((Level::Warn, line)));
        }
    }
}

impl<S: Slots> Memory for Verified<S> {
    fn remembers(&self, digest: &[u8; 32], now: u64) -> bool {
        self.now.set(now);
        let is_it = |held: &Slot| held.digest == *digest && held.is_good(now);
        let Some(near) = self.near(digest) else { return false };
        if near.get().as_ref().is_some_and(is_it) {
            return true;
        }
        let set = self.slots.as_ref().and_then(|slots| self.read_set(slots, digest, now));
        let found = set.into_iter().flatten().filter_map(|(_, held)| held).find(is_it);
        if found.is_some() {
            near.set(found);
        }
        found.is_some()
    }

    /// The time is that of the last question: nobody verifies what they have not asked for.
    fn remember(&self, digest: &[u8; 32], until: u64) {
        let now = self.now.get();
        let slot = Slot { digest: *digest, until: until.min(now.saturating_add(MAX_KEPT_S)) };
        if !slot.is_good(now) {
            return;
        }
        if let Some(near) = self.near(digest) {
            near.set(Some(slot));
        }
        if let Some(slots) = &self.slots {
            self.write(slots, &slot, now);
        }
    }
}

#[cfg(test)]
#[path = "verified_tests.rs"]
mod tests;
