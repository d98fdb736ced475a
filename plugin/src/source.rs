//! Where this instance's policy comes from, and which generation of it is in force.
//!
//! ```text
//!  no policy yet ──look ok──► generation N ──look: another generation, opens──► generation M
//!      │  ▲                      │   ▲                                            (N is closed)
//!      └──┘ look fails           └───┘ look: same generation, or it fails: N stays
//!        ▲                         │
//!        └─ look fails after a gap ┘
//! ```
//!
//! An instance that sat idle in the pool may have slept through generations. If its next look fails it cannot tell
//! whether what it holds is the last good policy or one that was revoked since, so it denies, as a new instance would.
//! Only one that has watched the file without a gap keeps its generation.
//!
//! Looking is opening the path anew and reading the header: three system calls, at most once in `reloadMilliseconds`.
//! Nothing here ever makes up a policy: without one, [`Source::decide`] has no decision to give.

use crate::{config::Level, file::SnapshotFile};
use portcullis_policy::snapshot::record;
use portcullis_policy::{Decision, HEADER_LEN, ReadAt, ReadFailed, Request, Snapshot, SnapshotError, decide, peek};
use std::io;

/// How soon a failed look is repeated, in milliseconds: recovery is quick, and a missing file does not cost each request
/// a system call.
const RETRY_MS: u64 = 20;

/// Longest time between two looks, in milliseconds, after which an instance still keeps its generation when the second
/// one fails. Instances share nothing, so what is kept may be older than the newest good policy by this much and no more:
/// many looks on a busy gateway, and short against the time in which somebody counts on a revocation.
const WATCH_MS: u64 = 10_000;

/// What a source wants to say to the log.
pub type Notice = (Level, String);

/// A policy that requests are decided on.
pub enum Source {
    /// Compiled from the configuration.
    Inline(Snapshot<Reader>),
    /// A file that another process replaces.
    File(FileSource),
}

/// Where the bytes of a snapshot lie. One type for both, so that the module holds the engine once.
#[derive(Debug)]
pub enum Reader {
    /// Compiled by this instance.
    Memory(Vec<u8>),
    /// In an open file.
    File(SnapshotFile),
}

/// A snapshot file and its last good generation.
pub struct FileSource {
    path: String,
    reload_ms: u64,
    current: Option<Snapshot<Reader>>,
    /// When the file was last looked at (Unix milliseconds), and how that ended.
    looked: Option<(u64, Result<(), Failure>)>,
    /// A decision could not read `current`: the next look opens the file whatever its generation.
    suspect: bool,
}

/// Why a look at the snapshot failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The file could not be opened.
    #[error("it cannot be opened: {0}")]
    Open(io::ErrorKind),
    /// It could be opened and is no good.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

// === impl Reader ===

impl ReadAt for Reader {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadFailed> {
        match self {
            Self::Memory(bytes) => bytes.read_at(offset, buf),
            Self::File(file) => file.read_at(offset, buf),
        }
    }
}

// === impl Source ===

impl Source {
    /// A snapshot in memory.
    pub fn inline(bytes: Vec<u8>) -> Result<Self, SnapshotError> {
        Snapshot::open(Reader::Memory(bytes)).map(Self::Inline)
    }

    /// A snapshot file, not looked at yet.
    pub fn file(path: String, reload_ms: u64) -> Self {
        Self::File(FileSource { path, reload_ms, current: None, looked: None, suspect: false })
    }

    /// Looks for a new generation if it is time to. At most one notice comes back.
    pub fn refresh(&mut self, now_ms: u64) -> Option<Notice> {
        match self {
            Self::File(file) if file.is_due(now_ms) => file.look(now_ms),
            Self::Inline(_) | Self::File(_) => None,
        }
    }

    /// What holds for the whole policy in force, if there is one.
    pub fn settings(&self) -> Option<&record::Settings> {
        match self {
            Self::Inline(snapshot) => Some(snapshot.settings()),
            Self::File(file) => file.current.as_ref().map(Snapshot::settings),
        }
    }

    /// Decides a request on the policy in force; the error says why there is none.
    pub fn decide(&mut self, request: &Request<'_>) -> Result<Decision, Failure> {
        match self {
            Self::Inline(snapshot) => Ok(decide(snapshot, request)),
            Self::File(file) => file.decide(request),
        }
    }
}

// === impl FileSource ===

impl FileSource {
    fn is_due(&self, now_ms: u64) -> bool {
        let Some((looked_ms, outcome)) = self.looked else { return true };
        let interval = match outcome {
            // With a policy in force a failure has time; without one every request is being denied.
            Err(_) if self.current.is_none() => RETRY_MS.min(self.reload_ms),
            _ if self.suspect => RETRY_MS.min(self.reload_ms),
            _ => self.reload_ms,
        };
        // Wall time may jump back, and must not put the next look off by the length of the jump.
        now_ms.checked_sub(looked_ms).is_none_or(|elapsed| elapsed >= interval)
    }

    fn look(&mut self, now_ms: u64) -> Option<Notice> {
        let outcome = self.open_newer();
        let gap = self.looked.map_or(0, |(looked_ms, _)| now_ms.abs_diff(looked_ms));
        // With a long interval between looks each of them is a gap that the operator chose.
        let watched = gap <= self.reload_ms.saturating_mul(2).max(WATCH_MS);
        let before = self.looked.replace((now_ms, outcome.as_ref().map(|_| ()).map_err(|failure| *failure)));
        match outcome {
            Ok(None) => None,
            Ok(Some(snapshot)) => {
                let generation = snapshot.generation();
                // The old generation's file is closed here.
                let old = self.current.replace(snapshot);
                self.suspect = false;
                // The same generation, opened anew after a failed read, is no news.
                let is_news = old.is_none_or(|old| old.generation() != generation);
                is_news.then(|| (Level::Debug, format!("policy generation {generation} read from {}", self.path)))
            }
            Err(failure) => {
                let lost = !watched && self.current.take().is_some();
                // The same failure again is no news.
                if !lost && before.is_some_and(|(_, outcome)| outcome == Err(failure)) {
                    return None;
                }
                let kept = match &self.current {
                    Some(current) => format!("generation {} stays in force", current.generation()),
                    None => "every request is denied".to_owned(),
                };
                Some((Level::Warn, format!("no policy from {}: {failure}; {kept}", self.path)))
            }
        }
    }

    /// The file as a snapshot, if it is another generation than the current one.
    fn open_newer(&self) -> Result<Option<Snapshot<Reader>>, Failure> {
        let file = SnapshotFile::open(&self.path).map_err(|error| Failure::Open(error.kind()))?;
        if let Some(current) = &self.current
            && !self.suspect
        {
            let mut header = [0; HEADER_LEN];
            file.read_at(0, &mut header).map_err(SnapshotError::Read)?;
            // Another one, not a higher one: an operator may go back to yesterday's file.
            if peek(&header)? == current.generation() {
                return Ok(None);
            }
        }
        Ok(Some(Snapshot::open(Reader::File(file))?))
    }

    fn decide(&mut self, request: &Request<'_>) -> Result<Decision, Failure> {
        let Some(snapshot) = &self.current else {
            return Err(match self.looked {
                Some((_, Err(failure))) => failure,
                _ => Failure::Snapshot(SnapshotError::NotASnapshot),
            });
        };
        let decision = decide(snapshot, request);
        if decision.status == crate::respond::UNAVAILABLE {
            self.suspect = true;
        }
        Ok(decision)
    }
}
