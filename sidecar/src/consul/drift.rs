//! Noticing that somebody changed the catalog (H4), without reading it: blocking queries whose lists are filtered away.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use super::{client::Client, error::ConsulError, live::Scope};

/// Between two looks at least this long, since our own writes show up too; and this many times what the last read took, so
/// that reading a large catalog never becomes the main thing that we do.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_PER_READ: u32 = 20;
/// And at most this long, whatever it took.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Our own writes are told apart by their index, and one of somebody else just before may hide behind them. So after them
/// there is a look as well, but later: it must not become part of the cost of every change.
const AFTER_OWN: Duration = Duration::from_secs(30);
const AFTER_OWN_PER_READ: u32 = 200;
/// How many of our last writes are told apart.
const REMEMBERED: usize = 1024;
/// How many answers may wait.
const WAITING: usize = 64;
/// After a failed query.
const RETRY: Duration = Duration::from_secs(1);

/// The indexes that move with our instances: of services and of checks, on the synthetic node and on those of our own.
#[derive(Debug)]
pub(super) struct Drift {
    /// What the queries were answered: an index, or nothing where one failed.
    answers: mpsc::Receiver<Option<u64>>,
    /// They go on while something is written: an abandoned blocking query holds one of the 200 connections that Consul takes of
    /// a client until it would have been answered.
    _queries: JoinSet<()>,
    not_before: Instant,
    /// Raft indexes of our own last writes.
    ours: BTreeSet<u64>,
    /// When there is a look because of them.
    look: Option<Instant>,
    /// How long after them.
    after_own: Duration,
    pace: Pace,
}

/// How long reading everything takes.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Duration>,
}

#[derive(Debug)]
struct Query {
    path: String,
    parameters: Vec<(&'static str, String)>,
    index: u64,
}

impl Drift {
    /// Begins to watch.
    pub(super) fn new(client: &Arc<Client>, scope: &Scope) -> Self {
        let node = &scope.node;
        let query = |path: String, mark: Option<String>, filter: &str| {
            let mark = mark.map(|mark| ("node-meta", mark));
            Query {
                path,
                parameters: mark.into_iter().chain([("filter", format!("{filter} == \"\""))]).collect(),
                index: 0,
            }
        };
        let mut all = vec![
            query(format!("/v1/catalog/node-services/{node}"), None, "ID"),
            query(format!("/v1/health/node/{node}"), None, "CheckID"),
        ];
        if scope.per_node {
            // One query for all nodes that bear our mark. (That of nodes does not wake when an instance on one changes.) What is
            // left on the synthetic node is ours to take away, and nobody says whether it bears the mark.
            let mark = scope.node_mark();
            all.push(query("/v1/catalog/services".to_owned(), Some(mark.clone()), "ServiceName"));
            all.push(query("/v1/health/state/any".to_owned(), Some(mark), "CheckID"));
        }
        let (told, answers) = mpsc::channel(WAITING);
        let mut queries = JoinSet::new();
        for query in all {
            queries.spawn(query.follow(Arc::clone(client), told.clone()));
        }
        let (ours, look, after_own) = (BTreeSet::new(), None, AFTER_OWN);
        let pace = Pace::default();
        Self { answers, _queries: queries, not_before: Instant::now(), ours, look, after_own, pace }
    }

    /// Tells that everything is read from now on: what was answered before is in it.
    pub(super) fn reads(&mut self) {
        while self.answers.try_recv().is_ok() {}
    }

    /// Tells how long reading took.
    pub(super) fn was_read(&mut self, took: Duration) {
        let cost = self.pace.cost(took);
        self.not_before = Instant::now() + pause(cost);
        self.after_own = AFTER_OWN.max(cost * AFTER_OWN_PER_READ);
        self.look = None;
    }

    /// Tells the index of a write of ours.
    pub(super) fn wrote(&mut self, index: u64) {
        if index > 0 {
            self.ours.insert(index);
        }
        if self.ours.len() > REMEMBERED {
            self.ours.pop_first();
        }
    }

    /// Returns when something has changed since the last time, or when nobody can tell, because a query failed; at once for
    /// the first time. May be dropped and called again.
    pub(super) async fn moved(&mut self) {
        tokio::time::sleep_until(self.not_before).await;
        loop {
            let look = self.look;
            let due = async move {
                match look {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let answer = tokio::select! {
                answer = self.answers.recv() => answer.flatten(),
                () = due => return,
            };
            match answer {
                Some(index) if self.ours.contains(&index) => {
                    self.look.get_or_insert(Instant::now() + self.after_own);
                }
                _ => return,
            }
        }
    }
}

fn pause(cost: Duration) -> Duration {
    PAUSE.max(cost * PAUSE_PER_READ).min(LONGEST_PAUSE)
}

// === impl Pace ===

impl Pace {
    /// What a read costs that took so long. A Consul that elects a leader lets a question wait for seconds, and that costs
    /// nobody anything: a read counts for no more than the one before it.
    fn cost(&mut self, took: Duration) -> Duration {
        self.last.replace(took).map_or(took, |last| last.min(took))
    }
}

// === impl Query ===

impl Query {
    /// Asks until nobody wants to know.
    async fn follow(mut self, client: Arc<Client>, told: mpsc::Sender<Option<u64>>) {
        loop {
            let answer = self.moved(&client).await;
            if let Err(error) = &answer {
                tracing::debug!(%error, "the watch on Consul's catalog failed");
                // The index may belong to a state that is gone.
                self.index = 0;
                tokio::time::sleep(RETRY).await;
            }
            if told.send(answer.ok()).await.is_err() {
                return;
            }
        }
    }

    /// The index that it has moved to; 0, which is nobody's, if that was backwards.
    async fn moved(&mut self, client: &Client) -> Result<u64, ConsulError> {
        let parameters: Vec<_> = self.parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
        loop {
            let index = client.get_after::<Value>(&self.path, &parameters, self.index).await?.index;
            if index != self.index {
                // Going backwards is a restored snapshot: begin anew.
                self.index = if index < self.index { 0 } else { index };
                return Ok(self.index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_read_makes_nobody_blind() {
        let mut pace = Pace::default();
        let mut after = |millis| pause(pace.cost(Duration::from_millis(millis))).as_millis();
        assert_eq!(after(10), 1_000);
        // A restart of Consul.
        assert_eq!(after(3_000), 1_000);
        assert_eq!(after(200), 4_000, "one of a catalog that has grown");
        assert_eq!(after(300), 4_000);
        assert_eq!(after(9_000), 6_000);
        assert_eq!(after(9_000), 30_000);
    }
}
