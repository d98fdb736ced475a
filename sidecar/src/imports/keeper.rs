//! The task that keeps one cluster in step with Consul, as long as this sidecar leads for it.
//!
//! Level-triggered: whatever comes, from Consul or the API server, all is compared and what differs is written. Every write names
//! the version that it was decided on, so that two sidecars which both believe to lead, or an edit in between, cost a second
//! look and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

use super::{
    config::ToKubernetes,
    desired::Desired,
    diff::{Act, Change, Difference, Of, diff, left},
    numbers::Numbers,
    object::{CLUSTER, LiveService, LiveSlice, MANAGED_BY, Marks},
    permission,
    state::{Said, State, Stuck},
};
use crate::{
    consul::{Catalog, Client, ConsulConfig, ConsulError, catalog::Watcher},
    kube::{
        ClusterConfig, ObjectKey,
        events::Events,
        fault::Fault,
        objects::{Objects, Written},
    },
    sync::{Note, Severity},
};

/// What may wait of what the sources say.
const WAITING: usize = 64;
/// Services that are written at once.
const AT_ONCE: usize = 8;
/// How soon removals that wait for a person are looked at again.
const HELD: Duration = Duration::from_secs(5);
/// When something is tried again: that somebody else changed meanwhile, that was refused (both doubled each time), that the API
/// server took and keeps as something else; and everything after a failure.
const STALE: Duration = Duration::from_millis(500);
const REFUSED: Duration = Duration::from_secs(1);
const UNSETTLED: Duration = Duration::from_secs(300);
const FAILED: Duration = Duration::from_secs(2);
/// So often somebody else may be faster before it is told.
const PATIENT: u32 = 4;

/// The running task of one cluster. It ends when this is dropped; what it has made stays.
#[derive(Debug)]
pub struct Importer {
    task: JoinHandle<()>,
}

/// What does not change.
struct Keeper {
    cluster: ClusterConfig,
    config: ToKubernetes,
    consul: ConsulConfig,
    client: Client,
    marks: Marks,
    services: Objects,
    slices: Objects,
    events: Option<Events>,
    numbers: Numbers,
}

