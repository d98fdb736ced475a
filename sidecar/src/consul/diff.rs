//! Desired registrations against the live catalog: what has to change, and nothing else (G2, H1). Pure.
//!
//! An instance is ours if it sits on a node that may carry ours *and* bears our cluster's mark. An ID of ours that somebody
//! else holds is a [`Conflict`]: it is told, never taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    live::{Live, LiveCheck, LiveNode, LiveService, LiveWeights, Scope},
    operation::Operation,
};
use crate::sync::Registration;

/// Everything that has to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Nodes to make or to change, before anything else.
    pub nodes: Vec<Operation>,
    /// One for each Consul service that changes, sorted by name.
    pub services: Vec<ServiceChange>,
    /// Nodes of ours that carry nothing any more, after everything else.
    pub empty_nodes: Vec<Operation>,
    /// What cannot be registered because somebody else has it.
    pub conflicts: Vec<Conflict>,
}

/// What changes in one Consul service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceChange {
    /// Its name.
    pub service: String,
    /// Sorted by node and ID.
    pub instances: Vec<InstanceChange>,
}

/// What happens to one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceChange {
    /// Consul node.
    pub node: String,
    /// The instance as it shall be; with [`Kind::Remove`] as it is.
    pub service: LiveService,
    /// Its check as it shall be, if that changes, with Consul's `Type`.
    pub check: Option<(LiveCheck, String)>,
    /// What is done.
    pub kind: Kind,
}

/// What is done to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is new.
    Add,
    /// These parts of it differ: fields of the instance, or `check`.
    Update(Vec<&'static str>),
    /// Nothing wants it any more.
    Remove,
}

/// Something that is not ours stands where an instance of ours belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// Consul node.
    pub node: String,
    /// ID of the instance; `None` for the whole node.
    pub id: Option<String>,
}

/// What has to change so that `live` holds `wanted` and nothing else of ours.
pub fn diff(wanted: &[Registration], live: &Live, scope: &Scope) -> Difference {
    let mut found = Difference::default();
    let mut changes: BTreeMap<String, BTreeMap<(String, String), InstanceChange>> = BTreeMap::new();
    let mut add = |change: InstanceChange| {
        let of_service = changes.entry(change.service.service.clone()).or_default();
        of_service.insert((change.node.clone(), change.service.id.clone()), change);
    };
    let nodes: BTreeMap<&str, &Registration> = wanted.iter().map(|it| (it.node.as_str(), it)).collect();
    let mut closed = BTreeSet::new();
    for (name, registration) in nodes {
        match live.nodes.get(name) {
            Some(node) if !scope.may_carry(name, node) => {
                found.conflicts.push(Conflict { node: name.to_owned(), id: None });
                closed.insert(name);
            }
            node => found.nodes.extend(node_change(registration, node)),
        }
    }
    let mut kept = BTreeSet::new();
    for registration in wanted.iter().filter(|it| !closed.contains(it.node.as_str())) {
        let (node, id) = (registration.node.as_str(), registration.service.id.as_str());
        kept.insert((node, id));
        match live.nodes.get(node).and_then(|node| Some((node, node.services.get(id)?))) {
            None => add(added(registration)),
            Some((_, present)) if !scope.owns(present) => {
                found.conflicts.push(Conflict { node: node.to_owned(), id: Some(id.to_owned()) });
            }
            Some((on, present)) => updated(registration, on, present).into_iter().for_each(&mut add),
        }
    }
    for (name, node) in live.nodes.iter().filter(|(name, node)| scope.may_carry(name, node)) {
        let ours = node.services.values().filter(|service| scope.owns(service));
        for service in ours.filter(|service| !kept.contains(&(name.as_str(), service.id.as_str()))) {
            add(InstanceChange { node: name.clone(), service: service.clone(), check: None, kind: Kind::Remove });
        }
        let is_wanted = wanted.iter().any(|registration| registration.node == *name);
        if node.services.is_empty() && !is_wanted && scope.owns_node(name, node) {
            let (name, modify_index) = (name.clone(), node.modify_index);
            found.empty_nodes.push(Operation::DeleteNode { name, modify_index });
        }
    }
    found.conflicts.sort();
    found.services = changes
        .into_iter()
        .map(|(service, instances)| ServiceChange { service, instances: instances.into_values().collect() })
        .collect();
    found
}

