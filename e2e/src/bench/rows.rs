//! The routes that are compared, by the two ways in which a client's certificate can come in.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::nothing;
use crate::traefik::{GUEST_POLICY, GUEST_STATE};
use crate::world::{Backends, Setup};

/// How a request comes in. Ratios are formed among rows of one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Plain HTTP from a trusted front that has ended TLS and hands the client's certificate on in the header.
    Front,
    /// TLS with a client certificate, which Traefik's `passTLSClientCert` puts into the header.
    Mtls,
}

/// A route.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What it is called in the table.
    pub name: &'static str,
    /// How requests come to it.
    pub way: Way,
    /// Its host.
    pub host: &'static str,
    /// What is asked for.
    pub path: &'static str,
    /// The only good answer.
    pub status: u16,
}

const fn front(name: &'static str, host: &'static str) -> Row {
    Row { name, way: Way::Front, host, path: "/v1/small", status: 200 }
}

const fn mtls(name: &'static str, host: &'static str) -> Row {
    Row { way: Way::Mtls, ..front(name, host) }
}

const DENIED: Row =
    Row { path: "/v1/admin/small", status: 403, ..front("gate + Portcullis, denied", "gated.localhost") };

const REFUSED: Row = Row { status: 429, ..front("gate + Portcullis, refused by a limit", "refused.localhost") };

/// The rows. The first of each way is what the others of that way are compared with.
pub const ROWS: [Row; 20] = [
    front("plain router", "plain.localhost"),
    front("gate's layers alone", "layers.localhost"),
    front("gate + do-nothing guest", "guest.localhost"),
    front("gate + Portcullis, L7 policy, certificate", "gated.localhost"),
    DENIED,
    front("gate + Portcullis, exact limit alone", "alone.localhost"),
    front("gate + Portcullis, exact limit, L7 policy, certificate", "limited.localhost"),
    REFUSED,
    front("built-in rateLimit, memory", "rate.localhost"),
    front("built-in rateLimit, Redis (and Redis)", "redis.localhost"),
    front("built-in forwardAuth (and the authorizer)", "forward.localhost"),
    front("for comparison: gate + a guest that makes the same host calls and nothing else", "calls.localhost"),
    Row { status: 429, ..front("for comparison: gate + a guest that refuses and nothing else", "refuses.localhost") },
    Row { status: 403, ..front("for comparison: built-in ipAllowList, refused", "closed.localhost") },
    mtls("mTLS: plain router", "plain.localhost"),
    mtls("mTLS: plain router + passTLSClientCert", "passed.localhost"),
    mtls("mTLS: gate's layers + passTLSClientCert", "layers.localhost"),
    mtls("mTLS: gate + Portcullis, L7 policy, certificate", "api.localhost"),
    Row { way: Way::Mtls, name: "mTLS: gate + Portcullis, denied", host: "api.localhost", ..DENIED },
    mtls("mTLS: gate + Portcullis, exact limit, L7 policy, certificate", "limited.localhost"),
];

/// Places in [`ROWS`] that the budgets speak of.
pub(super) const FRONT_PLAIN: usize = 0;
pub(super) const FRONT_GUARDED: usize = 3;
pub(super) const FRONT_LIMITED: usize = 6;
pub(super) const FRONT_REFUSED: usize = 7;
pub(super) const MTLS_PLAIN: usize = 14;
pub(super) const MTLS_PASSED: usize = 15;
pub(super) const MTLS_GUARDED: usize = 17;
pub(super) const MTLS_LIMITED: usize = 19;

/// What a row is compared with.
pub(super) fn baseline(row: &Row) -> usize {
    match row.way {
        Way::Front => FRONT_PLAIN,
        Way::Mtls => MTLS_PLAIN,
    }
}

/// Limits that let everything pass, and one that lets nothing pass: a request costs more than its bucket ever holds.
const POLICY: &str = r#"
Kind: service-intentions
Name: limited
Sources:
  - Name: web
    Permissions:
      - {Action: deny, HTTP: {PathPrefix: /v1/admin}}
      - {Action: allow, HTTP: {PathPrefix: /v1/, Methods: [GET]}}
---
Kind: service-intentions
Name: alone
Sources: [{Name: "*", Action: allow}]
---
Kind: service-intentions
Name: refused
Sources: [{Name: "*", Action: allow}]
---
Kind: rate-limits
Name: limited
Limits: [{Name: bench, Key: [source], Rate: {Requests: 1000000, Period: 1s, Burst: 1000000}}]
---
Kind: rate-limits
Name: alone
Limits: [{Name: bench, Key: [], Rate: {Requests: 1000000, Period: 1s, Burst: 1000000}}]
---
Kind: rate-limits
Name: refused
Limits: [{Name: bench, Key: [source], Rate: {Requests: 1, Period: 1h, Burst: 1}, Costs: [{PathPrefix: /, Cost: 2}]}]
"#;

/// What the routes need beside the world.
#[derive(Debug, Clone, Copy)]
pub struct Beside<'a> {
    /// A sample service that answers everything with 200.
    pub authorizer: &'a Backend,
    /// Where Redis listens.
    pub redis: SocketAddr,
    /// An empty folder.
    pub folder: &'a Path,
    /// The state folder.
    pub state: &'a Path,
}

