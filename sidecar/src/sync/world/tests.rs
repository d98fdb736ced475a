//! After any sequence of events a [`World`] and a [`RouteTable`] say what [`desired`] and [`routes`] say of the same objects.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::{
    super::{
        RouteTable, desired,
        properties::{cluster, objects, options},
        routes,
    },
    *,
};

/// A cluster with its own view of itself, beside all objects as they came.
struct Pair {
    world: World,
    all: Cluster,
    options: SyncOptions,
}

#[derive(Clone, Debug)]
enum Event {
    Is(Value),
    Gone(Value),
    Whole(Vec<Value>),
}

fn event() -> impl Strategy<Value = Vec<Event>> {
    let one_by_one = (objects(), vec(any::<bool>(), 32)).prop_map(|(objects, gone)| {
        let event = |(object, gone)| if gone { Event::Gone(object) } else { Event::Is(object) };
        objects.into_iter().zip(gone).map(event).collect::<Vec<_>>()
    });
    prop_oneof![4 => one_by_one.prop_shuffle(), 1 => objects().prop_map(|all| vec![Event::Whole(all)])]
}

/// The changes that an object stands for: itself, or its end.
fn changes(object: &Value, is_gone: bool) -> Vec<Change> {
    let Cluster { services, nodes, slices, .. } = cluster(vec![object.clone()]);
    let services = services.into_iter().map(|(key, it)| Change::Service(key, (!is_gone).then_some(it)));
    let slices = slices.into_iter().map(|(key, it)| Change::Slice(key, (!is_gone).then_some(it)));
    let nodes = nodes.into_iter().map(|(name, it)| Change::Node(name, (!is_gone).then(|| Box::new(it))));
    services.chain(slices).chain(nodes).collect()
}

impl Pair {
    fn new(options: SyncOptions) -> Self {
        Self { world: World::new(options.clone()), all: Cluster::default(), options }
    }

    fn take(&mut self, event: &Event) -> Changed {
        match event {
            Event::Whole(objects) => {
                self.all = cluster(objects.clone());
                self.world.replace(self.all.clone())
            }
            Event::Is(object) | Event::Gone(object) => {
                let is_gone = matches!(event, Event::Gone(_));
                for change in changes(object, is_gone) {
                    change.apply(&mut self.all);
                }
                self.world.change(changes(object, is_gone))
            }
        }
    }

    fn registrations(&self) -> Vec<Registration> {
        self.world.names().flat_map(|name| self.world.group(name).unwrap().registrations()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn after_any_events_it_says_what_all_objects_at_once_would_say(
        events in vec((any::<bool>(), event()), 1..5), first in options(), second in options(),
    ) {
        let second = SyncOptions { cluster_name: "second".to_owned(), ..second };
        let (mut pairs, mut table) = ([Pair::new(first), Pair::new(second)], RouteTable::default());
        for (which, events) in events {
            for event in events {
                let before: Vec<_> = table.routes();
                let changed = pairs[usize::from(which)].take(&event);
                let mut differs = false;
                for name in &changed.names {
                    let of_all: Vec<_> =
                        pairs.iter().filter_map(|pair| pair.world.group(name)).flat_map(|it| it.registrations()).collect();
                    differs |= table.set(name, &of_all.iter().collect::<Vec<_>>());
                }
                prop_assert!(differs || before == table.routes());
            }
            let mut all = Vec::new();
            for pair in &pairs {
                let wanted = desired(&pair.all, &pair.options);
                prop_assert_eq!(&pair.registrations(), &wanted.registrations);
                prop_assert_eq!(pair.world.n_instances(), wanted.registrations.len());
                let critical = wanted.registrations.iter().filter(|it| it.check.status == "critical").count();
                prop_assert_eq!(pair.world.n_critical(), critical);
                let mut notes: Vec<_> = pair.world.notes().collect();
                notes.sort();
                prop_assert_eq!(&notes, &wanted.notes);
                all.extend(wanted.registrations);
            }
            let (wanted, notes) = routes(&all);
            prop_assert_eq!(table.routes().iter().map(|it| (**it).clone()).collect::<Vec<_>>(), wanted);
            let mut said: Vec<_> = table.notes().cloned().collect();
            said.sort();
            prop_assert_eq!(said, notes);
        }
    }
}

fn shop(names: &[&str]) -> Cluster {
    let mut all = vec![json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}})];
    for (index, name) in names.iter().enumerate() {
        all.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30000 + index}]}}));
        all.push(
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": null,
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "n1"}]}),
        );
    }
    cluster(all)
}

fn service(cluster: &Cluster, name: &str) -> (Arc<ObjectKey>, Service) {
    let key = Arc::new(ObjectKey { namespace: "default".to_owned(), name: name.to_owned() });
    (Arc::clone(&key), cluster.services[&key].get())
}

#[test]
fn one_change_concerns_its_own_service_and_what_nobody_reads_concerns_none() {
    let objects = shop(&["web", "db"]);
    let mut world = World::new(SyncOptions::default());
    assert_eq!(world.replace(objects.clone()).names.len(), 2);
    assert_eq!(world.replace(objects.clone()), Changed::default());

    let (key, mut web) = service(&objects, "web");
    web.metadata.resource_version = Some("7".to_owned());
    web.metadata.annotations = Some(BTreeMap::from([("team".to_owned(), "shop".to_owned())]));
    assert_eq!(world.change([Change::Service(Arc::clone(&key), Some(Packed::of(web.clone())))]), Changed::default());
    web.metadata.annotations = Some(BTreeMap::from([("tags".to_owned(), "new".to_owned())]));
    let changed = world.change([Change::Service(key, Some(Packed::of(web)))]);
    assert_eq!(changed.names, BTreeSet::from(["web".into()]));

    let mut node = objects.nodes["n1"].clone();
    node.metadata.annotations = Some(BTreeMap::from([("seen".to_owned(), "now".to_owned())]));
    assert_eq!(world.change([Change::Node("n1".to_owned(), Some(Box::new(node)))]), Changed::default());
    let changed = world.change([Change::Node("n1".to_owned(), None)]);
    assert_eq!(changed, Changed { names: BTreeSet::from(["web".into(), "db".into()]), notes: true });
}

#[test]
fn a_conflict_concerns_only_those_who_meet() {
    let rule = |name: &str, rule: &str| {
        let (key, mut found) = service(&shop(&["web", "db", "api"]), name);
        let annotations = [("portcullis.io/exposure", "tags"), (&format!("traefik.http.routers.{name}.rule"), rule)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        found.metadata.annotations = Some(BTreeMap::from(annotations));
        Change::Service(key, Some(Packed::of(found)))
    };
    let mut world = World::new(SyncOptions::default());
    world.replace(shop(&["web", "db", "api"]));
    world.change([rule("web", "Host(`a`)"), rule("db", "Host(`b`)"), rule("api", "Host(`c`)")]);
    assert_eq!(world.notes().count(), 0);
    let changed = world.change([rule("db", "Host(`a`)")]);
    assert_eq!(changed, Changed { names: BTreeSet::from(["web".into(), "db".into()]), notes: true });
    let tags = |world: &World, name: &str| world.group(name).unwrap().registrations()[0].service.tags.clone();
    assert_eq!(tags(&world, "web"), ["k8s", "traefik.enable=false"]);
    let changed = world.change([rule("db", "Host(`b`)")]);
    assert_eq!(changed.names.len(), 2);
    assert_eq!(tags(&world, "web"), ["k8s", "traefik.http.routers.web.rule=Host(`a`)"]);
}
