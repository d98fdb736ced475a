//! All that is known of services, from every source, and what follows from it: the gate's file and Consul's catalog.

use std::collections::BTreeMap;

use crate::{
    config::{Config, GateConfig},
    consul::{ConsulError, Follower, Wanted},
    gate,
    input::{Input, Said},
    kube::{Cluster, events::Events},
    publish::{self, PublishError},
    sync::{self, SyncOptions, desired, routes},
};

/// Everything known.
pub struct Services {
    gate: GateConfig,
    /// By `clusterName`.
    clusters: BTreeMap<String, Known>,
    /// What was logged last, so that a standing fault is logged once and its end too.
    said: Vec<String>,
}

/// One Kubernetes cluster.
struct Known {
    options: SyncOptions,
    /// `None` until it was read whole.
    objects: Option<Cluster>,
    /// Why it cannot be read at the moment.
    broken: Vec<String>,
    consul: Option<Follower>,
    /// Says what is wrong with Services on them; none for manifests.
    events: Option<Events>,
}

// === impl Services ===

impl Services {
    /// Nothing is known and nothing is written before the sources have spoken.
    pub fn start(config: &Config) -> Result<Self, ConsulError> {
        let mut clusters = BTreeMap::new();
        for options in config.clusters_options() {
            let consul = config.consul.as_ref().map(|consul| Follower::start(consul, &options)).transpose()?;
            let name = options.cluster_name.clone();
            let source = config.clusters.iter().find(|cluster| cluster.events && cluster.name == name);
            let events = source.map(|source| Events::start(source, consul.as_ref().map(Follower::leads)));
            clusters.insert(name, Known { options, objects: None, broken: Vec::new(), consul, events });
        }
        Ok(Self { gate: config.gate.clone(), clusters, said: Vec::new() })
    }

    /// Takes what a source says. Nothing is written before [`Self::publish`].
    pub fn take(&mut self, input: Input) {
        match input {
            Input::Cluster(name, said) => {
                // A source has its name from the same configuration.
                let Some(known) = self.clusters.get_mut(&name) else { return };
                known.take(said);
            }
        }
    }

    /// Writes what differs.
    pub fn publish(&mut self) -> Result<(), PublishError> {
        let mut lines = Vec::new();
        let mut registrations = Vec::new();
        for known in self.clusters.values() {
            lines.extend(known.broken.iter().map(|line| (true, line.clone())));
            let Some(objects) = &known.objects else { continue };
            let desired = desired(objects, &known.options);
            lines.extend(desired.notes.iter().map(line));
            if let Some(events) = &known.events {
                events.tell(desired.notes.iter().cloned(), |key| objects.services.get(key));
            }
            if let Some(consul) = &known.consul
                && known.broken.is_empty()
            {
                let source_is_empty = objects.services.is_empty() && objects.nodes.is_empty();
                consul.want(Wanted { registrations: desired.registrations.clone(), source_is_empty });
            }
            registrations.extend(desired.registrations);
        }
        let (routes, notes) = routes(&registrations);
        lines.extend(notes.iter().map(line));
        self.say(lines);
        // Half of the routes would be an outage for the other half.
        if self.clusters.values().any(|known| known.objects.is_none()) {
            return Ok(());
        }
        if publish::text(&self.gate.file, &gate::render(&routes, &self.gate))? {
            tracing::info!(services = routes.len(), instances = registrations.len(), "gate written");
        }
        Ok(())
    }

    /// Ends what keeps Consul in step, and gives back its locks.
    pub async fn stop(self) {
        for consul in self.clusters.into_values().filter_map(|known| known.consul) {
            consul.stop().await;
        }
    }

    fn say(&mut self, lines: Vec<(bool, String)>) {
        let texts: Vec<_> = lines.iter().map(|(_, text)| text.clone()).collect();
        if texts == self.said {
            return;
        }
        for (is_error, text) in lines {
            if is_error { tracing::error!("{text}") } else { tracing::warn!("{text}") }
        }
        self.said = texts;
    }
}

fn line(note: &sync::Note) -> (bool, String) {
    (note.severity == sync::Severity::Error, note.to_string())
}

// === impl Known ===

impl Known {
    fn take(&mut self, said: Said) {
        match said {
            Said::Whole(objects) => {
                self.objects = Some(*objects);
                self.broken.clear();
            }
            Said::Changes(changes) => {
                let Some(objects) = &mut self.objects else { return };
                self.broken.clear();
                for change in changes {
                    change.apply(objects);
                }
            }
            Said::Broken(lines) => self.broken = lines,
        }
    }
}
