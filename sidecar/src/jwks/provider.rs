//! The task that keeps one provider's keys fresh.

use std::{sync::Arc, time::Duration};

use portcullis_policy::{
    Severity,
    jwt::{self, JwtProvider, RemoteKeys, RetryPolicy},
};
use tokio::{sync::Notify, time::sleep};

use super::{
    cache::{self, Cache},
    fetch::{Fault, Fetcher},
    held::Held,
    schedule,
};

/// A moment more, so that what is too old by then is.
const MOMENT: Duration = Duration::from_millis(50);

/// Failures in a row that are worth no alarm, whatever `NumRetries` says.
const MOST_SILENT: u64 = 10;

/// Fetches the keys of one provider, again and again.
pub(super) struct Following {
    provider: JwtProvider,
    remote: RemoteKeys,
    source: String,
    fetcher: Fetcher,
    cache: Arc<Cache>,
    held: Arc<Held>,
    wake: Arc<Notify>,
    /// Failures in a row.
    failures: u32,
    /// Whether it was said that fetching fails.
    said: bool,
}

// === impl Following ===

impl Following {
    /// Starts from what is on disk, if that holds.
    pub(super) fn new(
        provider: &JwtProvider,
        remote: &RemoteKeys,
        fetcher: &Fetcher,
        cache: &Arc<Cache>,
        wake: &Arc<Notify>,
    ) -> (Self, Arc<Held>) {
        let source = cache::source(remote);
        let kept = cache.read(&provider.name, &source).filter(|(set, _)| check(provider, set).is_ok());
        let held = Arc::new(Held::new(cache.stale_for(), kept));
        let following = Self {
            provider: provider.clone(),
            remote: remote.clone(),
            source,
            fetcher: fetcher.clone(),
            cache: Arc::clone(cache),
            held: Arc::clone(&held),
            wake: Arc::clone(wake),
            failures: 0,
            said: false,
        };
        (following, held)
    }

    /// For ever.
    pub(super) async fn run(mut self) {
        loop {
            let pause = self.once().await;
            self.wait(pause).await;
        }
    }

    /// One fetch; returns how long the next one can wait.
    async fn once(&mut self) -> Duration {
        let fetched = self.fetcher.fetch(&self.remote).await;
        let checked = fetched.and_then(|it| check(&self.provider, &it.set).map(|()| it));
        match checked {
            Ok(fetched) => {
                self.cache.write(&self.provider.name, &self.source, &fetched.set);
                if self.held.fetched(fetched.set) {
                    tracing::info!(provider = self.provider.name, "the provider has another key set");
                    self.wake.notify_one();
                }
                if self.said {
                    tracing::info!(provider = self.provider.name, "the keys of a JWT provider can be fetched again");
                }
                (self.failures, self.said) = (0, false);
                schedule::due(self.remote.cache_duration, fetched.max_age, dice())
            }
            Err(fault) => {
                self.failures = self.failures.saturating_add(1);
                self.held.failed();
                self.say(&fault);
                schedule::pause(self.retry(), self.failures, dice())
            }
        }
    }

    /// Says once that fetching fails, after the retries that the provider has.
    fn say(&mut self, fault: &Fault) {
        let provider = self.provider.name.as_str();
        if self.said || u64::from(self.failures) <= self.retry().retries.min(MOST_SILENT) {
            tracing::debug!(provider, error = %fault, "the keys of a JWT provider could not be fetched");
            return;
        }
        self.said = true;
        match self.held.left() {
            Some(left) => tracing::warn!(
                provider,
                error = %fault,
                seconds = left.as_secs(),
                "the keys of a JWT provider cannot be fetched; the last good ones stay in force for so many seconds"
            ),
            None => tracing::error!(
                provider,
                error = %fault,
                "the keys of a JWT provider cannot be fetched, and there are none from before; no token of it passes"
            ),
        }
    }

    fn retry(&self) -> RetryPolicy {
        self.remote.retry.unwrap_or_default()
    }

    /// Waits; if what is in force becomes too old meanwhile, wakes whoever has to know.
    async fn wait(&self, pause: Duration) {
        match self.held.left() {
            Some(left) if left < pause => {
                sleep(left + MOMENT).await;
                self.wake.notify_one();
                sleep(pause.saturating_sub(left)).await;
            }
            _ => sleep(pause).await,
        }
    }
}

/// Whether this is a key set with a key that can be used, as the policy reads it.
pub(super) fn check(provider: &JwtProvider, set: &[u8]) -> Result<(), Fault> {
    let mut problems = Vec::new();
    jwt::compile(provider, Some(set), &mut problems);
    let fault = problems.into_iter().find(|problem| problem.severity >= Severity::Error);
    fault.map_or(Ok(()), |problem| Err(Fault::NoKeys(problem.what)))
}

/// Any number. Without chance, everybody asks at the same times, and that is all.
fn dice() -> u32 {
    let mut bytes = [0; 4];
    let _ = getrandom::fill(&mut bytes);
    u32::from_le_bytes(bytes)
}
