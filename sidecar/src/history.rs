//! Snapshots that were in force, kept for the day on which the present one turns out to be wrong; and the pin, with which a
//! person holds an older one in force.
//!
//! ```text
//!  policy ─► publish ─► policy.snapshot          (in force)
//!               │  ▲
//!               │  └── the pin: while it is there, nothing is published
//!               └────► .history/<generation>.snapshot, the last few
//! ```
//!
//! A rollback is the old content under a new, higher generation: gateways know nothing of it. Whoever publishes and whoever rolls
//! back do so under one lock. A pin that cannot be read is a pin: what a person put in force stays.

mod kept;
mod numbers;
mod pin;

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use portcullis_authoring::compile;
use portcullis_policy::{Policy, Snapshot};
use rustix::{
    fs::{FlockOperation, flock},
    process::geteuid,
};

use crate::{
    config::SnapshotConfig,
    publish::{self, PublishError},
};

pub use self::{
    kept::Kept,
    numbers::Numbers,
    pin::{Pin, Pinned},
};

const LOCK: &str = "lock";
/// How long somebody else may have the lock: writing a snapshot takes far less.
const PATIENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);

/// The snapshot in force and those before it.
pub struct History {
    file: PathBuf,
    folder: PathBuf,
    keep: usize,
    keep_bytes: u64,
    numbers: Numbers,
    /// Whether this process has published; a restart's first publication is often what was in force anyway.
    has_published: bool,
    /// Whether it was said that nothing can be kept.
    is_broken: bool,
    /// What was said of the pin.
    said: Option<String>,
}

/// What became of a policy that was to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is in force under this generation.
    As(u64),
    /// A pin holds another one in force.
    Held,
}

