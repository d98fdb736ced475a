//! Noticing that something moved in the catalog, without reading it: blocking queries whose lists are filtered away.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use crate::consul::{client::Client, error::ConsulError};

/// After a failed query.
const RETRY: Duration = Duration::from_secs(1);

/// The two indexes that move: with any instance, and with any check.
#[derive(Debug)]
pub(super) struct Wake {
    client: Client,
    instances: Query,
    checks: Query,
}

#[derive(Debug)]
struct Query {
    path: &'static str,
    filter: &'static str,
    index: u64,
}

// === impl Wake ===

impl Wake {
    pub(super) fn new(client: Client) -> Self {
        let query = |path, filter| Query { path, filter, index: 0 };
        let instances = query("/v1/catalog/nodes", "Node == \"\"");
        Self { client, instances, checks: query("/v1/health/state/any", "CheckID == \"\"") }
    }

    /// Returns when something has moved since the last time, at once for the first; whether it may have been an instance, which
    /// is so as well when nobody can tell. May be dropped and called again.
    pub(super) async fn moved(&mut self) -> bool {
        let outcome = tokio::select! {
            outcome = self.instances.moved(&self.client) => outcome.map(|()| true),
            outcome = self.checks.moved(&self.client) => outcome.map(|()| false),
        };
        match outcome {
            Ok(instances) => instances,
            Err(error) => {
                tracing::debug!(%error, "the watch on Consul's catalog failed");
                // The index may belong to a state that is gone.
                (self.instances.index, self.checks.index) = (0, 0);
                sleep(RETRY).await;
                true
            }
        }
    }
}

impl Query {
    async fn moved(&mut self, client: &Client) -> Result<(), ConsulError> {
        loop {
            let index = client.get_after::<Value>(self.path, &[("filter", self.filter)], self.index).await?.index;
            if index != self.index {
                // Going backwards is a restored snapshot: begin anew.
                self.index = if index < self.index { 0 } else { index };
                return Ok(());
            }
        }
    }
}
