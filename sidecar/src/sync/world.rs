//! All objects of one Kubernetes cluster with what follows from them, kept up to date: a change costs what it changes.
//!
//! ```text
//!  Change ─► objects ─► services that are concerned ─► judged again ─► Consul names ─► conflicts among those that meet
//!            (lean)     itself · by label · by node                                          └─► Changed ─► Group
//! ```
//! [`super::desired()`] says the same of all objects at once; it is what this is judged by (`tests`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};

use super::{
    conflicts::{self, Conflicts},
    desired::{self, Judgement},
    endpoints,
    note::Note,
    options::SyncOptions,
    registration::Registration,
    synced::Kept,
};
use crate::{
    input::Change,
    kube::{Cluster, ObjectKey, Packed},
};

/// The cluster.
#[derive(Debug)]
pub struct World {
    options: Arc<SyncOptions>,
    nodes: BTreeMap<String, Node>,
    slices: BTreeMap<Arc<ObjectKey>, Packed<EndpointSlice>>,
    /// By service, whether it exists or not.
    services: BTreeMap<Arc<ObjectKey>, Of>,
    n_services: usize,
    /// By node, whether it exists or not: the services with endpoints there.
    on_node: BTreeMap<String, BTreeSet<Arc<ObjectKey>>>,
    /// Only services with something to say about them.
    notes: BTreeMap<Arc<ObjectKey>, Vec<Note>>,
    /// By Consul name: the services that are registered under it.
    names: BTreeMap<Arc<str>, Few>,
    conflicts: Conflicts,
    n_instances: usize,
    n_critical: usize,
}

/// What belongs to a service.
#[derive(Debug, Default)]
struct Of {
    service: Option<Packed<Service>>,
    slices: Few,
    synced: Option<Arc<Kept>>,
}

/// A few keys, mostly one, sorted.
#[derive(Debug, Default)]
struct Few(Box<[Arc<ObjectKey>]>);

/// What is another now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Consul names whose registrations are others.
    pub names: BTreeSet<Arc<str>>,
    /// Whether there is something else to say.
    pub notes: bool,
}

/// The registrations of one Consul service, kept small and shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group(Made);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Made {
    Of { options: Arc<SyncOptions>, services: Box<[Arc<Kept>]>, is_closed: bool },
    Given(Vec<Registration>),
}

// === impl World ===

impl World {
    /// An empty cluster.
    pub fn new(options: SyncOptions) -> Self {
        Self {
            options: Arc::new(options),
            nodes: BTreeMap::new(),
            slices: BTreeMap::new(),
            services: BTreeMap::new(),
            n_services: 0,
            on_node: BTreeMap::new(),
            notes: BTreeMap::new(),
            names: BTreeMap::new(),
            conflicts: Conflicts::default(),
            n_instances: 0,
            n_critical: 0,
        }
    }

    /// From now on these are all objects there are.
    pub fn replace(&mut self, objects: Cluster) -> Changed {
        let mut changes = Vec::new();
        let present = self.services.iter().filter(|(_, of)| of.service.is_some()).map(|(key, _)| key);
        let gone = present.filter(|key| !objects.services.contains_key(*key));
        changes.extend(gone.cloned().map(|key| Change::Service(key, None)));
        let gone = self.slices.keys().filter(|key| !objects.slices.contains_key(*key));
        changes.extend(gone.cloned().map(|key| Change::Slice(key, None)));
        let gone = self.nodes.keys().filter(|name| !objects.nodes.contains_key(*name));
        changes.extend(gone.cloned().map(|name| Change::Node(name, None)));
        let services = objects.services.into_iter().map(|(key, it)| Change::Service(key, Some(it)));
        let slices = objects.slices.into_iter().map(|(key, it)| Change::Slice(key, Some(it)));
        let nodes = objects.nodes.into_iter().map(|(name, it)| Change::Node(name, Some(Box::new(it))));
        self.change(changes.into_iter().chain(services).chain(slices).chain(nodes))
    }

    /// Takes changes, in their order.
    pub fn change(&mut self, changes: impl IntoIterator<Item = Change>) -> Changed {
        let mut concerned = BTreeSet::new();
        for change in changes {
            match change {
                Change::Service(key, service) => self.put_service(key, service, &mut concerned),
                Change::Slice(key, slice) => self.put_slice(key, slice, &mut concerned),
                Change::Node(name, node) => self.put_node(&name, node, &mut concerned),
                Change::Resource(..) => {}
            }
        }
        let mut changed = Changed::default();
        for key in concerned {
            self.judge(&key, &mut changed);
        }
        self.settle(&mut changed);
        changed
    }

