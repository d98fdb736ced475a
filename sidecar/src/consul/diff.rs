//! Desired registrations against the live catalog: what has to change, and nothing else (G2, H1). Pure.
//!
//! An instance is ours if it sits on a node that may carry ours *and* bears our cluster's mark. An ID of ours that somebody
//! else holds is a [`Conflict`]: it is told, never taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use super::{
    known::Index,
    live::{Live, LiveCheck, LiveNode, LiveService, LiveWeights, Meta, Scope, Text, Texts},
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
    /// The Consul services that these conflicts are about.
    pub contested: BTreeSet<String>,
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
    let index = Index::of(live);
    let mut groups: BTreeMap<&str, Vec<&Registration>> =
        index.names().map(|name| (name.as_ref(), Vec::new())).collect();
    for registration in wanted {
        groups.entry(&registration.service.service).or_default().push(registration);
    }
    let mut look = Look::at(live, scope);
    for (name, wanted) in groups {
        look.service(name, wanted, index.places(name));
    }
    look.done()
}

/// A comparison, service by service: of all of them, or of those that may not be in step. It is right for these alone as long
/// as all others are in step.
pub(super) struct Look<'a> {
    live: &'a Live,
    scope: &'a Scope,
    found: Difference,
    changes: BTreeMap<String, Vec<InstanceChange>>,
    /// The Consul nodes that are wanted, and whether they may carry anything of ours.
    nodes: BTreeMap<String, bool>,
    /// Instances that stand under another name than they shall: they are no removals there.
    moved: BTreeSet<(String, Text)>,
    texts: Texts,
}

impl<'a> Look<'a> {
    pub(super) fn at(live: &'a Live, scope: &'a Scope) -> Self {
        Self {
            live,
            scope,
            found: Difference::default(),
            changes: BTreeMap::new(),
            nodes: BTreeMap::new(),
            moved: BTreeSet::new(),
            texts: Texts::default(),
        }
    }