/// What became of one change.
enum Outcome {
    Service(Written<LiveService>),
    Slice(Written<LiveSlice>),
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
            events.tell(notes, |key: &ObjectKey| services.get(&key.name));
        }
        difference.taken.len()
    }

    /// Writes a difference, but for what is stuck. An error is one of the way to the API server.
    async fn apply(&self, state: &mut State, difference: Difference, desired: &Desired) -> Result<(), Fault> {
        let now = Instant::now();
        state.forget(&difference);
        let is_stuck = |change: &Change| {
            let stuck = state.stuck.get(&(change.kind, change.name.clone()));
            stuck.is_some_and(|stuck| stuck.until > now)
        };
        let mut waiting = Vec::new();
        for changes in difference.services.into_values() {
            let mut left = Vec::new();
            for change in changes {
                match (is_stuck(&change), &change) {
                    (false, _) => left.push(change),
                    // Without the Service nothing of it is made.
                    (true, Change { kind: Of::Service, act: Act::Create(_), .. }) => break,
                    (true, _) => {}
                }
            }
            if !left.is_empty() {
                waiting.push(left);
            }
        }
        let mut done = stream::iter(waiting).map(|changes| self.write(changes)).buffer_unordered(AT_ONCE);
        let (mut created, mut changed, mut removed, mut failures) = (0, 0, 0, 0);
        let mut failed = None;
        while let Some(outcomes) = done.next().await {
            for (change, outcome) in outcomes {
                let is_done = match outcome {
                    Ok(outcome) => self.settle(state, &change, outcome, desired),
                    Err(fault) => {
                        failed = Some(fault);
                        continue;
                    }
                };
                match change.act {
                    _ if !is_done => failures += 1,
                    Act::Create(_) => created += 1,
                    Act::Patch { .. } => changed += 1,
                    Act::Delete { .. } => removed += 1,
                }
            }
            if failed.is_some() {
                break;
            }
        }
        drop(done);
        if created + changed + removed > 0 {
            tracing::info!(cluster = %self.cluster.name, created, changed, removed, "written to Kubernetes");
        }
        self.numbers.update(&self.cluster.name, |it| {
            it.created += created;
            it.changed += changed;
            it.removed += removed;
            it.failures += failures;
        });
        if let Some(until) = state.stuck.values().map(|stuck| stuck.until).min() {
            state.look_again(until);
        }
        failed.map_or(Ok(()), Err)
    }

    /// Writes the changes of one Service in their order.
    async fn write(&self, changes: Vec<Change>) -> Vec<(Change, Result<Outcome, Fault>)> {
        let mut outcomes = Vec::new();
        for change in changes {
            let outcome = match change.kind {
                Of::Service => one(&self.services, &change).await.map(Outcome::Service),
                Of::Slice => one(&self.slices, &change).await.map(Outcome::Slice),
            };
            let is_end = match &outcome {
                Err(_) => true,
                // Slices beside a Service that is not ours would send its requests elsewhere.
                Ok(Outcome::Service(written)) => !matches!(written, Written::Done(_)),
                Ok(Outcome::Slice(_)) => false,
            };
            outcomes.push((change, outcome));
            if is_end {
                break;
            }
        }
        outcomes
    }

    /// Takes what a write has led to; whether it was done.
    fn settle(&self, state: &mut State, change: &Change, outcome: Outcome, desired: &Desired) -> bool {
        let name = &change.name;
        let (mut is_done, mut refused) = (true, None);
        match outcome {
            Outcome::Service(Written::Done(Some(live))) => state.present.put_service(live, &self.marks),
            Outcome::Slice(Written::Done(Some(live))) => state.present.put_slice(live),
            Outcome::Service(Written::Done(None)) => drop(state.present.services.remove(name)),
            Outcome::Slice(Written::Done(None)) => drop(state.present.slices.remove(name)),
            Outcome::Service(Written::Stale) | Outcome::Slice(Written::Stale) => is_done = false,
            Outcome::Service(Written::Refused(fault)) | Outcome::Slice(Written::Refused(fault)) => {
                (is_done, refused) = (false, Some(fault));
            }
        }
        let key = (change.kind, name.clone());
        let now = Instant::now();
        if is_done {
            match left(change, desired, &state.present, &self.marks) {
                None => drop(state.stuck.remove(&key)),
                // As an admission webhook may do it.
                Some(again) => {
                    let why = "the API server keeps something else than what was written; tried again".to_owned();
                    let until = now + UNSETTLED;
                    state.stuck.insert(key, Stuck { change: again, until, tries: 0, why: Some(why) });
                }
            }
            return true;
        }
        let tries = state.stuck.get(&key).map_or(0, |stuck| stuck.tries) + 1;
        let (pause, why) = match refused {
            Some(fault) => (doubled(REFUSED, tries), Some(fault.to_string())),
            None => {
                let why =
                    "one of this name is there that is not ours, or somebody else changes it all the time; tried again";
                (doubled(STALE, tries), (tries > PATIENT).then(|| why.to_owned()))
            }
        };
        state.stuck.insert(key, Stuck { change: change.clone(), until: now + pause, tries, why });
        false
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

async fn one<T: serde::de::DeserializeOwned>(objects: &Objects, change: &Change) -> Result<Written<T>, Fault> {
    match &change.act {
        Act::Create(body) => objects.create(body).await,
        Act::Patch { uid, version, body } => objects.patch(&change.name, uid, version, body).await,
        Act::Delete { uid, version } => objects.delete(&change.name, uid, version).await,
    }
}

/// With each try twice as long, up to a minute or so.
fn doubled(first: Duration, tries: u32) -> Duration {
    first * 2_u32.saturating_pow(tries.min(6))
}

/// Returns at this time; without one never.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
