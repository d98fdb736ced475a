//! All that is known of services, from every source, and what follows from it: the gate's file and Consul's catalog.

use std::collections::BTreeMap;

use crate::{
    config::Config,
    consul::{ConsulError, Follower, Wanted},
    gate::Output,
    input::{Change, Input, Said},
    kube::Cluster,
    others::Others,
    publish::PublishError,
    sync::{self, SyncOptions, desired},
};

/// Everything known.
pub struct Services {
    output: Output,
    /// By `clusterName`.
    clusters: BTreeMap<String, Known>,
    /// What others have registered, and external services.
    others: Others,
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
}

// === impl Services ===

impl Services {
    /// Nothing is known and nothing is written before the sources have spoken.
    pub fn start(config: &Config) -> Result<Self, ConsulError> {
        let options = config.sync.clone();
        let consul = config.consul.as_ref().map(|consul| Follower::start(consul, &options)).transpose()?;
        let name = options.cluster_name.clone();
        let known = Known { options, objects: None, broken: Vec::new(), consul };
        Ok(Self {
            output: Output::start(config)?,
            clusters: BTreeMap::from([(name, known)]),
            others: Others::start(config)?,
            said: Vec::new(),
        })
    }

    /// What is known beside Kubernetes.
    pub fn others(&self) -> &Others {
        &self.others
    }

    /// Takes what a source says. Nothing is written before [`Self::publish`].
    pub fn take(&mut self, input: Input) {
        match input {
            Input::Cluster(name, said) => {
                // A source has its name from the same configuration.
                let Some(known) = self.clusters.get_mut(&name) else { return };
                known.take(said);
            }
            Input::Catalog(said) => self.others.take_catalog(said),
            Input::External(said) => self.others.take_external(said),
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
            if let Some(consul) = &known.consul
                && known.broken.is_empty()
            {
                let source_is_empty = objects.services.is_empty() && objects.nodes.is_empty();
                consul.want(Wanted { registrations: desired.registrations.clone(), source_is_empty });
            }
            registrations.extend(desired.registrations);
        }
        lines.extend(self.others.broken().map(|line| (true, line)));
        registrations.extend(self.others.external());
        let (routes, notes) = self.others.routes(&registrations);
        let (routes, unfit) = self.output.fit(routes);
        lines.extend(unfit.iter().map(line));
        lines.extend(notes.iter().map(line));
        self.say(lines);
        // Half of the routes would be an outage for the other half.
        if self.clusters.values().any(|known| known.objects.is_none()) || !self.others.is_known() {
            return Ok(());
        }
        if self.output.write(&routes)? {
            tracing::info!(services = routes.len(), instances = registrations.len(), "gate written");
        }
        Ok(())
    }

    /// Ends what keeps Consul in step, and gives back its locks.
    pub async fn stop(self) {
        self.others.stop().await;
        self.output.stop().await;
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
                    apply(objects, change);
                }
            }
            Said::Broken(lines) => self.broken = lines,
        }
    }
}

fn apply(objects: &mut Cluster, change: Change) {
    match change {
        Change::Service(key, object) => put(&mut objects.services, key, object),
        Change::Slice(key, object) => put(&mut objects.slices, key, object),
        Change::Node(name, object) => put(&mut objects.nodes, name, object),
    }
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<Box<V>>) {
    match value {
        Some(value) => drop(map.insert(key, *value)),
        None => drop(map.remove(&key)),
    }
}
