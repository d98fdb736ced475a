//! The gate's file: what it must hold, whatever the services are.

use portcullis::{
    config::Config,
    gate,
    sync::{Middleware, Route, RouterSpec, Server},
};
use serde_json::{Value, json};

fn config(gate: &str) -> portcullis::config::GateConfig {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("portcullis.yaml");
    std::fs::write(
        &path,
        format!("manifests: k\npolicy: {{directory: p}}\nsnapshot: {{file: s/policy.snapshot}}\ngate: {{file: g.yml{gate}}}\n"),
    )
    .unwrap();
    Config::load(&path).unwrap().gate
}

fn route(destination: &str, healthy: bool) -> Route {
    Route {
        destination: destination.to_owned(),
        routers: vec![RouterSpec {
            name: destination.to_owned(),
            rule: format!("Host(`{destination}.example`)"),
            ..RouterSpec::default()
        }],
        servers: vec![Server { address: "2001:db8::1".to_owned(), port: 30080, healthy, weight: None }],
        scheme: "http".to_owned(),
        ..Route::default()
    }
}

fn router<'a>(configuration: &'a Value, name: &str) -> &'a Value {
    &configuration["http"]["routers"][name]
}

#[test]
fn every_root_stamps_its_destination_and_leads_to_the_gate_alone() {
    let configuration = gate::configuration(&[route("web", true), route("db", true)], &config(""));
    for service in ["web", "db"] {
        let root = router(&configuration, &format!("{service}-root"));
        assert_eq!(root["middlewares"], json!([format!("{service}-destination")]));
        assert!(root.get("service").is_none(), "a root with a service would pass the gate by");
        let headers =
            &configuration["http"]["middlewares"][format!("{service}-destination")]["headers"]["customRequestHeaders"];
        assert_eq!(headers, &json!({"X-Portcullis-Destination": service, "X-Forwarded-Tls-Client-Cert": ""}));
        let leaf = router(&configuration, &format!("{service}-leaf"));
        assert_eq!(leaf["parentRefs"], json!(["gate"]), "a leaf has no parent but the gate");
        assert_eq!(leaf["rule"], json!(format!("Header(`X-Portcullis-Destination`, `{service}`)")));
    }
    assert_eq!(router(&configuration, "gate")["parentRefs"], json!(["web-root", "db-root"]));
    assert_eq!(router(&configuration, "gate")["middlewares"], json!(["portcullis"]));
}

#[test]
fn a_service_s_own_middlewares_never_come_between_the_stamp_and_the_gate() {
    let mut web = route("web", true);
    web.middlewares.insert("strip".to_owned(), json!({"stripPrefix": {"prefixes": ["/a"]}}));
    web.routers[0].before = vec![Middleware::Own("strip".to_owned()), Middleware::Gateway("slow@file".to_owned())];
    web.routers[0].after = vec![Middleware::Own("again".to_owned())];
    web.balancer.insert("passHostHeader".to_owned(), json!(false));
    web.servers[0].weight = Some(3);
    let configuration = gate::configuration(&[web], &config(""));
    let root = router(&configuration, "web-root");
    assert_eq!(root["middlewares"], json!(["strip~web", "slow@file", "web-destination"]));
    assert_eq!(router(&configuration, "web-leaf")["middlewares"], json!(["again~web"]));
    assert_eq!(configuration["http"]["middlewares"]["strip~web"], json!({"stripPrefix": {"prefixes": ["/a"]}}));
    assert_eq!(
        configuration["http"]["services"]["web"]["loadBalancer"],
        json!({"passHostHeader": false, "servers": [{"url": "http://[2001:db8::1]:30080", "weight": 3}]})
    );
}

