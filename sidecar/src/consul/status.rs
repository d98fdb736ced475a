//! How keeping Consul in step stands, for metrics and for the logs of others.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// What is known at the moment; counters are since the start of the process.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Whether this sidecar is the one that writes.
    pub leads: bool,
    /// When everything that may be written was written, or nothing had to be, for the last time. Only a leader knows.
    pub in_step: Option<Instant>,
    /// Whether Consul could not be read or written, or refused what the token may not do, at the last attempt.
    pub is_broken: bool,
    /// Instances whose removal waits: for a person, or for the source.
    pub held: usize,
    /// Consul services that Consul does not take.
    pub refused: usize,
    /// Consul services of which an instance's place is taken by somebody else.
    pub contested: usize,
    /// Transactions that Consul took.
    pub transactions: u64,
    /// Instances that were made.
    pub added: u64,
    /// Instances that were changed, their checks included.
    pub updated: u64,
    /// Instances that were removed.
    pub removed: u64,
    /// Passes that failed.
    pub failures: u64,
}

/// The same, shared.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<Status>>);

impl Shared {
    /// As it is now.
    pub fn get(&self) -> Status {
        self.lock().clone()
    }

    /// To be changed.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Status> {
        // Numbers have no state that could be half.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
