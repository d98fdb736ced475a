//! What is asked of the limiter, and what it answers.

/// One limit that a request is to be charged to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// Which bucket: a digest of the limit's name and the key's parts. Equal keys share one bucket.
    pub key: u64,
    /// Which limit, for people: the [`tag`] of its name.
    pub tag: u32,
    /// The key's parts, for people; cut at [`MAX_LABEL_LEN`] bytes. Never decides anything.
    pub label: String,
    /// What is allowed.
    pub rule: Rule,
    /// Units that the request takes; at least 1. A cost above what the bucket can ever hold is never admitted.
    pub cost: u32,
    /// It decides; without, it is charged and judged for show, and stops nothing.
    pub enforced: bool,
    /// Other hosts are to be told ([`crate::store`] readers see the flag in the record).
    pub global: bool,
}

/// What the logs hold of a limit's full name.
#[allow(clippy::cast_possible_truncation, reason = "half of the digest is enough to tell the limits of a policy apart")]
pub fn tag(name: &str) -> u32 {
    xxhash_rust::xxh64::xxh64(name.as_bytes(), 0) as u32
}

/// Longest label that is kept, in bytes.
pub const MAX_LABEL_LEN: usize = 40;

/// What a limit allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A token bucket, as GCRA.
    Rate {
        /// Nanoseconds for one unit to come back, rounded up; at least 1.
        interval_ns: u64,
        /// Units that the full bucket holds; at least 1.
        burst: u32,
    },
    /// So many units in a window of the calendar.
    Quota {
        /// Units in a window.
        units: u64,
        /// When the window of the request began, in nanoseconds since the Unix epoch, by the wall clock.
        begin_ns: u64,
        /// When it ends.
        end_ns: u64,
    },
    /// So many at once.
    Concurrency {
        /// Units at once.
        units: u32,
        /// After this long a slot that nobody gave back is free again, in nanoseconds.
        lease_ns: u64,
    },
}

/// How a bucket stands for a request: before it if it is refused, after it if it is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether this limit admits the request.
    pub admitted: bool,
    /// Units that are left.
    pub remaining: u64,
    /// Nanoseconds until the bucket is as if nobody had asked, nobody asking until then.
    pub reset_ns: u64,
    /// Nanoseconds until the same request would be admitted, nobody else asking until then; 0 if it is admitted,
    /// `u64::MAX` if it never would be.
    pub retry_ns: u64,
}
