//! What the task that keeps Consul in step has been told, by whom it must not be waited for: changes of one service that come
//! faster than Consul takes them become one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    diff::{Difference, Look},
    known::Known,
    live::Scope,
};
use crate::sync::{Group, Registration};

/// By Consul name.
type Groups = BTreeMap<Arc<str>, Arc<Group>>;

/// What Consul should hold, all at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// All registrations of our cluster.
    pub registrations: Vec<Registration>,
    /// Whether the source held neither a Service nor a Node: then nothing is removed.
    pub source_is_empty: bool,
}

/// How far what is wanted can be believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// It holds neither a Service nor a Node: nothing is removed until a person lets it.
    pub is_empty: bool,
    /// It could not be read for longer than its grace: removals wait until it can (G3).
    pub is_broken: bool,
}

/// What was told and not taken yet.
#[derive(Debug, Default)]
pub(super) struct Inbox(Mutex<Pending>);

#[derive(Debug, Default)]
struct Pending {
    whole: Option<Groups>,
    /// Later than the whole.
    changes: BTreeMap<Arc<str>, Option<Arc<Group>>>,
    source: Source,
}

/// Everything that is wanted.
#[derive(Debug, Default)]
pub(super) struct Book {
    groups: Groups,
    pub(super) source: Source,
    /// Names that may not be in step.
    pub(super) open: BTreeSet<Arc<str>>,
}

// === impl Inbox ===

impl Inbox {
    /// Replaces everything.
    pub(super) fn replace(&self, wanted: Wanted) {
        let mut groups: BTreeMap<Arc<str>, Vec<Registration>> = BTreeMap::new();
        for registration in wanted.registrations {
            groups.entry(registration.service.service.as_str().into()).or_default().push(registration);
        }
        let mut pending = self.lock();
        pending.whole =
            Some(groups.into_iter().map(|(name, of_name)| (name, Arc::new(Group::given(of_name)))).collect());
        pending.changes.clear();
        pending.source = Source { is_empty: wanted.source_is_empty, is_broken: false };
    }

    /// Replaces what is wanted under these names.
    pub(super) fn change(&self, changes: impl IntoIterator<Item = (Arc<str>, Option<Group>)>, source: Source) {
        let mut pending = self.lock();
        pending.changes.extend(changes.into_iter().map(|(name, group)| (name, group.map(Arc::new))));
        pending.source = source;
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        // Every step above leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Book ===

impl Book {
    /// Takes what is new.
    pub(super) fn take(&mut self, inbox: &Inbox) {
        let Pending { whole, changes, source } = {
            let mut pending = inbox.lock();
            let source = pending.source;
            std::mem::replace(&mut *pending, Pending { source, ..Pending::default() })
        };
        self.source = source;
        let mut all = Vec::new();
        if let Some(whole) = whole {
            let gone = self.groups.keys().filter(|name| !whole.contains_key(*name)).cloned().map(|name| (name, None));
            all.extend(gone);
            all.extend(whole.into_iter().map(|(name, group)| (name, Some(group))));
        }
        for (name, group) in all.into_iter().chain(changes) {
            if self.groups.get(&name) == group.as_ref() {
                continue;
            }
            match group {
                Some(group) => drop(self.groups.insert(Arc::clone(&name), group)),
                None => drop(self.groups.remove(&name)),
            }
            self.open.insert(name);
        }
    }

    /// What differs under these names, or under all there are.
    pub(super) fn look(&self, known: &Known, scope: &Scope, names: Option<&BTreeSet<Arc<str>>>) -> Difference {
        let mut look = Look::at(&known.live, scope);
        let mut at = |name: &str| look.service(name, &self.registrations(name), known.index.places(name));
        match names {
            Some(names) => names.iter().for_each(|name| at(name)),
            None => {
                let gone = known.index.names().filter(|name| !self.groups.contains_key(*name));
                self.groups.keys().chain(gone).for_each(|name| at(name));
            }
        }
        look.done()
    }

    /// After a pass: what differs still, or is not ours to change, is looked at again with whatever comes next.
    pub(super) fn leave_open(&mut self, left: &Difference) {
        let unsettled = left.services.iter().map(|it| &it.service).chain(&left.contested);
        self.open = unsettled.map(|name| Arc::from(name.as_str())).collect();
    }

    /// What is wanted under a name; empty for nothing.
    fn registrations(&self, name: &str) -> Vec<Registration> {
        self.groups.get(name).map(|group| group.registrations()).unwrap_or_default()
    }

    /// Every Consul node on which something is wanted.
    pub(super) fn nodes(&self) -> BTreeSet<String> {
        self.groups.values().flat_map(|group| group.registrations()).map(|registration| registration.node).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(name: &str, address: &str) -> Registration {
        let json = serde_json::json!({
            "Node": "k8s-sync", "Address": "127.0.0.1",
            "Service": {"ID": name, "Service": name, "Address": address, "Port": 30080},
            "Check": {"CheckID": name, "Name": "n", "Type": "t", "Status": "passing", "Output": "", "ServiceID": name,
                      "Node": "k8s-sync"},
        });
        serde_json::from_value(json).unwrap()
    }

    fn wanted(names: &[&str]) -> Wanted {
        let registrations = names.iter().map(|name| registration(name, "192.0.2.1")).collect();
        Wanted { registrations, source_is_empty: false }
    }

    #[test]
    fn only_names_that_differ_are_open_and_changes_become_one() {
        let (inbox, mut book) = (Inbox::default(), Book::default());
        inbox.replace(wanted(&["web", "db"]));
        book.take(&inbox);
        assert_eq!(std::mem::take(&mut book.open).len(), 2);
        inbox.replace(wanted(&["web", "db"]));
        book.take(&inbox);
        assert!(book.open.is_empty());

        let changed = |address: &str| Some(Group::given(vec![registration("web", address)]));
        let source = Source { is_broken: true, ..Source::default() };
        inbox.change([("web".into(), None), ("api".into(), None)], Source::default());
        inbox.change([("web".into(), changed("192.0.2.7"))], source);
        book.take(&inbox);
        assert_eq!((book.source, std::mem::take(&mut book.open)), (source, BTreeSet::from(["web".into()])));
        assert_eq!(book.registrations("web")[0].service.address, "192.0.2.7");

        inbox.replace(wanted(&["db"]));
        book.take(&inbox);
        assert_eq!(book.open, BTreeSet::from(["web".into()]));
        assert_eq!((book.registrations("web").len(), book.source), (0, Source::default()));
    }
}
