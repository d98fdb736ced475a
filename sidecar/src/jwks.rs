//! `JSONWebKeySet.Remote`: key sets that are fetched from their issuers, so that the policy has them as if they were local.
//!
//! ```text
//!  issuer ──https──► fetch ──► checked as a local set is ──► last good ──► Policy::key_sets ──► the snapshot
//!                      ▲ schedule                               │ ▲
//!                      └── ahead of need, backing off           ▼ └─ after a restart
//!                                                             cache
//! ```
//!
//! The plugin calls nobody, so a key is known here before it is used, or its tokens are refused until the next fetch. A fetch that fails,
//! or gives something that is no key set, changes nothing: the last good set stays in force for a stated time, and then
//! no token of its provider passes. Keys of another address, or that were had with another trust, are never used.

mod cache;
pub mod config;
mod fetch;
mod held;
mod numbers;
mod provider;
mod schedule;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use portcullis_policy::{
    Policy, Problem, Severity,
    jwt::{JwtProvider, KeySource, RemoteKeys},
};
use tokio::{sync::Notify, task::JoinHandle};

use self::{cache::Cache, config::JwksConfig, fetch::Fetcher, held::Held, provider::Following};

pub use self::numbers::Numbers;

/// Most providers whose keys are fetched. Each has series of its own in the metrics.
const MAX_PROVIDERS: usize = 100;

/// The key sets of all remote providers.
pub struct Jwks {
    fetcher: Fetcher,
    cache: Arc<Cache>,
    wake: Arc<Notify>,
    numbers: Numbers,
    following: BTreeMap<String, Followed>,
}

/// Puts those key sets into a policy that a running sidecar has fetched and kept, as far as they hold: for commands that look once.
pub fn kept(config: &JwksConfig, policy: &mut Policy) {
    let (fetcher, cache) = (Fetcher::new(config), Cache::new(config));
    for provider in &policy.providers {
        let KeySource::Remote(remote) = &provider.keys else { continue };
        if provider.broken || fetcher.may_ask(remote).is_err() {
            continue;
        }
        if let Some((set, age)) = cache.read(&provider.name, &cache::source(remote))
            && age <= cache.stale_for()
            && provider::check(provider, &set).is_ok()
        {
            policy.key_sets.insert(provider.name.clone(), set);
        }
    }
}

/// A provider whose keys are fetched.
struct Followed {
    remote: RemoteKeys,
    held: Arc<Held>,
    task: JoinHandle<()>,
}

// === impl Jwks ===

impl Jwks {
    /// Nothing is fetched yet.
    pub fn new(config: &JwksConfig, numbers: Numbers) -> Self {
        Self {
            fetcher: Fetcher::new(config),
            cache: Arc::new(Cache::new(config)),
            wake: Arc::default(),
            numbers,
            following: BTreeMap::new(),
        }
    }

    /// Wakes whoever puts the policy together when a key set is another one.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Puts the key sets that are good into the policy, and from now on fetches those of exactly its remote providers. Must be
    /// called within a Tokio runtime.
    pub fn fill(&mut self, policy: &mut Policy, problems: &mut Vec<Problem>) {
        let mut seen = BTreeSet::new();
        for provider in &policy.providers {
            let KeySource::Remote(remote) = &provider.keys else { continue };
            if provider.broken || seen.contains(&provider.name) {
                continue;
            }
            let mut fault = |what: String, hint: &str| {
                let at = format!("jwt-provider/{}: JSONWebKeySet.Remote", provider.name);
                problems.push(Problem { severity: Severity::Error, at, what, hint: hint.to_owned() });
            };
            if seen.len() >= MAX_PROVIDERS {
                let what =
                    format!("there are more than {MAX_PROVIDERS} remote providers; this one's keys are not fetched");
                fault(what, "give its keys as Local");
                continue;
            }
            if let Err(why) = self.fetcher.may_ask(remote) {
                fault(format!("{why}; the keys are not fetched and no token of the provider passes"), why.hint());
                continue;
            }
            seen.insert(provider.name.clone());
            let held = self.follow(provider, remote);
            match held.set() {
                Ok(Some(set)) => {
                    policy.key_sets.insert(provider.name.clone(), set);
                }
                Ok(None) => {}
                // Without the age itself: what is said again and again is said once as long as it is the same.
                Err(_) => fault(
                    "the last good keys are too old; no token of the provider passes".to_owned(),
                    "see in the log why they cannot be fetched; jwks.staleForSeconds says how old they may be",
                ),
            }
        }
        let before = self.following.len();
        self.following.retain(|name, _| seen.contains(name));
        if before != self.following.len() {
            self.show();
        }
    }

    /// What is known of a provider's keys; starts fetching them if that is not done yet, or was done otherwise.
    fn follow(&mut self, provider: &JwtProvider, remote: &RemoteKeys) -> Arc<Held> {
        if let Some(followed) = self.following.get(&provider.name)
            && followed.remote == *remote
            && !followed.task.is_finished()
        {
            return Arc::clone(&followed.held);
        }
        let (following, held) = Following::new(provider, remote, &self.fetcher, &self.cache, &self.wake);
        let task = tokio::spawn(following.run());
        let followed = Followed { remote: remote.clone(), held: Arc::clone(&held), task };
        self.following.insert(provider.name.clone(), followed);
        self.cache.tidy(self.following.keys().map(String::as_str));
        self.show();
        held
    }

    fn show(&self) {
        self.numbers.set(self.following.iter().map(|(name, it)| (name.clone(), Arc::clone(&it.held))).collect());
    }
}

// === impl Followed ===

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests;
