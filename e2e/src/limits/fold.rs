//! What the limiter wrote down, read by somebody else: a second reader of the logs of token buckets, made from
//! `docs/reference/limits-log.md` alone and sharing no code with the limiter.
//!
//! A log is removed once the next one has its checkpoint, so the reader follows along: it opens every log soon after it is
//! made, and a descriptor keeps what is removed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use xxhash_rust::xxh64::xxh64;

/// How often it looks for new logs; one lives far longer.
const LOOK: Duration = Duration::from_millis(50);
/// Length of a slot.
const SLOT: usize = 64;
/// What checksums are seeded with, beside bucket and generation.
const FORMAT: u64 = u64::from_le_bytes(*b"limits01");

/// Logs that are followed, by bucket and generation.
#[derive(Debug)]
pub struct Follower {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Files>>,
}

type Files = BTreeMap<(u16, u64), File>;

/// What the logs say.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Story {
    /// Charges that their buckets admitted, without those that were taken back.
    pub admitted: u64,
    /// Charges that came too late and had no effect.
    pub lost: u64,
    /// Admitted charges that were taken back, because another of the same request was lost.
    pub refunded: u64,
    /// Keys that were charged.
    pub keys: usize,
    /// Logs that were read.
    pub generations: usize,
    /// Slots that check, and slots that do not.
    pub slots: u64,
    /// Slots that do not check.
    pub foreign: u64,
}

/// Begins to follow the logs of a state folder.
pub fn follow(state: &Path) -> Follower {
    let (stop, folder) = (Arc::new(AtomicBool::new(false)), state.join("limits"));
    let stopped = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        let mut files = Files::new();
        loop {
            let last = stopped.load(Ordering::Relaxed);
            look(&folder, &mut files)?;
            if last {
                return Ok(files);
            }
            std::thread::sleep(LOOK);
        }
    });
    Follower { stop, thread }
}

impl Follower {
    /// Looks a last time and folds what was written.
    pub fn finish(self) -> Result<Story> {
        self.stop.store(true, Ordering::Relaxed);
        let files = self.thread.join().map_err(|_| anyhow!("the follower panicked"))??;
        let mut story = Story::default();
        let mut buckets: BTreeMap<u16, Bucket> = BTreeMap::new();
        for ((bucket, generation), mut file) in files {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let state = buckets.entry(bucket).or_default();
            state
                .read(bucket, generation, &bytes, &mut story)
                .with_context(|| format!("bucket {bucket:03x}, generation {generation:x}"))?;
        }
        story.keys = buckets.values().map(|bucket| bucket.charged.len()).sum();
        Ok(story)
    }
}

/// Opens what was not there before.
fn look(folder: &Path, files: &mut Files) -> Result<()> {
    for (bucket, path) in named(folder, 3)? {
        for (generation, path) in named(&path, 16)? {
            let Ok(bucket) = u16::try_from(bucket) else { bail!("bucket {bucket}") };
            if !files.contains_key(&(bucket, generation))
                && let Ok(file) = File::open(path)
            {
                files.insert((bucket, generation), file);
            }
        }
    }
    Ok(())
}

