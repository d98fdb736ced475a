//! Routes from registrations as a catalog would give them.

use super::*;
use crate::sync::registration::{Check, RegisteredService, Weights};

fn instance(service: &str, address: &str, status: &str, tags: &[&str]) -> Registration {
    Registration {
        id: String::new(),
        node: "k8s-sync".to_owned(),
        address: "127.0.0.1".to_owned(),
        node_meta: BTreeMap::new(),
        skip_node_update: true,
        service: RegisteredService {
            id: format!("{service}-{address}"),
            service: service.to_owned(),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            address: address.to_owned(),
            meta: BTreeMap::new(),
            port: 30080,
            weights: Weights::default(),
        },
        check: Check {
            check_id: String::new(),
            name: String::new(),
            kind: "kubernetes-readiness".to_owned(),
            status: status.to_owned(),
            output: String::new(),
            service_id: format!("{service}-{address}"),
            node: "k8s-sync".to_owned(),
        },
    }
}

const RULE: &str = "portcullis.http.routers.web.rule=Host(`web.example.com`)";

fn refused(tags: &[&str]) -> String {
    let (routes, notes) = routes(&[instance("web", "192.0.2.1", "passing", tags)]);
    assert!(routes.is_empty(), "{routes:?}");
    assert_eq!(notes.len(), 1, "{notes:?}");
    format!("{}: {}", notes[0].key, notes[0].what)
}

#[test]
fn a_service_with_a_rule_is_routed_with_every_supported_key() {
    let tags = [
        "k8s",
        "traefik.http.routers.other.rule=Host(`other`)",
        "portcullis.enable=true",
        "portcullis.HTTP.Routers.Web.Rule=Host(`web.example.com`) && PathPrefix(`/a=b`)",
        "portcullis.http.routers.Web.entryPoints=web, websecure",
        "portcullis.http.routers.Web.priority=-3",
        "portcullis.http.routers.Web.tls=true",
        "portcullis.http.services.any.loadbalancer.server.scheme=https",
    ];
    let (routes, notes) = routes(&[instance("web", "192.0.2.1", "passing", &tags)]);
    assert!(notes.is_empty(), "{notes:?}");
    assert_eq!(
        routes,
        [Route {
            destination: "web".to_owned(),
            routers: vec![RouterSpec {
                name: "Web".to_owned(),
                rule: "Host(`web.example.com`) && PathPrefix(`/a=b`)".to_owned(),
                entry_points: vec!["web".to_owned(), "websecure".to_owned()],
                priority: Some(-3),
                tls: Some(true),
            }],
            servers: vec![Server { address: "192.0.2.1".to_owned(), port: 30080, healthy: true }],
            scheme: "https".to_owned(),
        }]
    );
}

#[test]
fn a_service_nobody_wants_exposed_has_no_route_and_no_note() {
    for tags in [
        &["k8s"][..],
        &["portcullis.enable=false"],
        &["portcullis.enable=F", RULE],
        &["portcullis.enable=0", "portcullis.tcp.x=1"],
        &[],
    ] {
        assert_eq!(routes(&[instance("web", "192.0.2.1", "passing", tags)]), (Vec::new(), Vec::new()), "{tags:?}");
    }
    assert_eq!(routes(&[]), (Vec::new(), Vec::new()));
}

#[test]
fn what_cannot_be_understood_is_not_exposed() {
    let middlewares = "portcullis.http.routers.web.middlewares=auth";
    assert!(refused(&[RULE, middlewares]).starts_with("portcullis.http.routers.web.middlewares: "));
    assert!(refused(&[RULE, "portcullis.tcp.routers.web.rule=HostSNI(`*`)"]).contains("not supported yet"));
    assert!(refused(&[RULE, "portcullis.enable=yes"]).contains("no boolean"));
    assert!(refused(&[RULE, "portcullis.enable"]).contains("no boolean"));
    assert!(refused(&[RULE, "portcullis.http.routers.web.priority=high"]).contains("no integer"));
    assert!(refused(&[RULE, "portcullis.http.routers.web.tls="]).contains("no boolean"));
    assert!(refused(&[RULE, "portcullis.http.routers.web.entrypoints= ,"]).contains("no entry point"));
    assert!(refused(&[RULE, "portcullis.http.routers.WEB.tls=true"]).contains("two ways"));
    assert!(refused(&[RULE, "portcullis.http.routers.web.rule=Host(`b`)"]).contains("twice"));
    assert!(refused(&[RULE, "portcullis.http.routers.we b.rule=Host(`b`)"]).contains("no router name"));
    assert!(refused(&[RULE, "portcullis.http.services.web.loadbalancer.server.scheme=ftp"]).contains("no scheme"));
    assert!(refused(&["portcullis.enable=true"]).contains("no router"));
    assert!(refused(&["portcullis.http.routers.web.tls=true"]).contains("no rule"));
    assert!(refused(&["portcullis.http.routers.web.rule= "]).contains("rule is empty"));
}

#[test]
fn instances_that_disagree_close_the_service() {
    let one = instance("web", "192.0.2.1", "passing", &[RULE, "k8s"]);
    let same = instance("web", "192.0.2.2", "passing", &["other", RULE]);
    let other = instance("web", "192.0.2.3", "critical", &[]);
    assert_eq!(routes(&[one.clone(), same]).0.len(), 1);
    let (routes, notes) = routes(&[one, other]);
    assert!(routes.is_empty());
    assert!(notes[0].what.contains("different routing tags"), "{notes:?}");
}

#[test]
fn a_router_of_two_services_is_neither_s_and_others_stay() {
    let third = "portcullis.http.routers.c.rule=Host(`c`)";
    let (routes, notes) = routes(&[
        instance("a", "192.0.2.1", "passing", &[RULE]),
        instance("b", "192.0.2.1", "passing", &[RULE]),
        instance("c", "192.0.2.1", "passing", &[third]),
    ]);
    assert_eq!(routes.iter().map(|route| route.destination.as_str()).collect::<Vec<_>>(), ["c"]);
    assert_eq!(notes.iter().map(|note| note.object.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn names_that_consul_answers_as_one_are_closed_and_so_are_names_unfit_for_a_rule() {
    let other = "portcullis.http.routers.x.rule=Host(`x`)";
    let pair = [instance("Web", "192.0.2.1", "passing", &[RULE]), instance("web", "192.0.2.2", "passing", &[other])];
    let (found, notes) = routes(&pair);
    assert!(found.is_empty());
    assert_eq!(notes.len(), 2, "{notes:?}");
    let (found, notes) = routes(&[instance("a`b", "192.0.2.1", "passing", &[RULE])]);
    assert!(found.is_empty());
    assert!(notes[0].what.contains("does not fit"), "{notes:?}");
}

#[test]
fn critical_instances_get_no_traffic_and_the_last_one_leaves_an_empty_route() {
    let (routes, _) = routes(&[
        instance("web", "2001:db8::1", "critical", &[RULE]),
        instance("web", "192.0.2.1", "critical", &[RULE]),
    ]);
    assert_eq!(routes[0].live().count(), 0);
    let places: Vec<_> = routes[0].servers.iter().map(Server::authority).collect();
    assert_eq!(places, ["192.0.2.1:30080", "[2001:db8::1]:30080"]);
}
