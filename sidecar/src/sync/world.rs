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
    endpoints, lean,
    note::Note,
    options::SyncOptions,
    registration::Registration,
    synced::Synced,
};
use crate::{
    input::Change,
    kube::{Cluster, ObjectKey},
};

/// The cluster.
#[derive(Debug)]
pub struct World {
    options: Arc<SyncOptions>,
    objects: Cluster,
    /// By service, whether it exists or not: its slices.
    slices: BTreeMap<ObjectKey, BTreeSet<ObjectKey>>,
    /// By node, whether it exists or not: the services with endpoints there.
    on_node: BTreeMap<String, BTreeSet<ObjectKey>>,
    synced: BTreeMap<ObjectKey, Arc<Synced>>,
    /// Only services with something to say about them.
    notes: BTreeMap<ObjectKey, Vec<Note>>,
    /// By Consul name: the services that are registered under it.
    names: BTreeMap<Arc<str>, BTreeSet<ObjectKey>>,
    conflicts: Conflicts,
    n_instances: usize,
    n_critical: usize,
}

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
    Of { options: Arc<SyncOptions>, services: Box<[Arc<Synced>]>, is_closed: bool },
    Given(Vec<Registration>),
}

// === impl World ===

impl World {
    /// An empty cluster.
    pub fn new(options: SyncOptions) -> Self {
        Self {
            options: Arc::new(options),
            objects: Cluster::default(),
            slices: BTreeMap::new(),
            on_node: BTreeMap::new(),
            synced: BTreeMap::new(),
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
        let gone = self.objects.services.keys().filter(|key| !objects.services.contains_key(key));
        changes.extend(gone.cloned().map(|key| Change::Service(key, None)));
        let gone = self.objects.slices.keys().filter(|key| !objects.slices.contains_key(key));
        changes.extend(gone.cloned().map(|key| Change::Slice(key, None)));
        let gone = self.objects.nodes.keys().filter(|name| !objects.nodes.contains_key(*name));
        changes.extend(gone.cloned().map(|name| Change::Node(name, None)));
        let services = objects.services.into_iter().map(|(key, it)| Change::Service(key, Some(Box::new(it))));
        let slices = objects.slices.into_iter().map(|(key, it)| Change::Slice(key, Some(Box::new(it))));
        let nodes = objects.nodes.into_iter().map(|(name, it)| Change::Node(name, Some(Box::new(it))));
        self.objects.ignored = objects.ignored;
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
            self.judge(key, &mut changed);
        }
        self.settle(&mut changed);
        changed
    }

    /// The registrations under a Consul name; `None` without any.
    pub fn group(&self, name: &str) -> Option<Group> {
        let services = self.names.get(name)?.iter().filter_map(|key| self.synced.get(key).cloned()).collect();
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
        self.names.get(name).into_iter().flatten()
    }

    /// Whether there is neither a Service nor a Node: more likely a broken source than a cluster.
    pub fn is_empty(&self) -> bool {
        self.objects.services.is_empty() && self.objects.nodes.is_empty()
    }

    /// A Service, as far as it is kept.
    pub fn service(&self, service: &ObjectKey) -> Option<&Service> {
        self.objects.services.get(service)
    }

    /// How many Services there are, synced or not.
    pub fn n_services(&self) -> usize {
        self.objects.services.len()
    }

    /// How many registrations there are.
    pub fn n_instances(&self) -> usize {
        self.n_instances
    }

    /// How many of them are not ready.
    pub fn n_critical(&self) -> usize {
        self.n_critical
    }

    fn put_service(&mut self, key: ObjectKey, service: Option<Box<Service>>, concerned: &mut BTreeSet<ObjectKey>) {
        let service = service.map(|mut service| {
            lean::service(&mut service, &self.options);
            *service
        });
        if put(&mut self.objects.services, &key, service) {
            concerned.insert(key);
        }
    }