    /// The registrations under a Consul name; `None` without any.
    pub fn group(&self, name: &str) -> Option<Group> {
        let services =
            self.names.get(name)?.0.iter().filter_map(|key| self.services.get(key)?.synced.clone()).collect();
        let is_closed = self.conflicts.is_closed(name);
        Some(Group(Made::Of { options: Arc::clone(&self.options), services, is_closed }))
    }

    /// Every Consul name that has registrations, sorted.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.keys()
    }

    /// Everything to be said about authored input, in no order.
    pub fn notes(&self) -> impl Iterator<Item = Note> {
        self.notes.values().flatten().cloned().chain(self.conflicts.notes())
    }

    /// The Services that are registered under a Consul name.
    pub fn services_of(&self, name: &str) -> impl Iterator<Item = &ObjectKey> {
        self.names.get(name).into_iter().flat_map(|few| few.0.iter().map(AsRef::as_ref))
    }

    /// Whether there is neither a Service nor a Node: more likely a broken source than a cluster.
    pub fn is_empty(&self) -> bool {
        self.n_services == 0 && self.nodes.is_empty()
    }

    /// A Service, as far as it is kept.
    pub fn service(&self, service: &ObjectKey) -> Option<Service> {
        self.services.get(service)?.service.as_ref().map(Packed::get)
    }

    /// How many Services there are, synced or not.
    pub fn n_services(&self) -> usize {
        self.n_services
    }

    /// How many registrations there are.
    pub fn n_instances(&self) -> usize {
        self.n_instances
    }

    /// How many of them are not ready.
    pub fn n_critical(&self) -> usize {
        self.n_critical
    }

    fn put_service(
        &mut self,
        key: Arc<ObjectKey>,
        service: Option<Packed<Service>>,
        concerned: &mut BTreeSet<Arc<ObjectKey>>,
    ) {
        let present = self.services.get(&key).and_then(|of| of.service.as_ref());
        if present == service.as_ref() {
            return;
        }
        self.n_services -= usize::from(present.is_some());
        self.n_services += usize::from(service.is_some());
        self.services.entry(Arc::clone(&key)).or_default().service = service;
        concerned.insert(key);
    }

    fn put_slice(
        &mut self,
        key: Arc<ObjectKey>,
        slice: Option<Packed<EndpointSlice>>,
        concerned: &mut BTreeSet<Arc<ObjectKey>>,
    ) {
        let present = self.slices.get(&key);
        if present == slice.as_ref() {
            return;
        }
        let owner =
            |slice: &Packed<EndpointSlice>| endpoints::owner(&key, &slice.get()).map(|owner| self.shared(owner));
        let (before, after) = (present.and_then(owner), slice.as_ref().and_then(owner));
        let owners: BTreeSet<_> = before.iter().chain(&after).cloned().collect();
        let nodes_before: Vec<_> = owners.iter().map(|owner| self.nodes_of(owner)).collect();
        match slice {
            Some(slice) => drop(self.slices.insert(Arc::clone(&key), slice)),
            None => drop(self.slices.remove(&key)),
        }
        if before != after {
            if let Some(of) = before.and_then(|owner| self.services.get_mut(&owner)) {
                of.slices.remove(&key);
            }
            if let Some(owner) = after {
                self.services.entry(owner).or_default().slices.insert(key);
            }
        }
        for (owner, before) in owners.into_iter().zip(nodes_before) {
            let after = self.nodes_of(&owner);
            for node in before.difference(&after) {
                take_out(&mut self.on_node, node, &owner);
            }
            for node in after.difference(&before) {
                self.on_node.entry(node.clone()).or_default().insert(Arc::clone(&owner));
            }
            concerned.insert(owner);
        }
    }

    fn put_node(&mut self, name: &str, node: Option<Box<Node>>, concerned: &mut BTreeSet<Arc<ObjectKey>>) {
        if self.nodes.get(name) == node.as_deref() {
            return;
        }
        match node {
            Some(node) => drop(self.nodes.insert(name.to_owned(), *node)),
            None => drop(self.nodes.remove(name)),
        }
        concerned.extend(self.on_node.get(name).into_iter().flatten().cloned());
    }

    /// The one key that stands for all equal ones.
    fn shared(&self, key: ObjectKey) -> Arc<ObjectKey> {
        self.services.get_key_value(&key).map_or_else(|| Arc::new(key), |(key, _)| Arc::clone(key))
    }

    /// The nodes that the endpoints of a service name.
    fn nodes_of(&self, service: &ObjectKey) -> BTreeSet<String> {
        let endpoints = self.slices_of(service).into_iter().flat_map(|slice| slice.endpoints.unwrap_or_default());
        endpoints.filter_map(|endpoint| endpoint.node_name).collect()
    }

    fn slices_of(&self, service: &ObjectKey) -> Vec<EndpointSlice> {
        let keys = self.services.get(service).map(|of| &*of.slices.0).unwrap_or_default();
        keys.iter().filter_map(|key| self.slices.get(key)).map(Packed::get).collect()
    }

    /// Looks again at one service by itself.
    fn judge(&mut self, key: &Arc<ObjectKey>, changed: &mut Changed) {
        let Judgement { synced, notes, .. } = match self.service(key) {
            Some(service) => desired::judge(&self.nodes, &self.options, (key, &service), &self.slices_of(key)),
            None => Judgement::default(),
        };
        let said = if notes.is_empty() { self.notes.remove(key) } else { self.notes.insert(Arc::clone(key), notes) };
        changed.notes |= said.as_ref() != self.notes.get(key);
        let kept = synced.map(|synced| {
            let name = synced.common.name.as_str();
            let known = self.names.get_key_value(name).map(|(name, _)| Arc::clone(name));
            Arc::new(Kept::new(&synced, known.unwrap_or_else(|| name.into())))
        });
        let Some(of) = self.services.get_mut(key) else { return };
        if of.synced != kept {
            let before = std::mem::replace(&mut of.synced, kept.clone());
            if let Some(before) = before {
                self.n_instances -= before.n_instances;
                self.n_critical -= before.n_critical;
                self.leave(&before.name, key);
                changed.names.insert(Arc::clone(&before.name));
            }
            if let Some(kept) = kept {
                self.n_instances += kept.n_instances;
                self.n_critical += kept.n_critical;
                self.names.entry(Arc::clone(&kept.name)).or_default().insert(Arc::clone(key));
                changed.names.insert(Arc::clone(&kept.name));
            }
        }
        if self.services.get(key).is_some_and(Of::is_nothing) {
            self.services.remove(key);
        }
    }

    /// The service is not registered under the name any more.
    fn leave(&mut self, name: &Arc<str>, service: &ObjectKey) {
        if let Some(services) = self.names.get_mut(name) {
            services.remove(service);
            if services.0.is_empty() {
                self.names.remove(name);
            }
        }
    }

    /// Sees whom the changed names meet.
    fn settle(&mut self, changed: &mut Changed) {
        let mut met = BTreeSet::new();
        for name in &changed.names {
            let keys = self.names.get(name).into_iter().flat_map(|few| few.0.iter());
            let services: Vec<_> =
                keys.filter_map(|key| self.services.get(key)?.synced.as_ref()).map(|kept| kept.get()).collect();
            met.extend(self.conflicts.set(name, services.iter().map(|synced| synced.common.tags.as_slice())));
        }
        changed.notes |= !met.is_empty();
        changed.names.extend(met);
    }
}

