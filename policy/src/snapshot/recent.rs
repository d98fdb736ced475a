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
    entries: RefCell<Vec<(Vec<u8>, Answer)>>,
    oldest: Cell<usize>,
}

impl Recent {
    pub(super) fn get(&self, key: &[u8]) -> Option<Answer> {
        let entries = self.entries.try_borrow().ok()?;
        entries.iter().find(|(known, _)| known == key).map(|(_, answer)| answer.clone())
    }

    pub(super) fn keep(&self, key: Vec<u8>, answer: Answer) {
        let is_large =
            |it: &IntentionRecord| matches!(&it.body, Body::Permissions(list) if list.len() > MAX_PERMISSIONS);
        if answer.as_deref().is_some_and(is_large) {
            return;
        }
        let Ok(mut entries) = self.entries.try_borrow_mut() else { return };
        let at = self.oldest.get();
        match entries.get_mut(at) {
            Some(entry) => *entry = (key, answer),
            None => entries.push((key, answer)),
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
            recent.keep(number.to_string().into_bytes(), answer(number));
        }
        for number in 0..100_usize {
            let want = (number >= 100 - ENTRIES).then(|| answer(number));
            assert_eq!(recent.get(number.to_string().as_bytes()), want, "{number}");
        }
    }
}