    fn put_slice(&mut self, key: ObjectKey, slice: Option<Box<EndpointSlice>>, concerned: &mut BTreeSet<ObjectKey>) {
        let slice = slice.map(|mut slice| {
            lean::slice(&mut slice);
            *slice
        });
        let owner = |slice: &EndpointSlice| endpoints::owner(&key, slice);
        let (before, after) = (self.objects.slices.get(&key).and_then(owner), slice.as_ref().and_then(owner));
        let owners: BTreeSet<_> = before.iter().chain(&after).cloned().collect();
        let nodes_before: Vec<_> = owners.iter().map(|owner| self.nodes_of(owner)).collect();
        if !put(&mut self.objects.slices, &key, slice) {
            return;
        }
        if before != after {
            if let Some(owner) = &before {
                take_out(&mut self.slices, owner, &key);
            }
            if let Some(owner) = after {
                self.slices.entry(owner).or_default().insert(key);
            }
        }
        for (owner, before) in owners.into_iter().zip(nodes_before) {
            let after = self.nodes_of(&owner);
            for node in before.difference(&after) {
                take_out(&mut self.on_node, node, &owner);
            }
            for node in after.difference(&before) {
                self.on_node.entry(node.clone()).or_default().insert(owner.clone());
            }
            concerned.insert(owner);
        }
    }

    fn put_node(&mut self, name: &str, node: Option<Box<Node>>, concerned: &mut BTreeSet<ObjectKey>) {
        let node = node.map(|mut node| {
            lean::node(&mut node);
            *node
        });
        if put(&mut self.objects.nodes, &name.to_owned(), node) {
            concerned.extend(self.on_node.get(name).into_iter().flatten().cloned());
        }
    }

    /// The nodes that the endpoints of a service name.
    fn nodes_of(&self, service: &ObjectKey) -> BTreeSet<String> {
        let slices = self.slices_of(service);
        let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        endpoints.filter_map(|endpoint| endpoint.node_name.clone()).collect()
    }

    fn slices_of(&self, service: &ObjectKey) -> Vec<&EndpointSlice> {
        self.slices.get(service).into_iter().flatten().filter_map(|key| self.objects.slices.get(key)).collect()
    }

    /// Looks again at one service by itself.
    fn judge(&mut self, key: ObjectKey, changed: &mut Changed) {
        let Judgement { synced, notes, .. } = match self.objects.services.get(&key) {
            Some(service) => desired::judge(&self.objects, &self.options, (&key, service), &self.slices_of(&key)),
            None => Judgement::default(),
        };
        let said = if notes.is_empty() { self.notes.remove(&key) } else { self.notes.insert(key.clone(), notes) };
        changed.notes |= said.as_ref() != self.notes.get(&key);
        let before = self.synced.remove(&key);
        if before.as_deref() == synced.as_ref() {
            self.synced.extend(before.map(|before| (key, before)));
            return;
        }
        if let Some(before) = before {
            let name: Arc<str> = before.common.name.as_str().into();
            take_out(&mut self.names, &name, &key);
            self.n_instances -= before.instances.len();
            self.n_critical -= before.n_critical();
            changed.names.insert(name);
        }
        if let Some(synced) = synced {
            let name: Arc<str> = synced.common.name.as_str().into();
            self.names.entry(Arc::clone(&name)).or_default().insert(key.clone());
            self.n_instances += synced.instances.len();
            self.n_critical += synced.n_critical();
            self.synced.insert(key, Arc::new(synced));
            changed.names.insert(name);
        }
    }

    /// Sees whom the changed names meet.
    fn settle(&mut self, changed: &mut Changed) {
        let mut met = BTreeSet::new();
        for name in &changed.names {
            let services = self.names.get(name).into_iter().flatten().filter_map(|key| self.synced.get(key));
            met.extend(self.conflicts.set(name, services.map(|synced| synced.common.tags.as_slice())));
        }
        changed.notes |= !met.is_empty();
        changed.names.extend(met);
    }
}

/// Puts a value in its place, or takes it out; whether that made a difference.
fn put<K: Ord + Clone, V: PartialEq>(map: &mut BTreeMap<K, V>, key: &K, value: Option<V>) -> bool {
    if map.get(key) == value.as_ref() {
        return false;
    }
    match value {
        Some(value) => drop(map.insert(key.clone(), value)),
        None => drop(map.remove(key)),
    }
    true
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
                let mut all: Vec<_> = services.iter().flat_map(|service| service.registrations(options)).collect();
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
