//! Changes → transactions: each service's change in one where it fits, several services in one where they fit together, and
//! otherwise in an order that never leaves a service half (H3). Pure.

use super::{
    diff::{Difference, InstanceChange, Kind, ServiceChange},
    operation::Operation,
};

/// Operations that services share a transaction up to, the fence included. One place is left for a note on the progress.
const PACKED: usize = 127;
/// Most operations of one transaction, the fence included (Consul 1.14 and newer).
const MOST: usize = 128;
/// Services whose transactions are made at once.
const BATCH: usize = 256;
/// The fence, which every transaction begins with.
const FENCE: usize = 1;
/// Most bytes of one transaction's operations; Consul's default for the whole is 524,288 (`txn_max_req_len`).
const MAX_BYTES: usize = 480 << 10;

/// Operations that are applied together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Names of the services that it changes; more than one only if each is changed as a whole here.
    pub services: Vec<String>,
    /// At most 127, since the fence comes before them.
    pub operations: Vec<Operation>,
}

/// Operations that must not be parted, with their size.
struct Unit {
    operations: Vec<Operation>,
    bytes: usize,
}

/// All of a difference, in the order in which it has to be applied.
pub fn transactions(difference: &Difference) -> Vec<Transaction> {
    batches(difference).flatten().collect()
}

/// The same a few services at a time: all operations of a first sync at once would be most of our memory.
pub(super) fn batches(difference: &Difference) -> impl Iterator<Item = Vec<Transaction>> + '_ {
    let nodes = std::iter::once_with(|| of_nodes(&difference.nodes));
    let services = difference.services.chunks(BATCH).map(of_services);
    let empty = std::iter::once_with(|| of_nodes(&difference.empty_nodes));
    nodes.chain(services).chain(empty)
}

fn of_nodes(operations: &[Operation]) -> Vec<Transaction> {
    alone(operations).into_iter().map(|operations| Transaction { services: Vec::new(), operations }).collect()
}

fn of_services(changes: &[ServiceChange]) -> Vec<Transaction> {
    let mut all = Vec::new();
    let mut packed: Option<(Transaction, usize)> = None;
    for change in changes {
        let whole = Unit::joined(units(change));
        let names = vec![change.service.clone()];
        if whole.n() + FENCE > MOST || whole.bytes > MAX_BYTES {
            all.extend(split(units(change), MOST).into_iter().map(|unit| unit.alone(names.clone())));
            continue;
        }
        match &mut packed {
            Some((open, bytes))
                if open.operations.len() + whole.n() + FENCE <= PACKED && *bytes + whole.bytes <= MAX_BYTES =>
            {
                open.services.extend(names);
                open.operations.extend(whole.operations);
                *bytes += whole.bytes;
            }
            _ => {
                let bytes = whole.bytes;
                all.extend(packed.replace((whole.alone(names), bytes)).map(|(full, _)| full));
            }
        }
    }
    all.extend(packed.map(|(last, _)| last));
    all
}

/// Operations that do not belong together, in as few groups as there is room for.
pub(super) fn alone(operations: &[Operation]) -> Vec<Vec<Operation>> {
    let units = operations.iter().map(|operation| Unit::new(vec![operation.clone()])).collect();
    split(units, PACKED).into_iter().map(|unit| unit.operations).collect()
}

/// A service's operations in an order in which they may be parted.
///
/// A new instance is never without its check, which would be "passing", and what is new comes before what goes. Where tags
/// change it is the other way round, since readers must not meet two sets of tags: first all instances that stay, with those
/// that go while there is room, and new ones join them.
fn units(change: &ServiceChange) -> Vec<Unit> {
    let of = |wanted: fn(&Kind) -> bool| change.instances.iter().filter(move |it| wanted(&it.kind));
    let additions =
        of(|kind| *kind == Kind::Add).map(|it| Unit::new(std::iter::once(set(it)).chain(check(it)).collect()));
    let settings = of(|kind| matches!(kind, Kind::Update(parts) if parts != &["check"])).map(set);
    let checks = of(|kind| matches!(kind, Kind::Update(_))).filter_map(check);
    let removals = of(|kind| *kind == Kind::Remove)
        .map(|it| Operation::DeleteService { node: it.node.clone(), service: Box::new(it.service.clone()) });
    let single = |operation| Unit::new(vec![operation]);
    let tags_change =
        change.instances.iter().any(|it| matches!(&it.kind, Kind::Update(parts) if parts.contains(&"tags")));
    if tags_change {
        settings.chain(removals).map(single).chain(additions).chain(checks.map(single)).collect()
    } else {
        additions.chain(settings.chain(checks).chain(removals).map(single)).collect()
    }
}

fn set(change: &InstanceChange) -> Operation {
    Operation::SetService { node: change.node.clone(), service: Box::new(change.service.clone()) }
}

fn check(change: &InstanceChange) -> Option<Operation> {
    let (check, kind) = change.check.clone()?;
    Some(Operation::SetCheck { node: change.node.clone(), check: Box::new(check), kind })
}

/// As few groups as the order allows.
fn split(units: Vec<Unit>, limit: usize) -> Vec<Unit> {
    let mut groups: Vec<Unit> = Vec::new();
    for unit in units {
        match groups.last_mut() {
            Some(last) if last.n() + unit.n() + FENCE <= limit && last.bytes + unit.bytes <= MAX_BYTES => {
                last.bytes += unit.bytes;
                last.operations.extend(unit.operations);
            }
            _ => groups.push(unit),
        }
    }
    groups
}

// === impl Unit ===

impl Unit {
    fn new(operations: Vec<Operation>) -> Self {
        let bytes = operations.iter().map(|operation| operation.to_json().to_string().len() + 1).sum();
        Self { operations, bytes }
    }

    fn joined(units: Vec<Self>) -> Self {
        let bytes = units.iter().map(|unit| unit.bytes).sum();
        Self { operations: units.into_iter().flat_map(|unit| unit.operations).collect(), bytes }
    }

    fn n(&self) -> usize {
        self.operations.len()
    }

    fn alone(self, services: Vec<String>) -> Transaction {
        Transaction { services, operations: self.operations }
    }
}
