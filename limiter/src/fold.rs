//! What a log says: a pure function of its slots, in their order. Whoever folds the same slots knows the same.
//!
//! ```text
//!  generation g    │ void until ─► BEGIN STATE… END │ CHARGE, RELEASE, REFUND, FOREIGN, STEP, LABEL … SEAL │ void
//!                                                   │                                                   │
//!  generation g+1  │ BEGIN STATE… END  ◄──── checkpoint(): what lives when the log of g was sealed ◄─────┘
//! ```
//!
//! A charge that its bucket does not admit at its place has no effect but that of its time. Time is the newest that a
//! record tells, so it never goes back; a record that is late is judged at the time of those before it.

mod checkpoint;

use crate::{
    charge::{Rule, Standing},
    slot::{self, LEN, MAX_T, Slot, class, kind},
    state::{Entry, State},
};

/// Keys that a bucket counts each for itself; those that come later are counted together, by limit.
pub(crate) const MAX_KEYS: usize = 4096;
/// Keys and limits that a bucket counts at all; what comes later is refused.
const MAX_ENTRIES: usize = MAX_KEYS + 256;
/// Slots that a checkpoint may have for its entries and their holders; what comes later is refused.
const MAX_WEIGHT: usize = 16_384;
/// With more live keys than these in a bucket, new ones get no label.
pub(crate) const MAX_LABELLED: usize = 256;
/// A record that is further behind says that the clock went back.
pub(crate) const LATE_NS: u64 = 1_000_000_000;

/// What a slot did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Not a charge, or nobody's slot.
    Other,
    /// Behind a seal or before a checkpoint: its writer is to go on in the next generation.
    Void,
    /// A charge that its bucket does not admit.
    Refused,
    /// A charge that was counted, where and when.
    Admitted {
        /// What it was counted for.
        at: At,
        /// When, by the log's time.
        now: u64,
        /// Names a holder.
        id: u64,
    },
    /// Units of other hosts were counted.
    Foreign,
}

/// An entry's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) key: u64,
    pub(crate) class: u16,
}

/// A log as far as it has been read.
#[derive(Debug, Clone)]
pub(crate) struct Fold {
    generation: u64,
    seed: u64,
    /// Bytes that are folded; a multiple of [`LEN`].
    pub(crate) position: u64,
    /// The log's time.
    now: u64,
    /// What makes the log's time of a writer's.
    shift: i64,
    /// Live and dead, by [`At`].
    entries: Vec<Entry>,
    /// Slots of the entries in a checkpoint, without labels.
    weight: usize,
    /// No entry ends before this.
    earliest: u64,
    /// Slots of the checkpoint.
    base: usize,
    /// Slots behind it.
    since: usize,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before the first complete checkpoint; inside one, so many of its slots are to come.
    Void,
    Reading(u64),
    Open,
    Sealed,
}

// === impl At ===

impl At {
    /// The common entry of a limit's keys.
    fn shared(tag: u32, class: u16) -> Self {
        Self { key: u64::from(tag), class: class | class::SHARED }
    }
}

// === impl Fold ===