/// Takes a member out of a set, and the set away with the last one.
fn take_out<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, member: &V) {
    if let Some(members) = map.get_mut(key) {
        members.remove(member);
        if members.is_empty() {
            map.remove(key);
        }
    }
}

// === impl Of ===

impl Of {
    fn is_nothing(&self) -> bool {
        self.service.is_none() && self.slices.0.is_empty() && self.synced.is_none()
    }
}

// === impl Few ===

impl Few {
    fn insert(&mut self, key: Arc<ObjectKey>) {
        if let Err(at) = self.0.binary_search(&key) {
            let mut keys = std::mem::take(&mut self.0).into_vec();
            keys.insert(at, key);
            self.0 = keys.into();
        }
    }

    fn remove(&mut self, key: &ObjectKey) {
        self.0 = std::mem::take(&mut self.0).into_iter().filter(|it| **it != *key).collect();
    }
}

// === impl Group ===

impl Group {
    /// Registrations that were made elsewhere; all of one Consul name.
    pub fn given(registrations: Vec<Registration>) -> Self {
        Self(Made::Given(registrations))
    }

    /// They themselves, in the order of [`super::desired()`].
    pub fn registrations(&self) -> Vec<Registration> {
        match &self.0 {
            Made::Given(registrations) => registrations.clone(),
            Made::Of { options, services, is_closed } => {
                let mut all: Vec<_> = Vec::new();
                services.iter().for_each(|service| all.extend(service.get().registrations(options)));
                all.sort_by(desired::order);
                if *is_closed {
                    all.iter_mut().for_each(conflicts::shut);
                }
                all
            }
        }
    }
}

#[cfg(test)]
mod tests;
