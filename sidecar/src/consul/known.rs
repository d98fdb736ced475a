//! The catalog as it was read and carried on with our own writes, with where the instances of each service stand, so that one
//! service is compared without looking through the others. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    live::{Live, Text},
    operation::Operation,
};

/// What is known of the catalog.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) live: Live,
    pub(super) index: Index,
}

impl Known {
    pub(super) fn new(live: Live) -> Self {
        Self { index: Index::of(&live), live }
    }

    /// See [`Live::apply`].
    pub(super) fn apply(&mut self, operations: &[Operation], index: u64) {
        self.index.apply(operations, &self.live);
        self.live.apply(operations, index);
    }
}

/// Node and ID of every instance that was read, by the name of its service, whoever it belongs to.
#[derive(Debug, Default)]
pub(super) struct Index {
    places: BTreeMap<Text, Vec<(Text, Text)>>,
    /// The names of nodes, each once.
    nodes: BTreeSet<Text>,
}

impl Index {
    pub(super) fn of(live: &Live) -> Self {
        let mut index = Self::default();
        for (name, node) in &live.nodes {
            let name = index.node(name);
            for service in node.services.values() {
                let places = index.places.entry(Arc::clone(&service.service)).or_default();
                places.push((Arc::clone(&name), Arc::clone(&service.id)));
            }
        }
        index
    }

    fn node(&mut self, name: &str) -> Text {
        if let Some(known) = self.nodes.get(name) {
            return Arc::clone(known);
        }
        let name = Text::from(name);
        self.nodes.insert(Arc::clone(&name));
        name
    }

    /// The names of all services, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &Text> {
        self.places.keys()
    }

    /// Node and ID of the instances under this name.
    pub(super) fn places(&self, name: &str) -> &[(Text, Text)] {
        self.places.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Follows what [`Live::apply`] does; `live` is as it was before.
    fn apply(&mut self, operations: &[Operation], live: &Live) {
        for operation in operations {
            match operation {
                Operation::SetService { node, service } => {
                    let before = live.nodes.get(node).and_then(|node| node.services.get(&service.id));
                    if let Some(before) = before.filter(|before| before.service != service.service) {
                        self.leave(&before.service, node, &service.id);
                    }
                    let node = self.node(node);
                    let places = self.places.entry(Arc::clone(&service.service)).or_default();
                    if !places.iter().any(|(on, id)| *on == node && *id == service.id) {
                        places.push((node, Arc::clone(&service.id)));
                    }
                }
                Operation::DeleteService { node, service } => self.leave(&service.service, node, &service.id),
                Operation::DeleteNode { .. }
                | Operation::SetNode { .. }
                | Operation::SetCheck { .. }
                | Operation::DeleteCheck { .. }
                | Operation::SetKey { .. }
                | Operation::DeleteKey { .. } => {}
            }
        }
    }

    fn leave(&mut self, name: &Text, node: &str, id: &Text) {
        if let Some(places) = self.places.get_mut(name) {
            places.retain(|(on, its)| **on != *node || its != id);
            if places.is_empty() {
                self.places.remove(name);
            }
        }
    }
}
