//! A bounded load: a fixed number of keep-alive connections, as fast as they go or at a fixed rate.
//!
//! Connections are open before the clock starts. At a fixed rate latency counts from the moment a request was due, not
//! from when it could be sent, so that a stall is not hidden by the requests it kept from being sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use hdrhistogram::Histogram;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{Client, Connection, empty, request};

/// The longest latency that is told apart, in microseconds: one minute.
const LONGEST_MICROSECONDS: u64 = 60_000_000;

/// What every request asks for.
#[derive(Debug, Clone)]
pub struct Target {
    /// How to reach the gateway.
    pub client: Client,
    /// The host name.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// The method.
    pub method: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
}

impl Target {
    /// GET without further headers.
    pub fn get(client: &Client, host: &str, path: &str) -> Target {
        let (host, path) = (host.to_owned(), path.to_owned());
        Target { client: client.clone(), host, path, method: "GET".to_owned(), headers: Vec::new() }
    }
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// After this time.
    Time(Duration),
    /// After this many requests, all connections together.
    Count(u64),
}

/// How much at once.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// The number of connections, each with one request at a time.
    pub connections: usize,
    /// Requests per second over all connections; none: as fast as they go.
    pub rate: Option<f64>,
    /// When to stop at the latest.
    pub bound: Bound,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer.
    pub failures: u64,
    /// Why the first of them failed.
    pub first_failure: Option<String>,
    /// Latencies of answered requests in microseconds.
    pub latencies: Histogram<u64>,
    /// From the first request to the end of the last.
    pub elapsed: Duration,
}

impl Outcome {
    /// All answered requests.
    pub fn answered(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Answers with this status.
    pub fn with_status(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or(0)
    }

    /// Answered requests per second.
    #[allow(clippy::cast_precision_loss)] // counts stay far below 2^52
    pub fn throughput(&self) -> f64 {
        self.answered() as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that this share (0 to 1) of the requests did not exceed.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_micros(self.latencies.value_at_quantile(share))
    }
}

/// A load that runs beside something else.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Result<Outcome>>,
}

impl Running {
    /// Requests sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits for its bound, and reports.
    pub async fn finish_at_bound(self) -> Result<Outcome> {
        self.task.await.context("the load panicked")?
    }

    /// Lets every connection finish its request, and reports.
    pub async fn finish(self) -> Result<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.context("the load panicked")?
    }
}

/// Runs the load to its bound.
pub async fn run(load: Load, target: &Target) -> Result<Outcome> {
    start(load, target).task.await.context("the load panicked")?
}

/// Starts the load; its bound still holds.
pub fn start(load: Load, target: &Target) -> Running {
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let task = tokio::spawn(all(load, target.clone(), Arc::clone(&stop), Arc::clone(&sent)));
    Running { stop, sent, task }
}

async fn all(load: Load, target: Target, stop: Arc<AtomicBool>, sent: Arc<AtomicU64>) -> Result<Outcome> {
    let barrier = Arc::new(Barrier::new(load.connections + 1));
    let target = Arc::new(target);
    let mut workers = JoinSet::new();
    for index in 0..load.connections {
        let worker = Worker {
            load,
            index,
            target: Arc::clone(&target),
            stop: Arc::clone(&stop),
            sent: Arc::clone(&sent),
            record: Record::new()?,
        };
        let barrier = Arc::clone(&barrier);
        workers.spawn(async move {
            let connection = worker.target.client.connect(&worker.target.host).await;
            barrier.wait().await;
            worker.run(connection?).await
        });
    }
    barrier.wait().await;
    let start = Instant::now();
    let mut total = Record::new()?;
    while let Some(done) = workers.join_next().await {
        total.add(done.context("a connection panicked")??)?;
    }
    let Record { statuses, failures, first_failure, latencies } = total;
    Ok(Outcome { statuses, failures, first_failure, latencies, elapsed: start.elapsed() })
}

struct Record {
    statuses: BTreeMap<u16, u64>,
    failures: u64,
    first_failure: Option<String>,
    latencies: Histogram<u64>,
}

impl Record {
    fn new() -> Result<Record> {
        let latencies = Histogram::new_with_max(LONGEST_MICROSECONDS, 3).map_err(|error| anyhow!("{error:?}"))?;
        Ok(Record { statuses: BTreeMap::new(), failures: 0, first_failure: None, latencies })
    }

    fn add(&mut self, other: Record) -> Result<()> {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.failures += other.failures;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.latencies.add(other.latencies).map_err(|error| anyhow!("{error:?}"))
    }
}

struct Worker {
    load: Load,
    index: usize,
    target: Arc<Target>,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    record: Record,
}

impl Worker {
    async fn run(mut self, connection: Connection) -> Result<Record> {
        let mut connection = Some(connection);
        let start = Instant::now();
        let mut round = 0_u32;
        loop {
            let number = self.sent.fetch_add(1, Ordering::Relaxed);
            let over = match self.load.bound {
                Bound::Time(time) => start.elapsed() >= time,
                Bound::Count(count) => number >= count,
            };
            if over || self.stop.load(Ordering::Relaxed) {
                self.sent.fetch_sub(1, Ordering::Relaxed);
                return Ok(self.record);
            }
            let due = match self.load.rate {
                None => Instant::now(),
                Some(rate) => {
                    let due = start + self.due(rate, round);
                    tokio::time::sleep_until(due).await;
                    due
                }
            };
            round = round.wrapping_add(1);
            match self.once(&mut connection).await {
                Ok(status) => {
                    *self.record.statuses.entry(status).or_default() += 1;
                    let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(LONGEST_MICROSECONDS);
                    self.record.latencies.saturating_record(micros);
                }
                Err(error) => {
                    connection = None;
                    self.record.failures += 1;
                    self.record.first_failure.get_or_insert_with(|| format!("{error:#}"));
                    // A gateway that is down must not be asked in a hot loop.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    /// When the connection's n-th request is due: the connections take turns evenly.
    #[allow(clippy::cast_precision_loss)] // small counts
    fn due(&self, rate: f64, round: u32) -> Duration {
        let turn = f64::from(round) * self.load.connections as f64 + self.index as f64;
        Duration::from_secs_f64(turn / rate)
    }

    async fn once(&self, connection: &mut Option<Connection>) -> Result<u16> {
        let target = &self.target;
        let open = match connection {
            Some(open) => open,
            None => connection.insert(target.client.connect(&target.host).await?),
        };
        let headers: Vec<(&str, &str)> = target.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let answer = open.send(request(&target.method, &target.host, &target.path, &headers, empty())?).await?;
        Ok(answer.status)
    }
}
