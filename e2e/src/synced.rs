//! What a sidecar keeps in a registry, as tests look at it, and waiting for it.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::registry::Registry;

/// How often is asked.
const POLL: Duration = Duration::from_millis(10);

/// All instances on the synthetic node.
///
/// # Panics
/// When the registry does not answer.
pub async fn services(registry: &Registry) -> Vec<Value> {
    let node = registry.get("/v1/catalog/node-services/k8s-sync").await.unwrap();
    node["Services"].as_array().cloned().unwrap_or_default()
}

/// IDs of all instances on the node with the index of their last write.
///
/// # Panics
/// When the registry does not answer.
pub async fn writes(registry: &Registry) -> Vec<(String, u64)> {
    let of = |it: &Value| (it["ID"].as_str().unwrap().to_owned(), it["ModifyIndex"].as_u64().unwrap());
    services(registry).await.iter().map(of).collect()
}

/// Waits until something holds; how long it took.
///
/// # Panics
/// When it does not hold in time.
pub async fn wait_for(what: &str, within: Duration, holds: impl AsyncFn() -> bool) -> Duration {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < within, "waited for {what}");
        sleep(POLL).await;
    }
    start.elapsed()
}
