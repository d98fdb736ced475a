//! The gate's routers, as Traefik's file provider reads them (design §2): one root router for each router of a service, one
//! gate router with the only instance of the plugin, one leaf router for each service.
//!
//! ```text
//!  <router>-root [own…, <service>-destination] ──► gate [client-certificate, portcullis] ──► <service>-leaf [own…] ──► <service>
//! ```
//!
//! A service's own middlewares (`<name>~<service>`) are in front of the stamp or behind the gate, never between them. Where its
//! routers differ in what is behind, each has a leaf of its own, and a second stamp that says which.
//! The root stamps the destination over whatever the client sent, and removes a client's own certificate header; the leaf
//! can be reached by no request without that stamp, and the stamp leads through the gate only.

pub mod kv;
mod output;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    config::{ClientCertificate, GateConfig},
    sync::{Middleware, Route, RouterSpec, Server},
};

pub use self::output::Output;

/// The header by which Traefik tells the plugin, and the leaves, which service a request is for.
const DESTINATION_HEADER: &str = "X-Portcullis-Destination";
/// The header by which leaves of one service are told apart. Not one of the plugin's, which removes those it does not set.
const ROUTE_HEADER: &str = "Portcullis-Route";
/// The header in which `passTLSClientCert` hands on the client's certificate.
const CERTIFICATE_HEADER: &str = "X-Forwarded-Tls-Client-Cert";

/// Priority of the leaves. All equal and explicit: by default Traefik would rank them by the length of their rules.
const LEAF_PRIORITY: i64 = 1;

/// The sections of `http`, each entry by its name.
struct Http<T> {
    middlewares: BTreeMap<String, T>,
    routers: BTreeMap<String, T>,
    services: BTreeMap<String, T>,
}

/// Writes the configuration for these routes, as YAML with a comment on its origin. Entry by entry: the tree of many routes
/// takes ten times the memory of their text.
pub fn render<'a>(routes: impl IntoIterator<Item = &'a Route>, gate: &GateConfig) -> String {
    let http = http(routes, gate, |name, value| {
        let entry = Map::from_iter([(name.to_owned(), value)]);
        serde_saphyr::to_string(&entry).unwrap_or_else(|error| {
            // A JSON value of texts, numbers and maps always has a YAML form.
            unreachable!("the gate cannot be written as YAML: {error}")
        })
    });
    let mut text = "# Written by portcullis; changes are overwritten.\nhttp:\n".to_owned();
    for (section, entries) in http.sections() {
        text.extend(["  ", section, ":\n"]);
        for line in entries.values().flat_map(|entry| entry.lines()) {
            text.extend(["    ", line, "\n"]);
        }
    }
    text
}

/// The whole dynamic configuration.
pub fn configuration<'a>(routes: impl IntoIterator<Item = &'a Route>, gate: &GateConfig) -> Value {
    let http = http(routes, gate, |_, value| value);
    let section = |(name, entries): (&str, BTreeMap<String, Value>)| (name.to_owned(), entries.into_iter().collect());
    json!({ "http": Value::Object(http.sections().into_iter().map(section).collect()) })
}

