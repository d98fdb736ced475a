//! What others may claim, and what comes of it.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::sync::{Check, RegisteredService, Weights};

fn registration(name: &str, address: &str, tags: &[&str]) -> Registration {
    Registration {
        id: String::new(),
        node: "vm".to_owned(),
        address: address.to_owned(),
        node_meta: BTreeMap::new(),
        skip_node_update: true,
        service: RegisteredService {
            id: format!("{name}-{address}"),
            service: name.to_owned(),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            address: String::new(),
            meta: BTreeMap::new(),
            port: 80,
            weights: Weights::default(),
        },
        check: Check {
            check_id: String::new(),
            name: String::new(),
            kind: String::new(),
            status: "passing".to_owned(),
            output: String::new(),
            service_id: String::new(),
            node: String::new(),
            definition: None,
        },
    }
}

fn foreign(registrations: &[Registration]) -> Foreign {
    Foreign::new(registrations, &SyncOptions::default(), Some("traefik"))
}

/// Destinations with their servers, and the notes.
fn routed(ours: &[Registration], theirs: &[Registration]) -> (Vec<String>, Vec<String>) {
    let (routes, notes) = Foreign::new(theirs, &SyncOptions::default(), None).routes(ours);
    let shown = |route: &Route| {
        let servers: Vec<_> = route.live().map(|server| server.address.clone()).collect();
        format!("{} {}", route.destination, servers.join(","))
    };
    (routes.iter().map(shown).collect(), notes.iter().map(ToString::to_string).collect())
}

const WEB: &str = "portcullis.http.routers.web.rule=Host(`web.test`)";

#[test]
fn tags_for_traefik_of_either_version_and_tags_for_the_gate_make_routes() {
    for tags in [
        &["traefik.enable=true", "traefik.http.routers.web.rule=Host(`web.test`)"][..],
        &["traefik.frontend.rule=Host:web.test"],
        &[WEB],
        &[WEB, "portcullis.exposure=gate", "other"],
    ] {
        assert_eq!(routed(&[], &[registration("web", "192.0.2.1", tags)]).0, ["web 192.0.2.1"], "{tags:?}");
    }
}

#[test]
fn a_service_that_opts_out_that_is_switched_off_or_that_cannot_be_understood_has_no_route() {
    for (tags, note) in [
        (&["plain"][..], ""),
        (&[WEB, "portcullis.exposure=none"], ""),
        (&["traefik.http.routers.web.rule=Host(`web.test`)", "portcullis.exposure=tags"], ""),
        (&[WEB, "traefik.enable=false"], ""),
        (&[WEB, "portcullis.exposure=perhaps"], "portcullis.exposure: \"perhaps\" is no exposure"),
        (&[WEB, "portcullis.exposure=gate", "portcullis.exposure=none"], "no exposure"),
        (&[WEB, "traefik.http.routers.web.rul=x"], "traefik.http.routers.web.rul: Traefik v3 has no such key"),
        (&["traefik.http.routers.web.rule=Nost(`web.test`)"], "the service is not exposed"),
    ] {
        let (routes, notes) = routed(&[], &[registration("web", "192.0.2.1", tags)]);
        assert!(routes.is_empty(), "{tags:?}: {routes:?}");
        assert!(if note.is_empty() { notes.is_empty() } else { notes[0].contains(note) }, "{tags:?}: {notes:?}");
    }
}

#[test]
fn instances_of_others_join_ours_only_with_the_same_routing_tags() {
    let ours = registration("web", "192.0.2.1", &["k8s", WEB]);
    let same = registration("web", "192.0.2.2", &["traefik.http.routers.web.rule=Host(`web.test`)"]);
    assert_eq!(routed(std::slice::from_ref(&ours), &[same]), (vec!["web 192.0.2.1,192.0.2.2".to_owned()], vec![]));
    for tags in [&[][..], &[WEB, "portcullis.http.routers.web.priority=9"], &[WEB, "portcullis.enable=false"]] {
        let (routes, notes) = routed(std::slice::from_ref(&ours), &[registration("web", "192.0.2.2", tags)]);
        assert_eq!(routes, ["web 192.0.2.1"], "{tags:?}");
        assert!(notes[0].starts_with("web: tags: an instance that others registered"), "{tags:?}: {notes:?}");
    }
    // Ours is not exposed, so nobody exposes it.
    let (routes, notes) = routed(&[registration("web", "192.0.2.1", &[])], &[registration("web", "192.0.2.2", &[WEB])]);
    assert_eq!((routes.len(), notes.len()), (0, 1));
}

