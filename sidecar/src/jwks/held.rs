//! What is held of a provider: its last good key set, how old that is, and how fetching goes.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Shared by the task that fetches, the policy, and the metrics.
#[derive(Debug)]
pub(super) struct Held {
    /// How old the last good set may be.
    stale_for: Duration,
    state: Mutex<State>,
}

/// A snapshot of it, for the metrics.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// How old the last good set is.
    pub(super) age: Option<Duration>,
    /// Fetches that gave a key set, and that did not, since the start.
    pub(super) fetched: u64,
    pub(super) failed: u64,
    /// Whether a set is in force.
    pub(super) is_good: bool,
}

#[derive(Debug, Default)]
struct State {
    good: Option<Good>,
    fetched: u64,
    failed: u64,
}

#[derive(Debug)]
struct Good {
    set: Vec<u8>,
    /// When it became known to this process, on a clock that nobody sets, and how old it was then.
    since: Instant,
    age: Duration,
}

// === impl Held ===

impl Held {
    /// With what was kept from before, and its age.
    pub(super) fn new(stale_for: Duration, good: Option<(Vec<u8>, Duration)>) -> Self {
        let good = good.map(|(set, age)| Good { set, since: Instant::now(), age });
        Self { stale_for, state: Mutex::new(State { good, ..State::default() }) }
    }

    /// The set that is in force; `None` while there never was one; the age of one that is too old.
    pub(super) fn set(&self) -> Result<Option<Vec<u8>>, Duration> {
        match &self.lock().good {
            Some(good) if good.age() > self.stale_for => Err(good.age()),
            good => Ok(good.as_ref().map(|good| good.set.clone())),
        }
    }

    /// A fetch gave a good set. Says whether that changes what is in force.
    pub(super) fn fetched(&self, set: Vec<u8>) -> bool {
        let mut state = self.lock();
        state.fetched += 1;
        let is_same = state.good.as_ref().is_some_and(|good| good.set == set && good.age() <= self.stale_for);
        state.good = Some(Good { set, since: Instant::now(), age: Duration::ZERO });
        !is_same
    }

    /// A fetch failed.
    pub(super) fn failed(&self) {
        self.lock().failed += 1;
    }

    /// How long what is in force may stay so; `None` when nothing is.
    pub(super) fn left(&self) -> Option<Duration> {
        let age = self.lock().good.as_ref()?.age();
        self.stale_for.checked_sub(age)
    }

    pub(super) fn counts(&self) -> Counts {
        let state = self.lock();
        let age = state.good.as_ref().map(Good::age);
        let is_good = age.is_some_and(|age| age <= self.stale_for);
        Counts { age, fetched: state.fetched, failed: state.failed, is_good }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is half done where somebody could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Good ===

impl Good {
    fn age(&self) -> Duration {
        self.age.saturating_add(self.since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_in_force_until_it_is_too_old_and_again_when_it_is_fetched() {
        let day = Duration::from_secs(86_400);
        assert_eq!(Held::new(day, None).set(), Ok(None));
        let held = Held::new(day, Some((b"old".to_vec(), day / 2)));
        assert_eq!(held.set(), Ok(Some(b"old".to_vec())));
        assert!(held.left().unwrap() <= day / 2);
        assert!(!held.fetched(b"old".to_vec()), "nothing changes but its age");
        assert!(held.left().unwrap() > day / 2);
        assert!(held.fetched(b"new".to_vec()));
        let held = Held::new(day, Some((b"old".to_vec(), day * 2)));
        assert!(held.set().is_err() && held.left().is_none() && !held.counts().is_good);
        assert!(held.fetched(b"old".to_vec()), "it is in force again");
        assert_eq!(held.set(), Ok(Some(b"old".to_vec())));
    }
}
