//! What holds of every catalog, however odd: [`Live::apply`] stands in for Consul.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    diff::{Difference, InstanceChange, Kind, diff, wanted_check, wanted_service},
    known::Known,
    live::{Live, LiveCheck, LiveNode, LiveService, Meta, Origin, Scope, Texts},
    operation::Operation,
    told::{Book, Inbox, Source, Wanted},
    transactions::transactions,
};
use crate::sync::{Check, Group, RegisteredService, Registration, Weights};

const NODES: [&str; 4] = ["k8s-sync", "k8s-sync-east-n1", "k8s-sync-east-n2", "vm-1"];
const NAMES: [&str; 3] = ["web", "db", "api"];
const OWNERS: [Option<&str>; 4] = [Some("east"), Some("east"), Some("west"), None];

fn scope() -> Scope {
    Scope { origin: Origin::Kubernetes, cluster: "east".to_owned(), node: "k8s-sync".to_owned(), per_node: true }
}

fn marks(owner: Option<&str>) -> BTreeMap<String, String> {
    let marks = owner.into_iter().flat_map(|owner| {
        [("external-source", "kubernetes"), ("external-k8s-cluster", owner)]
            .map(|(key, value)| (key.into(), value.into()))
    });
    marks.collect()
}

/// What can differ between two instances of one ID: name, tag and port, status.
type Look = (&'static str, u16, bool);

fn look() -> impl Strategy<Value = Look> {
    (select(&NAMES[..]), 0..3_u16, any::<bool>())
}

fn registration(node: &str, id: u8, (name, variant, ready): Look) -> Registration {
    let (id, is_synthetic) = (format!("i-{id}"), node == "k8s-sync");
    Registration {
        id: String::new(),
        node: node.to_owned(),
        address: "192.0.2.1".to_owned(),
        node_meta: if is_synthetic { BTreeMap::new() } else { marks(Some("east")) },
        skip_node_update: is_synthetic,
        service: RegisteredService {
            id: id.clone(),
            service: name.to_owned(),
            tags: vec![format!("tag-{variant}")],
            address: "192.0.2.9".to_owned(),
            meta: marks(Some("east")),
            port: 30_000 + variant,
            weights: Weights::default(),
        },
        check: Check {
            check_id: format!("ns/{id}"),
            name: "Kubernetes Readiness Check".to_owned(),
            kind: "kubernetes-readiness".to_owned(),
            status: if ready { "passing" } else { "critical" }.to_owned(),
            output: String::new(),
            service_id: id,
            node: node.to_owned(),
            definition: None,
        },
    }
}

/// Registrations on our nodes, each ID once on a node.
fn wanted(most: u8) -> impl Strategy<Value = Vec<Registration>> {
    let one = ((select(&NODES[..3]), 0..most), look());
    vec(one, 0..usize::from(most) * 2).prop_map(|all| {
        let distinct: BTreeMap<_, _> = all.into_iter().collect();
        distinct.into_iter().map(|((node, id), look)| registration(node, id, look)).collect()
    })
}

fn live(most: u8) -> impl Strategy<Value = Live> {
    let service = (0..most, look(), select(&OWNERS[..]), any::<bool>(), 1..9_u64);
    let node = (option::of(vec(service, 0..usize::from(most) * 2)), any::<bool>(), any::<bool>());
    vec(node, NODES.len()).prop_map(|nodes| {
        let mut live = Live::default();
        for (name, (services, is_marked, is_agent)) in NODES.iter().zip(nodes) {
            let Some(services) = services else { continue };
            let mut node = LiveNode { address: "192.0.2.1".to_owned(), modify_index: 3, ..LiveNode::default() };
            if is_marked {
                node.meta = marks(Some("east"));
            }
            if is_agent && !is_marked {
                node.checks.insert("serfHealth".into(), LiveCheck::default());
            }
            for (id, look, owner, has_check, modify_index) in services {
                let registration = registration(name, id, look);
                let mut texts = Texts::default();
                let service = LiveService {
                    meta: Meta::from(&marks(owner)),
                    ..wanted_service(&registration, modify_index, &mut texts)
                };
                let check = wanted_check(&registration, &service.id, &mut texts);
                if has_check {
                    node.checks.insert(check.check_id.clone(), check);
                }
                node.services.insert(service.id.clone(), service);
            }
            live.nodes.insert((*name).to_owned(), node);
        }
        live
    })
}

/// Everything of others, with the checks of it.
fn foreign(live: &Live) -> Vec<(String, LiveService, Vec<LiveCheck>)> {
    let scope = scope();
    let mut all = Vec::new();
    for (name, node) in &live.nodes {
        for service in node.services.values().filter(|it| !scope.owns(it) || !scope.may_carry(name, node)) {
            let checks = node.checks.values().filter(|check| check.service_id == service.id).cloned().collect();
            all.push((name.clone(), service.clone(), checks));
        }
    }
    all
}

fn tags(service: &LiveService) -> Vec<String> {
    service.tags.iter().map(ToString::to_string).collect()
}

/// The places of a service with their tags, as a reader sees them.
fn places(live: &Live, service: &str) -> Vec<(String, Vec<String>)> {
    let all = live.nodes.values().flat_map(|node| node.services.values()).filter(|it| *it.service == *service);
    all.map(|it| (it.id.to_string(), tags(it))).collect()
}

fn settle(wanted: &[Registration], mut live: Live) -> (Live, Difference) {
    for round in 0..3 {
        let difference = diff(wanted, &live, &scope());
        for transaction in transactions(&difference) {
            live.apply(&transaction.operations, 100 + round);
        }
    }
    let left = diff(wanted, &live, &scope());
    (live, left)
}

/// What a sequence of a follower's life is made of.
#[derive(Clone, Debug)]
enum Event {
    /// Other registrations are wanted, all at once or by name.
    Want(Vec<Registration>, bool),
    /// Somebody else's hand: an instance of this number is gone, or has another port.
    Hand(usize, bool),
    /// The follower dies after so many transactions, and another one begins.
    Crash(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (wanted(6), any::<bool>()).prop_map(|(wanted, at_once)| Event::Want(wanted, at_once)),
        1 => (0..20_usize, any::<bool>()).prop_map(|(which, is_removal)| Event::Hand(which, is_removal)),
        1 => (0..3_usize).prop_map(Event::Crash),
    ]
}

/// A follower's thoughts, without its waiting: Consul is a [`Live`] that refuses what is not as it was read.
struct Follower {
    inbox: Inbox,
    book: Book,
    known: Option<Known>,
    consul: Live,
    /// Consul's own clock.
    raft: u64,
}

impl Follower {
    fn tell(&mut self, before: &[Registration], wanted: &[Registration], at_once: bool) {
        if at_once {
            return self.inbox.replace(Wanted { registrations: wanted.to_vec(), source_is_empty: false });
        }
        let names: BTreeSet<&str> = before.iter().chain(wanted).map(|it| it.service.service.as_str()).collect();
        let group = |name: &str| {
            let of_name: Vec<_> = wanted.iter().filter(|it| it.service.service == name).cloned().collect();
            (!of_name.is_empty()).then(|| Group::given(of_name))
        };
        self.inbox.change(names.into_iter().map(|name| (name.into(), group(name))), Source::default());
    }

    fn hand(&mut self, which: usize, is_removal: bool) {
        self.raft += 1;
        let all =
            self.consul.nodes.iter().flat_map(|(name, node)| node.services.keys().map(|id| (name.clone(), id.clone())));
        let all: Vec<_> = all.collect();
        if all.is_empty() {
            return;
        }
        let (node, id) = &all[which % all.len()];
        let services = &mut self.consul.nodes.get_mut(node).unwrap().services;
        if is_removal {
            services.remove(id);
        } else if let Some(service) = services.get_mut(id) {
            (service.port, service.modify_index) = (9, self.raft);
        }
    }

    /// As Consul does: all or nothing, and nothing that is not as it was read.
    fn txn(&mut self, operations: &[Operation]) -> Option<u64> {
        let index = |node: &str, id: &str| {
            self.consul.nodes.get(node).and_then(|node| node.services.get(id)).map_or(0, |it| it.modify_index)
        };
        let is_fresh = |operation: &Operation| match operation {
            Operation::SetService { node, service } | Operation::DeleteService { node, service } => {
                index(node, &service.id) == service.modify_index
            }
            _ => true,
        };
        let all_fresh = operations.iter().all(is_fresh);
        all_fresh.then(|| {
            self.raft += 1;
            self.consul.apply(operations, self.raft);
            self.raft
        })
    }

    /// One pass; it dies before the transaction of this number.
    fn pass(&mut self, dies: Option<usize>) {
        self.book.take(&self.inbox);
        for _ in 0..8 {
            let (mut known, names) = match self.known.take() {
                Some(known) => (known, Some(self.book.open.clone())),
                None => (Known::new(self.consul.clone()), None),
            };
            let difference = self.book.look(&known, &scope(), names.as_ref());
            let mut is_stale = false;
            for (number, transaction) in transactions(&difference).iter().enumerate() {
                if dies == Some(number) {
                    return;
                }
                let Some(index) = self.txn(&transaction.operations) else {
                    is_stale = true;
                    break;
                };
                known.apply(&transaction.operations, index);
            }
            if is_stale {
                continue;
            }
            let left = self.book.look(&known, &scope(), names.as_ref());
            self.known = Some(known);
            self.book.leave_open(&left);
            if left.is_empty() {
                return;
            }
        }
        panic!("it never settles");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_what_was_wanted_and_the_next_difference_is_empty(wanted in wanted(5), live in live(5)) {
        let before = live.clone();
        let (after, left) = settle(&wanted, live);
        prop_assert!(left.is_empty(), "{left:?}");
        prop_assert_eq!(foreign(&before), foreign(&after));
        let conflicts: BTreeSet<_> = left.conflicts.iter().map(|it| (it.node.clone(), it.id.clone())).collect();
        for registration in &wanted {
            let (node, id) = (&registration.node, &registration.service.id);
            if conflicts.contains(&(node.clone(), None)) || conflicts.contains(&(node.clone(), Some(id.clone()))) {
                continue;
            }
            let service = &after.nodes[node].services[id.as_str()];
            prop_assert_eq!(tags(service), registration.service.tags.clone());
            let check = &after.nodes[node].checks[registration.check.check_id.as_str()];
            prop_assert_eq!(&*check.status, &registration.check.status);
        }
        let n_ours = after.n_owned(&scope());
        let closed = |it: &&Registration| conflicts.iter().any(|(node, id)| {
            *node == it.node && id.as_ref().is_none_or(|id| *id == it.service.id)
        });
        prop_assert_eq!(n_ours, wanted.len() - wanted.iter().filter(closed).count());
    }

    #[test]
    fn no_transaction_leaves_a_service_half(wanted in wanted(120), live in live(120)) {
        let difference = diff(&wanted, &live, &scope());
        let all = transactions(&difference);
        let (mut now, mut last) = (live.clone(), live.clone());
        for transaction in &all {
            last.apply(&transaction.operations, 100);
        }
        // An instance that takes another name leaves its old service with the new one's transaction.
        let renamed = |it: &&InstanceChange| matches!(&it.kind, Kind::Update(parts) if parts.contains(&"name"));
        let old_name = |it: &InstanceChange| live.nodes[&it.node].services[&it.service.id].service.to_string();
        let moved_away: Vec<_> = difference.instances().filter(renamed).map(old_name).collect();
        for transaction in &all {
            prop_assert!((1..=127).contains(&transaction.operations.len()));
            now.apply(&transaction.operations, 100);
            for operation in &transaction.operations {
                let Operation::SetService { node, service } = operation else { continue };
                // Only an instance that stood there without its check may still wait for it.
                let has_check = now.nodes[node].checks.values().any(|check| check.service_id == service.id);
                prop_assert!(has_check || service.modify_index > 0, "{} is new and has no check", service.id);
            }
            for name in NAMES.into_iter().filter(|name| !moved_away.iter().any(|old| old == name)) {
                let (before, after) = (places(&live, name), places(&last, name));
                prop_assert!(before.is_empty() || after.is_empty() || !places(&now, name).is_empty(), "{name} was empty");
            }
        }
        for change in &difference.services {
            let times = all.iter().filter(|it| it.services.contains(&change.service)).count();
            let operations: usize = change.instances.iter().map(|it| 1 + usize::from(it.check.is_some())).sum();
            prop_assert!(times == 1 || operations > 127, "{} is parted: {operations} operations", change.service);
        }
        prop_assert!(all.iter().all(|it| it.services.len() < 2 || it.operations.len() < 127));
    }

    #[test]
    fn without_removals_nothing_leaves(wanted in wanted(5), live in live(5)) {
        let difference = diff(&wanted, &live, &scope()).without_removals();
        let mut after = live.clone();
        for transaction in transactions(&difference) {
            after.apply(&transaction.operations, 100);
        }
        for (name, node) in &live.nodes {
            for id in node.services.keys() {
                prop_assert!(after.nodes[name].services.contains_key(id));
            }
        }
    }

    #[test]
    fn after_any_changes_hands_and_crashes_the_catalog_is_what_is_wanted(
        first in live(5), events in vec(event(), 1..12),
    ) {
        let mut wanted = Vec::new();
        let mut follower =
            Follower { inbox: Inbox::default(), book: Book::default(), known: None, consul: first.clone(), raft: 100 };
        let mut is_touched = false;
        for event in events {
            match event {
                Event::Want(now, at_once) => {
                    follower.tell(&wanted, &now, at_once);
                    wanted = now;
                    follower.pass(None);
                    if !is_touched {
                        let left = diff(&wanted, &follower.consul, &scope());
                        prop_assert!(left.is_empty(), "{left:?}");
                    }
                }
                Event::Hand(which, is_removal) => {
                    follower.hand(which, is_removal);
                    is_touched = true;
                }
                Event::Crash(after) => {
                    follower.pass(Some(after));
                    (follower.inbox, follower.book, follower.known) = (Inbox::default(), Book::default(), None);
                    follower.tell(&[], &wanted, true);
                }
            }
        }
        // The watch on the catalog, or the look that is taken anyway.
        follower.known = None;
        follower.pass(None);
        prop_assert!(diff(&wanted, &follower.consul, &scope()).is_empty());
        let before = follower.raft;
        follower.pass(None);
        follower.known = None;
        follower.pass(None);
        prop_assert_eq!(follower.raft, before, "a second reconcile writes nothing");
        if !is_touched {
            prop_assert_eq!(foreign(&first), foreign(&follower.consul));
        }
    }
}
