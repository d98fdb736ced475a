//! What is known of services beside those of Kubernetes: what others have registered in Consul, and external services. It is
//! joined with ours to the routes of the gate.

mod numbers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::sync::watch;

use crate::{
    config::Config,
    consul::{Catalog, CatalogConfig, ConsulConfig, ConsulError, Follower, Scope, Wanted},
    external::External,
    gate_writer::Table,
    sync::{Bypass, Foreign, Note, Registration, SyncOptions},
};

pub use self::numbers::Numbers;

/// How many names one line of the log holds.
const NAMED: usize = 10;

/// Everything known of them.
#[derive(Debug)]
pub struct Others {
    options: SyncOptions,
    /// Whose services may have routes, and what Traefik's own catalog provider reads.
    selection: CatalogConfig,
    /// Our external services in the catalog.
    scope: Option<Scope>,
    catalog: Known<Foreign>,
    /// Of our external services as the catalog has them, by node and ID: the leader's word, for sidecars that do not probe.
    statuses: BTreeMap<(String, String), String>,
    external: Known<Vec<Registration>>,
    /// Our external services with their statuses, by Consul name.
    by_name: BTreeMap<Arc<str>, Vec<Registration>>,
    external_notes: Vec<Note>,
    /// Why an instance that others registered under a name of ours gets no requests, by that name.
    refused: BTreeMap<String, Note>,
    /// Why routes of others are none.
    unrouted: Vec<Note>,
    /// Whether [`Others::join`] has something to do whatever ours are.
    has_joined: bool,
    /// Keeps our external services in Consul.
    follower: Option<Follower>,
    /// Whether this sidecar probes; without Consul it always does.
    leads: watch::Receiver<bool>,
    numbers: Numbers,
}

/// What one source has said.
#[derive(Debug)]
struct Known<T> {
    /// Whether there is such a source.
    is_followed: bool,
    /// What it said last; `None` before it was read whole.
    value: Option<T>,
    /// Why it cannot be read at the moment, or what is wrong with a part of it.
    lines: Vec<String>,
}

// === impl Others ===

impl Others {
    /// Nothing is known yet, and nothing is written before the sources have spoken.
    pub fn start(config: &Config) -> Result<Self, ConsulError> {
        let scope = config.external.as_ref().map(|external| Scope::external(&external.name));
        let follower = match (&config.consul, &scope) {
            // The dead man's check is one of the synthetic node, which external services have not; and the import is of
            // Kubernetes' services.
            (Some(consul), Some(scope)) => Some(Follower::start_in(
                &ConsulConfig { dead_man_seconds: None, kv_import: None, ..consul.clone() },
                scope.clone(),
            )?),
            _ => None,
        };
        // A sender that is gone leaves its last word standing.
        let leads = follower.as_ref().map_or_else(|| watch::channel(true).1, Follower::leads);
        Ok(Self {
            options: config.sync.clone(),
            selection: config.catalog.clone(),
            scope,
            catalog: Known::new(config.consul.is_some() && config.catalog.watch),
            statuses: BTreeMap::new(),
            external: Known::new(config.external.is_some()),
            by_name: BTreeMap::new(),
            external_notes: Vec::new(),
            refused: BTreeMap::new(),
            unrouted: Vec::new(),
            has_joined: true,
            follower,
            leads,
            numbers: Numbers::default(),
        })
    }

    /// Takes what the catalog's source says. Returns the Consul names of which something may be another now.
    pub fn take_catalog(&mut self, said: Catalog) -> BTreeSet<Arc<str>> {
        let (registrations, unusable) = match said {
            Catalog::Whole { registrations, unusable } => (registrations, unusable),
            Catalog::Broken(line) => {
                self.numbers.catalog(false);
                self.catalog.lines =
                    vec![format!("{line}; routes of services that others registered stay as they are")];
                return BTreeSet::new();
            }
        };
        let is_external = |it: &Registration| self.scope.as_ref().is_some_and(|scope| scope.marks(&it.service.meta));
        let (external, mut foreign): (Vec<_>, Vec<_>) = registrations.into_iter().partition(is_external);
        foreign.retain(|it| self.selection.selects(&it.service.service));
        let status = |it: Registration| ((it.node, it.service.id), it.check.status);
        self.statuses = external.into_iter().map(status).collect();
        let foreign = Foreign::new(&foreign, &self.options, self.selection.traefik_prefix());
        let n_declared = foreign.bypasses().values().filter(|way| **way == Bypass::Declared).count();
        self.numbers.catalog(true);
        self.numbers.services(foreign.n_services(), foreign.bypasses().len(), n_declared);
        let mut changed = self.number_external();
        let before = self.catalog.value.replace(foreign);
        let foreign = [&before, &self.catalog.value].into_iter().flatten();
        changed.extend(foreign.flat_map(Foreign::names).map(Arc::from));
        self.catalog.lines = Vec::from_iter(left_out(&unusable));
        self.has_joined = false;
        changed
    }

