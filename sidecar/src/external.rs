//! External services: machines without a Consul agent, from files, registered on Consul nodes of their own and probed.
//!
//! ```text
//!  files ─► file::load ─► desired ─► registrations ─┬─► services ─► routes; Consul, by the leader
//!                            └─► probes ─► health ──┘
//! ```
//! Only the leader probes; the others take its word from the catalog. Without Consul every sidecar probes for itself.

mod config;
mod desired;
mod file;
mod health;
mod probe;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
};

use self::{
    health::{Health, Outcome},
    probe::Prober,
};
use crate::{
    input::{Input, Inputs},
    sources::SourceErrors,
    sync::{Registration, SyncOptions},
    watch::{Watch, look_again},
};

pub use self::{
    config::ExternalConfig,
    desired::{Desired, Probe, desired},
    file::load,
    probe::ProbeError,
};

/// How many outcomes of probes may wait.
const WAITING: usize = 256;

/// What the section's files lead to now.
pub fn of(config: &ExternalConfig, options: &SyncOptions) -> Result<Desired, SourceErrors> {
    Ok(desired(&load(&config.directory)?, &config.name, options))
}

/// What the source says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum External {
    /// They replace what was known.
    Whole {
        /// The status of what was not probed here is empty.
        registrations: Vec<Registration>,
        /// Whether this sidecar leads and knows the status of all: then Consul is told.
        is_probed: bool,
        /// What is wrong with routing tags.
        notes: Vec<crate::sync::Note>,
    },
    /// The files cannot be read, and why: what is known stays in force.
    Broken(Vec<String>),
}

/// The source.
pub struct Source {
    config: ExternalConfig,
    options: SyncOptions,
    prober: Prober,
    /// Whether this sidecar probes, as it changes.
    leads: watch::Receiver<bool>,
    inputs: Inputs,
    outcomes: mpsc::Sender<(Probe, Outcome)>,
    desired: Desired,
    /// By probe: instances that share a place and a check share the probe.
    probes: BTreeMap<Probe, (Health, JoinHandle<()>)>,
    said: Option<External>,
}

// === impl Source ===

impl Source {
    /// A source that probes while `leads` says so.
    pub fn new(
        config: ExternalConfig,
        options: SyncOptions,
        leads: watch::Receiver<bool>,
        inputs: Inputs,
    ) -> Result<(Self, mpsc::Receiver<(Probe, Outcome)>), ProbeError> {
        let (outcomes, found) = mpsc::channel(WAITING);
        let (desired, probes) = (Desired::default(), BTreeMap::new());
        let prober = Prober::new(config.ca_file.as_deref())?;
        let source = Self { config, options, prober, leads, inputs, outcomes, desired, probes, said: None };
        Ok((source, found))
    }

    /// Tells what the files hold and how it is, now and after every change, until nobody listens.
    pub async fn follow(mut self, mut found: mpsc::Receiver<(Probe, Outcome)>) {
        let wake = Arc::new(Notify::new());
        let mut watches = [Watch::start(&self.config.directory, &wake)];
        let (mut leads, mut is_fixed, mut is_read) = (self.leads.clone(), false, false);
        loop {
            let broken = self.load().err();
            is_read |= broken.is_none();
            let mut told = match broken {
                Some(lines) => self.say(External::Broken(lines)).await,
                None => self.tell().await,
            };
            let look = look_again(&wake, &mut watches);
            tokio::pin!(look);
            while told {
                tokio::select! {
                    () = &mut look => break,
                    Some((probe, outcome)) = found.recv() => {
                        if self.observe(&probe, outcome) && is_read {
                            told = self.tell().await;
                        }
                    }
                    changed = leads.changed(), if !is_fixed => {
                        // Nobody is left to say otherwise: without Consul, from the beginning.
                        is_fixed = changed.is_err();
                        self.probe();
                        if is_read {
                            told = self.tell().await;
                        }
                    }
                }
            }
            if !told {
                return;
            }
        }
    }

    fn load(&mut self) -> Result<(), Vec<String>> {
        let lines = |errors: SourceErrors| errors.0.iter().map(ToString::to_string).collect::<Vec<_>>();
        self.desired = of(&self.config, &self.options).map_err(lines)?;
        self.probe();
        Ok(())
    }

    /// Starts the probes that lack, and ends those that nobody wants.
    fn probe(&mut self) {
        let wanted: BTreeSet<&Probe> =
            if *self.leads.borrow() { self.desired.probes.iter().flatten().collect() } else { BTreeSet::new() };
        self.probes.retain(|probe, (_, task)| {
            let is_wanted = wanted.contains(probe);
            if !is_wanted {
                task.abort();
            }
            is_wanted
        });
        for probe in wanted {
            if !self.probes.contains_key(probe) {
                let task = tokio::spawn(self.prober.clone().follow(probe.clone(), self.outcomes.clone()));
                self.probes.insert(probe.clone(), (Health::default(), task));
            }
        }
    }

    /// Whether that changes what is to be told.
    fn observe(&mut self, probe: &Probe, outcome: Outcome) -> bool {
        self.probes.get_mut(probe).is_some_and(|(health, _)| health.observe(outcome, &probe.check))
    }

    /// Whether somebody listens.
    async fn tell(&mut self) -> bool {
        let (mut registrations, mut is_probed) = (self.desired.registrations.clone(), *self.leads.borrow());
        for (registration, probes) in registrations.iter_mut().zip(&self.desired.probes) {
            if probes.is_empty() {
                continue;
            }
            let check = &mut registration.check;
            match status(probes, &self.probes) {
                Some((status, output)) => (check.status, check.output) = (status.to_owned(), output),
                None => {
                    check.status.clear();
                    is_probed = false;
                }
            }
        }
        self.say(External::Whole { registrations, is_probed, notes: self.desired.notes.clone() }).await
    }

    async fn say(&mut self, says: External) -> bool {
        if self.said.as_ref() == Some(&says) {
            return true;
        }
        self.said = Some(says.clone());
        self.inputs.send(Input::External(says)).await.is_ok()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.probes.values().for_each(|(_, task)| task.abort());
    }
}

/// Status and output of an instance; `None` before all its probes have been tried. The text is the same for the same
/// status, so that a status is written once.
fn status(probes: &[Probe], known: &BTreeMap<Probe, (Health, JoinHandle<()>)>) -> Option<(&'static str, String)> {
    let mut failed = None;
    for probe in probes {
        if let Err(why) = known.get(probe)?.0.verdict()? {
            failed.get_or_insert_with(|| format!("{}: {why}", probe.target()));
        }
    }
    Some(match failed {
        Some(why) => ("critical", why),
        None => ("passing", format!("{} answers", probes.iter().map(Probe::target).collect::<Vec<_>>().join(", "))),
    })
}
