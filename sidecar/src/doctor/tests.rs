//! Each finding from the smallest change of a healthy set-up that leads to it.

use serde_json::{Value, json};

use super::*;

/// What Traefik 3.7.15 answers with the gate of one service, as far as it is read.
fn raw() -> Value {
    json!({
        "routers": {
            "web-root@file": {"entryPoints": ["websecure"], "middlewares": ["web-destination@file"], "rule": "Host(`web`)",
                "tls": {"options": "mtls@file"}, "status": "enabled", "using": ["websecure"]},
            "gate@file": {"middlewares": ["client-certificate@file", "portcullis@file"], "rule": "PathRegexp(`^`)",
                "parentRefs": ["web-root@file"], "status": "enabled"},
            "web-leaf@file": {"service": "web", "rule": "Header(`X-Portcullis-Destination`, `web`)", "parentRefs": ["gate@file"],
                "priority": 1, "status": "enabled"},
            "own-api@file": {"entryPoints": ["internal"], "service": "api@internal", "rule": "PathPrefix(`/api`)", "status": "enabled"},
            "other@file": {"entryPoints": ["websecure"], "service": "other", "rule": "Host(`other`)", "status": "enabled"},
        },
        "middlewares": {
            "web-destination@file": {"headers": {"customRequestHeaders":
                {"X-Forwarded-Tls-Client-Cert": "", "X-Portcullis-Destination": "web"}}, "status": "enabled"},
            "client-certificate@file": {"passTLSClientCert": {"pem": true}, "status": "enabled"},
            "portcullis@file": {"plugin": {"portcullis": {"clientCertificate": "verifiedByTraefik",
                "destinationHeader": "X-Portcullis-Destination"}}, "status": "enabled"},
        },
        "services": {
            "web@file": {"loadBalancer": {"servers": [{"url": "http://192.0.2.1:30080"}]}, "status": "enabled"},
            "other@file": {"loadBalancer": {"servers": [{"url": "http://192.0.2.9:80"}]}, "status": "enabled"},
            "api@internal": {"status": "enabled"},
        },
    })
}

fn facts_of(raw: Value) -> Facts {
    let entry_points = json!([{"name": "websecure", "forwardedHeaders": {}}, {"name": "web", "forwardedHeaders": {"trustedIPs": ["10.0.0.0/8"]}}]);
    Facts {
        expected: Expected {
            plugin: "portcullis".to_owned(),
            client_certificate: ClientCertificate::VerifiedByTraefik,
            has_services: true,
        },
        traefik: Some(Ok(Traefik {
            version: "3.7.15".to_owned(),
            entry_points: serde_json::from_value(entry_points).unwrap(),
            raw: serde_json::from_value(raw).unwrap(),
        })),
        tls_options: [("mtls@file".to_owned(), "VerifyClientCertIfGiven".to_owned())].into(),
        snapshot: SnapshotState::Good { generation: 5, is_stale: false, is_pinned: false },
        problems: Problems::default(),
        clocks: vec![Clock { whose: "Traefik".to_owned(), ahead: 1 }],
        rights: Some(Ok(vec![Right { rule: "node_prefix".to_owned(), is_given: true }])),
        changes: vec![Changes { source: "kubernetes".to_owned(), lines: Ok(Vec::new()) }],
    }
}

fn found(facts: &Facts) -> Vec<(&'static str, String)> {
    check(facts).into_iter().map(|finding| (finding.check, finding.at)).collect()
}

#[test]
fn a_healthy_set_up_has_no_findings() {
    assert_eq!(check(&facts_of(raw())), []);
    // Without Consul, and before anything was looked at.
    assert_eq!(check(&Facts::default()), []);
}

