//! What holds of annotations whoever wrote them: no text makes the translation panic, grow without bounds, or emit what
//! Traefik v3 would not read.

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

use super::{GATE_PREFIX, SyncOptions, desired, routes};
use crate::{
    gate,
    kube::{Cluster, Manifests},
    traefik::{rule::Rule, tree},
};

/// Keys of every kind, some with a name of the author's choice, some misspelt.
const KEYS: [&str; 44] = [
    "traefik.enable",
    "traefik.tags",
    "traefik.protocol",
    "traefik.weight",
    "traefik.port",
    "traefik.frontend.rule",
    "traefik.frontend.Rule",
    "traefik.frontend.priority",
    "traefik.frontend.entryPoints",
    "traefik.frontend.passHostHeader",
    "traefik.frontend.whiteList.sourceRange",
    "traefik.frontend.whiteList.useXForwardedFor",
    "traefik.frontend.auth.basic",
    "traefik.frontend.auth.basic.users",
    "traefik.frontend.auth.forward.address",
    "traefik.frontend.auth.headerField",
    "traefik.frontend.redirect.entryPoint",
    "traefik.frontend.redirect.regex",
    "traefik.frontend.redirect.replacement",
    "traefik.frontend.headers.customRequestHeaders",
    "traefik.frontend.headers.SSLRedirect",
    "traefik.frontend.headers.SSLHost",
    "traefik.frontend.headers.STSSeconds",
    "traefik.frontend.errors.a.status",
    "traefik.frontend.errors.a.backend",
    "traefik.frontend.errors.a.query",
    "traefik.frontend.errors..query",
    "traefik.frontend.rateLimit.extractorFunc",
    "traefik.frontend.rateLimit.rateSet.a.period",
    "traefik.frontend.passTLSClientCert.infos.subject.commonName",
    "traefik.frontends.a.rule",
    "traefik.frontends.tls.rule",
    "traefik.frontends..rule",
    "traefik.backend",
    "traefik.backend.loadbalancer",
    "traefik.backend.loadbalancer.stickiness",
    "traefik.backend.loadbalancer.stickiness.cookieName",
    "traefik.backend.healthcheck.path",
    "traefik.backend.healthcheck.headers",
    "traefik.backend.maxconn.amount",
    "traefik.backend.circuitbreaker.expression",
    "traefik.http.routers.web.rule",
    "portcullis.io/tags",
    "portcullis.io/rate-limit",
];

/// Pieces that mean something to one of the grammars.
const PIECES: [&str; 48] = [
    "Host:",
    "Path:",
    "PathPrefixStrip:",
    "HostRegexp:",
    "Query:",
    "Headers:",
    "ReplacePathRegex:",
    "AddPrefix:",
    ";",
    ",",
    ":",
    "/",
    "{",
    "}",
    "{v:[0-9]+}",
    "{{",
    "}}",
    "{{.Domain}}",
    "a",
    "A.b",
    "*",
    "`",
    "\"",
    "\\",
    "\n",
    "\r",
    "\0",
    "ä",
    " ",
    "=",
    "||",
    "&&",
    "!",
    "(",
    ")",
    "Host(`a`)",
    "PathRegexp(`(`)",
    "true",
    "0",
    "10",
    "-1",
    "5s",
    "192.0.2.0/24",
    "http",
    "https",
    "client.ip",
    "traefik.http.middlewares.m.plugin.x.y=1",
    "traefik.http.routers.web.middlewares=web-auth,m",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => vec(select(&PIECES[..]), 0..8).prop_map(|pieces| pieces.concat()),
        2 => select(&PIECES[..]).prop_map(str::to_owned),
        1 => any::<String>(),
        1 => (select(&PIECES[..]), 1_usize..40_000).prop_map(|(piece, count)| piece.repeat(count)),
    ]
}

fn cluster(annotations: &[(&str, String)]) -> Cluster {
    let annotations: serde_json::Map<_, _> =
        annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let objects = vec![
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
               "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "annotations": annotations},
               "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
               "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
               "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "n1"}]}),
    ];
    Cluster::from_manifests([Manifests::from_values("generated", objects).unwrap()]).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_any_annotations_lead_to_is_bounded_and_read_back(
        annotations in vec((select(&KEYS[..]), text()), 0..8), domain in select(vec!["", "example.com"]),
    ) {
        let options = SyncOptions { traefik_domain: domain.to_owned(), ..SyncOptions::default() };
        let found = desired(&cluster(&annotations), &options);
        let tags = &found.registrations[0].service.tags;
        let routing: Vec<_> = tags.iter().filter_map(|tag| tag.strip_prefix(GATE_PREFIX)).collect();
        prop_assert!(routing.iter().map(|tag| tag.len()).sum::<usize>() <= 80 * 1024, "too much text");
        prop_assert!(!tags.iter().any(|tag| tag.to_lowercase().starts_with("traefik.")), "{tags:?}");
        let pairs = routing.iter().map(|tag| tag.split_once('=').unwrap());
        prop_assert!(tree::read(pairs).is_ok(), "{routing:?}");
        let (routes, noted) = routes(&found.registrations);
        for router in routes.iter().flat_map(|route| &route.routers) {
            prop_assert!(Rule::http(&router.rule).is_ok(), "{router:?}");
        }
        // Switched off, or not asked for; else it is routed or somebody says why not.
        let is_wanted = routing.iter().any(|tag| tag.starts_with("http.routers."));
        prop_assert!(!is_wanted || !routes.is_empty() || !noted.is_empty(), "{routing:?}");
        let gate = serde_json::from_value(json!({"file": "gate.yml"})).unwrap();
        let text = gate::render(&routes, &gate);
        prop_assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), gate::configuration(&routes, &gate));
        let keys: std::collections::BTreeSet<_> = found.notes.iter().map(|note| (&note.object, &note.key)).collect();
        prop_assert_eq!(keys.len(), found.notes.len());
    }

    #[test]
    fn a_rule_that_is_read_prints_as_one_that_reads_the_same(text in text()) {
        if let Ok(rule) = Rule::http(&text) {
            prop_assert_eq!(Rule::http(&rule.to_string()), Ok(rule));
        }
    }
}
