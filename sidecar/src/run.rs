//! `portcullis run`: starts the sources, keeps the snapshot and what follows from services in step with them, until it is told to stop.
//!
//! Level-triggered: whoever looks reads all and writes what differs. An event only says "look again", so a missed one
//! costs time and never correctness; a look that fails leaves the last good files in force.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinHandle,
};

use crate::{
    config::Config,
    consul::{Scope, catalog::Watcher},
    external,
    gate::Output,
    gate_writer::{self, Table},
    input::{self, Inputs},
    kube::{directory, follow::follow},
    limits::{Limits, Names},
    numbers::Numbers,
    policies::Policies,
    services::Services,
};

/// Runs until SIGINT or SIGTERM.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let names = Arc::new(Names::default());
    let numbers = Numbers::default();
    let (output, routes) = (Arc::new(Output::start(&config)?), Table::new());
    let mut services = Services::start(&config, routes.clone(), numbers.clone())?;
    let beside = (config.consul.is_some() || config.external.is_some()).then(|| services.others().numbers().clone());
    let policies = Policies::start(&config, names.clone(), numbers.clone()).context("preparing to read policy")?;
    let limits = Limits::start(config.limits.as_ref(), config.metrics.as_ref(), names, numbers, beside)
        .context("starting what belongs to limits and metrics")?;
    let (inputs, mut said) = mpsc::channel(input::WAITING);
    let mut tasks = further(&config, &services, &inputs)?;
    for source in policies.sources() {
        tracing::info!(policy = source, "watching");
    }
    tasks.push(tokio::spawn(gate_writer::follow(routes, Arc::clone(&output))));
    if let Some(manifests) = &config.manifests {
        tracing::info!(manifests = %manifests.display(), "watching");
        let follow = directory::follow(manifests.clone(), config.sync.cluster_name.clone(), inputs.clone());
        tasks.push(tokio::spawn(follow));
    }
    for cluster in &config.clusters {
        tracing::info!(cluster = %cluster.name, "watching");
        tasks.push(tokio::spawn(follow(cluster.clone(), inputs.clone())));
    }
    drop(inputs);
    tasks.push(tokio::spawn(policies.follow()));
    tokio::select! {
        // Their end would be a fault of all sources at once; whoever watches us starts us again.
        () = services.follow(&mut said) => tracing::error!("no source is left"),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    for task in tasks {
        task.abort();
        // It was told to.
        let _ = task.await;
    }
    services.stop().await;
    if let Some(output) = Arc::into_inner(output) {
        output.stop().await;
    }
    drop(limits);
    tracing::info!("stopped; the gateway goes on with the last good policy");
    Ok(())
}

/// The sources beside Kubernetes: what others registered in Consul, and external services.
fn further(config: &Config, services: &Services, inputs: &Inputs) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let mut sources = Vec::new();
    if let Some(consul) = config.consul.as_ref().filter(|_| config.catalog.watch) {
        let catalog = if config.external.is_some() { config.catalog.of_all() } else { config.catalog.clone() };
        let watcher = Watcher::new(consul, &catalog, config.clusters_options().iter().map(Scope::new).collect())?;
        sources.push(tokio::spawn(watcher.follow(inputs.clone())));
    }
    if let Some(external) = &config.external {
        let (leads, inputs) = (services.others().leads(), inputs.clone());
        let (source, found) = external::Source::new(external.clone(), config.sync.clone(), leads, inputs)?;
        sources.push(tokio::spawn(source.follow(found)));
    }
    Ok(sources)
}
