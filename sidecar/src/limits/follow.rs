//! All logs of a state folder, followed from outside.
//!
//! The logs belong to the guests; here they are read as they grow, and only the usage of other hosts is added to them.
//! A log that cannot be read is looked at again the next time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use portcullis_limiter::{Entry, Foreign, Seen, Tail, clock, disk::Disk, store::BUCKETS};

use super::{
    folder::StateFolder,
    message::{Amount, Usage},
};

/// What the others can admit before they hear of each other: each its bucket, and the refill of this long, in nanoseconds.
/// Generous, for a debt that is cut off would be admitted again; bounded, for one that somebody invents must end.
const DEBT_NS: u64 = 2_000_000_000;

/// The logs as they were when they were last looked at.
pub struct Follower {
    folder: StateFolder,
    directory: Disk,
    tails: BTreeMap<u16, Tail<Disk>>,
    /// Nothing was looked at yet: what is in the logs is history.
    first: bool,
    errors: u64,
    complaint: Option<String>,
}

/// How much room the logs take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Files, the clock included.
    pub(super) files: u64,
    /// Their lengths together.
    pub(super) bytes: u64,
    /// Buckets with a folder.
    pub(super) buckets: u64,
}

/// The time in two ways, in nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// As the logs have it.
    pub steady_ns: u64,
    /// As the calendar has it.
    pub wall_ns: u64,
}

// === impl Follower ===

impl Follower {
    /// Follows the logs in this state folder. It need not exist.
    pub fn new(folder: StateFolder) -> Self {
        let directory = Disk::new(folder.path());
        Self { folder, directory, tails: BTreeMap::new(), first: true, errors: 0, complaint: None }
    }

    /// Reads what was appended, and shows each record that is news: at the first look, only where a log was made since.
    pub fn look(&mut self, mut see: impl FnMut(&Seen)) {
        let present = match buckets(&self.folder.logs()) {
            Ok(present) => present,
            // Nobody was limited yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return self.failed(&error.to_string()),
        };
        self.tails.retain(|bucket, _| present.contains(bucket));
        let mut failure = None;
        for bucket in present {
            let tail = self.tails.entry(bucket).or_insert_with(|| Tail::new(bucket));
            match tail.poll(&self.directory) {
                Ok(seen) if !self.first => seen.iter().for_each(&mut see),
                Ok(_) => {}
                Err(error) => failure = Some(error.to_string()),
            }
        }
        self.first = false;
        match failure {
            Some(text) => self.failed(&text),
            None => self.complaint = None,
        }
    }

    /// Adds what other hosts admitted, of so many that there are, this one included.
    pub(super) fn charge(&mut self, usages: &[Usage], n_hosts: usize) {
        if let Err(error) = self.folder.check_owner() {
            return self.failed(&error.to_string());
        }
        let Now { steady_ns, .. } = self.now();
        let mut by_bucket: BTreeMap<u16, Vec<Foreign>> = BTreeMap::new();
        for usage in usages {
            by_bucket.entry(bucket_of(usage.key)).or_default().push(foreign(usage, n_hosts));
        }
        for (bucket, foreign) in by_bucket {
            let tail = self.tails.entry(bucket).or_insert_with(|| Tail::new(bucket));
            if let Err(error) = tail.add_foreign(&self.directory, &foreign, steady_ns) {
                self.failed(&error.to_string());
            }
        }
    }

    /// The keys that are known, those with a full bucket included until their log is rotated.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.tails.values().flat_map(Tail::entries)
    }

    /// What time it is.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_ns = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        // No clock is no beat: the wall clock, as for a guest.
        let file = fs::read(self.folder.clock()).unwrap_or_default();
        Now { steady_ns: clock::steady(wall_ns, &file).steady_ns, wall_ns }
    }

    /// How often a log could not be read or written.
    pub(super) fn errors(&self) -> u64 {
        self.errors
    }

    /// How much room the logs take now.
    pub(super) fn size(&self) -> Size {
        let mut size = Size::default();
        let mut folders = vec![self.folder.logs()];
        while let Some(folder) = folders.pop() {
            // What vanishes meanwhile takes no room.
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() {
                    size.buckets += 1;
                    folders.push(entry.path());
                } else {
                    size.files += 1;
                    size.bytes += metadata.len();
                }
            }
        }
        size
    }

    fn failed(&mut self, text: &str) {
        self.errors += 1;
        if self.complaint.as_deref() != Some(text) {
            tracing::warn!(error = text, "the logs of limits cannot be followed");
            self.complaint = Some(text.to_owned());
        }
    }
}

/// The bucket of a key.
pub(super) fn bucket_of(key: u64) -> u16 {
    u16::try_from(key % u64::from(BUCKETS)).unwrap_or(0)
}

/// The buckets that have a folder.
fn buckets(logs: &PathBuf) -> io::Result<BTreeSet<u16>> {
    let bucket = |name: &str| u16::from_str_radix(name, 16).ok().filter(|it| *it < BUCKETS && name.len() == 3);
    let entries = fs::read_dir(logs)?.flatten();
    Ok(entries.filter_map(|entry| bucket(entry.file_name().to_str()?)).collect())
}

fn foreign(usage: &Usage, n_hosts: usize) -> Foreign {
    let debt_ns = match usage.amount {
        Amount::Rate { interval_ns, burst } => {
            let capacity = interval_ns.saturating_mul(burst.into());
            capacity.saturating_add(DEBT_NS).saturating_mul(n_hosts as u64)
        }
        Amount::Quota { .. } => 0,
    };
    Foreign { key: usage.key, tag: usage.tag, rule: usage.amount.rule(), cost: usage.units, debt_ns }
}
