//! The last few intentions that were looked up, with those that do not exist.
//!
//! Reading one costs two reads of a file, its checksums and its decoding, several times what a decision costs otherwise.
//! Bounded in number and size, so that callers who rotate through names gain nothing but their own slower answers.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use super::record::{Body, IntentionRecord};

/// Answers that are kept.
const ENTRIES: usize = 32;
/// Permissions of an intention that is kept; longer ones are read each time.
const MAX_PERMISSIONS: usize = 64;

type Answer = Option<Rc<IntentionRecord>>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Hashes of the entries, in their order. Side by side, so that looking for one touches nothing else.
    hashes: RefCell<Vec<u64>>,
    entries: RefCell<Vec<(Vec<u8>, Answer)>>,
    oldest: Cell<usize>,
}

impl Recent {
    /// The answer for a key with this hash. Two kept keys with one hash cost a lookup, never a wrong answer.
    pub(super) fn get(&self, hash: u64, key: &[u8]) -> Option<Answer> {
        let at = self.hashes.try_borrow().ok()?.iter().position(|known| *known == hash)?;
        let entries = self.entries.try_borrow().ok()?;
        entries.get(at).filter(|(known, _)| known == key).map(|(_, answer)| answer.clone())
    }

    pub(super) fn keep(&self, hash: u64, key: Vec<u8>, answer: Answer) {
        let is_large =
            |it: &IntentionRecord| matches!(&it.body, Body::Permissions(list) if list.len() > MAX_PERMISSIONS);
        if answer.as_deref().is_some_and(is_large) {
            return;
        }
        let (Ok(mut hashes), Ok(mut entries)) = (self.hashes.try_borrow_mut(), self.entries.try_borrow_mut()) else {
            return;
        };
        let at = self.oldest.get();
        match (hashes.get_mut(at), entries.get_mut(at)) {
            (Some(known), Some(entry)) => (*known, *entry) = (hash, (key, answer)),
            _ => {
                hashes.push(hash);
                entries.push((key, answer));
            }
        }
        self.oldest.set((at + 1) % ENTRIES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Action;

    /// Every other one exists.
    fn answer(number: usize) -> Answer {
        let record = IntentionRecord { rule: number.to_string(), body: Body::Action(Action::Deny) };
        number.is_multiple_of(2).then(|| Rc::new(record))
    }

    #[test]
    fn keeps_the_last_ones_with_those_that_do_not_exist() {
        let recent = Recent::default();
        for number in 0..100_usize {
            recent.keep(number as u64, number.to_string().into_bytes(), answer(number));
        }
        for number in 0..100_usize {
            let want = (number >= 100 - ENTRIES).then(|| answer(number));
            assert_eq!(recent.get(number as u64, number.to_string().as_bytes()), want, "{number}");
        }
    }

    #[test]
    fn another_key_with_the_same_hash_is_not_answered() {
        let recent = Recent::default();
        recent.keep(7, b"one".to_vec(), answer(2));
        assert_eq!(recent.get(7, b"other"), None);
        assert_eq!(recent.get(7, b"one"), Some(answer(2)));
    }
}