    /// Takes what the source of external services says. Returns as above.
    pub fn take_external(&mut self, said: External) -> BTreeSet<Arc<str>> {
        match said {
            External::Whole { registrations, is_probed, notes } => {
                if let (Some(follower), true) = (&self.follower, is_probed) {
                    let source_is_empty = registrations.is_empty();
                    follower.want(Wanted { registrations: registrations.clone(), source_is_empty });
                }
                self.external.value = Some(registrations);
                self.external.lines.clear();
                self.external_notes = notes;
            }
            External::Broken(lines) => self.external.lines = lines,
        }
        self.number_external()
    }

    /// Whether this sidecar is the one that probes external services, as it changes.
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }

    /// Ends what keeps Consul in step, and gives back its lock.
    pub async fn stop(self) {
        if let Some(follower) = self.follower {
            follower.stop().await;
        }
    }

    /// Whether every source was read whole once: half of the routes would be an outage for the other half.
    pub fn is_known(&self) -> bool {
        self.catalog.is_known() && self.external.is_known()
    }

    /// What cannot be read or used at the moment.
    pub fn broken(&self) -> impl Iterator<Item = String> {
        self.catalog.lines.iter().chain(&self.external.lines).cloned()
    }

    /// What is counted, for whoever shows it.
    pub fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// Our external services under a Consul name; of those that this sidecar has not probed, with the word of whoever has, the
    /// leader or consul-esm, and without one critical.
    pub fn external(&self, name: &str) -> impl Iterator<Item = Registration> {
        self.by_name.get(name).into_iter().flatten().cloned()
    }

    /// The instances of others that are servers more under a name of ours; none where it is not ours.
    pub fn beside(&mut self, name: &str, ours: &[Registration]) -> Vec<&Registration> {
        self.refused.remove(name);
        let Some(foreign) = self.catalog.value.as_ref().filter(|_| !ours.is_empty()) else { return Vec::new() };
        let (beside, note) = foreign.beside(name, &ours.iter().collect::<Vec<_>>());
        self.refused.extend(note.map(|note| (name.to_owned(), note)));
        beside
    }

    /// Joins the routes of those whose names are none of ours with ours, where either changed what it claims. Whether there is
    /// something else to be said.
    pub fn join(&mut self, routes: &Table) -> bool {
        let is_reclaimed = routes.take_reclaimed();
        if self.has_joined && !is_reclaimed {
            return false;
        }
        self.has_joined = true;
        let Some(foreign) = &self.catalog.value else { return false };
        let notes = routes.join(foreign);
        let differs = notes != self.unrouted;
        self.unrouted = notes;
        differs
    }

    /// What is wrong with any of them.
    pub fn notes(&self) -> impl Iterator<Item = &Note> {
        let foreign = self.catalog.value.as_ref().map(Foreign::notes).unwrap_or_default();
        foreign.iter().chain(self.refused.values()).chain(&self.unrouted).chain(&self.external_notes)
    }

    /// Sorts our external services by name, and returns the names of which something is another now.
    fn number_external(&mut self) -> BTreeSet<Arc<str>> {
        let mut all = self.external.value.clone().unwrap_or_default();
        let mut by_name: BTreeMap<Arc<str>, Vec<Registration>> = BTreeMap::new();
        for registration in all.iter_mut().filter(|it| it.check.status.is_empty() || it.check.definition.is_some()) {
            let place = (registration.node.clone(), registration.service.id.clone());
            registration.check.status = self.statuses.get(&place).cloned().unwrap_or_else(|| "critical".to_owned());
        }
        self.numbers.external(all.len(), all.iter().filter(|it| it.check.status == "critical").count());
        for registration in all {
            by_name.entry(registration.service.service.as_str().into()).or_default().push(registration);
        }
        let names = by_name.keys().chain(self.by_name.keys());
        let changed = names.filter(|name| by_name.get(*name) != self.by_name.get(*name)).cloned().collect();
        self.by_name = by_name;
        changed
    }
}

impl<T> Known<T> {
    fn new(is_followed: bool) -> Self {
        Self { is_followed, value: None, lines: Vec::new() }
    }

    fn is_known(&self) -> bool {
        !self.is_followed || self.value.is_some()
    }
}

/// A line on services whose names cannot be used.
fn left_out(names: &[String]) -> Option<String> {
    let shown: Vec<_> = names.iter().take(NAMED).map(|name| format!("{name:?}")).collect();
    let more = names.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    (!shown.is_empty()).then(|| {
        format!("services in Consul with names that fit into no header and no rule are not exposed: {}{more}; use only A-Z a-z 0-9 . _ -", shown.join(", "))
    })
}
