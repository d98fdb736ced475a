//! Routes from registrations as a catalog would give them.

use serde_json::json;

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
            definition: None,
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
                before: Vec::new(),
                after: Vec::new(),
            }],
            servers: vec![Server { address: "192.0.2.1".to_owned(), port: 30080, healthy: true, weight: None }],
            scheme: "https".to_owned(),
            ..Route::default()
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
    for (tag, what) in [
        ("http.routers.web.middlewares=auth", "not among the service's own"),
        ("tcp.routers.web.rule=HostSNI(`*`)", "only HTTP"),
        ("enable=yes", "no boolean"),
        ("enable", "no boolean"),
        ("place=middle", "neither first nor last"),
        ("http.routers.web.rul=x", "no such key"),
        ("http.routers.web.priority=high", "no integer"),
        ("http.routers.web.tls=", "no boolean"),
        ("http.routers.web.entrypoints= ,", "no entry point"),
        ("http.routers.WEB.tls=true", "two ways"),
        ("http.routers.web.rule=Host(`b`)", "twice"),
        ("http.routers.we b.rule=Host(`b`)", "no name"),
        ("http.services.web.loadbalancer.server.scheme=ftp", "not one of"),
        ("http.routers.other.rule=Hots(`b`)", "no matcher"),
    ] {
        let found = refused(&[RULE, &format!("portcullis.{tag}")]);
        assert!(found.contains(what), "{tag}: {found}");
    }
    assert!(refused(&["portcullis.enable=true"]).contains("no router"));
    assert!(refused(&["portcullis.http.routers.web.tls=true"]).contains("no rule"));
    assert!(refused(&["portcullis.http.routers.web.rule= "]).contains("rule is empty"));
}

#[test]
fn no_tag_leads_past_the_gate() {
    for (tag, what) in [
        ("http.routers.web.service=other", "not this service"),
        ("http.routers.web.parentrefs=gate", "no such key"),
        ("http.routers.web.tls.options=lax@file", "TLS options"),
        ("http.routers.web.observability.accesslogs=false", "not a service's to choose"),
        ("http.routers.web.middlewares=portcullis@file", "the gate's own"),
        ("http.routers.web.middlewares=db-destination@file", "the gate's own"),
        ("http.services.web.loadbalancer.server.url=http://192.0.2.9", "what Consul registers"),
        ("http.services.web.loadbalancer.server.port=30081", "what Consul registers"),
        ("http.services.web.loadbalancer.serverstransport=lax", "nowhere defined"),
        ("http.middlewares.m.headers.customrequestheaders.x_Portcullis_Source=db", "the gate's own"),
        ("http.middlewares.m.basicauth.headerfield=X-Forwarded-Tls-Client-Cert", "the gate's own"),
        ("http.middlewares.m.errors.service=db", "past the gate"),
        ("http.middlewares.m.ratelimit.redis.endpoints=192.0.2.9:6379", "a store for limits"),
        ("http.middlewares.m.plugin.portcullis.snapshot=/x", "the gateway's to choose"),
    ] {
        let found = refused(&[RULE, &format!("portcullis.{tag}")]);
        assert!(found.contains(what), "{tag}: {found}");
    }
    let circle = ["portcullis.http.middlewares.m.chain.middlewares=m", "portcullis.http.routers.web.middlewares=m"];
    assert!(refused(&[RULE, circle[0], circle[1]]).contains("leads to itself"));
}

#[test]
fn middlewares_stand_in_front_of_the_gate_or_behind_it() {
    let names = |list: &[Middleware]| {
        let name = |middleware: &Middleware| match middleware {
            Middleware::Own(name) | Middleware::Gateway(name) => name.clone(),
        };
        list.iter().map(name).collect::<Vec<_>>()
    };
    let tags = [
        RULE,
        "portcullis.http.routers.web.middlewares=pages,all,slow@file",
        "portcullis.http.middlewares.all.chain.middlewares=strip@consulcatalog,again",
        "portcullis.http.middlewares.strip.stripprefix.prefixes=/a",
        "portcullis.http.middlewares.again.retry.attempts=2",
        "portcullis.http.middlewares.pages.errors.status=500",
        "portcullis.http.middlewares.pages.errors.service=web",
        "portcullis.http.middlewares.pages.errors.query=/{status}",
    ];
    let of = |place: &[&str]| {
        let (routes, notes) = routes(&[instance("web", "192.0.2.1", "passing", &[&tags[..], place].concat())]);
        assert!(notes.is_empty(), "{notes:?}");
        (
            names(&routes[0].routers[0].before),
            names(&routes[0].routers[0].after),
            routes[0].middlewares["pages"].clone(),
        )
    };
    let (before, after, pages) = of(&[]);
    assert_eq!(
        (before, after),
        (vec!["strip".to_owned(), "slow@file".to_owned()], vec!["pages".to_owned(), "again".to_owned()])
    );
    assert_eq!(pages["errors"]["service"], json!("web"));
    let (before, after, _) = of(&["portcullis.place=first"]);
    assert_eq!((before.len(), after.join(",")), (0, "pages,strip,again,slow@file".to_owned()));
}

#[test]
fn weights_are_each_instance_s_own() {
    let weighed = |address: &str, weight: &str| {
        let tag = format!("portcullis.http.services.web.loadbalancer.server.weight={weight}");
        instance("web", address, "passing", &[RULE, &tag])
    };
    let (routes, notes) = routes(&[weighed("192.0.2.1", "3"), weighed("192.0.2.2", "0"), weighed("192.0.2.2", "2")]);
    assert!(notes.is_empty(), "{notes:?}");
    assert_eq!(routes[0].servers.iter().map(|server| server.weight).collect::<Vec<_>>(), [Some(3), Some(2)]);
}

#[test]
fn two_services_with_one_rule_and_one_rank_are_closed() {
    let named = |service: &str, more: &[&str]| {
        let rule = format!("portcullis.http.routers.{service}.rule=Host(`web.example.com`)");
        instance(service, "192.0.2.1", "passing", &[&[rule.as_str()], more].concat())
    };
    let (found, notes) = routes(&[named("a", &[]), named("b", &[])]);
    assert!(found.is_empty());
    assert!(notes.iter().all(|note| note.what.contains("same rule")) && notes.len() == 2, "{notes:?}");
    for apart in ["priority=1", "entrypoints=other", "tls=false"] {
        let rest = ["portcullis.http.routers.a.entrypoints=web", "portcullis.http.routers.a.tls=true"];
        let other = format!("portcullis.http.routers.b.{apart}");
        let (found, notes) = routes(&[named("a", &rest), named("b", &[&other])]);
        assert_eq!((found.len(), notes.len()), (2, 0), "{apart}: {notes:?}");
    }
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