impl Fold {
    /// Of an empty log.
    pub(crate) fn new(bucket: u16, generation: u64) -> Self {
        Self {
            generation,
            seed: slot::seed(bucket, generation),
            position: 0,
            now: 0,
            shift: 0,
            entries: Vec::new(),
            weight: 0,
            earliest: u64::MAX,
            base: 0,
            since: 0,
            phase: Phase::Void,
        }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Its checkpoint is complete: it counts.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Sealed)
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.phase == Phase::Sealed
    }

    /// It is time for a seal: as much stands behind the checkpoint as in it, and so many slots at least.
    pub(crate) fn is_long(&self, least: usize) -> bool {
        self.phase == Phase::Open && self.since >= least.max(self.base)
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Entries and holders in memory.
    pub(crate) fn weight(&self) -> usize {
        self.weight.max(self.entries.len())
    }

    /// The log's time for a writer's: never before that of the newest record.
    pub(crate) fn time(&self, t: u64) -> u64 {
        self.own_time(t).max(self.now)
    }

    /// A writer's time is so far behind that its clock must have gone back.
    pub(crate) fn went_back(&self, t: u64) -> bool {
        self.own_time(t).saturating_add(LATE_NS) < self.now
    }

    fn own_time(&self, t: u64) -> u64 {
        slot::log_time(t, self.shift)
    }

    pub(crate) fn shift(&self) -> i64 {
        self.shift
    }

    fn find(&self, at: At) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&at, |entry| At { key: entry.key, class: entry.class })
    }

    pub(crate) fn entry(&self, at: At) -> Option<&Entry> {
        self.find(at).ok().and_then(|at| self.entries.get(at))
    }

    /// Takes the next slot in.
    pub(crate) fn push(&mut self, bytes: &[u8; LEN]) -> (Option<Slot>, Effect) {
        let place = self.position / LEN as u64;
        self.position += LEN as u64;
        let slot = Slot::decode(bytes, self.seed);
        let effect = match self.phase {
            Phase::Sealed => Effect::Void,
            Phase::Open => {
                self.since += 1;
                slot.as_ref().map_or(Effect::Other, |slot| self.apply(slot, place))
            }
            Phase::Void | Phase::Reading(_) => {
                self.read_checkpoint(slot.as_ref());
                Effect::Void
            }
        };
        (slot, effect)
    }

    fn apply(&mut self, slot: &Slot, place: u64) -> Effect {
        match slot.kind {
            kind::SEAL => self.phase = Phase::Sealed,
            kind::LABEL => {
                let at = At { key: slot.key, class: slot.class };
                let few = self.entries.len() <= MAX_LABELLED;
                if let Some(entry) = self.find(at).ok().and_then(|at| self.entries.get_mut(at)).filter(|_| few) {
                    entry.label.get_or_insert_with(|| Box::new(slot.text()));
                }
            }
            // Nobody's clock is there.
            kind::CHARGE if slot.t >= MAX_T => return Effect::Refused,
            _ if slot.t >= MAX_T => {}
            kind::STEP if self.went_back(slot.t) => self.shift = self.now.cast_signed() - slot.t.cast_signed(),
            kind::CHARGE => return self.charge(slot, place),
            kind::FOREIGN => return self.foreign(slot),
            kind::RELEASE | kind::REFUND => {
                self.now = self.time(slot.t);
                self.take_back(slot);
            }
            _ => {}
        }
        Effect::Other
    }

    fn charge(&mut self, slot: &Slot, place: u64) -> Effect {
        self.now = self.time(slot.t);
        let now = self.now;
        let Some((rule, cost)) = slot.rule() else { return Effect::Refused };
        self.make_room(slot);
        let at = self.resolve(slot.key, slot.class, slot.tag, now);
        if !self.admits(at, &rule, cost, now) {
            return Effect::Refused;
        }
        let id = self.generation << 32 | place;
        self.add(at, slot, &rule, cost, id);
        Effect::Admitted { at, now, id }
    }

    fn foreign(&mut self, slot: &Slot) -> Effect {
        self.now = self.time(slot.t);
        let Some((rule, cost)) = slot.rule() else { return Effect::Other };
        let debt_ns = match rule {
            Rule::Rate { .. } => {
                let [.., debt_ns] = slot.words;
                debt_ns
            }
            Rule::Quota { begin_ns, end_ns, .. } if begin_ns < end_ns => 0,
            _ => return Effect::Other,
        };
        self.make_room(slot);
        let at = self.resolve(slot.key, slot.class, slot.tag, self.now);
        if self.find(at).is_err() && self.entries.len() >= MAX_ENTRIES {
            return Effect::Other;
        }
        self.change(at, slot, |state, now| state.add(&rule, cost, now, true, debt_ns, 0));
        Effect::Foreign
    }

    fn add(&mut self, at: At, slot: &Slot, rule: &Rule, cost: u32, id: u64) {
        self.change(at, slot, |state, now| state.add(rule, cost, now, false, 0, id));
    }

    /// Changes an entry, which is made if it is not there.
    fn change(&mut self, at: At, slot: &Slot, change: impl FnOnce(&mut State, u64)) {
        let index = self.find(at).unwrap_or_else(|index| {
            let (tag, flags, state) = (slot.tag, slot.flags, State::new(at.class));
            self.weight += state.weight();
            self.entries.insert(index, Entry { key: at.key, class: at.class, tag, flags, label: None, state });
            index
        });
        let Some(entry) = self.entries.get_mut(index) else { return };
        let before = entry.state.weight();
        change(&mut entry.state, self.now);
        entry.flags = slot.flags;
        self.earliest = self.earliest.min(entry.state.expiry());
        self.weight = (self.weight + entry.state.weight()).saturating_sub(before);
    }

    fn take_back(&mut self, slot: &Slot) {
        let Ok(index) = self.find(At { key: slot.key, class: slot.class }) else { return };
        let Some(entry) = self.entries.get_mut(index) else { return };
        let before = entry.state.weight();
        let [first, units, ..] = slot.words;
        entry.state.take_back(first, units, self.now);
        self.earliest = self.earliest.min(entry.state.expiry());
        self.weight = (self.weight + entry.state.weight()).saturating_sub(before);
    }

    /// Forgets what is over when there is no room for a key that is new.
    fn make_room(&mut self, slot: &Slot) {
        let is_new = self.find(At { key: slot.key, class: slot.class }).is_err();
        if is_new && self.entries.len() >= MAX_KEYS && self.earliest <= self.now {
            let now = self.now;
            self.entries.retain(|entry| entry.state.expiry() > now);
            self.count();
        }
    }

    fn count(&mut self) {
        self.weight = self.entries.iter().map(|entry| entry.state.weight()).sum();
        self.earliest = self.entries.iter().map(|entry| entry.state.expiry()).min().unwrap_or(u64::MAX);
    }

    /// What a key is counted for.
    pub(crate) fn resolve(&self, key: u64, class: u16, tag: u32, now: u64) -> At {
        let at = At { key, class };
        let is_full = self.entries.len() >= MAX_KEYS && self.earliest > now;
        if is_full && self.find(at).is_err() { At::shared(tag, class) } else { at }
    }

    /// Whether a bucket admits so many units more.
    pub(crate) fn admits(&self, at: At, rule: &Rule, cost: u32, now: u64) -> bool {
        if matches!(rule, Rule::Concurrency { .. }) && self.weight >= MAX_WEIGHT {
            return false;
        }
        match self.entry(at) {
            Some(entry) => entry.state.admits(rule, cost, now),
            None => self.entries.len() < MAX_ENTRIES && State::new(at.class).admits(rule, cost, now),
        }
    }

    /// How a bucket stands: before a request that is refused, or after one that was counted.
    pub(crate) fn standing(&self, at: At, rule: &Rule, cost: u32, admitted: bool, now: u64, wall: u64) -> Standing {
        let none;
        let state = match self.entry(at) {
            Some(entry) => &entry.state,
            None => {
                none = State::new(at.class);
                &none
            }
        };
        let mut standing = state.standing(rule, admitted, now, wall);
        if !admitted {
            standing.retry_ns = state.retry_ns(rule, cost, now, wall);
        }
        standing
    }
}

#[cfg(test)]
#[path = "fold_tests.rs"]
mod tests;