#[test]
fn routers_that_differ_behind_the_gate_have_leaves_that_no_other_stamp_reaches() {
    let mut web = route("web", true);
    let guarded = RouterSpec {
        name: "guarded".to_owned(),
        after: vec![Middleware::Own("auth".to_owned())],
        ..web.routers[0].clone()
    };
    web.routers.push(guarded);
    let configuration = gate::configuration(&[web], &config(""));
    assert_eq!(router(&configuration, "guarded-root")["middlewares"], json!(["route~guarded~web", "web-destination"]));
    let stamp = &configuration["http"]["middlewares"]["route~guarded~web"]["headers"]["customRequestHeaders"];
    assert_eq!(stamp, &json!({"Portcullis-Route": "guarded"}));
    let leaf = router(&configuration, "web-leaf~guarded");
    assert_eq!(
        leaf["rule"],
        json!("Header(`X-Portcullis-Destination`, `web`) && Header(`Portcullis-Route`, `guarded`)")
    );
    assert_eq!((&leaf["parentRefs"], &leaf["middlewares"]), (&json!(["gate"]), &json!(["auth~web"])));
    assert!(router(&configuration, "web-leaf~web").get("middlewares").is_none());
    assert!(router(&configuration, "web-leaf").is_null(), "a leaf without the second stamp would be a way round");
}

#[test]
fn client_certificates_are_an_identity_only_when_declared_verified() {
    let off = gate::configuration(&[route("web", true)], &config(""));
    assert!(off["http"]["middlewares"]["portcullis"]["plugin"]["portcullis"].get("clientCertificate").is_none());
    let on = gate::configuration(
        &[route("web", true)],
        &config(", clientCertificate: verifiedByTraefik, tls: {options: mtls@file}"),
    );
    assert_eq!(router(&on, "gate")["middlewares"], json!(["client-certificate", "portcullis"]));
    assert_eq!(on["http"]["middlewares"]["client-certificate"], json!({"passTLSClientCert": {"pem": true}}));
    assert_eq!(
        on["http"]["middlewares"]["portcullis"]["plugin"]["portcullis"]["clientCertificate"],
        json!("verifiedByTraefik")
    );
    assert_eq!(router(&on, "web-root")["tls"], json!({"options": "mtls@file"}));
}

#[test]
fn a_service_without_a_healthy_instance_keeps_its_route() {
    let configuration = gate::configuration(&[route("web", false)], &config(""));
    assert_eq!(configuration["http"]["services"]["web"]["loadBalancer"]["servers"], json!([]));
    let configuration = gate::configuration(&[route("web", true)], &config(""));
    let servers = &configuration["http"]["services"]["web"]["loadBalancer"]["servers"];
    assert_eq!(servers, &json!([{"url": "http://[2001:db8::1]:30080"}]));
}

#[test]
fn without_services_the_file_is_still_a_configuration_so_that_traefik_drops_the_old_routes() {
    let configuration = gate::configuration(&[], &config(""));
    assert!(configuration["http"].get("routers").is_none(), "Traefik refuses an empty section");
    assert!(configuration["http"]["middlewares"]["portcullis"].is_object());
}

#[test]
fn the_yaml_reads_back_as_what_was_meant() {
    let routes = [route("web", true)];
    let gate = config(", apiKeyHeader: X-Api-Key, entryPoints: [websecure], pluginSettings: {revealRule: true}");
    let text = gate::render(&routes, &gate);
    assert!(text.starts_with("# Written by portcullis"));
    assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), gate::configuration(&routes, &gate));
}

#[test]
fn the_text_is_the_configuration_whatever_the_services_say() {
    let mut odd = route("odd", true);
    odd.routers[0].rule = "Path(`/a`) &&\n  Header(`x: y`, `# 'no' \"comment\"`)\n\n".to_owned();
    odd.middlewares.insert(
        "strange: name".to_owned(),
        json!({"headers": {"customRequestHeaders": {"- a": "yes", "~": "0x1", "": "\n"}}}),
    );
    odd.balancer = json!({"sticky": {"cookie": {}}}).as_object().unwrap().clone();
    for routes in [vec![], vec![route("web", true), odd]] {
        let (gate, read) = (config(""), |text: &str| serde_saphyr::from_str::<Value>(text).unwrap());
        assert_eq!(read(&gate::render(&routes, &gate)), gate::configuration(&routes, &gate));
    }
}
