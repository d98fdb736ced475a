//! The routes that are compared, by the two ways in which a client's certificate can come in.

use anyhow::Result;
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::nothing;
use crate::traefik::GUEST_POLICY;
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

/// The rows. The first of each way is what the others of that way are compared with.
pub const ROWS: [Row; 12] = [
    front("plain router", "plain.localhost"),
    front("gate's layers alone", "layers.localhost"),
    front("gate + do-nothing guest", "guest.localhost"),
    front("gate + Portcullis, L7 policy, certificate", "gated.localhost"),
    DENIED,
    front("built-in rateLimit", "rate.localhost"),
    front("built-in forwardAuth (and the authorizer)", "forward.localhost"),
    mtls("mTLS: plain router", "plain.localhost"),
    mtls("mTLS: plain router + passTLSClientCert", "passed.localhost"),
    mtls("mTLS: gate's layers + passTLSClientCert", "layers.localhost"),
    mtls("mTLS: gate + Portcullis, L7 policy, certificate", "api.localhost"),
    Row { way: Way::Mtls, name: "mTLS: gate + Portcullis, denied", host: "api.localhost", ..DENIED },
];

/// Places in [`ROWS`] that the budgets speak of.
pub(super) const FRONT_PLAIN: usize = 0;
pub(super) const FRONT_GUARDED: usize = 3;
pub(super) const MTLS_PLAIN: usize = 7;
pub(super) const MTLS_PASSED: usize = 8;
pub(super) const MTLS_GUARDED: usize = 10;

/// What a row is compared with.
pub(super) fn baseline(row: &Row) -> usize {
    match row.way {
        Way::Front => FRONT_PLAIN,
        Way::Mtls => MTLS_PLAIN,
    }
}

/// The world with all these routes. The authorizer is a sample service that answers everything with 200.
pub fn setup(backends: &Backends, authorizer: &Backend, folder: &std::path::Path) -> Result<Setup> {
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
    let http = json!({
        "routers": {
            "bench-plain": plain("plain", json!([])),
            "bench-rate": plain("rate", json!(["bench-rate"])),
            "bench-forward": plain("forward", json!(["bench-forward"])),
            "bench-layers-root": root("layers", json!(["bench-layers-stamp"])),
            "bench-layers-gate": gate("bench-layers-root", json!([])),
            "bench-layers": leaf("layers", "bench-layers-gate"),
            "bench-guest-root": root("guest", json!(["bench-guest-stamp"])),
            "bench-guest-gate": gate("bench-guest-root", json!(["bench-nothing"])),
            "bench-guest": leaf("guest", "bench-guest-gate"),
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
            "bench-guest-stamp": stamp("guest", json!({})),
            "bench-gated-stamp": stamp("api", json!({})),
            "bench-mtls-layers-stamp": stamp("layers", json!({"X-Forwarded-Tls-Client-Cert": ""})),
            "bench-nothing": {"plugin": {"nothing": {}}},
            "bench-portcullis": {"plugin": {"portcullis": {
                "snapshot": format!("{GUEST_POLICY}/policy.snapshot"), "clientCertificate": "verifiedByTraefik",
                "apiKeyHeader": "X-Api-Key"}}},
            // High enough to let everything pass: its cost is wanted, not its effect.
            "bench-rate": {"rateLimit": {"average": 1_000_000, "burst": 1_000_000}},
            "bench-forward": {"forwardAuth": {"address": format!("http://{}/v1/small", authorizer.address())}},
        },
        "services": {"bench": {"loadBalancer": {"servers": [{"url": backends.url("api")}]}}},
    });
    let plugins = vec![nothing::plugin(folder)?];
    Ok(Setup { http, plugins, access_log: false, trusts_local_front: true, ..Setup::default() })
}