/// Why there was no rollback, or it cannot be ended.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// There is nothing to go back to.
    #[error("{0}")]
    Nothing(String),
    /// Files that this user makes, the sidecar or Traefik could not read.
    #[error("the snapshot belongs to user {owner}; run this as that user, who runs the sidecar")]
    Owner {
        /// The user's number.
        owner: u32,
    },
    /// What is kept cannot be used.
    #[error("generation {generation} cannot be used: {why}")]
    Unusable {
        /// Which.
        generation: u64,
        /// Why not.
        why: String,
    },
    /// The folder cannot be used.
    #[error("{}: {source}", .at.display())]
    Io {
        /// Where.
        at: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The snapshot cannot be written.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

// === impl History ===

impl History {
    /// Looks at nothing yet.
    pub fn new(config: &SnapshotConfig, numbers: Numbers) -> Self {
        Self {
            file: config.file.clone(),
            folder: config.history_folder(),
            keep: config.keep,
            keep_bytes: config.keep_megabytes.saturating_mul(1 << 20),
            numbers,
            has_published: false,
            is_broken: false,
            said: None,
        }
    }

    /// The pin, if there is one.
    pub fn pinned(&self) -> Pinned {
        pin::read(&self.folder)
    }

    /// Whether a pin holds what is in force; shows it, and says so once.
    pub fn is_pinned(&mut self) -> bool {
        let pinned = self.pinned();
        self.numbers.set_pinned(pinned != Pinned::No);
        if pinned == Pinned::No && self.said.take().is_some() {
            tracing::info!("no snapshot is pinned any more");
        }
        pinned != Pinned::No
    }

    /// Puts a policy in force and keeps what it was compiled to, unless there is a pin. What cannot be kept is said once and
    /// stops nothing.
    pub fn publish(&mut self, policy: &Policy) -> Result<Published, PublishError> {
        // Without a folder there is no pin either, and nobody who could roll back.
        let lock = match self.lock() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(PublishError::new(&self.folder.join(LOCK), error));
            }
            lock => lock,
        };
        let pinned = self.pinned();
        if pinned != Pinned::No {
            self.held(policy, &pinned);
            return Ok(Published::Held);
        }
        let generation = match publish::snapshot(&self.file, policy) {
            // What was in force must not keep out what is to be.
            Err(error) if error.is_full() && kept::prune(&self.folder, 1, 0).is_ok() => {
                tracing::warn!(%error, "there is no room for a snapshot; those that were kept are removed");
                publish::snapshot(&self.file, policy)?
            }
            published => published?,
        };
        self.numbers.set_published(generation);
        let kept = lock.and_then(|lock| {
            let kept = kept::keep(&self.folder, &self.file, generation, !self.has_published);
            let kept = kept.and_then(|()| kept::prune(&self.folder, self.keep, self.keep_bytes));
            drop(lock);
            kept
        });
        self.has_published = true;
        self.say_broken(kept.err());
        Ok(Published::As(generation))
    }

    /// All that is kept, the newest first. Files that are no snapshots are left out.
    pub fn list(&self) -> io::Result<Vec<Kept>> {
        kept::list(&self.folder)
    }

    /// The generation in force, if there is one.
    pub fn in_force(&self) -> Option<u64> {
        publish::present_generation(&self.file)
    }

    /// Puts an older generation in force under a new number, and pins it. `None`: the one before what is in force. Returns
    /// the generation that was gone back to, and its new number.
    pub fn roll_back(&self, generation: Option<u64>) -> Result<(u64, u64), HistoryError> {
        self.is_ours()?;
        let _lock = self.lock().map_err(|source| HistoryError::Io { at: self.folder.clone(), source })?;
        let kept = self.list().map_err(|source| HistoryError::Io { at: self.folder.clone(), source })?;
        let present = match self.pinned() {
            Pinned::To(pin) => Some(pin.generation),
            _ => self.in_force(),
        };
        let wanted = match generation {
            Some(wanted) => kept.iter().find(|kept| kept.generation == wanted),
            None => kept.iter().find(|kept| present.is_none_or(|present| kept.generation < present)),
        };
        let wanted = wanted.ok_or_else(|| {
            HistoryError::Nothing(match generation {
                Some(wanted) => format!("generation {wanted} is not kept; `portcullis snapshots` lists those that are"),
                None => "no older generation is kept; `portcullis snapshots` lists those that are".to_owned(),
            })
        })?;
        let bytes = wanted.bytes().map_err(|why| HistoryError::Unusable { generation: wanted.generation, why })?;
        let (next, bytes) = self.reissued(wanted.generation, &bytes)?;
        // Before the snapshot, so that nobody publishes over it; what was in force is so until then.
        pin::write(&self.folder, &Pin { generation: wanted.generation, since_ms: publish::now_ms() })?;
        publish::replace(&self.file, &bytes, publish::SNAPSHOT_MODE)?;
        Ok((wanted.generation, next))
    }

    /// Takes the pin away, whatever it holds. Says whether there was one.
    pub fn unpin(&self) -> Result<bool, HistoryError> {
        self.is_ours()?;
        let _lock = self.lock().map_err(|source| HistoryError::Io { at: self.folder.clone(), source })?;
        pin::remove(&self.folder).map_err(|source| HistoryError::Io { at: self.folder.clone(), source })
    }

    /// Whether this process may write here without locking the sidecar or Traefik out.
    fn is_ours(&self) -> Result<(), HistoryError> {
        let owner = [&self.folder, &self.file].into_iter().find_map(|path| Some(fs::metadata(path).ok()?.uid()));
        match owner {
            Some(owner) if owner != geteuid().as_raw() => Err(HistoryError::Owner { owner }),
            _ => Ok(()),
        }
    }

    /// A generation's content under the next number.
    fn reissued(&self, generation: u64, bytes: &[u8]) -> Result<(u64, Vec<u8>), HistoryError> {
        let unusable = |why: String| HistoryError::Unusable { generation, why };
        let now_ms = publish::now_ms();
        let next = publish::next_generation(&self.file, now_ms);
        let snapshot = Snapshot::open(bytes).map_err(|why| unusable(why.to_string()))?;
        let bytes = snapshot.reissue(next, now_ms).map_err(|why| unusable(why.to_string()))?;
        Ok((next, bytes))
    }

    /// Puts a generation's content in force again.
    fn restore(&self, generation: u64) -> Result<u64, HistoryError> {
        let bytes = kept::read(&self.folder, generation).map_err(|why| HistoryError::Unusable { generation, why })?;
        let (next, bytes) = self.reissued(generation, &bytes)?;
        publish::replace(&self.file, &bytes, publish::SNAPSHOT_MODE)?;
        Ok(next)
    }

    /// A policy that is not published. After a lost snapshot, as on a new tmpfs, what is pinned is put in force again.
    fn held(&mut self, policy: &Policy, pinned: &Pinned) {
        let mut text = match pinned {
            Pinned::To(pin) => format!("the snapshot is pinned to generation {}", pin.generation),
            _ => "the snapshot's pin cannot be read, so it holds what is in force".to_owned(),
        };
        if self.in_force().is_none() {
            let restored = match pinned {
                Pinned::To(pin) => self.restore(pin.generation),
                _ => Err(HistoryError::Nothing("which generation it holds is not known".to_owned())),
            };
            match restored {
                Ok(generation) => tracing::warn!(generation, "there was no snapshot; the pinned one is in force again"),
                Err(error) => {
                    tracing::error!(%error, "there is no snapshot, and the pinned one cannot be put in force");
                }
            }
        }
        let differs = !self.is_in_force(policy);
        self.numbers.set_held_back(differs);
        text.push_str(if differs {
            "; the policy that was read is another one and is not published"
        } else {
            "; the policy that was read is the same"
        });
        if self.said.as_ref() != Some(&text) {
            tracing::warn!(intentions = policy.intentions.len(), "{text}; `portcullis rollback --unpin` ends it");
            self.said = Some(text);
        }
    }

    /// Whether what is in force is what this policy compiles to.
    fn is_in_force(&self, policy: &Policy) -> bool {
        let Ok(bytes) = fs::read(&self.file) else { return false };
        let Ok(snapshot) = Snapshot::open(bytes.as_slice()) else { return false };
        compile(policy, snapshot.generation(), snapshot.created_ms()).0 == bytes
    }

    /// Waits, but not for ever, for whoever publishes or rolls back at the moment; makes the folder.
    fn lock(&self) -> io::Result<File> {
        publish::folder(&self.folder, 0o750)?;
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o640).open(self.folder.join(LOCK))?;
        let start = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(error) if error == rustix::io::Errno::WOULDBLOCK && start.elapsed() < PATIENCE => sleep(POLL),
                locked => return locked.map(|()| file).map_err(io::Error::from),
            }
        }
    }

    fn say_broken(&mut self, error: Option<io::Error>) {
        match error {
            Some(error) if !self.is_broken => {
                let folder = self.folder.display();
                tracing::warn!(%folder, %error, "past snapshots cannot be kept; there may be nothing to roll back to");
                self.is_broken = true;
            }
            None if self.is_broken => {
                tracing::info!("past snapshots are kept again");
                self.is_broken = false;
            }
            _ => {}
        }
    }
}

/// The folder beside a snapshot.
pub(crate) fn beside(snapshot: &Path) -> PathBuf {
    snapshot.parent().unwrap_or(Path::new("")).join(".history")
}

#[cfg(test)]
mod tests;
