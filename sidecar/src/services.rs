//! All that is known of services, from every source, and what follows from it: Consul's catalog at once, and the gate's file
//! behind it.
//!
//! ```text
//!  Input ─► World of its cluster ─► Consul names that changed ─┬─► the cluster's Follower ─► Consul
//!                                                              └─► RouteTable of all clusters ─► the gate's file
//! ```
//! One cluster never costs another one anything. What was read of a cluster last stays in force while it cannot be read, and
//! after [`GRACE`] nothing of it is removed until it can (G3). The gate's file is not written before every source was read
//! whole once, however long that takes: half of the routes would be an outage for the other half, and the file of the last
//! run holds them all. Where there was no file, it waits [`FIRST`] for whatever is not a cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    config::Config,
    consul::{ConsulError, Follower, Source},
    gate_writer::Table,
    imports::Importer,
    input::{self, Input, Said},
    kube::events::Events,
    numbers::{Counts, Numbers},
    others::Others,
    sync::{Changed, Note, Registration, Severity, SyncOptions, World},
};

/// How long a source may be broken before removals wait (G3).
pub const GRACE: Duration = Duration::from_secs(30);

/// How long the first file of a new gateway waits for what is not a cluster. A file that is there holds the routes of all and
/// waits for ever; where there is none, there is nothing to lose.
pub const FIRST: Duration = Duration::from_secs(5);

/// Everything known.
pub struct Services {
    /// By `clusterName`.
    clusters: BTreeMap<String, Known>,
    /// What others have registered, and external services.
    others: Others,
    routes: Table,
    /// Whether there was no gate yet when we started.
    is_first: bool,
    /// Since when every cluster is known, as long as something else is not.
    waits_since: Option<Instant>,
    /// Whether something else is to be said.
    has_news: bool,
    said: BTreeSet<(Severity, String)>,
    numbers: Numbers,
}

/// One Kubernetes cluster.
struct Known {
    world: World,
    /// Whether it was read whole.
    is_whole: bool,
    /// Why it cannot be read at the moment.
    broken: Vec<String>,
    /// Since when.
    broken_since: Option<Instant>,
    consul: Option<Follower>,
    /// What the follower was told of the source last; `None` before anything.
    told: Option<Source>,
    /// Consul names that the follower was not told of.
    untold: BTreeSet<Arc<str>>,
    /// Says what is wrong with Services on them; none for manifests.
    events: Option<Events>,
    /// Keeps services of Consul in this cluster, where that is asked for.
    imports: Option<Importer>,
    /// Services that an error keeps from being synced or exposed.
    n_closed: usize,
}

// === impl Services ===

impl Services {
    /// Nothing is known and nothing is written before the sources have spoken. Every cluster has options of its own and, with
    /// `consul`, a follower of its own: they share neither lock nor brake.
    pub fn start(config: &Config, routes: Table, numbers: Numbers) -> Result<Self, ConsulError> {
        let mut all = BTreeMap::new();
        for options in config.clusters_options() {
            let consul = config.consul.as_ref().map(|consul| Follower::start(consul, &options)).transpose()?;
            let name = options.cluster_name.clone();
            numbers.add(&name, consul.as_ref().map(|consul| consul.status().clone()));
            let mut known = Known::new(options, consul);
            let of = config.clusters.iter().find(|cluster| cluster.name == name);
            if let (Some(source), Some(consul), Some(follower)) = (of, &config.consul, &known.consul) {
                known.imports = Importer::start(source, consul, follower.leads(), numbers.imports())?;
            }
            let source = of.filter(|cluster| cluster.events);
            known.events = source.map(|source| Events::start(source, known.consul.as_ref().map(Follower::leads)));
            all.insert(name, known);
        }
        let others = Others::start(config)?;
        let is_first = config.gate.file.as_ref().is_some_and(|file| !file.exists());
        Ok(Self {
            clusters: all,
            others,
            routes,
            is_first,
            waits_since: None,
            has_news: true,
            said: BTreeSet::new(),
            numbers,
        })
    }

