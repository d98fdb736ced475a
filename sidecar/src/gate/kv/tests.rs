//! The keys, and that none of their orders leaves a router unguarded.

use serde_json::json;

use super::*;
use crate::{
    consul::operation::Operation,
    sync::{Middleware, RouterSpec, Server},
};

fn gate() -> GateConfig {
    serde_json::from_value(json!({"kv": {}, "entryPoints": ["websecure"], "tls": {"options": "mtls@file"},
        "clientCertificate": "verifiedByTraefik"}))
    .unwrap()
}

fn route(name: &str, servers: usize) -> Route {
    let server = |number| Server { address: "192.0.2.1".to_owned(), port: number, healthy: true, weight: None };
    Route {
        destination: name.to_owned(),
        routers: vec![RouterSpec {
            name: name.to_owned(),
            rule: format!("Host(`{name}.test`)"),
            after: vec![Middleware::Own("add".to_owned())],
            ..RouterSpec::default()
        }],
        servers: (1..=u16::try_from(servers).unwrap()).map(server).collect(),
        scheme: "http".to_owned(),
        middlewares: BTreeMap::from([("add".to_owned(), json!({"addPrefix": {"prefix": "/x"}}))]),
        ..Route::default()
    }
}

/// Stands in for Consul.
fn apply(live: &mut BTreeMap<String, Entry>, operations: &[Operation]) {
    for operation in operations {
        match operation {
            Operation::SetKey { key, value, flags, modify_index } => {
                let key = key.strip_prefix("root/").unwrap().to_owned();
                assert_eq!(live.get(&key).map_or(0, |it| it.modify_index), *modify_index);
                let value = Some(String::from_utf8(value.clone()).unwrap());
                live.insert(key, Entry { value, flags: *flags, modify_index: 7 });
            }
            Operation::DeleteKey { key, modify_index: Some(7) } => {
                assert!(live.remove(key.strip_prefix("root/").unwrap()).is_some());
            }
            other => panic!("{other}"),
        }
    }
}

/// What Traefik would make of the keys: every router guarded as it must be, whatever else lacks.
fn assert_guarded(live: &BTreeMap<String, Entry>) {
    let value = |key: String| live.get(&key).and_then(|it| it.value.clone()).unwrap_or_default();
    let routers: BTreeSet<&str> =
        live.keys().filter_map(|key| key.strip_prefix("http/routers/")?.split('/').next()).collect();
    for router in routers {
        let of = |option: &str| value(format!("http/routers/{router}/{option}"));
        if router == "gate" {
            assert!(of("middlewares").ends_with("portcullis"), "the gate without its plugin");
            assert!(!value("http/middlewares/portcullis/plugin/portcullis/snapshot".to_owned()).is_empty());
        } else if router.ends_with("-root") {
            assert_eq!(of("service"), "", "a root with a service");
            let stamp = of("middlewares").rsplit(',').next().unwrap_or_default().to_owned();
            let header = "headers/customRequestHeaders/X-Portcullis-Destination";
            assert!(!value(format!("http/middlewares/{stamp}/{header}")).is_empty(), "{router} without its stamp");
        } else {
            assert_eq!(of("parentRefs"), "gate", "the leaf {router} has another parent");
            assert!(of("rule").starts_with("Header("), "{router}");
        }
    }
}

