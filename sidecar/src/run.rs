//! `portcullis run`: keeps the snapshot and the gate's file in step with the directories, until it is told to stop.
//!
//! Level-triggered: every pass reads everything and writes what differs. An event only says "look again", so a missed one
//! costs time and never correctness; a pass that fails leaves the last good files in force.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use portcullis_policy::{Policy, Severity};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
    time::timeout,
};

use crate::{
    config::Config,
    gate,
    kube::Cluster,
    limits::{Limits, Names},
    policy,
    publish::{self, PublishError},
    sync::{self, desired, routes},
    watch::Watch,
};

/// A pass even without an event: for file systems that tell nobody, and events that were lost.
const PERIOD: Duration = Duration::from_secs(10);
/// A burst of events is over after this long without one.
const QUIET: Duration = Duration::from_millis(30);
/// Under a storm of events, a pass comes at least this often.
const LONGEST_WAIT: Duration = Duration::from_millis(300);
/// How often the watched directories are looked at themselves: one that is replaced takes its watch with it.
const LOOK: Duration = Duration::from_millis(500);

/// What is in force and what was said about it.
struct State {
    config: Config,
    policy: Option<Policy>,
    complaints: Complaints,
    /// What the limits in force are called, for the metrics.
    names: Arc<Names>,
}

/// What was logged last, so that a standing fault is logged once and its end too.
#[derive(Default)]
struct Complaints {
    policy: Vec<String>,
    services: Vec<String>,
}

/// Returns when a watched directory is no longer the one that was watched.
async fn replaced(watches: &mut [Watch]) {
    loop {
        tokio::time::sleep(LOOK).await;
        let mut any = false;
        for watch in &mut *watches {
            any |= watch.renew();
        }
        if any {
            return;
        }
    }
}

/// Runs until SIGINT or SIGTERM.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let wake = Arc::new(Notify::new());
    let mut watches = [Watch::start(&config.manifests, &wake), Watch::start(&config.policy.directory, &wake)];
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let names = Arc::new(Names::default());
    let limits = Limits::start(config.limits.as_ref(), config.metrics.as_ref(), names.clone())
        .context("starting what belongs to limits and metrics")?;
    let mut state = State { config, policy: None, complaints: Complaints::default(), names };
    tracing::info!(
        manifests = %state.config.manifests.display(),
        policy = %state.config.policy.directory.display(),
        "watching"
    );
    loop {
        state.pass();
        tokio::select! {
            () = wake.notified() => settle(&wake).await,
            () = tokio::time::sleep(PERIOD) => {}
            () = replaced(&mut watches) => {}
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    drop(limits);
    tracing::info!("stopped; the gateway goes on with the last good policy");
    Ok(())
}

/// Waits until a burst of events is over: a file that is being written is read when it is whole.
async fn settle(wake: &Notify) {
    let quiet = async { while timeout(QUIET, wake.notified()).await.is_ok() {} };
    // Running out of time is fine: the next pass will see the rest.
    let _ = timeout(LONGEST_WAIT, quiet).await;
}

// === impl State ===

impl State {
    fn pass(&mut self) {
        if let Err(error) = self.publish_policy() {
            tracing::error!(%error, "the snapshot cannot be written; the last good policy stays in force");
        }
        if let Err(error) = self.publish_gate() {
            tracing::error!(%error, "the gate's file cannot be written; the last one stays in force");
        }
    }

    fn publish_policy(&mut self) -> Result<(), PublishError> {
        let loaded = match policy::load(&self.config.policy.directory, self.config.policy.settings()) {
            Ok(loaded) => loaded,
            Err(error) => {
                self.complaints.policy(vec![(Severity::Fatal, error.to_string())]);
                return Ok(());
            }
        };
        self.complaints.policy(loaded.problems.iter().map(|it| (it.severity, it.to_string())).collect());
        if loaded.is_fatal() || self.policy.as_ref() == Some(&loaded.policy) {
            return Ok(());
        }
        let generation = publish::snapshot(&self.config.snapshot.file, &loaded.policy)?;
        tracing::info!(generation, intentions = loaded.policy.intentions.len(), "policy published");
        self.names.set(policy::limit_names(&loaded.policy));
        self.policy = Some(loaded.policy);
        Ok(())
    }

    fn publish_gate(&mut self) -> Result<(), PublishError> {
        let cluster = match Cluster::load_directory(&self.config.manifests) {
            Ok(cluster) => cluster,
            Err(errors) => {
                self.complaints.services(errors.iter().map(|error| (true, error.to_string())).collect());
                return Ok(());
            }
        };
        let desired = desired(&cluster, &self.config.sync);
        let (routes, notes) = routes(&desired.registrations);
        let notes = desired.notes.iter().chain(&notes);
        self.complaints
            .services(notes.map(|note| (note.severity == sync::Severity::Error, note.to_string())).collect());
        if publish::text(&self.config.gate.file, &gate::render(&routes, &self.config.gate))? {
            tracing::info!(services = routes.len(), instances = desired.registrations.len(), "gate written");
        }
        Ok(())
    }
}

// === impl Complaints ===

impl Complaints {
    fn policy(&mut self, problems: Vec<(Severity, String)>) {
        let texts: Vec<_> = problems.iter().map(|(_, text)| text.clone()).collect();
        if texts == self.policy {
            return;
        }
        for (severity, text) in problems {
            match severity {
                Severity::Fatal => tracing::error!("{text}; the last good policy stays in force"),
                Severity::Error => tracing::error!("{text}"),
                Severity::Warning => tracing::warn!("{text}"),
            }
        }
        if texts.is_empty() && !self.policy.is_empty() {
            tracing::info!("the policy has no problems any more");
        }
        self.policy = texts;
    }

    fn services(&mut self, notes: Vec<(bool, String)>) {
        let texts: Vec<_> = notes.iter().map(|(_, text)| text.clone()).collect();
        if texts == self.services {
            return;
        }
        for (is_error, text) in notes {
            if is_error { tracing::error!("{text}") } else { tracing::warn!("{text}") }
        }
        self.services = texts;
    }
}