    /// What is known beside Kubernetes.
    pub fn others(&self) -> &Others {
        &self.others
    }

    /// Takes what a source says. Nothing is told to anybody before [`Self::tell`].
    pub fn take(&mut self, input: Input) {
        match input {
            Input::Cluster(name, said) => {
                // A source has its name from the same configuration.
                let Some(known) = self.clusters.get_mut(&name) else { return };
                let is_change = matches!(said, Said::Changes(_));
                let changed = known.take(said);
                self.has_news |= changed.notes || !is_change;
                self.route(&changed.names);
            }
            Input::Catalog(said) => {
                let names = self.others.take_catalog(said);
                self.has_news = true;
                self.route(&names);
            }
            Input::External(said) => {
                let names = self.others.take_external(said);
                self.has_news = true;
                self.route(&names);
            }
        }
    }

    /// Tells Consul's followers and the gate what has changed, and people what is wrong.
    pub fn tell(&mut self) {
        let now = Instant::now();
        for known in self.clusters.values_mut() {
            known.tell(now);
        }
        self.has_news |= self.others.join(&self.routes);
        self.release(now);
        if std::mem::take(&mut self.has_news) {
            self.say();
        }
        for (name, known) in &self.clusters {
            self.numbers.set(name, known.counts());
        }
    }

    /// Takes what all sources say, for as long as there are any.
    pub async fn follow(&mut self, said: &mut mpsc::Receiver<Input>) {
        let mut taken = Vec::new();
        loop {
            let due = self.due();
            tokio::select! {
                n = said.recv_many(&mut taken, input::WAITING) => if n == 0 { return },
                () = until(due) => {}
            }
            taken.drain(..).for_each(|input| self.take(input));
            self.tell();
        }
    }

    /// Lets the gate be written once every source was read whole: half of the routes would be an outage for the other half.
    fn release(&mut self, now: Instant) {
        if self.routes.is_released() || !self.clusters.values().all(|known| known.is_whole) {
            return;
        }
        let since = *self.waits_since.get_or_insert(now);
        let is_known = self.others.is_known();
        if is_known || (self.is_first && now >= since + FIRST) {
            if !is_known {
                tracing::warn!("the first gate is written without what cannot be read yet; its services follow");
            }
            self.waits_since = None;
            self.routes.release();
        }
    }

    /// When [`Self::tell`] has to be called although no source says anything: a grace ends, or the first gate waits no longer.
    fn due(&self) -> Option<Instant> {
        let first = self.waits_since.filter(|_| self.is_first).map(|since| since + FIRST);
        self.clusters.values().filter_map(Known::due).chain(first).min()
    }

    /// Ends what keeps Consul in step, and gives back its locks.
    pub async fn stop(self) {
        self.others.stop().await;
        for consul in self.clusters.into_values().filter_map(|known| known.consul) {
            consul.stop().await;
        }
    }

    /// The routes of these Consul names, from all clusters and from whoever else registers under them.
    fn route(&mut self, names: &BTreeSet<Arc<str>>) {
        for name in names {
            let groups = self.clusters.values().filter_map(|known| known.world.group(name));
            let mut ours: Vec<Registration> = groups.flat_map(|group| group.registrations()).collect();
            ours.extend(self.others.external(name));
            let beside = self.others.beside(name, &ours);
            self.has_news |= self.routes.set(name, &ours.iter().chain(beside).collect::<Vec<_>>());
        }
    }

    fn say(&mut self) {
        let line = |note: Note| (note.severity, note.to_string());
        let mut lines = BTreeSet::new();
        let of_routes = self.routes.notes();
        for known in self.clusters.values_mut() {
            lines.extend(known.broken.iter().map(|line| (Severity::Error, line.clone())));
            known.tell_owners(&of_routes);
            lines.extend(known.world.notes().map(line));
        }
        lines.extend(self.others.broken().map(|line| (Severity::Error, line)));
        lines.extend(self.others.notes().cloned().map(line));
        lines.extend(of_routes.into_iter().map(line));
        for (severity, text) in lines.difference(&self.said) {
            match severity {
                Severity::Error => tracing::error!("{text}"),
                Severity::Warning => tracing::warn!("{text}"),
            }
        }
        for (_, text) in self.said.difference(&lines) {
            tracing::info!("no longer: {text}");
        }
        let n_of = |wanted| lines.iter().filter(|(severity, _)| *severity == wanted).count();
        self.numbers.set_notes(n_of(Severity::Error), n_of(Severity::Warning));
        self.said = lines;
    }
}

