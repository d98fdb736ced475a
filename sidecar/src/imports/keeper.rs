//! The task that keeps one cluster in step with Consul, as long as this sidecar leads for it.
//!
//! Level-triggered: whatever comes, from Consul or the API server, all is compared and what differs is written. Every write names
//! the version that it was decided on, so that two sidecars which both believe to lead, or an edit in between, cost a second
//! look and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

use super::{
    config::ToKubernetes,
    desired::Desired,
    diff::{Difference, diff},
    numbers::Numbers,
    object::{CLUSTER, MANAGED_BY, Marks},
    permission,
    state::{Said, State},
};
use crate::{
    consul::{Catalog, Client, ConsulConfig, ConsulError, catalog::Watcher},
    kube::{ClusterConfig, ObjectKey, events::Events, objects::Objects},
    sync::{Note, Severity},
};

/// What may wait of what the sources say.
const WAITING: usize = 64;
/// How soon removals that wait for a person are looked at again.
const HELD: Duration = Duration::from_secs(5);
/// And after a failure.
const FAILED: Duration = Duration::from_secs(2);

/// The running task of one cluster. It ends when this is dropped; what it has made stays.
#[derive(Debug)]
pub struct Importer {
    task: JoinHandle<()>,
}

/// What does not change.
pub(super) struct Keeper {
    pub(super) cluster: ClusterConfig,
    pub(super) config: ToKubernetes,
    pub(super) consul: ConsulConfig,
    pub(super) client: Client,
    pub(super) marks: Marks,
    pub(super) services: Objects,
    pub(super) slices: Objects,
    pub(super) events: Option<Events>,
    pub(super) numbers: Numbers,
}

// === impl Importer ===

impl Importer {
    /// Starts it; `None` if nothing is asked for. Nothing is read and nothing written before `leads` says so.
    pub fn start(
        cluster: &ClusterConfig,
        consul: &ConsulConfig,
        leads: watch::Receiver<bool>,
        numbers: Numbers,
    ) -> Result<Option<Self>, ConsulError> {
        let Some(config) = cluster.to_kubernetes.clone() else { return Ok(None) };
        let (name, namespace) = (&cluster.name, &config.namespace);
        numbers.update(name, |_| {});
        let label = format!("{}={},{CLUSTER}={name}", MANAGED_BY.0, MANAGED_BY.1);
        let services = format!("/api/v1/namespaces/{namespace}/services");
        let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
        let keeper = Keeper {
            client: Client::new(consul)?,
            marks: Marks::new(name, namespace, &config.labels),
            // All, to see whose a name is.
            services: Objects::new(cluster, services, "services", None),
            slices: Objects::new(cluster, slices, "endpointslices", Some(label)),
            events: cluster.events.then(|| Events::start(cluster, Some(leads.clone()))),
            cluster: cluster.clone(),
            config,
            consul: consul.clone(),
            numbers,
        };
        Ok(Some(Self { task: tokio::spawn(keeper.run(leads)) }))
    }
}

impl Drop for Importer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Keeper ===

impl Keeper {
    async fn run(self, mut leads: watch::Receiver<bool>) {
        // An error is the end of whoever leads.
        while leads.wait_for(|leads| *leads).await.is_ok() {
            self.numbers.update(&self.cluster.name, |it| it.leads = true);
            tokio::select! {
                () = self.lead() => {}
                _ = leads.wait_for(|leads| !*leads) => {}
            }
            self.numbers.update(&self.cluster.name, |it| (it.leads, it.in_step) = (false, false));
        }
    }

