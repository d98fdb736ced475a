//! Where policy comes from: files, Kubernetes' resources, Consul's keys and config entries.
//!
//! ```text
//!  directory ─┐
//!  resources ─┼─► Told (all that a list holds now, or why it cannot be read) ─► join ─► documents ─► policies
//!  consul ────┘                                                                  └──► conflicts
//! ```
//! Each list is a task of its own that reads and waits; `join` alone decides what follows from all of them (ADR 15). A list that
//! fails keeps what it held, and the others go on.

pub mod config;
mod conflict;
mod consul;
mod directory;
mod join;
mod pace;

use std::time::Duration;

use anyhow::Context as _;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout_at},
};

pub use self::{
    conflict::{Conflict, Hides},
    join::{Joined, PartId, Source, Sources},
};
use crate::{
    config::Config,
    consul::{Client, ConsulError},
    documents::Document,
    kube::resources::{self, RESOURCES},
};

/// What a list says.
#[derive(Debug)]
pub struct Told {
    /// Which list.
    pub part: PartId,
    /// All that it holds now, or why that is not known.
    pub says: Result<Vec<Document>, String>,
}

/// Where lists say it.
pub type Ears = mpsc::Sender<Told>;

/// What may wait for us: a list that is faster waits.
const WAITING: usize = 64;
/// How long changes that come together are gathered.
const GATHER: Duration = Duration::from_millis(8);
/// How long a command waits for all lists.
const PATIENCE: Duration = Duration::from_secs(30);

/// All sources of a configuration, being read.
#[derive(Debug)]
pub struct Reading {
    /// What they have told.
    pub sources: Sources,
    told: mpsc::Receiver<Told>,
    // Dropped with us, which ends them.
    _tasks: JoinSet<()>,
}

// === impl Reading ===

impl Reading {
    /// Starts reading. The sources are in the order of precedence: files, clusters as they are configured, Consul's keys, Consul's
    /// config entries.
    pub fn start(config: &Config) -> Result<Self, ConsulError> {
        let (ears, told) = mpsc::channel(WAITING);
        let (mut sources, mut tasks) = (Vec::new(), JoinSet::new());
        if let Some(directory) = &config.policy.directory {
            tasks.spawn(directory::follow(directory.clone(), (sources.len(), 0), ears.clone()));
            let name = directory.display().to_string();
            sources.push(Source::new(&name, true, [name.clone()]));
        }
        for cluster in config.clusters.iter().filter(|cluster| cluster.policy) {
            let scopes = cluster.scopes();
            let places = scopes.iter().map(|it| it.as_ref().map(|it| format!(" in {it}")).unwrap_or_default());
            let name = format!("cluster {}", cluster.name);
            let parts: Vec<_> = places.flat_map(|it| RESOURCES.map(|kind| format!("{name}: {kind}{it}"))).collect();
            tasks.spawn(resources::follow(cluster.clone(), sources.len(), ears.clone()));
            sources.push(Source::new(&name, false, parts));
        }
        if let Some(policy) = &config.policy.consul {
            let mut ways = Vec::new();
            for way in policy.ways(config.consul.as_ref()) {
                let name = way.datacenter.as_ref().filter(|_| policy.datacenters.len() > 1);
                let name = name.map_or_else(|| "consul".to_owned(), |name| format!("consul {name}"));
                tasks.spawn(consul::compare_default(Client::new(&way)?, config.policy.default));
                ways.push((name, Client::new(&way)?));
            }
            for lists in [consul::keys, consul::entries] {
                for (name, client) in &ways {
                    let lists = lists(policy);
                    if lists.is_empty() {
                        continue;
                    }
                    let parts: Vec<_> = lists.iter().map(|list| format!("{name}: {list}")).collect();
                    for (number, list) in lists.into_iter().enumerate() {
                        let place = (sources.len(), number);
                        tasks.spawn(consul::follow(client.clone(), list, name.clone(), place, ears.clone()));
                    }
                    sources.push(Source::new(name, false, parts));
                }
            }
        }
        Ok(Self { sources: Sources::new(sources), told, _tasks: tasks })
    }

    /// Returns when something was told, and what was told together with it is taken too; whether the policy may be another one.
    /// May be dropped and called again.
    pub async fn changed(&mut self) -> bool {
        let Some(first) = self.told.recv().await else {
            // Lists never end.
            return std::future::pending().await;
        };
        let mut changed = self.sources.take(first.part, first.says);
        let end = Instant::now() + GATHER;
        while let Ok(Some(more)) = timeout_at(end, self.told.recv()).await {
            changed |= self.sources.take(more.part, more.says);
        }
        changed
    }
}

/// As [`read_now`], for commands that wait for nothing else.
pub fn read_once(config: &Config) -> anyhow::Result<Joined> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(read_now(config))
}

/// Reads every source once, for commands that do not stay: all, or none.
pub async fn read_now(config: &Config) -> anyhow::Result<Joined> {
    let mut reading = Reading::start(config)?;
    let end = Instant::now() + PATIENCE;
    while !reading.sources.have_spoken() {
        let missing = || format!("no answer in time: {}", reading.sources.missing().join(", "));
        let missing = missing();
        timeout_at(end, reading.changed()).await.context(missing)?;
    }
    let faults = reading.sources.faults();
    if !faults.is_empty() {
        let faults: Vec<_> = faults.iter().map(|(name, fault)| format!("{name}: {fault}")).collect();
        anyhow::bail!("{}", faults.join("\n"));
    }
    Ok(reading.sources.join())
}