/// Makes a node, or mends one of our own. The synthetic one is left as it is: others may use it too.
fn node_change(registration: &Registration, live: Option<&LiveNode>) -> Option<Operation> {
    let name = registration.node.clone();
    let Some(live) = live else {
        let node = LiveNode {
            id: registration.id.clone(),
            address: registration.address.clone(),
            meta: registration.node_meta.clone(),
            ..LiveNode::default()
        };
        return Some(Operation::SetNode { name, node: Box::new(node) });
    };
    // Pairs that others added stay, such as those that consul-esm goes by.
    let mut meta = live.meta.clone();
    meta.extend(registration.node_meta.clone());
    let same = live.address == registration.address && live.meta == meta;
    (!same && !registration.skip_node_update).then(|| {
        let (address, id) = (registration.address.clone(), live.id.clone());
        let node = LiveNode { id, address, meta, modify_index: live.modify_index, ..LiveNode::default() };
        Operation::SetNode { name, node: Box::new(node) }
    })
}

fn added(registration: &Registration) -> InstanceChange {
    InstanceChange {
        node: registration.node.clone(),
        service: wanted_service(registration, 0),
        check: Some((wanted_check(registration), registration.check.kind.clone())),
        kind: Kind::Add,
    }
}

fn updated(registration: &Registration, node: &LiveNode, present: &LiveService) -> Option<InstanceChange> {
    let service = wanted_service(registration, present.modify_index);
    let mut check = wanted_check(registration);
    if let (Some(_), Some(found)) = (&check.definition, node.checks.get(&check.check_id)) {
        // Whoever probes it writes these.
        (check.status, check.output) = (found.status.clone(), found.output.clone());
    }
    let mut parts: Vec<_> = [
        ("name", service.service != present.service),
        ("tags", service.tags != present.tags),
        ("address", service.address != present.address),
        ("port", service.port != present.port),
        ("meta", service.meta != present.meta),
        ("weights", service.weights != present.weights),
        ("enableTagOverride", service.enable_tag_override != present.enable_tag_override),
    ]
    .into_iter()
    .filter_map(|(part, differs)| differs.then_some(part))
    .collect();
    let same_check = node.checks.get(&check.check_id) == Some(&check);
    if !same_check {
        parts.push("check");
    }
    (!parts.is_empty()).then(|| InstanceChange {
        node: registration.node.clone(),
        service,
        check: (!same_check).then(|| (check, registration.check.kind.clone())),
        kind: Kind::Update(parts),
    })
}

pub(super) fn wanted_service(registration: &Registration, modify_index: u64) -> LiveService {
    let service = &registration.service;
    LiveService {
        id: service.id.clone(),
        service: service.service.clone(),
        tags: service.tags.clone(),
        address: service.address.clone(),
        meta: service.meta.clone(),
        port: service.port.into(),
        weights: LiveWeights { passing: service.weights.passing.into(), warning: service.weights.warning.into() },
        enable_tag_override: false,
        modify_index,
    }
}

pub(super) fn wanted_check(registration: &Registration) -> LiveCheck {
    let check = &registration.check;
    LiveCheck {
        check_id: check.check_id.clone(),
        name: check.name.clone(),
        status: check.status.clone(),
        output: check.output.clone(),
        service_id: check.service_id.clone(),
        service_name: registration.service.service.clone(),
        definition: check.definition.clone(),
    }
}

// === impl Difference ===

impl Difference {
    /// Whether the catalog is as it should be.
    pub fn is_empty(&self) -> bool {
        self.n_changes() == 0
    }

    /// Nodes and instances that change.
    pub fn n_changes(&self) -> usize {
        self.nodes.len() + self.empty_nodes.len() + self.instances().count()
    }

    /// Instances that are made, and such that are removed.
    pub fn n_added_and_removed(&self) -> (usize, usize) {
        let count = |kind: &Kind| self.instances().filter(|it| it.kind == *kind).count();
        (count(&Kind::Add), count(&Kind::Remove))
    }

    /// All instances that change.
    pub fn instances(&self) -> impl Iterator<Item = &InstanceChange> {
        self.services.iter().flat_map(|service| &service.instances)
    }

    /// The same without removals.
    #[must_use]
    pub fn without_removals(mut self) -> Self {
        self.empty_nodes.clear();
        for service in &mut self.services {
            service.instances.retain(|instance| instance.kind != Kind::Remove);
        }
        self.services.retain(|service| !service.instances.is_empty());
        self
    }
}

// === impl InstanceChange ===

impl fmt::Display for InstanceChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, parts) = match &self.kind {
            Kind::Add => ('+', String::new()),
            Kind::Update(parts) => ('~', format!(": {}", parts.join(", "))),
            Kind::Remove => ('-', String::new()),
        };
        let LiveService { id, service, address, port, .. } = &self.service;
        write!(f, "{sign} {service} {address}:{port} ({id} on {}){parts}", self.node)
    }
}

// === impl Conflict ===

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => write!(
                f,
                "Consul node {}: {id} was registered by somebody else and is left alone; remove it, or use another clusterName",
                self.node
            ),
            None => write!(
                f,
                "Consul node {} is not ours (an agent's, or without our marks), nothing is registered on it; choose another consulNodeName",
                self.node
            ),
        }
    }
}
