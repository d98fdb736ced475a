//! What has to be written so that a cluster holds what it should, and nothing more. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    desired::{Desired, Wanted},
    object::{LiveService, LiveSlice, Marks, Metadata},
};

/// So many Services may always go at once, as of those that others registered in Consul.
const FREE: usize = 3;

/// What the namespace holds: all its Services, and the `EndpointSlice`s that are ours.
#[derive(Clone, Debug, Default)]
pub(super) struct Present {
    pub(super) services: BTreeMap<String, LiveService>,
    pub(super) slices: BTreeMap<String, LiveSlice>,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) kind: Of,
    pub(super) name: String,
    pub(super) act: Act,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of {
    Service,
    Slice,
}

/// How. What is there is named with its version: another one is not touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Create(Value),
    Patch { uid: String, version: String, body: Value },
    Delete { uid: String, version: String },
}

/// What differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// By Service: in this order, and not further once one fails.
    pub(super) services: BTreeMap<String, Vec<Change>>,
    /// Names that Services have which are not ours.
    pub(super) taken: BTreeSet<String>,
    /// Those of them beside which slices of ours are, which must not be.
    pub(super) intruding: BTreeSet<String>,
    /// How many Services of ours would go.
    pub(super) removals: usize,
    /// How many there are.
    pub(super) owned: usize,
}

/// What differs. Services and slices that are not ours are in no change; names that are held, neither.
pub(super) fn diff(desired: &Desired, present: &Present, marks: &Marks) -> Difference {
    let mut difference = Difference::default();
    for (name, live) in &present.services {
        if !marks.own(&live.metadata) {
            continue;
        }
        difference.owned += 1;
        let is_wanted = desired.services.contains_key(name) || desired.held.contains(name);
        if !is_wanted && live.metadata.deletion_timestamp.is_none() {
            difference.removals += 1;
            difference.add(name, Change::delete(Of::Service, name, &live.metadata));
        }
    }
    // Slices beside a Service that is not ours would send its requests elsewhere.
    let is_taken = |name: &str| present.services.get(name).is_some_and(|live| !marks.own(&live.metadata));
    let mut unwanted: BTreeMap<&str, Vec<Change>> = BTreeMap::new();
    for (name, live) in &present.slices {
        let service = owner(name);
        let wanted = desired.services.get(service).and_then(|wanted| wanted.slices.get(name));
        let is_wanted = wanted.is_some_and(|slice| slice.family.word() == live.address_type());
        let is_kept = (is_wanted || desired.held.contains(service)) && !is_taken(service);
        if !is_kept && live.metadata.deletion_timestamp.is_none() {
            unwanted.entry(service).or_default().push(Change::delete(Of::Slice, name, &live.metadata));
        }
    }
    for (name, wanted) in &desired.services {
        if is_taken(name) {
            difference.taken.insert(name.clone());
        } else {
            for change in mend(name, wanted, present, marks) {
                difference.add(name, change);
            }
        }
    }
    for (service, changes) in unwanted {
        if is_taken(service) {
            difference.intruding.insert(service.to_owned());
        }
        let all = difference.services.entry(service.to_owned()).or_default();
        // Additions before removals; but no slice is left behind a Service that goes.
        let at = if desired.services.contains_key(service) { all.len() } else { 0 };
        all.splice(at..at, changes);
    }
    difference
}

fn mend(name: &str, wanted: &Wanted, present: &Present, marks: &Marks) -> Vec<Change> {
    let mut changes = Vec::new();
    let service = present.services.get(name);
    changes.extend(
        match service {
            None => Some(Act::Create(marks.new_service(name, &wanted.consul, &wanted.form))),
            Some(live) => {
                marks.mend_service(live, &wanted.consul, &wanted.form).map(|body| Act::patch(&live.metadata, body))
            }
        }
        .map(|act| Change { kind: Of::Service, name: name.to_owned(), act }),
    );
    for (slice_name, slice) in &wanted.slices {
        let act = match present.slices.get(slice_name) {
            None => Some(Act::Create(marks.new_slice(slice_name, name, slice))),
            // It goes first.
            Some(live) if live.address_type() != slice.family.word() => None,
            Some(live) => marks.mend_slice(live, name, slice).map(|body| Act::patch(&live.metadata, body)),
        };
        changes.extend(act.map(|act| Change { kind: Of::Slice, name: slice_name.clone(), act }));
    }
    changes
}

