//! What it costs to keep many services in a real Consul: the first sync, one change, doing nothing, and memory.
//!
//! ```text
//!  this process ──"change 17"──► child: inputs as a watch sends them ─► Services ─► Consul ──blocking query──► this process
//! ```
//! The child is the sidecar's own machinery from the inputs on (worlds, followers, routes and the gate's file), in a process
//! of its own so that memory and processor time are its own. Sources, policy and limits are not in it. A change is one
//! endpoint whose readiness turns; it is over when a reader of the service sees it in Consul.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::{Instant, sleep};

use crate::client::Connection;
use crate::parts::RegistryParts;
use crate::registry::Registry;

mod child;
mod objects;
mod table;

pub use child::serve;
pub use table::{Row, Table};

use child::Child;

/// Instances of a service.
const INSTANCES: usize = 3;
/// Changes before those that count.
const WARM_UP: usize = 20;
/// How long a first sync may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(900);
const POLL: Duration = Duration::from_millis(20);

/// How to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Changes that count, for each number of services.
    pub changes: usize,
    /// How long nothing happens.
    pub idle: Duration,
}

/// Measures with so many services, on a Consul of its own below `folder`.
pub async fn measure(parts: &RegistryParts, folder: &Path, services: usize, plan: Plan) -> Result<Row> {
    let registry = Registry::start(&parts.consul, folder, None).await?;
    let mut child = Child::start(folder, &registry.address(), services).await?;
    let (consul, start) = (registry.usage()?.cpu, Instant::now());
    child.ask("whole").await?;
    while child.transactions().await?.is_none() {
        ensure!(start.elapsed() < PATIENCE, "no first sync within {PATIENCE:?}:\n{}", child.log_end());
        sleep(POLL).await;
    }
    let first_sync = start.elapsed();
    let (first_sync_cpu, first_sync_consul_cpu) = (child.usage()?.cpu, registry.usage()?.cpu.saturating_sub(consul));
    let node = registry.get("/v1/catalog/node-services/k8s-sync").await?;
    let found = node["Services"].as_array().map_or(0, Vec::len);
    ensure!(found == services * INSTANCES, "{found} instances of {services} services");
    drop(node);

    let before = child.transactions().await?;
    sleep(plan.idle).await;
    let idle_transactions = child.transactions().await?.unwrap_or(0) - before.unwrap_or(0);

    let latencies = changes(&registry, &mut child, services, 0..WARM_UP).await?;
    drop(latencies);
    let (cpu, consul) = (child.usage()?.cpu, registry.usage()?.cpu);
    let mut latencies = changes(&registry, &mut child, services, WARM_UP..WARM_UP + plan.changes).await?;
    let n = u32::try_from(plan.changes).unwrap_or(u32::MAX);
    let change_cpu = child.usage()?.cpu.saturating_sub(cpu) / n;
    let change_consul_cpu = registry.usage()?.cpu.saturating_sub(consul) / n;
    let resident_before_gate = child.usage()?.resident_bytes;

    // With the gate's file: written behind the changes, at its own pace.
    child.ask("gate").await?;
    let more = WARM_UP + plan.changes..WARM_UP + plan.changes + plan.changes / 2;
    let mut latencies_with_gate = changes(&registry, &mut child, services, more).await?;
    sleep(plan.idle).await;
    latencies.sort();
    latencies_with_gate.sort();
    Ok(Row {
        services,
        first_sync,
        first_sync_cpu,
        first_sync_consul_cpu,
        idle_transactions,
        p50: quantile(&latencies, 50),
        p99: quantile(&latencies, 99),
        p99_with_gate: quantile(&latencies_with_gate, 99),
        change_cpu,
        change_consul_cpu,
        resident_before_gate,
        resident: child.usage()?.resident_bytes,
        resident_most: child.most_resident()?,
    })
}

/// Turns the readiness of one endpoint after the other, and waits until each is seen.
async fn changes(
    registry: &Registry,
    child: &mut Child,
    services: usize,
    numbers: std::ops::Range<usize>,
) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    // Consul takes 200 connections of one client, and is slow to see that one is over.
    let mut connection = registry.connect().await?;
    for number in numbers {
        // Far from each other, and each service again and again where there are few.
        let (service, round) = (number * 37 % services, number / services);
        let is_ready = round % 2 == 1;
        let path = format!("/v1/health/service/{}", objects::name(service));
        let start = Instant::now();
        child.ask(&format!("change {service} {is_ready}")).await?;
        let wanted = usize::from(!is_ready);
        let mut index = 0;
        loop {
            let (critical, now) = critical(registry, &mut connection, &path, index).await?;
            if critical == wanted {
                break;
            }
            ensure!(start.elapsed() < Duration::from_secs(60), "a change was not seen:\n{}", child.log_end());
            index = now;
        }
        latencies.push(start.elapsed());
    }
    Ok(latencies)
}

/// How many instances are critical, and the index to wait on for the next change.
async fn critical(registry: &Registry, connection: &mut Connection, path: &str, index: u64) -> Result<(usize, u64)> {
    let (found, index) = registry.get_after(connection, path, index).await?;
    let instances = found.as_array().context("no list")?;
    let is_critical = |it: &&serde_json::Value| {
        it["Checks"].as_array().is_some_and(|checks| checks.iter().any(|check| check["Status"] == "critical"))
    };
    Ok((instances.iter().filter(is_critical).count(), index))
}

fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let place = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(place).copied().unwrap_or_default()
}