#[test]
fn each_fault_in_traefik_is_found_and_nothing_else() {
    type Change = fn(&mut Value);
    let cases: [(&str, &str, Change); 15] = [
        ("unguarded-router", "router web@consulcatalog", |raw| {
            raw["routers"]["web@consulcatalog"] = json!({"service": "web", "rule": "Host(`web`)", "status": "enabled"});
            raw["services"]["web@consulcatalog"] =
                json!({"loadBalancer": {"servers": [{"url": "http://192.0.2.1:30080/"}]}});
        }),
        ("unguarded-router", "router sly@file", |raw| {
            raw["routers"]["sly@file"] = json!({"service": "half", "rule": "Host(`sly`)", "status": "enabled"});
            raw["services"]["half@file"] = json!({"weighted": {"services": [{"name": "other"}, {"name": "web"}]}});
        }),
        ("unguarded-router", "router child@file", |raw| {
            let parents = json!(["gate@file", "other@file"]);
            raw["routers"]["child@file"] =
                json!({"service": "web", "rule": "Path(`/`)", "parentRefs": parents, "status": "enabled"});
        }),
        ("client-certificate", "router gate@file", |raw| {
            raw["routers"]["gate@file"]["middlewares"] = json!(["portcullis@file"]);
        }),
        ("client-certificate", "router gate@file", |raw| {
            raw["routers"]["gate@file"]["middlewares"] = json!(["portcullis@file", "client-certificate@file"]);
        }),
        ("client-certificate", "router gate@file", |raw| {
            raw["middlewares"]["client-certificate@file"] = json!({"passTLSClientCert": {"info": {}}});
        }),
        ("destination", "router web-root@file", |raw| raw["routers"]["web-root@file"]["middlewares"] = json!([])),
        ("destination", "router web-root@file", |raw| {
            raw["middlewares"]["web-destination@file"]["headers"]["customRequestHeaders"]["X-Portcullis-Destination"] =
                json!("");
        }),
        ("destination", "router alone@file", |raw| {
            let chain = json!(["client-certificate@file", "portcullis@file"]);
            raw["routers"]["alone@file"] = json!({"service": "other", "middlewares": chain, "status": "enabled"});
            raw["routers"]["other@file"] = json!({"status": "disabled"});
        }),
        ("no-gate", "Traefik's routers", |raw| {
            raw["routers"] = json!({"own-api@file": {"service": "api@internal", "status": "enabled"}});
        }),
        ("plugin", "router gate@file", |raw| {
            raw["routers"]["gate@file"]["error"] = json!(["plugin: unknown plugin type: portcullis"]);
        }),
        // As Traefik 3.7.15 says it.
        ("plugin", "middleware portcullis@file", |raw| {
            let error = json!(["plugin: unknown plugin type: portcullis"]);
            raw["middlewares"]["portcullis@file"]["error"] = error.clone();
            raw["middlewares"]["portcullis@file"]["status"] = json!("disabled");
            raw["routers"]["gate@file"]["error"] = error;
            raw["routers"]["web-root@file"]["error"] = json!(["building child routers muxer: no child routers"]);
        }),
        ("router", "router web-leaf@file", |raw| {
            raw["routers"]["web-leaf@file"]["error"] = json!(["the service \"web@file\" does not exist"]);
        }),
        ("tls-options", "TLS options lax@file (router web-root@file)", |raw| {
            raw["routers"]["web-root@file"]["tls"]["options"] = json!("lax");
        }),
        ("tls-options", "TLS options default (router web-root@file)", |raw| {
            raw["routers"]["web-root@file"]["tls"] = json!({});
        }),
    ];
    for (check, at, change) in cases {
        let mut raw = raw();
        change(&mut raw);
        assert_eq!(found(&facts_of(raw)), [(check, at.to_owned())], "{check} {at}");
    }
}

