//! What the keys hold, whose they are, and what may be removed.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

use super::{Entries, Entry, KvImport, MARK, MAX_VALUE, Wanted, diff, digest, key, wanted};
use crate::consul::{
    live::{Live, LiveCheck, LiveNode, LiveService, LiveWeights, Meta, Origin, Scope},
    operation::Operation,
};

const FOLDER: &str = "portcullis/services/east/";

fn scope() -> Scope {
    Scope { origin: Origin::Kubernetes, cluster: "east".to_owned(), node: "k8s-sync".to_owned(), per_node: true }
}

fn texts<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn service(id: &str, name: &str, node: &str, cluster: &str) -> LiveService {
    LiveService {
        id: id.into(),
        service: name.into(),
        tags: ["k8s", "red"].map(Into::into).into(),
        address: "192.0.2.1".into(),
        meta: Meta::from(&texts([
            ("external-source", "kubernetes"),
            ("external-k8s-cluster", cluster),
            ("external-k8s-ns", "shop"),
            ("external-k8s-node-name", node),
            ("external-k8s-topology-zone", "z1"),
            ("port-http", "80"),
            ("nodeport-http", "30080"),
            ("port-admin", "81"),
            ("nodeport-admin", "30081"),
            ("team", "blue"),
        ])),
        port: 30080,
        weights: LiveWeights { passing: 7, warning: 1 },
        enable_tag_override: false,
        modify_index: 5,
    }
}

fn check(id: &str, of: &str, status: &str) -> LiveCheck {
    let (check_id, service_id, status) = (id.into(), of.into(), status.into());
    LiveCheck { check_id, status, service_id, ..LiveCheck::default() }
}

