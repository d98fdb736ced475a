//! What a generation begins with: the live entries of the one before, in one piece and in the order of their keys.

use super::{At, Fold, MAX_ENTRIES, MAX_LABELLED, MAX_WEIGHT, Phase};
use crate::{
    slot::{self, LEN, MAX_T, Slot, class, kind},
    state::{Entry, State},
};

/// Slots that a checkpoint can have.
const MAX_BASE: usize = MAX_WEIGHT + MAX_ENTRIES + MAX_LABELLED + 2;

// === impl Fold ===

impl Fold {
    /// What the next generation begins with. It depends on nothing but the log up to its seal.
    pub(crate) fn checkpoint(&self, bucket: u16, generation: u64) -> Vec<u8> {
        let seed = slot::seed(bucket, generation);
        let mut bytes = Vec::with_capacity((self.weight + 2) * LEN);
        let mut n_slots: u64 = 0;
        bytes.extend_from_slice(&[0; LEN]);
        for entry in self.entries.iter().filter(|entry| entry.state.expiry() > self.now) {
            entry.write(self.now, |slot| {
                n_slots += 1;
                bytes.extend_from_slice(&slot.encode(seed));
            });
        }
        let words = [self.shift.cast_unsigned(), n_slots, 0, 0];
        let begin = Slot { kind: kind::BEGIN, t: self.now, words, ..Slot::default() };
        if let Some(first) = bytes.first_chunk_mut() {
            *first = begin.encode(seed);
        }
        bytes.extend_from_slice(&Slot { kind: kind::END, words, ..begin }.encode(seed));
        bytes
    }

    /// One slot on the way to a complete checkpoint: its slots stand in one piece, or it is none.
    pub(super) fn read_checkpoint(&mut self, slot: Option<&Slot>) {
        let Some(slot) = slot else { return self.void() };
        match (slot.kind, self.phase) {
            (kind::BEGIN, _) => {
                self.void();
                let [shift, n_slots, ..] = slot.words;
                (self.now, self.shift) = (slot.t.min(MAX_T), shift.cast_signed());
                self.base = 2;
                self.phase = Phase::Reading(n_slots);
            }
            (kind::STATE, Phase::Reading(left @ 1..)) if self.base < MAX_BASE && self.read_state(slot) => {
                self.take(left);
            }
            (kind::LABEL, Phase::Reading(left @ 1..)) => {
                let at = At { key: slot.key, class: slot.class };
                match self.entries.last_mut() {
                    Some(entry) if at == (At { key: entry.key, class: entry.class }) => {
                        entry.label = Some(Box::new(slot.text()));
                        self.take(left);
                    }
                    _ => self.void(),
                }
            }
            (kind::END, Phase::Reading(0)) => {
                self.count();
                self.phase = Phase::Open;
            }
            _ => self.void(),
        }
    }

    fn take(&mut self, left: u64) {
        self.base += 1;
        self.phase = Phase::Reading(left - 1);
    }

    /// Entries come in order, so that another order is no checkpoint of ours.
    fn read_state(&mut self, slot: &Slot) -> bool {
        let at = At { key: slot.key, class: slot.class };
        let is_held = slot.class & !class::SHARED == class::HELD;
        let last = self.entries.last().map(|entry| At { key: entry.key, class: entry.class });
        if last.is_none_or(|last| last < at) {
            if self.entries.len() >= MAX_ENTRIES {
                return false;
            }
            let state = State::new(at.class);
            let (tag, flags) = (slot.tag, slot.flags);
            self.entries.push(Entry { key: at.key, class: at.class, tag, flags, label: None, state });
        } else if last != Some(at) || !is_held {
            return false;
        }
        if let Some(entry) = self.entries.last_mut() {
            entry.read(slot);
        }
        true
    }

    /// What was read of a checkpoint is none.
    fn void(&mut self) {
        self.phase = Phase::Void;
        self.entries.clear();
        (self.now, self.shift, self.base) = (0, 0, 0);
    }
}
