//! The gate's routers, as Traefik's file provider reads them (design §2): one root router for each router of a service, one
//! gate router with the only instance of the plugin, one leaf router for each service.
//!
//! ```text
//!  <router>-root [<service>-destination] ──► gate [client-certificate, portcullis] ──► <service>-leaf ──► <service>
//! ```
//!
//! The root stamps the destination over whatever the client sent, and removes a client's own certificate header; the leaf
//! can be reached by no request without that stamp, and the stamp leads through the gate only.

use serde_json::{Map, Value, json};

use crate::{
    config::{ClientCertificate, GateConfig},
    sync::{Route, RouterSpec},
};

/// The header by which Traefik tells the plugin, and the leaves, which service a request is for.
const DESTINATION_HEADER: &str = "X-Portcullis-Destination";
/// The header in which `passTLSClientCert` hands on the client's certificate.
const CERTIFICATE_HEADER: &str = "X-Forwarded-Tls-Client-Cert";

/// Priority of the leaves. All equal and explicit: by default Traefik would rank them by the length of their rules.
const LEAF_PRIORITY: i64 = 1;

/// Writes the configuration for these routes, as YAML with a comment on its origin.
pub fn render(routes: &[Route], gate: &GateConfig) -> String {
    let yaml = serde_saphyr::to_string(&configuration(routes, gate)).unwrap_or_else(|error| {
        // A JSON value of texts, numbers and maps always has a YAML form.
        unreachable!("the gate cannot be written as YAML: {error}")
    });
    format!("# Written by portcullis; changes are overwritten.\n{yaml}")
}

/// The whole dynamic configuration.
pub fn configuration(routes: &[Route], gate: &GateConfig) -> Value {
    json!({ "http": http(routes, gate) })
}

/// The `http` section.
fn http(routes: &[Route], gate: &GateConfig) -> Value {
    let mut routers = Map::new();
    let mut services = Map::new();
    let mut middlewares = gate_middlewares(gate);
    let mut roots = Vec::new();
    for route in routes {
        let service = &route.destination;
        middlewares.insert(format!("{service}-destination"), destination_middleware(service));
        for router in &route.routers {
            let name = format!("{}-root", router.name);
            routers.insert(name.clone(), root_router(service, router, gate));
            roots.push(name);
        }
        let rule = format!("Header(`{DESTINATION_HEADER}`, `{service}`)");
        let leaf = json!({ "rule": rule, "priority": LEAF_PRIORITY, "parentRefs": ["gate"], "service": service });
        routers.insert(format!("{service}-leaf"), leaf);
        services.insert(service.clone(), load_balancer(route));
    }
    // Traefik refuses empty sections, and skips an empty configuration as a whole, which would keep the routes of services
    // that are gone: the middlewares are always there.
    let mut http = Map::from_iter([("middlewares".to_owned(), Value::Object(middlewares))]);
    if !roots.is_empty() {
        let mut chain = Vec::new();
        if gate.client_certificate != ClientCertificate::Off {
            chain.push("client-certificate");
        }
        chain.push("portcullis");
        routers
            .insert("gate".to_owned(), json!({ "rule": "PathPrefix(`/`)", "parentRefs": roots, "middlewares": chain }));
        http.insert("routers".to_owned(), Value::Object(routers));
        http.insert("services".to_owned(), Value::Object(services));
    }
    Value::Object(http)
}

fn gate_middlewares(gate: &GateConfig) -> Map<String, Value> {
    let mut settings = gate.plugin_settings.clone();
    settings.insert("snapshot".to_owned(), json!(guest_snapshot(gate)));
    settings.insert("destinationHeader".to_owned(), json!(DESTINATION_HEADER));
    if let Some(header) = &gate.api_key_header {
        settings.insert("apiKeyHeader".to_owned(), json!(header));
    }
    let mut middlewares = Map::new();
    let verified = match gate.client_certificate {
        ClientCertificate::Off => None,
        ClientCertificate::VerifiedByTraefik => Some("verifiedByTraefik"),
        ClientCertificate::Verify => Some("verify"),
    };
    if let Some(verified) = verified {
        settings.insert("clientCertificate".to_owned(), json!(verified));
        middlewares.insert("client-certificate".to_owned(), json!({ "passTLSClientCert": { "pem": true } }));
    }
    middlewares.insert("portcullis".to_owned(), json!({ "plugin": { &gate.plugin: settings } }));
    middlewares
}

fn guest_snapshot(gate: &GateConfig) -> String {
    gate.snapshot.clone().unwrap_or_else(|| "/policy/policy.snapshot".to_owned())
}

fn destination_middleware(service: &str) -> Value {
    // An empty value removes the header: without TLS, passTLSClientCert would leave a forged one standing.
    json!({ "headers": { "customRequestHeaders": { DESTINATION_HEADER: service, CERTIFICATE_HEADER: "" } } })
}

fn root_router(service: &str, router: &RouterSpec, gate: &GateConfig) -> Value {
    let mut root = Map::new();
    root.insert("rule".to_owned(), json!(router.rule));
    let entry_points = if router.entry_points.is_empty() { &gate.entry_points } else { &router.entry_points };
    if !entry_points.is_empty() {
        root.insert("entryPoints".to_owned(), json!(entry_points));
    }
    if let Some(priority) = router.priority {
        root.insert("priority".to_owned(), json!(priority));
    }
    if let Some(tls) = tls(router, gate) {
        root.insert("tls".to_owned(), tls);
    }
    root.insert("middlewares".to_owned(), json!([format!("{service}-destination")]));
    Value::Object(root)
}

/// TLS options are the gate's to choose, never a service's: a service could choose ones that do not verify certificates.
fn tls(router: &RouterSpec, gate: &GateConfig) -> Option<Value> {
    if router.tls == Some(false) || (router.tls.is_none() && gate.tls.is_none()) {
        return None;
    }
    let configured = gate.tls.clone().unwrap_or_default();
    let mut tls = Map::new();
    tls.extend(configured.options.map(|options| ("options".to_owned(), json!(options))));
    tls.extend(configured.cert_resolver.map(|resolver| ("certResolver".to_owned(), json!(resolver))));
    Some(Value::Object(tls))
}

fn load_balancer(route: &Route) -> Value {
    let scheme = &route.scheme;
    let servers: Vec<_> =
        route.live().map(|server| json!({ "url": format!("{scheme}://{}", server.authority()) })).collect();
    json!({ "loadBalancer": { "servers": servers } })
}