/// Instances on the synthetic node, each with a check of this status.
fn live(services: impl IntoIterator<Item = (LiveService, &'static str)>) -> Live {
    let mut node = LiveNode::default();
    for (service, status) in services {
        let check = check(&format!("shop/{}", service.id), &service.id, status);
        node.checks.insert(check.check_id.clone(), check);
        node.services.insert(service.id.clone(), service);
    }
    Live { nodes: [("k8s-sync".to_owned(), node)].into() }
}

fn values(live: &Live) -> BTreeMap<String, Value> {
    let all = wanted(live, &scope(), FOLDER, None);
    all.into_iter().map(|(key, it)| (key, serde_json::from_slice(&it.value).unwrap())).collect()
}

/// The keys after these operations.
fn written(entries: &Entries, operations: &[Operation]) -> Entries {
    let mut entries = entries.clone();
    for operation in operations {
        match operation {
            Operation::SetKey { key, value, flags, modify_index } => {
                assert_eq!(entries.get(key).map_or(0, |it| it.modify_index), *modify_index, "compare-and-set");
                entries.insert(key.clone(), Entry { flags: *flags, modify_index: 100, digest: digest(value) });
            }
            Operation::DeleteKey { key, modify_index } => {
                assert_eq!(entries.remove(key).map(|it| it.modify_index), *modify_index, "compare-and-set");
            }
            other => panic!("{other:?} is no operation on a key"),
        }
    }
    entries
}

#[test]
fn a_value_says_all_that_a_template_may_ask_for() {
    let mut second = service("web-2", "web", "n2", "east");
    second.address = "192.0.2.2".into();
    let found = values(&live([(second, "critical"), (service("web-1", "web", "n1", "east"), "passing")]));
    let instance = |node: &str, address: &str, id: &str, status: &str| {
        json!({"namespace": "shop", "node": node, "address": address, "port": 30080, "id": id, "zone": "z1",
            "status": status, "weight": 7})
    };
    let expected = json!({
        "name": "web", "cluster": "east", "namespace": "shop", "tags": ["k8s", "red"], "meta": {"team": "blue"},
        "ports": [{"name": "admin", "port": 81, "nodePort": 30081}, {"name": "http", "port": 80, "nodePort": 30080}],
        "instances": [
            instance("n1", "192.0.2.1", "web-1", "passing"), instance("n2", "192.0.2.2", "web-2", "critical"),
        ],
    });
    assert_eq!(found, [(format!("{FOLDER}web"), expected)].into());
}

#[test]
fn only_what_is_ours_is_imported() {
    let mut catalog = live([
        (service("web-1", "web", "n1", "east"), "passing"),
        (service("web-9", "web", "n9", "west"), "passing"),
        (service("db-9", "db", "n9", "west"), "passing"),
    ]);
    let mut agent = LiveNode::default();
    agent.checks.insert("serfHealth".into(), check("serfHealth", "", "passing"));
    agent.services.insert("api-1".into(), service("api-1", "api", "n1", "east"));
    catalog.nodes.insert("vm-1".to_owned(), agent);
    let found = values(&catalog);
    assert_eq!(found.keys().collect::<Vec<_>>(), [&format!("{FOLDER}web")]);
    assert_eq!(found[&format!("{FOLDER}web")]["instances"].as_array().unwrap().len(), 1);
}

#[test]
fn the_worst_of_an_instance_s_own_checks_is_its_status() {
    let mut catalog = live([(service("web-1", "web", "n1", "east"), "passing")]);
    let node = catalog.nodes.get_mut("k8s-sync").unwrap();
    for (id, of, status) in [("esm", "web-1", "warning"), ("other", "db-1", "critical"), ("node", "", "critical")] {
        node.checks.insert(id.into(), check(id, of, status));
    }
    let status = |catalog: &Live| values(catalog)[&format!("{FOLDER}web")]["instances"][0]["status"].clone();
    assert_eq!(status(&catalog), "warning");
    catalog.nodes.get_mut("k8s-sync").unwrap().checks.clear();
    assert_eq!(status(&catalog), "passing", "as Consul has it without checks");
}

#[test]
fn services_of_one_name_share_a_key_that_does_not_depend_on_where_their_pods_run() {
    let mut other = service("a-2", "web", "n1", "east");
    let mut meta = other.meta.pairs();
    meta.extend(texts([("external-k8s-ns", "zoo"), ("team", "green"), ("size", "9")]));
    other.meta = Meta::from(&meta);
    other.tags = ["k8s", "green"].map(Into::into).into();
    let found = values(&live([(other, "passing"), (service("web-1", "web", "n2", "east"), "passing")]));
    let value = &found[&format!("{FOLDER}web")];
    assert_eq!(value["namespace"], "shop");
    assert_eq!(value["tags"], json!(["k8s", "red", "green"]));
    assert_eq!(value["meta"], json!({"size": "9", "team": "blue"}));
    assert_eq!(value["instances"].as_array().unwrap().len(), 2);
}

#[test]
fn a_name_is_one_segment_of_the_key_and_no_two_names_share_it() {
    assert_eq!(key(FOLDER, "web-1.a_b~c"), format!("{FOLDER}web-1.a_b~c"));
    let odd = ["a/b", "a%2Fb", "a b", "Größe", "..", "a\nb", "a\u{0}", "A", "a"];
    let keys: BTreeSet<_> = odd.iter().map(|name| key("", name)).collect();
    assert_eq!(keys.len(), odd.len(), "{keys:?}");
    assert!(keys.iter().all(|key| !key.contains(['/', ' ', '\n', '\u{0}'])), "{keys:?}");
}

#[test]
fn a_key_of_others_is_told_and_left_alone_and_so_is_one_that_somebody_wrote_over() {
    let wanted = wanted(&live([(service("web-1", "web", "n1", "east"), "passing")]), &scope(), FOLDER, None);
    let entry = |flags| Entry { flags, modify_index: 9, digest: digest(b"theirs") };
    for flags in [0, 1, u64::MAX] {
        let entries = [(format!("{FOLDER}web"), entry(flags)), (format!("{FOLDER}note"), entry(flags))].into();
        let found = diff(&wanted, &entries, None);
        assert!(found.is_empty(), "{found:?}");
        let note = &found.notes[&format!("{FOLDER}web")];
        assert!(note.contains("somebody else") && note.contains("kvImport.prefix"), "{note}");
        assert_eq!(found.notes.len(), 1);
    }
    let found = diff(&wanted, &[(format!("{FOLDER}web"), entry(MARK))].into(), None);
    assert_eq!(found.operations.len(), 1, "ours is put right");
}

#[test]
fn a_value_that_consul_would_not_take_is_refused_with_a_note_and_what_is_there_stays() {
    let key = format!("{FOLDER}web");
    let value = |length| Wanted { service: "web".to_owned(), value: vec![b'x'; length] };
    let entries: Entries = [(key.clone(), Entry { flags: MARK, modify_index: 9, digest: digest(b"old") })].into();
    let found = diff(&[(key.clone(), value(MAX_VALUE + 1))].into(), &entries, None);
    assert!(found.is_empty() && found.notes[&key].contains(&format!("{} bytes", MAX_VALUE + 1)), "{found:?}");
    let found = diff(&[(key.clone(), value(MAX_VALUE))].into(), &entries, None);
    let body: usize = found.operations.iter().map(|it| it.to_json().to_string().len()).sum();
    assert!(found.notes.is_empty() && body + 4096 < 512 << 10, "{body} bytes leave no room for the fence");
}

#[test]
fn removals_that_nothing_explains_wait_when_the_source_is_empty_or_they_are_many() {
    let entries: Entries = (0..40)
        .map(|number| (format!("{FOLDER}s{number}"), Entry { flags: MARK, modify_index: 1, digest: digest(b"") }))
        .collect();
    let found = diff(&BTreeMap::new(), &entries, None);
    let (none, all) = (BTreeSet::new(), entries.keys().cloned().collect::<BTreeSet<_>>());
    let held = found.hold(&none, &entries, false, 50).unwrap();
    assert_eq!(held.removals(), 40);
    assert!(held.to_string().contains("40 of 40 keys"), "{held}");
    assert!(found.without_removals(&none).is_empty());
    let found = diff(&BTreeMap::new(), &entries, None);
    assert_eq!(found.hold(&all, &entries, false, 50), None, "the catalog lost these services just now");
    assert_eq!(found.hold(&none, &entries, false, 100), None, "100 % is no limit");
    assert_eq!(found.clone().without_removals(&all), found);
    let one: Entries = entries.iter().take(1).map(|(key, entry)| (key.clone(), *entry)).collect();
    let found = diff(&BTreeMap::new(), &one, None);
    assert_eq!(found.hold(&none, &one, false, 50), None, "few may always go");
    assert!(found.hold(&none, &one, true, 50).is_some());
}

#[test]
fn a_prefix_is_a_path_of_plain_names_outside_of_the_lock_s() {
    let validate = |prefix: &str| KvImport { prefix: prefix.to_owned() }.validate();
    for prefix in ["portcullis/services", "services", "a/b.c/d-e_f", "portcullis/synchronous"] {
        assert_eq!(validate(prefix), Ok(()), "{prefix}");
    }
    for prefix in
        ["", "/", "/a", "a/", "a//b", "a/../b", ".", "a b", "ä", "portcullis", "portcullis/sync", "portcullis/sync/x"]
    {
        assert!(validate(prefix).is_err(), "{prefix}");
    }
    assert!(validate(&"a".repeat(129)).is_err());
    assert_eq!(KvImport::default().validate(), Ok(()));
    assert_eq!(KvImport::default().folder("east"), FOLDER);
}

const NAMES: [&str; 5] = ["web", "db", "a/b", "api", "Web"];

fn catalog() -> impl Strategy<Value = Live> {
    let one = (0..12_u8, select(&NAMES[..]), select(vec!["east", "east", "west"]), 0..3_i64, any::<bool>());
    vec(one, 0..20).prop_map(|all| {
        live(all.into_iter().map(|(id, name, cluster, port, ready)| {
            let service = service(&format!("i-{id}"), name, &format!("n{id}"), cluster);
            (LiveService { port: 30_000 + port, ..service }, if ready { "passing" } else { "critical" })
        }))
    })
}

fn entries() -> impl Strategy<Value = Entries> {
    let flags = select(vec![MARK, MARK, 0, 7]);
    let one = (select(&NAMES[..]), flags, 1..9_u64, any::<bool>());
    vec(one, 0..6).prop_map(|all| {
        let entry =
            |(name, flags, modify_index, _)| (key(FOLDER, name), Entry { flags, modify_index, digest: digest(b"?") });
        all.into_iter().map(entry).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_what_was_wanted_once_and_keys_of_others_stay(catalog in catalog(), before in entries()) {
        let wanted = wanted(&catalog, &scope(), FOLDER, None);
        let found = diff(&wanted, &before, None);
        let after = written(&before, &found.operations);
        prop_assert!(diff(&wanted, &after, None).is_empty(), "the second look writes");
        for (key, entry) in &before {
            prop_assert!(entry.is_ours() || after.get(key) == Some(entry), "{key} was not ours");
        }
        for (key, it) in &wanted {
            let theirs = before.get(key).is_some_and(|entry| !entry.is_ours());
            prop_assert_eq!(theirs, found.notes.contains_key(key));
            prop_assert!(theirs || after[key].digest == digest(&it.value));
        }
        prop_assert!(after.iter().all(|(key, entry)| !entry.is_ours() || wanted.contains_key(key)));
    }

    #[test]
    fn a_look_at_the_services_that_changed_does_what_a_look_at_all_does(
        first in catalog(), second in catalog(), before in entries(),
    ) {
        let start = diff(&wanted(&first, &scope(), FOLDER, None), &before, None);
        let entries = written(&before, &start.operations);
        let (old, new) = (wanted(&first, &scope(), FOLDER, None), wanted(&second, &scope(), FOLDER, None));
        let names: BTreeSet<String> = NAMES.map(str::to_owned).into();
        let changed: BTreeSet<String> =
            names.into_iter().filter(|name| old.get(&key(FOLDER, name)) != new.get(&key(FOLDER, name))).collect();
        let keys: BTreeSet<String> = changed.iter().map(|name| key(FOLDER, name)).collect();
        let partly = diff(&wanted(&second, &scope(), FOLDER, Some(&changed)), &entries, Some(&keys));
        let whole = diff(&new, &entries, None);
        prop_assert_eq!(partly.operations, whole.operations);
    }

    #[test]
    fn without_removals_nothing_leaves(catalog in catalog(), before in entries()) {
        let found = diff(&wanted(&catalog, &scope(), FOLDER, None), &before, None).without_removals(&BTreeSet::new());
        let after = written(&before, &found.operations);
        prop_assert!(before.keys().all(|key| after.contains_key(key)));
    }
}
