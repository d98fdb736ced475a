//! Noticing that somebody changed the catalog (H4), without reading it: blocking queries whose lists are filtered away.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{client::Client, error::ConsulError, live::Scope};

/// Between two looks at least this long, since our own writes show up too; and this many times what the last read took, so
/// that reading a large catalog never becomes the main thing that we do.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_PER_READ: u32 = 20;
/// After a failed query.
const RETRY: Duration = Duration::from_secs(1);

/// The two indexes that move with our instances: one of services, one of checks.
#[derive(Debug)]
pub(super) struct Drift {
    services: Query,
    checks: Query,
    not_before: Instant,
}

#[derive(Debug)]
struct Query {
    path: String,
    parameters: Vec<(&'static str, String)>,
    index: u64,
}

impl Drift {
    pub(super) fn new(scope: &Scope) -> Self {
        let node = &scope.node;
        let query = |path: String, filter: &str| {
            let mark = scope.per_node.then(|| ("node-meta", scope.node_mark()));
            let parameters = mark.into_iter().chain([("filter", format!("{filter} == \"\""))]).collect();
            Query { path, parameters, index: 0 }
        };
        let (services, checks) = if scope.per_node {
            // Wakes on any instance of the catalog: one query instead of one for each node.
            (query("/v1/catalog/nodes".to_owned(), "Node"), query("/v1/health/state/any".to_owned(), "CheckID"))
        } else {
            (
                query(format!("/v1/catalog/node-services/{node}"), "ID"),
                query(format!("/v1/health/node/{node}"), "CheckID"),
            )
        };
        Self { services, checks, not_before: Instant::now() }
    }

    /// Tells how long reading took.
    pub(super) fn was_read(&mut self, took: Duration) {
        self.not_before = Instant::now() + PAUSE.max(took * PAUSE_PER_READ);
    }

    /// Returns when something has changed since the last time, or when nobody can tell, because a query failed; at once for
    /// the first time. May be dropped and called again.
    pub(super) async fn moved(&mut self, client: &Client) {
        tokio::time::sleep_until(self.not_before).await;
        let outcome = tokio::select! {
            outcome = self.services.moved(client) => outcome,
            outcome = self.checks.moved(client) => outcome,
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "the watch on Consul's catalog failed");
            // The index may belong to a state that is gone.
            (self.services.index, self.checks.index) = (0, 0);
            tokio::time::sleep(RETRY).await;
        }
    }
}

impl Query {
    async fn moved(&mut self, client: &Client) -> Result<(), ConsulError> {
        let parameters: Vec<_> = self.parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
        loop {
            let index = client.get_after::<Value>(&self.path, &parameters, self.index).await?.index;
            if index != self.index {
                // Going backwards is a restored snapshot: begin anew.
                self.index = if index < self.index { 0 } else { index };
                return Ok(());
            }
        }
    }
}