/// The world with all these routes.
pub fn setup(backends: &Backends, beside: Beside<'_>) -> Result<Setup> {
    let Beside { authorizer, redis, folder, state } = beside;
    let root = |host: &str, middlewares: Value| json!({"rule": format!("Host(`{host}.localhost`)"), "entryPoints": ["web"], "middlewares": middlewares});
    let secure = |mut router: Value| {
        router["entryPoints"] = json!(["websecure"]);
        router["tls"] = json!({"options": "mtls"});
        router
    };
    let plain = |host: &str, middlewares: Value| {
        let mut router = root(host, middlewares);
        router["service"] = json!("bench");
        router
    };
    let stamp = |destination: &str, more: Value| {
        let mut headers = json!({"X-Portcullis-Destination": destination});
        if let (Some(headers), Value::Object(more)) = (headers.as_object_mut(), more) {
            headers.extend(more);
        }
        json!({"headers": {"customRequestHeaders": headers}})
    };
    let leaf = |destination: &str, gate: &str| {
        json!({"rule": format!("Header(`X-Portcullis-Destination`, `{destination}`)"), "parentRefs": [gate],
            "service": "bench"})
    };
    let gate = |root: &str, middlewares: Value| json!({"rule": "PathPrefix(`/`)", "parentRefs": [root], "middlewares": middlewares});
    let portcullis = |state: bool| {
        let mut settings = json!({"snapshot": format!("{GUEST_POLICY}/policy.snapshot"),
            "clientCertificate": "verifiedByTraefik", "apiKeyHeader": "X-Api-Key"});
        if state {
            settings["state"] = json!(GUEST_STATE);
        }
        json!({"plugin": {"portcullis": settings}})
    };
    let mut http = json!({
        "routers": {
            "bench-plain": plain("plain", json!([])),
            "bench-rate": plain("rate", json!(["bench-rate"])),
            "bench-redis": plain("redis", json!(["bench-redis"])),
            "bench-forward": plain("forward", json!(["bench-forward"])),
            "bench-closed": plain("closed", json!(["bench-closed"])),
            "bench-layers-root": root("layers", json!(["bench-layers-stamp"])),
            "bench-layers-gate": gate("bench-layers-root", json!([])),
            "bench-layers": leaf("layers", "bench-layers-gate"),
            "bench-gated-root": root("gated", json!(["bench-gated-stamp"])),
            "bench-gated-gate": gate("bench-gated-root", json!(["bench-portcullis"])),
            "bench-gated": leaf("api", "bench-gated-gate"),
            "bench-mtls-plain": secure(plain("plain", json!([]))),
            "bench-mtls-passed": secure(plain("passed", json!(["bench-certificate"]))),
            "bench-mtls-layers-root": secure(root("layers", json!(["bench-mtls-layers-stamp"]))),
            "bench-mtls-layers-gate": gate("bench-mtls-layers-root", json!(["bench-certificate"])),
            "bench-mtls-layers": leaf("layers", "bench-mtls-layers-gate"),
        },
        "middlewares": {
            "bench-certificate": {"passTLSClientCert": {"pem": true}},
            "bench-layers-stamp": stamp("layers", json!({})),
            "bench-gated-stamp": stamp("api", json!({})),
            "bench-mtls-layers-stamp": stamp("layers", json!({"X-Forwarded-Tls-Client-Cert": ""})),
            "bench-guest": {"plugin": {"nothing": {}}},
            "bench-calls": {"plugin": {"calls": {}}},
            "bench-refuses": {"plugin": {"refuses": {}}},
            "bench-closed": {"ipAllowList": {"sourceRange": ["192.0.2.1/32"]}},
            "bench-portcullis": portcullis(false),
            "bench-limits": portcullis(true),
            // High enough to let everything pass: its cost is wanted, not its effect.
            "bench-rate": {"rateLimit": {"average": 1_000_000, "burst": 1_000_000}},
            "bench-redis": {"rateLimit": {"average": 1_000_000, "burst": 1_000_000, "redis": {"endpoints": [redis]}}},
            "bench-forward": {"forwardAuth": {"address": format!("http://{}/v1/small", authorizer.address())}},
        },
        "services": {"bench": {"loadBalancer": {"servers": [{"url": backends.url("api")}]}}},
    });
    let limits = ["alone", "limited", "refused"].map(|name| (name, "bench-limits".to_owned()));
    let comparisons = ["guest", "calls", "refuses"].map(|name| (name, format!("bench-{name}")));
    for (name, guest) in limits.into_iter().chain(comparisons) {
        let [root_name, gate_name, stamp_name, leaf_name] =
            ["-root", "-gate", "-stamp", ""].map(|part| format!("bench-{name}{part}"));
        http["routers"][&root_name] = root(name, json!([stamp_name]));
        http["routers"][&gate_name] = gate(&root_name, json!([guest]));
        http["routers"][&leaf_name] = leaf(name, &gate_name);
        http["middlewares"][&stamp_name] = stamp(name, json!({}));
    }
    let certificate = json!({"X-Forwarded-Tls-Client-Cert": ""});
    http["routers"]["bench-mtls-limited-root"] = secure(root("limited", json!(["bench-mtls-limited-stamp"])));
    http["routers"]["bench-mtls-limited-gate"] =
        gate("bench-mtls-limited-root", json!(["bench-certificate", "bench-limits"]));
    http["routers"]["bench-mtls-limited"] = leaf("limited", "bench-mtls-limited-gate");
    http["middlewares"]["bench-mtls-limited-stamp"] = stamp("limited", certificate);
    Ok(Setup {
        http,
        plugins: nothing::plugins(folder)?,
        access_log: false,
        trusts_local_front: true,
        state: Some(state.to_owned()),
        sidecar: json!({"limits": {"state": state}}),
        files: vec![(PathBuf::from("policy/bench-limits.yaml"), POLICY.to_owned())],
        ..Setup::default()
    })
}
