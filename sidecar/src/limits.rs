//! Limits, as far as they are the sidecar's: it keeps the guests' clock, shows how limits stand, and carries usage from
//! host to host. It is not asked about any request; without it, limits hold on each host all the same.
//!
//! ```text
//!  clock ◄── beat (a thread)                                   ┌─► http: /metrics
//!  logs ──► Follower ─► units admitted here ─► Exchange ─► Link ─► Redis ─► the other hosts
//!       ◄──────────────── units of others ◄──────┘       (another thread)
//! ```
//!
//! Reference: `docs/reference/global-limits.md`.

mod beat;
pub mod config;
mod exchange;
mod folder;
mod follow;
mod link;
mod message;
mod metrics;
mod names;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use portcullis_limiter::Seen;
use tokio::{
    sync::oneshot,
    time::{MissedTickBehavior, interval},
};

use self::{
    beat::Beating,
    config::{LimitsConfig, MetricsConfig},
    exchange::Exchange,
    follow::Now,
    link::{Incoming, Link},
    message::{Amount, Usage},
    metrics::{Numbers, Others, lock},
};
use crate::{http::Endpoint, others};

pub use self::{folder::StateFolder, follow::Follower, names::Names};

/// How often the logs are looked at when nobody else waits for what is in them: for the metrics.
const LOOK: Duration = Duration::from_secs(1);
/// Messages that are charged in one go.
const MOST_AT_ONCE: usize = 256;
/// Descriptors that following every bucket takes, with some for the rest.
const DESCRIPTORS: u64 = 4096;

/// What runs beside the passes over manifests and policy.
pub struct Limits {
    beating: Option<Beating>,
    worker: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    metrics: Option<SocketAddr>,
}

/// The thread that follows, tells and answers.
struct Worker {
    numbers: Arc<Numbers>,
    link: Option<config::RedisConfig>,
    endpoint: Option<Endpoint>,
}

// === impl Limits ===

impl Limits {
    /// Starts what is configured. An address that cannot be listened at is an error; everything else is waited for.
    pub fn start(
        limits: Option<&LimitsConfig>,
        metrics: Option<&MetricsConfig>,
        names: Arc<Names>,
        sync: crate::numbers::Numbers,
        beside: Option<others::Numbers>,
    ) -> io::Result<Self> {
        let folder = limits.map(|limits| StateFolder::new(&limits.state));
        let beating = folder.clone().map(Beating::start).transpose()?;
        let link = limits.and_then(|limits| limits.redis.clone());
        let endpoint = metrics.map(|metrics| Endpoint::bind(metrics.listen)).transpose()?;
        if link.is_none() && endpoint.is_none() {
            return Ok(Self { beating, worker: None, metrics: None });
        }
        more_descriptors();
        let others = link.as_ref().map(|redis| -> io::Result<_> {
            let exchange = Mutex::new(Exchange::new(host()?, redis.store_down, redis.hosts));
            Ok(Others { exchange, health: Arc::default(), now_ns })
        });
        let numbers = Arc::new(Numbers {
            names,
            beside,
            follower: folder.map(|folder| Mutex::new(Follower::new(folder))),
            admitted: Mutex::default(),
            clock: beating.as_ref().map(|beating| beating.seen().clone()),
            others: others.transpose()?,
            sync,
        });
        let metrics = endpoint.as_ref().map(Endpoint::address).transpose()?;
        if let Some(address) = metrics {
            tracing::info!(%address, "metrics");
        }
        let worker = Worker { numbers, link, endpoint };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("limits".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = worker.run() => {}
                    // Dropped is as good as sent.
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { beating, worker: Some((stop, thread)), metrics })
    }

    /// Where the metrics are: with the port that the system chose, if it was to.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }
}

/// Stops everything and waits for it.
impl Drop for Limits {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.worker.take() {
            drop(stop);
            // A thread that panicked has said so.
            let _ = thread.join();
        }
        self.beating = None;
    }
}

// === impl Worker ===

impl Worker {
    async fn run(mut self) {
        if let Some(endpoint) = self.endpoint.take() {
            let report = Arc::new(self.numbers.clone());
            tokio::spawn(async move {
                let Err(error) = endpoint.serve(report).await;
                tracing::error!(%error, "there are no metrics");
            });
        }
        match (&self.link, &self.numbers.others) {
            (Some(config), Some(others)) => {
                self.exchange(&others.exchange, Link::start(config.clone(), others.health.clone())).await;
            }
            _ => self.follow().await,
        }
    }