#[test]
fn no_claim_of_others_closes_or_takes_a_route_of_ours() {
    let ours = registration("web", "192.0.2.1", &[WEB]);
    for (name, tags, note) in [
        ("evil", &[WEB][..], "evil: portcullis.http.routers.web: router web is defined by web, which is ours"),
        ("evil", &["traefik.http.routers.x.rule=Host(`web.test`)"], "has the same rule and rank as one of web"),
        (
            "evil",
            &["traefik.http.routers.x.rule= Host( `web.test` )", "traefik.http.routers.x.priority=16"],
            "same rule",
        ),
        ("WEB", &[WEB], "Consul answers for it and web, which is ours, as one"),
    ] {
        let (routes, notes) = routed(std::slice::from_ref(&ours), &[registration(name, "192.0.2.66", tags)]);
        assert_eq!(routes, ["web 192.0.2.1"], "{tags:?}");
        assert!(notes.len() == 1 && notes[0].contains(note), "{tags:?}: {notes:?}");
    }
}

#[test]
fn among_others_a_contradiction_closes_both() {
    let (routes, notes) = routed(
        &[],
        &[
            registration("a", "192.0.2.1", &[WEB]),
            registration("b", "192.0.2.2", &[WEB]),
            registration("c", "192.0.2.3", &["traefik.http.routers.c.rule=Host(`c.test`)"]),
        ],
    );
    assert_eq!(routes, ["c 192.0.2.3"]);
    assert_eq!(notes.len(), 2);
}

#[test]
fn a_way_around_the_gate_is_told() {
    let way = |tags: &[&str]| foreign(&[registration("web", "192.0.2.1", tags)]).bypasses().get("web").copied();
    let rule = "traefik.http.routers.web.rule=Host(`web.test`)";
    assert_eq!(way(&[rule]), Some(Bypass::Undeclared));
    assert_eq!(way(&["traefik.enable=true"]), Some(Bypass::Undeclared));
    assert_eq!(way(&["traefik.tcp.routers.x.rule=HostSNI(`*`)"]), Some(Bypass::Undeclared));
    assert_eq!(way(&[rule, "portcullis.exposure=tags"]), Some(Bypass::Declared));
    assert_eq!(way(&[rule, "traefik.enable=false"]), None);
    // Traefik v3 does not read tags of v1, nor those of the gate.
    assert_eq!(way(&["traefik.frontend.rule=Host:web.test", WEB]), None);
    let found = foreign(&[registration("web", "192.0.2.1", &[rule])]).routes(&[]).1;
    assert!(found[0].to_string().contains("nothing guards"), "{found:?}");
}

proptest! {
    #[test]
    fn whatever_others_register_ours_are_routed_as_without_them(
        theirs in vec(
            (select(vec!["web", "WEB", "api", "shop", "evil", "x", "..", "a b"]), vec(select(TAGS.to_vec()), 0..4)),
            0..8,
        ),
    ) {
        let ours = [
            registration("web", "192.0.2.1", &["k8s", WEB]),
            registration("api", "192.0.2.2", &[]),
            registration("shop", "192.0.2.3", &["portcullis.http.routers.shop.rule=PathPrefix(`/shop`)"]),
        ];
        let theirs: Vec<_> = theirs.iter().enumerate()
            .map(|(number, (name, tags))| registration(name, &format!("198.51.100.{number}"), tags))
            .collect();
        let (alone, _) = routes::routes(&ours);
        let (together, _) = foreign(&theirs).routes(&ours);
        for route in &alone {
            let found = together.iter().find(|it| it.destination == route.destination).expect("no route any more");
            prop_assert_eq!(&found.routers, &route.routers);
            prop_assert_eq!(&found.middlewares, &route.middlewares);
            prop_assert!(route.servers.iter().all(|server| found.servers.contains(server)));
            for server in found.servers.iter().filter(|server| !route.servers.contains(server)) {
                let it = theirs.iter().find(|it| it.address == server.address).unwrap();
                prop_assert_eq!(&it.service.service, &route.destination, "a server of another service");
            }
        }
        // Nothing of ours is exposed by others, nor under another spelling.
        let is_ours = |name: &str| ours.iter().any(|it| it.service.service.eq_ignore_ascii_case(name));
        let exposed = together.iter().filter(|it| is_ours(&it.destination)).count();
        prop_assert_eq!(exposed, alone.len());
        // And no two routes share a router, or a rule with its rank.
        let mut names = BTreeSet::new();
        for router in together.iter().flat_map(|route| &route.routers) {
            prop_assert!(names.insert(router.name.to_lowercase()), "{} stands there twice", router.name);
        }
    }
}

const TAGS: [&str; 12] = [
    WEB,
    "traefik.http.routers.web.rule=Host(`web.test`)",
    "traefik.http.routers.WEB.rule=Host(`web.test`)",
    "traefik.http.routers.x.rule=Host(`web.test`)",
    "portcullis.http.routers.x.rule=Host(`x.test`)",
    "portcullis.http.routers.shop.rule=PathPrefix(`/shop`)",
    "traefik.frontend.rule=PathPrefix:/shop",
    "portcullis.exposure=none",
    "portcullis.exposure=gate",
    "portcullis.enable=false",
    "traefik.http.services.web.loadbalancer.server.port=22",
    "k8s",
];