    /// Looks at one Consul service: what is wanted of it, and where instances of that name stand.
    pub(super) fn service<'r>(
        &mut self,
        name: &str,
        wanted: impl IntoIterator<Item = &'r Registration>,
        places: &[(Text, Text)],
    ) {
        let mut kept = BTreeSet::new();
        for registration in wanted {
            let (node, id) = (registration.node.as_str(), registration.service.id.as_str());
            if !self.node_is_open(registration) {
                self.found.contested.insert(name.to_owned());
                continue;
            }
            kept.insert((node, id));
            let change = match self.live.nodes.get(node).and_then(|node| Some((node, node.services.get(id)?))) {
                None => Some(added(registration, &mut self.texts)),
                Some((_, present)) if !self.scope.owns(present) => {
                    self.found.conflicts.push(Conflict { node: node.to_owned(), id: Some(id.to_owned()) });
                    self.found.contested.insert(name.to_owned());
                    None
                }
                Some((on, present)) => {
                    if *present.service != *name {
                        self.moved.insert((node.to_owned(), Arc::clone(&present.id)));
                    }
                    updated(registration, on, present, &mut self.texts)
                }
            };
            self.changes(change);
        }
        for (node, id) in places.iter().filter(|(node, id)| !kept.contains(&(&**node, &**id))) {
            let Some(on) = self.live.nodes.get(&**node) else { continue };
            let Some(service) = on.services.get(id) else { continue };
            if self.scope.may_carry(node, on) && self.scope.owns(service) {
                let (node, service) = (node.to_string(), service.clone());
                self.changes([InstanceChange { node, service, check: None, kind: Kind::Remove }]);
            }
        }
    }

    /// Everything that was found.
    pub(super) fn done(self) -> Difference {
        let Self { live, scope, mut found, mut changes, nodes, moved, .. } = self;
        for (name, node) in
            live.nodes.iter().filter(|(name, node)| node.services.is_empty() && scope.owns_node(name, node))
        {
            if !nodes.contains_key(name) {
                let (name, modify_index) = (name.clone(), node.modify_index);
                found.empty_nodes.push(Operation::DeleteNode { name, modify_index });
            }
        }
        for instances in changes.values_mut() {
            let is_moved = |it: &InstanceChange| moved.contains(&(it.node.clone(), Arc::clone(&it.service.id)));
            instances.retain(|change| change.kind != Kind::Remove || !is_moved(change));
            // Of two changes of one instance the later one holds.
            instances.reverse();
            instances.sort_by(|a, b| a.place().cmp(&b.place()));
            instances.dedup_by(|a, b| a.place() == b.place());
            instances.shrink_to_fit();
        }
        found.conflicts.sort();
        found.services = changes
            .into_iter()
            .filter(|(_, instances)| !instances.is_empty())
            .map(|(service, instances)| ServiceChange { service, instances })
            .collect();
        found
    }

    fn changes(&mut self, changes: impl IntoIterator<Item = InstanceChange>) {
        for change in changes {
            self.changes.entry(change.service.service.to_string()).or_default().push(change);
        }
    }

    /// Whether the node may carry the registration; makes or mends it where it is met first.
    fn node_is_open(&mut self, registration: &Registration) -> bool {
        let name = &registration.node;
        if let Some(is_open) = self.nodes.get(name) {
            return *is_open;
        }
        let node = self.live.nodes.get(name);
        let is_open = node.is_none_or(|node| self.scope.may_carry(name, node));
        if is_open {
            self.found.nodes.extend(node_change(registration, node));
        } else {
            self.found.conflicts.push(Conflict { node: name.clone(), id: None });
        }
        self.nodes.insert(name.clone(), is_open);
        is_open
    }
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
    let same = *live.address == registration.address && live.meta == meta;
    (!same && !registration.skip_node_update).then(|| {
        let (address, id) = (registration.address.clone(), live.id.clone());
        let node = LiveNode { id, address, meta, modify_index: live.modify_index, ..LiveNode::default() };
        Operation::SetNode { name, node: Box::new(node) }
    })
}

fn added(registration: &Registration, texts: &mut Texts) -> InstanceChange {
    let service = wanted_service(registration, 0, texts);
    InstanceChange {
        node: registration.node.clone(),
        check: Some((wanted_check(registration, &service.id, texts), registration.check.kind.clone())),
        service,
        kind: Kind::Add,
    }
}

fn updated(
    registration: &Registration,
    node: &LiveNode,
    present: &LiveService,
    texts: &mut Texts,
) -> Option<InstanceChange> {
    let service = wanted_service(registration, present.modify_index, texts);
    let mut check = wanted_check(registration, &service.id, texts);
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

pub(super) fn wanted_service(registration: &Registration, modify_index: u64, texts: &mut Texts) -> LiveService {
    let service = &registration.service;
    LiveService {
        id: service.id.as_str().into(),
        service: texts.text(&service.service),
        tags: texts.list(service.tags.iter().map(String::as_str)),
        address: texts.text(&service.address),
        meta: Meta::from(&service.meta),
        port: service.port.into(),
        weights: LiveWeights { passing: service.weights.passing.into(), warning: service.weights.warning.into() },
        enable_tag_override: false,
        modify_index,
    }
}

/// `id` is the instance's, to be shared.
pub(super) fn wanted_check(registration: &Registration, id: &Text, texts: &mut Texts) -> LiveCheck {
    let check = &registration.check;
    LiveCheck {
        check_id: check.check_id.as_str().into(),
        name: texts.text(&check.name),
        status: texts.text(&check.status),
        output: check.output.as_str().into(),
        service_id: if check.service_id == **id { Arc::clone(id) } else { check.service_id.as_str().into() },
        service_name: texts.text(&registration.service.service),
        definition: check.definition.clone().map(Box::new),
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

impl InstanceChange {
    fn place(&self) -> (&str, &str) {
        (&self.node, &self.service.id)
    }
}

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
