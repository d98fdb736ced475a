//! The last few records that were looked up, with those that do not exist.
//!
//! Reading one costs two reads of a file, its checksums and its decoding, several times what a decision costs otherwise.
//! Bounded in number and size, so that callers who rotate through names gain nothing but their own slower answers.

use std::{any::Any, cell::RefCell, rc::Rc};

use crate::bytes::same_bytes;

/// A record of any kind, or that there is none. One type for all: a copy of this code for each kind of record is 2 KB of wasm.
pub(super) type Answer = Option<Rc<dyn Any>>;

/// See the module.
#[derive(Debug)]
pub(super) struct Recent {
    kept: RefCell<Kept>,
    /// Answers that are kept.
    max_entries: usize,
    /// Bytes of all payloads that are kept; what is longer alone is read each time.
    max_bytes: usize,
}

#[derive(Debug)]
struct Kept {
    /// Hashes of the entries, in their order. Side by side, so that looking for one touches nothing else.
    hashes: Vec<u64>,
    entries: Vec<(Vec<u8>, Answer)>,
    /// The entry that is replaced next.
    oldest: usize,
    bytes: usize,
}

impl Recent {
    pub(super) fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            kept: RefCell::new(Kept { hashes: Vec::new(), entries: Vec::new(), oldest: 0, bytes: 0 }),
            max_entries,
            max_bytes,
        }
    }

    /// The answer for a key with this hash. Two kept keys with one hash cost a lookup, never a wrong answer.
    pub(super) fn get(&self, hash: u64, key: &[u8]) -> Option<Answer> {
        let kept = self.kept.try_borrow().ok()?;
        let at = kept.hashes.iter().position(|known| *known == hash)?;
        kept.entries.get(at).filter(|(known, _)| same_bytes(known, key)).map(|(_, answer)| answer.clone())
    }

    /// Keeps an answer whose payload had `len` bytes in place of the oldest.
    pub(super) fn keep(&self, hash: u64, key: Vec<u8>, answer: Answer, len: usize) {
        let Ok(mut kept) = self.kept.try_borrow_mut() else { return };
        if len > self.max_bytes {
            return;
        }
        // All at once: this is rare (automata of many rules), and counting each one out would cost every request.
        kept.bytes += len;
        if kept.bytes > self.max_bytes {
            kept.hashes.clear();
            kept.entries.clear();
            kept.oldest = 0;
            kept.bytes = len;
        }
        let at = kept.oldest;
        if at < kept.entries.len() {
            kept.hashes.splice(at..=at, [hash]);
            kept.entries.splice(at..=at, [(key, answer)]);
        } else {
            kept.hashes.push(hash);
            kept.entries.push((key, answer));
        }
        kept.oldest = (at + 1) % self.max_entries;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every other one exists.
    fn answer(number: usize) -> Answer {
        number.is_multiple_of(2).then(|| Rc::new(number) as Rc<dyn Any>)
    }

    /// What is known of a key: nothing, that it does not exist (an empty list), or its number.
    fn known(recent: &Recent, hash: u64, key: &[u8]) -> Option<Vec<usize>> {
        recent
            .get(hash, key)
            .map(|answer| answer.and_then(|it| it.downcast::<usize>().ok()).map(|it| *it).into_iter().collect())
    }

    #[test]
    fn keeps_the_last_ones_with_those_that_do_not_exist() {
        let recent = Recent::new(32, 8 * 100);
        for number in 0..100_usize {
            recent.keep(number as u64, number.to_string().into_bytes(), answer(number), 8);
        }
        for number in 0..100_usize {
            let want = (number >= 68).then(|| number.is_multiple_of(2).then_some(number).into_iter().collect());
            assert_eq!(known(&recent, number as u64, number.to_string().as_bytes()), want, "{number}");
        }
    }

    #[test]
    fn another_key_with_the_same_hash_is_not_answered() {
        let recent = Recent::new(32, 8);
        recent.keep(7, b"one".to_vec(), answer(2), 1);
        assert_eq!(known(&recent, 7, b"other"), None);
        assert_eq!(known(&recent, 7, b"one"), Some(vec![2]));
    }

    #[test]
    fn the_bytes_that_are_kept_are_bounded() {
        let recent = Recent::new(32, 8);
        recent.keep(1, b"large".to_vec(), answer(2), 9);
        assert_eq!(known(&recent, 1, b"large"), None);
        recent.keep(2, b"one".to_vec(), answer(2), 5);
        recent.keep(3, b"two".to_vec(), answer(4), 5);
        assert_eq!(known(&recent, 2, b"one"), None);
        assert_eq!(known(&recent, 3, b"two"), Some(vec![4]));
    }
}
