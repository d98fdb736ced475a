//! An attack: many keep-alive connections that ask as fast as they are answered, and remember every request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::bound::Shot;
use crate::client::{Client, Connection, empty, request};

/// How long a connection waits after a failure: a gateway that is down must not be asked in a hot loop.
const AFTER_FAILURE: Duration = Duration::from_millis(5);
/// How long one request may take; more is a failure.
const PATIENCE: Duration = Duration::from_secs(10);

/// When the connections ask.
#[derive(Debug, Clone, Copy)]
pub enum Pattern {
    /// All the time.
    Flood,
    /// For a while, over and over, idle in between.
    Pulse {
        /// From one beginning to the next.
        every: Duration,
        /// How long each lasts.
        lasting: Duration,
    },
}

/// What is asked, and by whom.
#[derive(Debug, Clone)]
pub struct Target {
    /// The gateway's plain entry point.
    pub address: SocketAddr,
    /// The host.
    pub host: String,
    /// The path.
    pub path: String,
    /// The headers of each key; one of them is taken at random for each request. At least one.
    pub keys: Vec<Vec<(String, String)>>,
}

/// How hard.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// When they ask.
    pub pattern: Pattern,
    /// From the first request to the last.
    pub lasting: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// Every answered request.
    pub shots: Vec<Shot>,
    /// Requests without an answer: refused and broken connections.
    pub failures: u64,
    /// Those of them that were on their way when the connection broke: they may have been judged.
    pub lost: u64,
    /// Why the first of them failed.
    pub first_failure: Option<String>,
}

impl Report {
    /// Answers by status.
    pub fn statuses(&self) -> BTreeMap<u16, u64> {
        self.shots.iter().fold(BTreeMap::new(), |mut statuses, shot| {
            *statuses.entry(shot.status).or_default() += 1;
            statuses
        })
    }

    /// The latency that this share (0 to 1) of the answers with this status did not exceed.
    pub fn quantile(&self, status: u16, share: f64) -> Option<Duration> {
        let mut latencies: Vec<Duration> =
            self.shots.iter().filter(|shot| shot.status == status).map(Shot::latency).collect();
        latencies.sort_unstable();
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let index = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
        latencies.get(index).copied()
    }

    fn add(&mut self, other: Report) {
        self.shots.extend(other.shots);
        self.failures += other.failures;
        self.lost += other.lost;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }
}

/// Runs it to its end. The connections are open before the clock starts.
pub async fn run(attack: Attack, target: Target) -> Result<Report> {
    run_all(attack, vec![target]).await?.pop().context("no target")
}

/// Runs it on several targets at once, so many connections to each, by one clock.
pub async fn run_all(attack: Attack, targets: Vec<Target>) -> Result<Vec<Report>> {
    let barrier = Arc::new(Barrier::new(attack.connections * targets.len()));
    let mut total: Vec<Report> = targets.iter().map(|_| Report::default()).collect();
    let mut workers = JoinSet::new();
    for (index, target) in targets.into_iter().enumerate() {
        let target = Arc::new(target);
        for _ in 0..attack.connections {
            let worker = worker(attack, Arc::clone(&target), Arc::clone(&barrier));
            workers.spawn(async move { (index, worker.await) });
        }
    }
    // All begin within the same moment; the earliest is the zero of all.
    let mut reports = Vec::new();
    while let Some(done) = workers.join_next().await {
        let (index, report) = done.context("a connection panicked")?;
        reports.push((index, report?));
    }
    let zero = reports.iter().map(|(_, (start, _))| *start).min().context("no connections")?;
    for (index, (start, mut report)) in reports {
        let late = start.saturating_duration_since(zero);
        for shot in &mut report.shots {
            shot.sent += late;
            shot.answered += late;
        }
        total[index].add(report);
    }
    Ok(total)
}

async fn worker(attack: Attack, target: Arc<Target>, barrier: Arc<Barrier>) -> Result<(Instant, Report)> {
    let client = Client::plain(target.address);
    let mut connection: Option<Connection> = client.connect(&target.host).await.ok();
    barrier.wait().await;
    let start = Instant::now();
    let mut report = Report::default();
    loop {
        let now = start.elapsed();
        if now >= attack.lasting {
            return Ok((start, report));
        }
        if let Some(idle) = attack.pattern.idle(now) {
            tokio::time::sleep_until(start + (now + idle).min(attack.lasting)).await;
            continue;
        }
        let open = match connection.as_mut() {
            Some(open) => open,
            None => match client.connect(&target.host).await {
                Ok(open) => connection.insert(open),
                Err(error) => {
                    report.fail(&error);
                    tokio::time::sleep(AFTER_FAILURE).await;
                    continue;
                }
            },
        };
        let key = fastrand::usize(..target.keys.len());
        let headers: Vec<(&str, &str)> = target.keys[key].iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let request = request("GET", &target.host, &target.path, &headers, empty())?;
        let sent = start.elapsed();
        match tokio::time::timeout(PATIENCE, open.send(request)).await.context("no answer").flatten() {
            // Traefik listens before it has its routers: nobody has judged the request.
            Ok(answer) if answer.status == 404 => {
                report.fail(&anyhow::anyhow!("no router"));
                tokio::time::sleep(AFTER_FAILURE).await;
            }
            Ok(answer) => {
                report.shots.push(Shot { key, sent, answered: start.elapsed(), status: answer.status });
            }
            Err(error) => {
                connection = None;
                report.lost += 1;
                report.fail(&error);
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
}

impl Report {
    fn fail(&mut self, error: &anyhow::Error) {
        self.failures += 1;
        self.first_failure.get_or_insert_with(|| format!("{error:#}"));
    }
}

impl Pattern {
    /// How long nothing is to be asked from now on; none: ask.
    fn idle(self, now: Duration) -> Option<Duration> {
        let Pattern::Pulse { every, lasting } = self else { return None };
        let into = Duration::from_secs_f64(now.as_secs_f64() % every.as_secs_f64());
        (into >= lasting).then(|| every.saturating_sub(into).max(Duration::from_millis(1)))
    }
}