#[test]
fn what_is_guarded_in_other_ways_is_no_finding() {
    type Change = fn(&mut Value);
    let cases: [Change; 4] = [
        // Tags mode: the plugin on the router itself, in a chain.
        |raw| {
            raw["middlewares"]["guard@file"] = json!({"plugin": {"portcullis": {"destination": "web"}}});
            raw["middlewares"]["all@file"] = json!({"chain": {"middlewares": ["guard"]}});
            raw["routers"]["web@consulcatalog"] = json!({"service": "web@file", "middlewares": ["all@file"], "status": "enabled", "tls": {"options": "mtls@file"}});
            raw["middlewares"]["guard@file"]["plugin"]["portcullis"]["clientCertificate"] = json!("off");
        },
        |raw| raw["routers"]["old@file"] = json!({"service": "web", "status": "disabled", "error": ["no"]}),
        |raw| raw["middlewares"]["client-certificate@file"]["passTLSClientCert"]["pem"] = json!("true"),
        // Circles lead nowhere.
        |raw| {
            raw["routers"]["a@file"] = json!({"service": "other", "parentRefs": ["b@file"], "status": "enabled"});
            raw["routers"]["b@file"] =
                json!({"parentRefs": ["a@file"], "middlewares": ["c@file"], "status": "enabled"});
            raw["middlewares"]["c@file"] = json!({"chain": {"middlewares": ["c@file"]}});
        },
    ];
    for (index, change) in cases.into_iter().enumerate() {
        let mut raw = raw();
        change(&mut raw);
        assert_eq!(check(&facts_of(raw)), [], "case {index}");
    }
}

#[test]
fn each_fault_elsewhere_is_found_and_nothing_else() {
    type Change = fn(&mut Facts);
    fn traefik(facts: &mut Facts) -> &mut Traefik {
        facts.traefik.as_mut().unwrap().as_mut().unwrap()
    }
    fn plugin(facts: &mut Facts, mode: &str) {
        let middleware = traefik(facts).raw.middlewares.get_mut("portcullis@file").unwrap();
        middleware["plugin"]["portcullis"]["clientCertificate"] = json!(mode);
    }
    let cases: [(&str, Severity, Change); 18] = [
        ("traefik", Severity::Error, |facts| facts.traefik = Some(Err("refused".to_owned()))),
        ("old-traefik", Severity::Error, |facts| traefik(facts).version = "3.5.4".to_owned()),
        ("old-traefik", Severity::Error, |facts| traefik(facts).version = "v2.11.0".to_owned()),
        ("old-traefik", Severity::Warning, |facts| traefik(facts).version = "dev".to_owned()),
        ("forwarded-headers", Severity::Error, |facts| {
            traefik(facts).entry_points[0].forwarded_headers = json!({"insecure": true});
        }),
        ("forwarded-headers", Severity::Error, |facts| {
            traefik(facts).entry_points[0].forwarded_headers = json!({"trustedIPs": ["10.0.0.0/8", "::/0"]});
        }),
        ("tls-options", Severity::Error, |facts| {
            facts.tls_options.insert("mtls@file".to_owned(), "RequestClientCert".to_owned());
        }),
        ("tls-options", Severity::Error, |facts| {
            plugin(facts, "verify");
            facts.tls_options.insert("mtls@file".to_owned(), "NoClientCert".to_owned());
        }),
        ("tls-options", Severity::Warning, |facts| facts.tls_options.clear()),
        ("snapshot", Severity::Error, |facts| facts.snapshot = SnapshotState::Broken("corrupt".to_owned())),
        ("stale", Severity::Error, |facts| {
            facts.snapshot = SnapshotState::Good { generation: 5, is_stale: true, is_pinned: false };
        }),
        ("pinned", Severity::Warning, |facts| {
            facts.snapshot = SnapshotState::Good { generation: 5, is_stale: true, is_pinned: true };
        }),
        ("policy", Severity::Error, |facts| facts.problems.errors = 1),
        ("clock", Severity::Warning, |facts| facts.clocks[0].ahead = -10),
        ("clock", Severity::Error, |facts| facts.clocks[0].ahead = 3600),
        ("acl", Severity::Error, |facts| {
            let right = Right { rule: "session_prefix".to_owned(), is_given: false };
            facts.rights = Some(Ok(vec![right]));
        }),
        ("consul", Severity::Error, |facts| facts.rights = Some(Err("403".to_owned()))),
        ("plan", Severity::Warning, |facts| facts.changes[0].lines = Ok(vec!["+ web".to_owned()])),
    ];
    for (check, severity, change) in cases {
        let mut facts = facts_of(raw());
        change(&mut facts);
        let findings = super::check(&facts);
        let shown: Vec<_> = findings.iter().map(|finding| (finding.check, finding.severity)).collect();
        assert_eq!(shown, [(check, severity)]);
        assert!(findings.iter().all(|it| !it.what.is_empty() && !it.hint.is_empty()));
    }
}
