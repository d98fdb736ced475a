//! What many keys leave on the state mount, with the limiter itself on a folder, without a gateway in between.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, ensure};
use portcullis_limiter::disk::Disk;
use portcullis_limiter::{Charge, Limiter, Rule};

/// What was there in the end, and at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Files.
    pub files: u64,
    /// Their length.
    pub bytes: u64,
}

/// What a limit with many keys came to.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    /// Keys that were charged, all of them alive in the end.
    pub keys: u64,
    /// The largest of all looks at the folder.
    pub most: Footprint,
    /// How long a charge took on average, the keys of a bucket one after the other.
    pub each: Duration,
}

impl Keys {
    /// What the folder may hold at most (docs/reference/limits-log.md, "Bounds"): a log for each bucket and another while it
    /// is rotated; in a log as many slots behind the checkpoint as in it, labels included, and 512 at least.
    pub fn bound(&self) -> Footprint {
        let log = 2 * LEAST.max(self.keys.div_ceil(BUCKETS) + LABELS + 2);
        Footprint { files: 2 * BUCKETS, bytes: SLOT * log * BUCKETS }
    }
}

/// Length of a slot.
const SLOT: u64 = 64;
/// Buckets of keys.
const BUCKETS: u64 = 1024;
/// Slots behind a checkpoint before a log is sealed, at least.
const LEAST: u64 = 512;
/// Labels in a checkpoint, at most.
const LABELS: u64 = 256;
/// How often the folder is looked at.
const LOOKS: u64 = 20;

/// Charges so many different keys, each twice, in less than what lets one of them expire.
pub fn charge(state: &Path, keys: u64) -> Result<Keys> {
    let mut limiter = Limiter::new(Disk::new(state));
    let wall = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    let mut most = Footprint::default();
    let mut spent = Duration::ZERO;
    let rule = Rule::Rate { interval_ns: 3_600_000_000_000, burst: 2 };
    for step in 0..2 * LOOKS {
        let begin = Instant::now();
        for number in (step % LOOKS * keys / LOOKS)..((step % LOOKS + 1) * keys / LOOKS) {
            // Bucket after bucket: otherwise most of the time goes into opening logs. An odd factor, so that no two are
            // the same.
            let key = (number * BUCKETS / keys) + BUCKETS * (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 10);
            let charge =
                Charge { key, tag: 1, label: format!("tenant-{number}"), rule, cost: 1, enforced: true, global: false };
            let outcome = limiter.charge(&[charge], wall + number * 1_000).map_err(|error| anyhow!("{error}"))?;
            ensure!(outcome.admitted, "key {number} is refused: it shares a bucket");
        }
        spent += begin.elapsed();
        let now = footprint(&state.join("limits"))?;
        most = Footprint { files: most.files.max(now.files), bytes: most.bytes.max(now.bytes) };
    }
    Ok(Keys { keys, most, each: spent / u32::try_from(2 * keys)? })
}

/// The files below a folder.
pub fn footprint(folder: &Path) -> Result<Footprint> {
    let mut total = Footprint::default();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            let inside = footprint(&path)?;
            total = Footprint { files: total.files + inside.files, bytes: total.bytes + inside.bytes };
        } else {
            // One that was just removed counts no more.
            let bytes = fs::metadata(&path).map_or(0, |it| it.len());
            total = Footprint { files: total.files + 1, bytes: total.bytes + bytes };
        }
    }
    Ok(total)
}