/// The `http` section, each entry as `make` makes it of its name and its value.
fn http<'a, T>(
    routes: impl IntoIterator<Item = &'a Route>,
    gate: &GateConfig,
    make: impl Fn(&str, Value) -> T,
) -> Http<T> {
    let mut http = Http { middlewares: BTreeMap::new(), routers: BTreeMap::new(), services: BTreeMap::new() };
    let put = |entries: &mut BTreeMap<String, T>, name: String, value| {
        let entry = make(&name, value);
        entries.insert(name, entry);
    };
    for (name, options) in gate_middlewares(gate) {
        put(&mut http.middlewares, name, options);
    }
    let mut roots = Vec::new();
    for route in routes {
        let service = &route.destination;
        put(&mut http.middlewares, format!("{service}-destination"), destination_middleware(service));
        for (name, options) in &route.middlewares {
            put(&mut http.middlewares, own_name(name, service), options.clone());
        }
        let is_split = route.routers.iter().any(|router| router.after != route.routers[0].after);
        for router in &route.routers {
            let name = format!("{}-root", router.name);
            let stamps = if is_split {
                let stamp = own_name(&format!("route~{}", router.name), service);
                put(&mut http.middlewares, stamp.clone(), route_middleware(&router.name));
                vec![json!(stamp), destination_stamp(service)]
            } else {
                vec![destination_stamp(service)]
            };
            put(&mut http.routers, name.clone(), root_router(service, router, stamps, gate));
            roots.push(name);
        }
        let leaves = if is_split { route.routers.as_slice() } else { &route.routers[..route.routers.len().min(1)] };
        for router in leaves {
            let (name, rule) = leaf_of(service, is_split.then_some(router.name.as_str()));
            let mut leaf =
                json!({ "rule": rule, "priority": LEAF_PRIORITY, "parentRefs": ["gate"], "service": service });
            if !router.after.is_empty() {
                leaf["middlewares"] = names(&router.after, service).collect();
            }
            put(&mut http.routers, name, leaf);
        }
        put(&mut http.services, service.clone(), load_balancer(route));
    }
    if !roots.is_empty() {
        let mut chain = Vec::new();
        if gate.client_certificate != ClientCertificate::Off {
            chain.push("client-certificate");
        }
        chain.push("portcullis");
        // Every path: one whose prefix was stripped may be empty, which `/` is no prefix of.
        let gate = json!({ "rule": "PathRegexp(`^`)", "parentRefs": roots, "middlewares": chain });
        put(&mut http.routers, "gate".to_owned(), gate);
    }
    http
}

impl<T> Http<T> {
    /// Those that may be written: Traefik refuses empty sections, and skips an empty configuration as a whole, which would keep
    /// the routes of services that are gone; but the middlewares are always there.
    fn sections(self) -> Vec<(&'static str, BTreeMap<String, T>)> {
        let all = [("middlewares", self.middlewares), ("routers", self.routers), ("services", self.services)];
        all.into_iter().filter(|(_, entries)| !entries.is_empty()).collect()
    }
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

/// Says which router let a request in. Like the destination it is set over whatever the client sent.
fn route_middleware(router: &str) -> Value {
    json!({ "headers": { "customRequestHeaders": { ROUTE_HEADER: router } } })
}

fn destination_stamp(service: &str) -> Value {
    json!(format!("{service}-destination"))
}

/// Name and rule of a leaf: of the service's only one, or of the one for a router.
fn leaf_of(service: &str, router: Option<&str>) -> (String, String) {
    let destination = format!("Header(`{DESTINATION_HEADER}`, `{service}`)");
    match router {
        None => (format!("{service}-leaf"), destination),
        Some(router) => {
            (format!("{service}-leaf~{router}"), format!("{destination} && Header(`{ROUTE_HEADER}`, `{router}`)"))
        }
    }
}

fn root_router(service: &str, router: &RouterSpec, stamps: Vec<Value>, gate: &GateConfig) -> Value {
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
    // The stamps are the last word: nothing that a service chooses can change them.
    root.insert("middlewares".to_owned(), names(&router.before, service).chain(stamps).collect());
    Value::Object(root)
}

fn names<'a>(list: &'a [Middleware], service: &'a str) -> impl Iterator<Item = Value> + 'a {
    list.iter().map(move |middleware| match middleware {
        Middleware::Own(name) => json!(own_name(name, service)),
        Middleware::Gateway(reference) => json!(reference),
    })
}

/// Neither part can hold the sign between them, and none of the gate's own names does.
fn own_name(name: &str, service: &str) -> String {
    format!("{name}~{service}")
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
    let server = |server: &Server| {
        let mut entry = json!({ "url": format!("{scheme}://{}", server.authority()) });
        if let Some(weight) = server.weight {
            entry["weight"] = json!(weight);
        }
        entry
    };
    let mut balancer = route.balancer.clone();
    balancer.insert("servers".to_owned(), route.live().map(server).collect());
    json!({ "loadBalancer": balancer })
}
