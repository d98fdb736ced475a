//! One open log: reading on, and appending.
//!
//! ```text
//!   position             first
//!      │ others' slots     │ mine │          append() says where mine begin; what stands between is read and
//!  ────┴───────────────────┴──────┴──►       folded first, and then the fold says what became of mine
//! ```

use crate::{
    fold::{Effect, Fold},
    slot::{LEN, Slot, kind},
    store::{Directory, LogFile},
    unavailable::Unavailable,
};
use std::io;

/// Slots behind a checkpoint before a log is sealed, at least.
pub(crate) const LONG: usize = 512;
/// How often an append is tried that does not land on a slot's border.
const ATTEMPTS: usize = 16;

/// An open log and what it says.
pub(crate) struct Log<F> {
    pub(crate) bucket: u16,
    pub(crate) generation: u64,
    file: F,
    pub(crate) fold: Fold,
    /// The end of the last slot that was folded.
    last: [u8; 8],
    /// When it was last asked whether this is the newest generation, by the caller's clock.
    pub(crate) checked_ns: u64,
    /// When it was used last, in turns of the limiter.
    pub(crate) turn: u64,
}

/// Room for reading and writing, used again and again.
pub(crate) struct Scratch {
    read: Vec<u8>,
    write: Vec<u8>,
    /// What became of the slots that were appended last.
    pub(crate) effects: Vec<Effect>,
}

/// Sees every slot that is folded.
pub(crate) trait Observe {
    fn see(&mut self, slot: &Slot, effect: &Effect, fold: &Fold);
}

/// Sees nothing.
impl Observe for () {
    fn see(&mut self, _: &Slot, _: &Effect, _: &Fold) {}
}

// === impl Scratch ===

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { read: vec![0; 128 * LEN], write: Vec::new(), effects: Vec::new() }
    }
}

// === impl Log ===

impl<F: LogFile> Log<F> {
    pub(crate) fn new(bucket: u16, generation: u64, file: F) -> Self {
        Self { bucket, generation, file, fold: Fold::new(bucket, generation), last: [0; 8], checked_ns: 0, turn: 0 }
    }

    /// Folds what was appended since, up to a seal.
    pub(crate) fn sync(&mut self, scratch: &mut Scratch, observe: &mut impl Observe) -> Result<(), Unavailable> {
        while !self.fold.is_sealed() {
            let n_read = self.file.read(self.fold.position, &mut scratch.read)?;
            let read = scratch.read.get(..n_read).unwrap_or_default();
            self.take(read, observe);
            // A slot that is there in part only is still being written, or never will be.
            if n_read < scratch.read.len() {
                break;
            }
        }
        Ok(())
    }

    /// Whether this is still the file that has its name and nobody has begun anew, as far as can be seen.
    pub(crate) fn is_newest(&self, directory: &impl Directory<File = F>) -> Result<bool, Unavailable> {
        if directory.newest(self.bucket)? != Some(self.generation) {
            return Ok(false);
        }
        let file = match directory.open(self.bucket, self.generation, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        let mut last = [0; 8];
        let is_whole = file.read(self.fold.position.saturating_sub(8), &mut last)? == last.len();
        Ok(is_whole && last == self.last)
    }

    /// Appends slots in one piece; what became of each stands in `scratch.effects`.
    pub(crate) fn append(
        &mut self,
        slots: &[Slot],
        scratch: &mut Scratch,
        observe: &mut impl Observe,
    ) -> Result<(), Unavailable> {
        let seed = self.fold.seed();
        let write = |bytes: &mut Vec<u8>| slots.iter().for_each(|slot| bytes.extend_from_slice(&slot.encode(seed)));
        let (first, padding) = self.land(&mut scratch.write, write)?;
        self.catch_up(first, scratch, observe)?;
        let (mine, _) = scratch.write.get(padding..).unwrap_or_default().as_chunks();
        scratch.effects.clear();
        for bytes in mine {
            let effect = self.push(bytes, observe);
            scratch.effects.push(effect);
        }
        Ok(())
    }

    /// Appends a whole checkpoint, which nobody but a reader folds.
    pub(crate) fn append_checkpoint(&mut self, bytes: &[u8], scratch: &mut Scratch) -> Result<(), Unavailable> {
        self.land(&mut scratch.write, |to| to.extend_from_slice(bytes))?;
        self.sync(scratch, &mut ())
    }

    /// Appends what `write` puts behind padding so that it begins on a slot's border. Returns where that is, and how long
    /// the padding before it in `bytes` is.
    fn land(&self, bytes: &mut Vec<u8>, write: impl Fn(&mut Vec<u8>)) -> Result<(u64, usize), Unavailable> {
        let mut padding = 0;
        for _ in 0..ATTEMPTS {
            bytes.clear();
            bytes.resize(padding, 0);
            write(bytes);
            let first = self.file.append(bytes)?.saturating_add(padding as u64);
            let over = first % LEN as u64;
            if over == 0 {
                return Ok((first, padding));
            }
            // Behind an append that was cut short. What was written now is nobody's slot; the next begins on a border,
            // unless somebody else does the same at this moment.
            padding = LEN - usize::try_from(over).unwrap_or_default();
        }
        Err(Unavailable::Busy)
    }

    /// Nothing behind this counts.
    pub(crate) fn seal(&mut self, scratch: &mut Scratch, observe: &mut impl Observe) -> Result<(), Unavailable> {
        self.append(&[Slot { kind: kind::SEAL, ..Slot::default() }], scratch, observe)
    }

    /// Folds what stands before a place where something of ours was appended.
    fn catch_up(&mut self, to: u64, scratch: &mut Scratch, observe: &mut impl Observe) -> Result<(), Unavailable> {
        // The place is behind everything that was read before.
        let mut left = to.checked_sub(self.fold.position).ok_or(io::ErrorKind::InvalidData)?;
        while left > 0 {
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(scratch.read.len());
            let buf = scratch.read.get_mut(..len).unwrap_or_default();
            let n_read = self.file.read(self.fold.position, buf)?;
            let whole = n_read - n_read % LEN;
            if whole == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let read = scratch.read.get(..whole).unwrap_or_default();
            self.take(read, observe);
            left = left.saturating_sub(whole as u64);
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], observe: &mut impl Observe) {
        let (slots, _) = bytes.as_chunks();
        for bytes in slots {
            self.push(bytes, observe);
        }
    }

    fn push(&mut self, bytes: &[u8; LEN], observe: &mut impl Observe) -> Effect {
        let (slot, effect) = self.fold.push(bytes);
        self.last = bytes.last_chunk().copied().unwrap_or_default();
        if let Some(slot) = slot {
            observe.see(&slot, &effect, &self.fold);
        }
        effect
    }
}