    async fn lead(&self) {
        let watcher = match Watcher::of_any(&self.consul, &self.config.selection()) {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::error!("cluster {}: {error}", self.cluster.name);
                return std::future::pending().await;
            }
        };
        let (catalog, mut from_consul) = mpsc::channel(1);
        // Dropped with this future, which ends it.
        let mut watching = JoinSet::new();
        watching.spawn(watcher.follow::<Catalog>(catalog));
        let (to_services, mut services) = mpsc::channel(WAITING);
        let (to_slices, mut slices) = mpsc::channel(WAITING);
        let work = async {
            let mut state = State::new();
            let mut said = Vec::new();
            loop {
                tokio::select! {
                    Some(catalog) = from_consul.recv() => said.push(Said::Consul(catalog)),
                    Some(seen) = services.recv() => said.push(Said::Services(seen)),
                    Some(seen) = slices.recv() => said.push(Said::Slices(seen)),
                    () = until(state.due) => {}
                }
                while let Ok(seen) = services.try_recv() {
                    said.push(Said::Services(seen));
                }
                while let Ok(seen) = slices.try_recv() {
                    said.push(Said::Slices(seen));
                }
                said.drain(..).for_each(|said| state.take(said, &self.cluster.name, &self.config, &self.marks));
                self.pass(&mut state).await;
            }
        };
        tokio::select! {
            () = self.services.follow(to_services) => {}
            () = self.slices.follow(to_slices) => {}
            () = work => {}
        }
    }

    /// One look: what differs is written, what must wait is told.
    async fn pass(&self, state: &mut State) {
        state.due = None;
        let mut lines = state.broken_lines();
        let Some(desired) = state.desired.take() else {
            self.say(state, lines);
            return;
        };
        lines.extend(desired.lines.iter().map(|line| (Severity::Warning, line.clone())));
        let mut is_in_step = false;
        if state.services.stands() && state.slices.stands() {
            let mut difference = diff(&desired, &state.present, &self.marks);
            let was_in_step = difference.is_empty();
            let held = self.hold(state, &difference, &mut lines).await;
            if held > 0 {
                difference = difference.without_removals(&desired);
            }
            let taken = self.tell_taken(state, &desired, &difference, &mut lines);
            self.numbers.update(&self.cluster.name, |it| (it.held, it.taken) = (held, taken));
            if self.consul.dry_run {
                let changes = difference.services.values().flatten();
                lines.extend(changes.map(|it| (Severity::Warning, format!("dry run, not written: {it}"))));
            } else if let Err(fault) = self.apply(state, difference, &desired).await {
                self.numbers.update(&self.cluster.name, |it| it.failures += 1);
                lines.insert((Severity::Error, fault.to_string()));
                state.look_again(Instant::now() + FAILED);
            }
            lines.extend(state.stuck_lines().map(|line| (Severity::Error, line)));
            let is_done = || was_in_step || diff(&desired, &state.present, &self.marks).is_empty();
            is_in_step = state.broken.is_none() && is_done();
        }
        let endpoints = || desired.services.values().flat_map(|it| it.slices.values()).flat_map(|it| &it.endpoints);
        let (n_endpoints, n_ready) = (endpoints().count(), endpoints().filter(|(_, ready)| *ready).count());
        self.numbers.update(&self.cluster.name, |it| {
            (it.in_step, it.refused) = (is_in_step, state.stuck.values().filter(|it| it.why.is_some()).count());
            (it.services, it.endpoints, it.ready) = (desired.services.len(), n_endpoints, n_ready);
            it.left_out = desired.left_out;
        });
        state.desired = Some(desired);
        self.say(state, lines);
    }

    /// How many removals have to wait.
    async fn hold(
        &self,
        state: &mut State,
        difference: &Difference,
        lines: &mut BTreeSet<(Severity, String)>,
    ) -> usize {
        let (removals, owned) = (difference.removals, difference.owned);
        if removals == 0 || (self.config.remove && state.broken.is_none()) {
            return 0;
        }
        if state.broken.is_some() {
            lines.insert((
                Severity::Warning,
                format!("{removals} Services would be removed: not before Consul can be read"),
            ));
            return removals;
        }
        let percent = self.consul.max_removal_percent;
        if !difference.is_great_loss(percent) {
            return 0;
        }
        let name = &self.cluster.name;
        match permission::take(&self.client, name, removals).await {
            Ok(true) => {
                tracing::warn!(cluster = %name, removals, "removals that waited are let through");
                return 0;
            }
            Ok(false) => {}
            Err(error) => drop(lines.insert((Severity::Error, error.to_string()))),
        }
        let key = permission::key(name);
        lines.insert((
            Severity::Error,
            format!(
                "{removals} of {owned} Services would be removed, more than maxRemovalPercent {percent}: nothing is removed; if \
                 that is meant: consul kv put {key} {removals}"
            ),
        ));
        state.look_again(Instant::now() + HELD);
        removals
    }

    /// Tells of names that Services of others have, in the log and on these.
    fn tell_taken(
        &self,
        state: &State,
        desired: &Desired,
        difference: &Difference,
        lines: &mut BTreeSet<(Severity, String)>,
    ) -> usize {
        let namespace = &self.config.namespace;
        let note = |name: &String| Note {
            object: format!("{namespace}/{name}"),
            key: "toKubernetes".to_owned(),
            severity: Severity::Warning,
            what: format!(
                "a Service that is not ours has the name, so that {:?} of Consul does not appear",
                desired.services.get(name).map_or("", |wanted| &wanted.consul)
            ),
            hint: "remove or rename it, or set prefix or except".to_owned(),
        };
        let notes: Vec<Note> = difference.taken.iter().map(note).collect();
        lines.extend(notes.iter().map(|note| (note.severity, note.to_string())));
        if let Some(events) = &self.events {
            let service = |name: &String| {
                let uid = state.present.services.get(name)?.metadata.uid.clone();
                let metadata = ObjectMeta { uid: Some(uid), ..ObjectMeta::default() };
                Some((name.clone(), Service { metadata, ..Service::default() }))
            };
            let services: BTreeMap<_, _> = difference.taken.iter().filter_map(service).collect();
            events.tell(notes, |key: &ObjectKey| services.get(&key.name).cloned());
        }
        difference.taken.len()
    }

    /// Says what is new, and what is over.
    fn say(&self, state: &mut State, lines: BTreeSet<(Severity, String)>) {
        let name = &self.cluster.name;
        for (severity, line) in lines.difference(&state.said) {
            match severity {
                Severity::Error => tracing::error!("cluster {name}: to Kubernetes: {line}"),
                Severity::Warning => tracing::warn!("cluster {name}: to Kubernetes: {line}"),
            }
        }
        for (_, line) in state.said.difference(&lines) {
            tracing::info!("no longer: cluster {name}: to Kubernetes: {line}");
        }
        state.said = lines;
    }
}

/// Returns at this time; without one never.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