    /// For the metrics alone.
    async fn follow(&self) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look(|_, _| {});
        }
    }

    async fn exchange(&self, exchange: &Mutex<Exchange>, mut link: Link) {
        let mut ticks = interval(Duration::from_nanos(exchange::INTERVAL_NS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut incoming = Vec::with_capacity(MOST_AT_ONCE);
        loop {
            let (charges, n_hosts) = tokio::select! {
                // The tick first: whoever floods the channel must not keep this host from telling what it admits.
                biased;
                _ = ticks.tick() => {
                    let mut exchange = lock(exchange);
                    self.look(|seen, steady_ns| note(&mut exchange, seen, steady_ns));
                    let tick = exchange.tick(now_ns());
                    tick.messages.into_iter().for_each(|message| link.send(message));
                    (tick.charges, exchange.hosts())
                }
                n = link.receive(&mut incoming, MOST_AT_ONCE) => {
                    if n == 0 {
                        return;
                    }
                    let mut exchange = lock(exchange);
                    let mut charges = Vec::new();
                    for message in incoming.drain(..) {
                        match message {
                            Incoming::Message(bytes) => charges.extend(exchange.receive(now_ns(), &bytes)),
                            Incoming::TooLong => exchange.refused("too_long"),
                        }
                    }
                    (charges, exchange.hosts())
                }
            };
            if let (false, Some(follower)) = (charges.is_empty(), &self.numbers.follower) {
                lock(follower).charge(&charges, n_hosts);
            }
        }
    }

    /// Reads what was appended to the logs, counts what was admitted here, and shows it, with the logs' time.
    fn look(&self, mut show: impl FnMut(&Seen, u64)) {
        let Some(follower) = &self.numbers.follower else { return };
        let mut follower = lock(follower);
        let mut admitted = lock(&self.numbers.admitted);
        let Now { steady_ns, .. } = follower.now();
        follower.look(|seen| {
            if seen.admitted && !seen.foreign {
                admitted.add(seen.tag, seen.cost.into());
                show(seen, steady_ns);
            }
        });
    }
}

/// What other hosts are to be told of a charge that was admitted here. After a long pause of this process most of it is
/// worth nothing to them any more: callers would be refused for what they did long ago.
fn note(exchange: &mut Exchange, seen: &Seen, steady_ns: u64) {
    let (true, Some(amount)) = (seen.global, Amount::of(seen.rule)) else { return };
    // What is told in sum has no time.
    if seen.t_ns > 0 && steady_ns.saturating_sub(seen.t_ns) > exchange::STALE_NS {
        exchange.dropped("stale");
    } else {
        exchange.note(Usage { key: seen.key, tag: seen.tag, amount, units: seen.cost });
    }
}

/// A monotonic clock, in nanoseconds since the first look at it.
fn now_ns() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// A name that nobody else has.
fn host() -> io::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u128::from_le_bytes(bytes))
}

/// Each bucket that is followed is an open file, and the usual limit is as many as there are buckets.
fn more_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS));
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "few files can be open at once; some limits may not be followed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_limiter::Rule;

    fn seen(t_ns: u64) -> Seen {
        let rule = Rule::Rate { interval_ns: 1_000_000, burst: 5 };
        Seen { key: 1, tag: 2, rule, cost: 3, admitted: true, global: true, t_ns, foreign: false }
    }

    #[test]
    fn only_fresh_charges_of_global_limits_that_can_be_told_are_told() {
        let told = |seen: &Seen| {
            let mut exchange = Exchange::new(1, config::StoreDown::Local, 1);
            note(&mut exchange, seen, 5_000_000_000);
            exchange.tick(0);
            exchange.counts().told_units
        };
        assert_eq!(told(&seen(4_500_000_000)), 3);
        assert_eq!(told(&seen(0)), 3, "told in sum");
        assert_eq!(told(&seen(3_900_000_000)), 0);
        assert_eq!(told(&Seen { global: false, ..seen(5_000_000_000) }), 0);
        assert_eq!(told(&Seen { rule: Rule::Concurrency { units: 9, lease_ns: 9 }, ..seen(5_000_000_000) }), 0);
    }
}