/// What is left to be done of an object right after it was written.
pub(super) fn left(change: &Change, desired: &Desired, present: &Present, marks: &Marks) -> Option<Change> {
    let name = &change.name;
    let (metadata, body) = match change.kind {
        Of::Service => {
            let (wanted, live) = (desired.services.get(name)?, present.services.get(name)?);
            (&live.metadata, marks.mend_service(live, &wanted.consul, &wanted.form)?)
        }
        Of::Slice => {
            let slice = desired.services.get(owner(name))?.slices.get(name)?;
            let live = present.slices.get(name)?;
            (&live.metadata, marks.mend_slice(live, owner(name), slice)?)
        }
    };
    Some(Change { kind: change.kind, name: name.clone(), act: Act::patch(metadata, body) })
}

/// The Service that a slice of this name is made for.
fn owner(slice: &str) -> &str {
    slice.split_once('.').map_or(slice, |(service, _)| service)
}

// === impl Present ===

impl Present {
    /// Takes a Service as it is now. Of one that is not ours nothing is kept but who it is.
    pub(super) fn put_service(&mut self, mut live: LiveService, marks: &Marks) {
        if !marks.own(&live.metadata) {
            live.slim();
        }
        put(&mut self.services, live, |it| &it.metadata);
    }

    /// Takes an `EndpointSlice` of ours as it is now.
    pub(super) fn put_slice(&mut self, live: LiveSlice) {
        put(&mut self.slices, live, |it| &it.metadata);
    }

    /// A Service is gone.
    pub(super) fn lose_service(&mut self, live: &LiveService) {
        lose(&mut self.services, &live.metadata, |it| &it.metadata);
    }

    /// An `EndpointSlice` is gone, or is not ours any more.
    pub(super) fn lose_slice(&mut self, live: &LiveSlice) {
        lose(&mut self.slices, &live.metadata, |it| &it.metadata);
    }
}

/// What a watch tells may be older than what a write of ours was answered.
fn put<T>(all: &mut BTreeMap<String, T>, live: T, of: impl Fn(&T) -> &Metadata) {
    let metadata = of(&live);
    let is_older = |known: &Metadata| known.uid == metadata.uid && is_before(metadata, known);
    if !all.get(&metadata.name).is_some_and(|known| is_older(of(known))) {
        all.insert(metadata.name.clone(), live);
    }
}

/// Another one of the name may have been made since.
fn lose<T>(all: &mut BTreeMap<String, T>, gone: &Metadata, of: impl Fn(&T) -> &Metadata) {
    if all.get(&gone.name).is_some_and(|known| of(known).uid == gone.uid && !is_before(gone, of(known))) {
        all.remove(&gone.name);
    }
}

/// Versions are numbers of etcd's; where they are none, the word that comes last counts.
fn is_before(one: &Metadata, other: &Metadata) -> bool {
    let number = |it: &Metadata| it.resource_version.parse::<u64>();
    matches!((number(one), number(other)), (Ok(one), Ok(other)) if one < other)
}

// === impl Difference ===

impl Difference {
    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Whether so much would go that it looks like a source that is broken.
    pub(super) fn is_great_loss(&self, percent: u8) -> bool {
        self.removals > FREE && self.removals * 100 > self.owned * usize::from(percent)
    }

    /// The same, but Services and their slices stay that would go.
    pub(super) fn without_removals(mut self, desired: &Desired) -> Self {
        self.services.retain(|name, _| desired.services.contains_key(name) || self.intruding.contains(name));
        self
    }

    fn add(&mut self, service: &str, change: Change) {
        self.services.entry(service.to_owned()).or_default().push(change);
    }
}

// === impl Change ===

impl Change {
    fn delete(kind: Of, name: &str, metadata: &Metadata) -> Self {
        let (uid, version) = (metadata.uid.clone(), metadata.resource_version.clone());
        Self { kind, name: name.to_owned(), act: Act::Delete { uid, version } }
    }

    /// The same write, whatever version it was decided on.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let acts = match (&self.act, &other.act) {
            (Act::Create(one), Act::Create(two)) => one == two,
            (Act::Patch { uid, body, .. }, Act::Patch { uid: other, body: two, .. }) => uid == other && body == two,
            (Act::Delete { uid, .. }, Act::Delete { uid: other, .. }) => uid == other,
            _ => false,
        };
        acts && (self.kind, &self.name) == (other.kind, &other.name)
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verb = match self.act {
            Act::Create(_) => "create",
            Act::Patch { .. } => "change",
            Act::Delete { .. } => "remove",
        };
        let kind = if self.kind == Of::Service { "Service" } else { "EndpointSlice" };
        write!(f, "{verb} {kind} {}", self.name)
    }
}

