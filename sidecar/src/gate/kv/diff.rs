//! The tree as it is against the tree as it shall be: what to write, together with what, in which order. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Pairs, Tree, object};
use crate::consul::operation::Operation;

/// Flags of our keys: whatever has others is not ours.
pub(super) const OURS: u64 = u64::from_be_bytes(*b"portcull");
/// Most operations of one transaction beside the fence, and most bytes of keys and values, which are sent as base64.
const MOST: usize = 127;
const MAX_BYTES: usize = 300 << 10;
/// What an operation takes beside key and value.
const FRAME: usize = 128;

/// A key as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its value; `None` if it is no text.
    pub value: Option<String>,
    /// Its flags, which say whose it is.
    pub flags: u64,
    /// For compare-and-set.
    pub modify_index: u64,
}

/// Operations that must be seen together, as far as one transaction holds them.
type Unit = Vec<Operation>;

/// Transactions that make of `live` what is wanted, in order; an error names a key of somebody else inside what is ours. Keys
/// of `live` are without the prefix, as in the tree.
///
/// First what guards, then each service's objects at once, then the gate router that leads to them; what is gone goes behind
/// all that, routers before what they refer to. So a leaf always has its parent, and the gate its plugin.
pub fn changes(wanted: &Tree, live: &BTreeMap<String, Entry>, prefix: &str) -> Result<Vec<Vec<Operation>>, String> {
    let groups = || std::iter::once(&wanted.guards).chain(wanted.services.values()).chain([&wanted.gate]);
    let objects: BTreeSet<&str> = groups().flat_map(Pairs::keys).map(|key| object(key)).collect();
    if let Some(key) = live.iter().find(|(key, it)| it.flags != OURS && objects.contains(object(key))) {
        return Err(format!("{prefix}/{}", key.0));
    }
    let mut units = Vec::new();
    for group in groups() {
        let (unit, is_large) = change(group, live, prefix);
        if is_large { units.extend(parted(unit, prefix)) } else { units.push(unit) }
    }
    let gone = live.iter().filter(|(key, it)| it.flags == OURS && !objects.contains(object(key)));
    let (routers, others): (Vec<_>, Vec<_>) = gone.partition(|(key, _)| key.starts_with("http/routers/"));
    for list in [routers, others] {
        let mut by_object: BTreeMap<&str, Unit> = BTreeMap::new();
        for (key, entry) in list {
            by_object.entry(object(key)).or_default().push(delete(prefix, key, entry));
        }
        units.extend(by_object.into_values().flat_map(|unit| parted(unit, prefix)));
    }
    Ok(packed(units))
}

/// What differs in one group: keys to set, and keys that its objects no longer have.
fn change(group: &Pairs, live: &BTreeMap<String, Entry>, prefix: &str) -> (Unit, bool) {
    let objects: BTreeSet<&str> = group.keys().map(|key| object(key)).collect();
    let mut unit: Unit = Vec::new();
    for (key, value) in group {
        let present = live.get(key);
        if present.is_none_or(|it| it.value.as_ref() != Some(value)) {
            unit.push(Operation::SetKey {
                key: format!("{prefix}/{key}"),
                value: value.clone().into_bytes(),
                flags: OURS,
                modify_index: present.map_or(0, |it| it.modify_index),
            });
        }
    }
    for (key, entry) in live.iter().filter(|(key, _)| !group.contains_key(*key) && objects.contains(object(key))) {
        unit.push(delete(prefix, key, entry));
    }
    let is_large = unit.len() > MOST || bytes(&unit) > MAX_BYTES;
    (unit, is_large)
}

fn delete(prefix: &str, key: &str, entry: &Entry) -> Operation {
    Operation::DeleteKey { key: format!("{prefix}/{key}"), modify_index: Some(entry.modify_index) }
}

fn path(operation: &Operation) -> &str {
    match operation {
        Operation::SetKey { key, .. } | Operation::DeleteKey { key, .. } => key,
        _ => "",
    }
}

/// A group that is too large for one transaction, object by object: middlewares, servers, leaves, roots. Only the list of
/// servers may be larger than a transaction; a part of it is fewer servers.
fn parted(unit: Unit, prefix: &str) -> Vec<Unit> {
    let mut by_object: BTreeMap<(u8, String), Unit> = BTreeMap::new();
    for operation in unit {
        let of = object(path(&operation).strip_prefix(prefix).unwrap_or_default().trim_start_matches('/')).to_owned();
        let rank = match of.split('/').nth(1) {
            Some("middlewares") => 0,
            Some("services") => 1,
            _ if of.contains("-leaf") => 2,
            _ => 3,
        };
        by_object.entry((rank, of)).or_default().push(operation);
    }
    let split = |unit: Unit| unit.chunks(MOST).map(<[Operation]>::to_vec).collect::<Vec<_>>();
    by_object.into_values().flat_map(split).collect()
}

/// As few transactions as the order allows.
fn packed(units: Vec<Unit>) -> Vec<Vec<Operation>> {
    let mut all: Vec<Vec<Operation>> = Vec::new();
    for unit in units.into_iter().filter(|unit| !unit.is_empty()) {
        match all.last_mut() {
            Some(last) if last.len() + unit.len() <= MOST && bytes(last) + bytes(&unit) <= MAX_BYTES => {
                last.extend(unit);
            }
            _ => all.push(unit),
        }
    }
    all
}

fn bytes(operations: &[Operation]) -> usize {
    let size = |it: &Operation| match it {
        Operation::SetKey { key, value, .. } => FRAME + key.len() + value.len(),
        it => FRAME + path(it).len(),
    };
    operations.iter().map(size).sum()
}