/// What is named by so many hexadecimal digits; nothing where the folder is not there.
fn named(folder: &Path, digits: usize) -> Result<Vec<(u64, PathBuf)>> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.len() == digits
            && let Ok(number) = u64::from_str_radix(name, 16)
        {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

/// What is known of a bucket's token buckets.
#[derive(Debug, Default)]
struct Bucket {
    last: Option<u64>,
    now: u64,
    shift: i64,
    full_at: BTreeMap<u64, u64>,
    charged: BTreeMap<u64, u64>,
}

struct Slot {
    kind: u8,
    key: u64,
    t: u64,
    words: [u64; 4],
}

impl Slot {
    fn read(bytes: &[u8], seed: u64) -> Option<Slot> {
        let word = |index: usize| -> Option<u64> {
            Some(u64::from_le_bytes(bytes.get(index * 8..index * 8 + 8)?.try_into().ok()?))
        };
        (xxh64(bytes.get(..56)?, seed) == word(7)?).then_some(())?;
        let words = [word(3)?, word(4)?, word(5)?, word(6)?];
        // Bits 16 to 31 of the first word are the class; token buckets are class 0.
        let class = word(0)? >> 16 & 0xFFFF;
        let kind = word(0)?.to_le_bytes()[0];
        // Other classes matter as what stands there, not for what they say.
        let kind = if class == 0 || matches!(kind, 5..=8 | 10) { kind } else { 0 };
        Some(Slot { kind, key: word(1)?, t: word(2)?, words })
    }
}

impl Bucket {
    fn read(&mut self, bucket: u16, generation: u64, bytes: &[u8], story: &mut Story) -> Result<()> {
        let seed = FORMAT ^ (u64::from(bucket) << 48) ^ generation;
        let slots: Vec<Option<Slot>> = bytes.chunks(SLOT).map(|bytes| Slot::read(bytes, seed)).collect();
        story.generations += 1;
        story.slots += slots.iter().flatten().count() as u64;
        story.foreign += slots.iter().filter(|slot| slot.is_none()).count() as u64;
        let Some(begin) = self.checkpoint(&slots, generation)? else { return Ok(()) };
        for slot in slots.iter().skip(begin).flatten() {
            let time = slot.t.saturating_add_signed(self.shift);
            match slot.kind {
                1 => {
                    self.now = self.now.max(time);
                    let [interval, burst, cost, _] = slot.words;
                    let base = self.full_at.get(&slot.key).copied().unwrap_or(0).max(self.now);
                    if cost <= burst && base + interval * cost - self.now <= interval * burst {
                        self.full_at.insert(slot.key, base + interval * cost);
                        *self.charged.entry(slot.key).or_default() += 1;
                        story.admitted += 1;
                    } else {
                        story.lost += 1;
                    }
                }
                3 => {
                    self.now = self.now.max(time);
                    let [charged, took, ..] = slot.words;
                    if let Some(full) = self.full_at.get_mut(&slot.key).filter(|full| **full > self.now) {
                        let back = took.saturating_sub(self.now.saturating_sub(charged));
                        *full = full.saturating_sub(back).max(self.now);
                    }
                    story.admitted = story.admitted.saturating_sub(1);
                    story.refunded += 1;
                }
                4 => bail!("units of other hosts, which this reader does not know"),
                5 if time.saturating_add(1_000_000_000) < self.now => {
                    self.shift = self.now.cast_signed() - slot.t.cast_signed();
                }
                7 => break,
                _ => {}
            }
        }
        self.last = Some(generation);
        Ok(())
    }

    /// The place behind the first complete checkpoint, which must say what this reader has come to.
    fn checkpoint(&mut self, slots: &[Option<Slot>], generation: u64) -> Result<Option<usize>> {
        for (place, slot) in slots.iter().enumerate() {
            let Some(begin) = slot.as_ref().filter(|slot| slot.kind == 8) else { continue };
            let [shift, count, ..] = begin.words;
            let end = place + 1 + usize::try_from(count)?;
            let Some(inside) = slots.get(place + 1..end) else { continue };
            let whole =
                inside.iter().all(Option::is_some) && matches!(slots.get(end), Some(Some(slot)) if slot.kind == 10);
            if !whole {
                continue;
            }
            let states: BTreeMap<u64, u64> =
                inside.iter().flatten().filter(|slot| slot.kind == 9).map(|slot| (slot.key, slot.t)).collect();
            match self.last {
                None => {}
                Some(last) => {
                    ensure!(last + 1 == generation, "generation {} was not seen", last + 1);
                    self.full_at.retain(|_, full| *full > begin.t);
                    ensure!(
                        states == self.full_at,
                        "the checkpoint says {states:?}, the log before it {:?}",
                        self.full_at
                    );
                    ensure!(begin.t == self.now && shift.cast_signed() == self.shift, "the checkpoint's time");
                }
            }
            (self.now, self.shift, self.full_at) = (begin.t, shift.cast_signed(), states);
            return Ok(Some(end + 1));
        }
        Ok(None)
    }
}
