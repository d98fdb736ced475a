//! From one generation of a log to the next, and to the newest one from nothing.
//!
//! A generation counts once its checkpoint is complete, and a log is removed only after the next one counts, so at every
//! moment the newest generation is there. A name can come back (somebody who was slow makes a log that was removed long
//! ago), but nothing is ever appended to a log without a checkpoint before its generation was seen to be the newest
//! *after* it was opened: then it is the true one.

use crate::{
    fold::Fold,
    log::{Log, Observe, Scratch},
    store::Directory,
    unavailable::Unavailable,
};
use std::io;

/// The first generation of a bucket.
const FIRST: u64 = 1;
/// How often the way is tried anew when others were faster.
const ATTEMPTS: usize = 16;

/// Opens the newest generation of a bucket, or the one behind a log that is sealed. Makes what is not there.
pub(crate) fn open<D: Directory>(
    directory: &D,
    bucket: u16,
    sealed: Option<&Log<D::File>>,
    scratch: &mut Scratch,
    observe: &mut impl Observe,
) -> Result<Log<D::File>, Unavailable> {
    // Logs that we made and that turned out to be old ones.
    let mut made = None;
    for _ in 0..ATTEMPTS {
        let newest = directory.newest(bucket)?;
        let least = match sealed {
            Some(sealed) => sealed.generation.checked_add(1).ok_or(Unavailable::Busy)?,
            None => FIRST,
        };
        let generation = newest.map_or(least, |newest| newest.max(least));
        let is_new = newest != Some(generation);
        let file = match directory.open(bucket, generation, is_new) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_new => continue,
            Err(error) => return Err(error.into()),
        };
        let mut log = Log::new(bucket, generation, file);
        log.sync(scratch, observe)?;
        if !log.fold.is_open() {
            // From here on something is appended to it, so it has to be the true one.
            if directory.newest(bucket)? != Some(generation) {
                if is_new {
                    made = Some(generation);
                }
                continue;
            }
            begin(directory, &mut log, sealed, scratch, observe)?;
        }
        if !log.fold.is_open() {
            continue;
        }
        // This one counts: now those before it may go. One that stays costs its room, and is removed next time.
        let old = sealed.map(|sealed| sealed.generation);
        let before = old.and(generation.checked_sub(1));
        for old in [old.and_then(|old| old.checked_sub(1)), old, before, made].into_iter().flatten() {
            if old < generation {
                let _ = directory.remove(bucket, old);
            }
        }
        return Ok(log);
    }
    Err(Unavailable::Busy)
}

/// Appends the checkpoint of a generation that has none.
fn begin<D: Directory>(
    directory: &D,
    log: &mut Log<D::File>,
    sealed: Option<&Log<D::File>>,
    scratch: &mut Scratch,
    observe: &mut impl Observe,
) -> Result<(), Unavailable> {
    let (bucket, generation) = (log.bucket, log.generation);
    let before = generation.saturating_sub(1);
    let checkpoint = match sealed.filter(|sealed| sealed.generation == before) {
        Some(sealed) => sealed.fold.checkpoint(bucket, generation),
        None => match read_sealed(directory, bucket, before, scratch)? {
            Some(fold) => fold.checkpoint(bucket, generation),
            None => {
                // The one before is removed once this one has its checkpoint: then it is there by now.
                log.sync(scratch, observe)?;
                if log.fold.is_open() || directory.newest(bucket)? != Some(generation) {
                    return Ok(());
                }
                // It is the first one, or somebody removed the one before by hand.
                Fold::new(bucket, before).checkpoint(bucket, generation)
            }
        },
    };
    log.append_checkpoint(&checkpoint, scratch)
}

/// The whole of a generation, which is sealed if it was not; `None` when it is not there or never counted.
fn read_sealed<D: Directory>(
    directory: &D,
    bucket: u16,
    generation: u64,
    scratch: &mut Scratch,
) -> Result<Option<Fold>, Unavailable> {
    let file = match directory.open(bucket, generation, false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut log = Log::new(bucket, generation, file);
    log.sync(scratch, &mut ())?;
    if log.fold.is_open() && !log.fold.is_sealed() {
        log.seal(scratch, &mut ())?;
    }
    Ok(log.fold.is_open().then_some(log.fold))
}