#[test]
fn a_route_becomes_keys_as_traefik_s_provider_reads_them() {
    let tree = tree(&[route("web", 1)], &gate()).unwrap();
    let web = &tree.services["web"];
    for (key, value) in [
        ("http/routers/web-root/rule", "Host(`web.test`)"),
        ("http/routers/web-root/tls/options", "mtls@file"),
        ("http/routers/web-root/middlewares", "web-destination"),
        ("http/routers/web-leaf/parentRefs", "gate"),
        ("http/routers/web-leaf/priority", "1"),
        ("http/services/web/loadBalancer/servers/0/url", "http://192.0.2.1:1"),
        ("http/middlewares/web-destination/headers/customRequestHeaders/X-Forwarded-Tls-Client-Cert", ""),
        ("http/middlewares/add~web/addPrefix/prefix", "/x"),
    ] {
        assert_eq!(web.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert_eq!(tree.gate["http/routers/gate/middlewares"], "client-certificate,portcullis");
    assert_eq!(tree.guards["http/middlewares/portcullis/plugin/portcullis/snapshot"], "/policy/policy.snapshot");
    assert_eq!(
        super::tree(&[route("web", 0)], &gate()).unwrap().services["web"]["http/services/web/loadBalancer/passHostHeader"],
        "true"
    );
}

#[test]
fn what_the_provider_would_misread_closes_its_service_alone() {
    let with = |name: &str, middleware: Value| Route {
        middlewares: BTreeMap::from([("add".to_owned(), middleware)]),
        ..route(name, 1)
    };
    let routes = vec![
        route("fine", 1),
        route("123", 1),
        with("comma", json!({"stripPrefixRegex": {"regex": ["a{1,2}"]}})),
        with("number", json!({"headers": {"customRequestHeaders": {"7": "x"}}})),
        with("empty", json!({"ipWhiteList": {}})),
        Route { destination: "twice".to_owned(), ..route("A", 1) },
        Route { destination: "again".to_owned(), ..route("a", 1) },
    ];
    let (fitting, notes) = fit(routes, &gate());
    assert_eq!(fitting.iter().map(|it| it.destination.as_str()).collect::<Vec<_>>(), ["fine"]);
    assert_eq!(notes.len(), 6);
}

#[test]
fn no_router_is_ever_seen_without_its_guard_on_the_way_from_any_tree_to_any_other() {
    let trees: Vec<Tree> = [(0, 0), (1, 1), (40, 2), (40, 3), (3, 200), (3, 150)]
        .iter()
        .map(|(services, servers)| {
            let routes: Vec<_> = (0..*services).map(|number| route(&format!("s{number}"), *servers)).collect();
            tree(&routes, &gate()).unwrap()
        })
        .collect();
    for from in &trees {
        for to in &trees {
            let mut live = BTreeMap::new();
            for operations in changes(from, &live.clone(), "root").unwrap() {
                apply(&mut live, &operations);
            }
            for operations in changes(to, &live.clone(), "root").unwrap() {
                assert!(operations.len() <= 127);
                apply(&mut live, &operations);
                assert_guarded(&live);
            }
            assert_eq!(changes(to, &live, "root").unwrap(), Vec::<Vec<Operation>>::new(), "the end is reached");
            let n_wanted = to.guards.len() + to.gate.len() + to.services.values().map(Pairs::len).sum::<usize>();
            assert_eq!(live.len(), n_wanted);
        }
    }
}

#[test]
fn one_service_s_change_is_one_transaction() {
    let mut live = BTreeMap::new();
    let routes =
        |servers| (0..50).map(|n| route(&format!("s{n}"), if n == 7 { servers } else { 1 })).collect::<Vec<_>>();
    for operations in changes(&tree(&routes(1), &gate()).unwrap(), &live.clone(), "root").unwrap() {
        apply(&mut live, &operations);
    }
    let found = changes(&tree(&routes(3), &gate()).unwrap(), &live, "root").unwrap();
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [2]);
}

#[test]
fn keys_of_others_stay_and_inside_of_ours_nothing_is_written() {
    let foreign = |key: &str| {
        let entry = Entry { value: Some("x".to_owned()), flags: 0, modify_index: 7 };
        BTreeMap::from([(key.to_owned(), entry)])
    };
    let wanted = tree(&[route("web", 1)], &gate()).unwrap();
    let beside = changes(&wanted, &foreign("http/middlewares/theirs/addPrefix/prefix"), "root").unwrap();
    assert!(beside.iter().flatten().all(|it| matches!(it, Operation::SetKey { .. })));
    let inside = changes(&wanted, &foreign("http/routers/web-leaf/service"), "root");
    assert_eq!(inside, Err("root/http/routers/web-leaf/service".to_owned()));
}