impl Act {
    fn patch(metadata: &Metadata, body: Value) -> Self {
        Self::Patch { uid: metadata.uid.clone(), version: metadata.resource_version.clone(), body }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::imports::{
        desired::desired,
        testing::{config, instance},
    };

    fn marks() -> Marks {
        Marks::new("east", "consul", &BTreeMap::new())
    }

    /// A Service as the API server has it after it took ours.
    fn live(name: &str, uid: &str, version: &str) -> LiveService {
        let wanted = desired(&[instance(name, "192.0.2.1", 80, "passing")], &[], "east", &config(""));
        let mut object = marks().new_service(name, name, &wanted.services[name].form);
        object["metadata"]["uid"] = uid.into();
        object["metadata"]["resourceVersion"] = version.into();
        serde_json::from_value(object).unwrap()
    }

    fn foreign(name: &str, labels: &Value) -> LiveService {
        let metadata = json!({"name": name, "uid": "f", "resourceVersion": "1", "labels": labels});
        serde_json::from_value(json!({"metadata": metadata, "spec": null})).unwrap()
    }

    #[test]
    fn few_may_always_go_and_of_many_only_a_part() {
        for (removals, owned, percent, held) in [
            (0, 0, 50, false),
            (3, 3, 50, false),
            (4, 4, 50, true),
            (4, 8, 50, false),
            (5, 8, 50, true),
            (100, 100, 100, false),
        ] {
            let difference = Difference { removals, owned, ..Difference::default() };
            assert_eq!(difference.is_great_loss(percent), held, "{removals} of {owned}");
        }
    }

    #[test]
    fn both_labels_make_an_object_ours_and_a_name_does_not() {
        let (ours, cluster) = ("app.kubernetes.io/managed-by", "portcullis.io/cluster");
        for (labels, own) in [
            (json!(null), false),
            (json!({ours: "portcullis"}), false),
            (json!({cluster: "east"}), false),
            (json!({ours: "portcullis", cluster: "west"}), false),
            (json!({ours: "portcullis", cluster: "east", "more": "x"}), true),
        ] {
            assert_eq!(marks().own(&foreign("db", &labels).metadata), own, "{labels}");
        }
    }

    #[test]
    fn a_name_that_is_taken_gets_no_endpoints_and_loses_those_that_it_had() {
        let wanted = desired(&[instance("db", "192.0.2.1", 80, "passing")], &[], "east", &config(""));
        let mut present = Present::default();
        let created = diff(&wanted, &present, &marks());
        let kinds: Vec<_> = created.services["db"].iter().map(ToString::to_string).collect();
        assert_eq!(kinds, ["create Service db", "create EndpointSlice db.ipv4.80"]);
        present.put_service(foreign("db", &json!({})), &marks());
        let nothing = diff(&wanted, &present, &marks());
        assert!(nothing.is_empty() && nothing.taken.contains("db"));
        let Act::Create(mut slice) = created.services["db"][1].act.clone() else { panic!("no slice") };
        (slice["metadata"]["uid"], slice["metadata"]["resourceVersion"]) = ("s".into(), "2".into());
        present.put_slice(serde_json::from_value(slice).unwrap());
        for desired in [&wanted, &Desired::default()] {
            let removal = diff(desired, &present, &marks()).without_removals(desired);
            let lines: Vec<_> = removal.services["db"].iter().map(ToString::to_string).collect();
            assert_eq!(lines, ["remove EndpointSlice db.ipv4.80"], "whatever else waits");
        }
    }

    #[test]
    fn an_older_word_of_a_watch_does_not_undo_the_answer_to_a_write() {
        let version = |present: &Present| present.services["db"].metadata.resource_version.clone();
        let mut present = Present::default();
        present.put_service(live("db", "a", "10"), &marks());
        present.put_service(live("db", "a", "9"), &marks());
        assert_eq!(version(&present), "10");
        present.lose_service(&live("db", "a", "9"));
        present.lose_service(&live("db", "b", "11"));
        assert_eq!(version(&present), "10");
        present.put_service(live("db", "b", "8"), &marks());
        assert_eq!(version(&present), "8", "another one of the name");
        present.lose_service(&live("db", "b", "12"));
        assert!(present.services.is_empty());
    }

    #[test]
    fn what_is_about_to_go_is_not_removed_again() {
        let mut going = live("db", "a", "1");
        going.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".to_owned());
        let mut present = Present::default();
        present.put_service(going, &marks());
        assert!(diff(&Desired::default(), &present, &marks()).is_empty());
    }
}
