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

use tokio::{
    sync::oneshot,
    time::{MissedTickBehavior, interval},
};

use self::{
    beat::Beating,
    config::{LimitsConfig, MetricsConfig},
    exchange::Exchange,
    link::{Incoming, Link},
    message::{Amount, Usage},
    metrics::{Numbers, Others, lock},
};
use crate::http::Endpoint;

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
    endpoint: Option<MetricsConfig>,
}

// === impl Limits ===

impl Limits {
    /// Starts what is configured. An address that cannot be listened at is an error; everything else is waited for.
    pub fn start(
        limits: Option<&LimitsConfig>,
        metrics: Option<&MetricsConfig>,
        names: Arc<Names>,
    ) -> io::Result<Self> {
        let folder = limits.map(|limits| StateFolder::new(&limits.state));
        let beating = folder.clone().map(Beating::start).transpose()?;
        let link = limits.and_then(|limits| limits.redis.clone());
        let endpoint = metrics.cloned();
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
            follower: folder.map(|folder| Mutex::new(Follower::new(folder))),
            admitted: Mutex::default(),
            clock: beating.as_ref().map(|beating| beating.seen().clone()),
            others: others.transpose()?,
        });
        let worker = Worker { numbers, link, endpoint };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = worker.endpoint.as_ref().map(|it| runtime.block_on(Endpoint::bind(it.listen))).transpose()?;
        let metrics = endpoint.as_ref().map(Endpoint::address).transpose()?;
        if let Some(address) = metrics {
            tracing::info!(%address, "metrics");
        }
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("limits".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = worker.run(endpoint) => {}
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
    async fn run(self, endpoint: Option<Endpoint>) {
        if let Some(endpoint) = endpoint {
            tokio::spawn(endpoint.serve(Arc::new(self.numbers.clone())));
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
            self.look(|_| {});
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
                    self.look(|usage| exchange.note(usage));
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

    /// Reads what was appended to the logs, counts what was admitted here, and shows what other hosts are to be told.
    fn look(&self, mut tell: impl FnMut(Usage)) {
        let Some(follower) = &self.numbers.follower else { return };
        let mut follower = lock(follower);
        let mut admitted = lock(&self.numbers.admitted);
        follower.look(|seen| {
            if !seen.admitted || seen.foreign {
                return;
            }
            admitted.add(seen.tag, seen.cost.into());
            if let (true, Some(amount)) = (seen.global, Amount::of(seen.rule)) {
                tell(Usage { key: seen.key, tag: seen.tag, amount, units: seen.cost });
            }
        });
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