/// Returns at this time; without one never.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

// === impl Known ===

impl Known {
    fn new(options: SyncOptions, consul: Option<Follower>) -> Self {
        Self {
            world: World::new(options),
            is_whole: false,
            broken: Vec::new(),
            broken_since: None,
            consul,
            told: None,
            untold: BTreeSet::new(),
            events: None,
            imports: None,
            n_closed: 0,
        }
    }

    fn take(&mut self, said: Said) -> Changed {
        let changed = match said {
            Said::Whole(objects) => {
                self.is_whole = true;
                self.broken.clear();
                self.world.replace(*objects)
            }
            // Never before the whole.
            Said::Changes(_) if !self.is_whole => Changed::default(),
            Said::Changes(changes) => {
                self.broken.clear();
                self.world.change(changes)
            }
            Said::Broken(lines) => {
                self.broken = lines;
                Changed::default()
            }
        };
        if self.consul.is_some() {
            self.untold.extend(changed.names.iter().cloned());
        }
        changed
    }

    /// Tells the authors of Services what is wrong with them. What is said of a Consul name, such as that its route is also
    /// another's, is said of each Service that is registered under it.
    fn tell_owners(&mut self, of_routes: &[Note]) {
        // A Service is `namespace/name`, which no Consul name of a route is.
        let (mut notes, of_names): (Vec<Note>, Vec<Note>) =
            self.world.notes().partition(|note| note.object.contains('/'));
        for note in of_names.iter().chain(of_routes) {
            let owners = self.world.services_of(&note.object);
            notes.extend(owners.map(|owner| Note { object: owner.to_string(), ..note.clone() }));
        }
        notes.sort();
        notes.dedup();
        let errors = notes.iter().filter(|note| note.severity == Severity::Error);
        self.n_closed = errors.map(|note| note.object.as_str()).collect::<BTreeSet<_>>().len();
        if let Some(events) = &self.events {
            events.tell(notes, |service| self.world.service(service));
        }
    }

    /// Tells the follower what it does not know.
    fn tell(&mut self, now: Instant) {
        let source = self.source(now);
        let Some(consul) = self.consul.as_ref().filter(|_| self.is_whole) else { return };
        if self.untold.is_empty() && self.told == Some(source) {
            return;
        }
        self.told = Some(source);
        let names = std::mem::take(&mut self.untold);
        consul.change(names.into_iter().map(|name| (Arc::clone(&name), self.world.group(&name))), source);
    }

    /// How far it can be believed. Only to be asked once everything that was said together is taken: whoever is still broken
    /// says so again behind its changes, and then was never anything else.
    fn source(&mut self, now: Instant) -> Source {
        self.broken_since = (!self.broken.is_empty()).then(|| self.broken_since.unwrap_or(now));
        let is_broken = self.broken_since.is_some_and(|since| now >= since + GRACE);
        Source { is_empty: self.world.is_empty(), is_broken }
    }

    fn due(&self) -> Option<Instant> {
        let is_told = self.told.is_some_and(|source| source.is_broken);
        self.broken_since.filter(|_| self.consul.is_some() && self.is_whole && !is_told).map(|since| since + GRACE)
    }

    fn counts(&self) -> Counts {
        Counts {
            is_whole: self.is_whole,
            is_broken: !self.broken.is_empty(),
            services: self.world.n_services(),
            instances: self.world.n_instances(),
            critical: self.world.n_critical(),
            closed: self.n_closed,
        }
    }
}

#[cfg(test)]
mod tests;
