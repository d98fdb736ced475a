//! What an allowed request is charged to: the limits that cover it, each with the bucket that the request belongs to.

pub(crate) mod bucket;
pub mod rule;
mod window;
pub mod wire;

use std::fmt;

use crate::model::Mode;

/// One limit of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The limit's full name, `rate-limits/<destination>/<name>`.
    pub rule: String,
    /// Its own name, as the `RateLimit` headers show it.
    pub name: String,
    /// The bucket: the first 8 bytes, little endian, of SHA-256 over the rule and the key's parts, each with its length.
    pub key: u64,
    /// The key's parts, for people; may be long.
    pub label: String,
    /// What is allowed.
    pub amount: Amount,
    /// Units that the request takes; at least 1.
    pub cost: u32,
    /// `Enforce` or `Shadow`.
    pub mode: Mode,
    /// Where the units are counted.
    pub scope: Scope,
    /// What happens when they cannot be counted.
    pub on_unavailable: OnUnavailable,
}

/// How much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many in a period, and a bucket of `burst`.
    Rate {
        /// Units that come back in a period; at least 1.
        requests: u32,
        /// Milliseconds; at least 1.
        period_ms: u64,
        /// Units that the full bucket holds; at least 1.
        burst: u32,
    },
    /// So many in a window of the calendar, in UTC.
    Quota {
        /// Units in a window.
        requests: u64,
        /// When the request's window began, in seconds since the Unix epoch.
        begin_s: u64,
        /// When it ends.
        end_s: u64,
    },
    /// So many at once.
    Concurrency {
        /// Units at once; at least 1.
        requests: u32,
        /// Seconds after which a slot that was not given back is free again.
        lease_s: u32,
    },
}

/// Where units are counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scope {
    /// On each host for itself, exactly.
    #[default]
    Host,
    /// On all hosts together, within a bound.
    Global,
}

/// What becomes of a request whose limits cannot be counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnUnavailable {
    /// It is refused, 503.
    #[default]
    Deny,
    /// It passes uncounted.
    Allow,
}

// === impl Amount ===

/// In words: `100 in 1000 ms, burst 20`, `5000 from 1763683200 to 1763769600`, `10 at once, lease 3600 s`.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate { requests, period_ms, burst } => write!(f, "{requests} in {period_ms} ms, burst {burst}"),
            Self::Quota { requests, begin_s, end_s } => write!(f, "{requests} from {begin_s} to {end_s}"),
            Self::Concurrency { requests, lease_s } => write!(f, "{requests} at once, lease {lease_s} s"),
        }
    }
}
