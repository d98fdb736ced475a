//! The routes that are compared.

use anyhow::Result;
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::nothing;
use crate::world::{Backends, Setup};

/// A route.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What it is called in the table.
    pub name: &'static str,
    /// Its host.
    pub host: &'static str,
    /// What is asked for.
    pub path: &'static str,
    /// The only good answer.
    pub status: u16,
}

const fn row(name: &'static str, host: &'static str) -> Row {
    Row { name, host, path: "/v1/small", status: 200 }
}

/// The rows; the first is what all others are compared with.
pub const ROWS: [Row; 7] = [
    row("plain router", "plain.localhost"),
    row("gate's layers alone", "layers.localhost"),
    row("gate + do-nothing guest", "guest.localhost"),
    row("gate + Portcullis, L7 policy, certificate", "api.localhost"),
    Row { path: "/v1/admin/small", status: 403, ..row("gate + Portcullis, denied", "api.localhost") },
    row("built-in rateLimit", "rate.localhost"),
    row("built-in forwardAuth (and the authorizer)", "forward.localhost"),
];

/// Places in [`ROWS`] that the budget speaks of.
pub(super) const PLAIN: usize = 0;
pub(super) const GUARDED: usize = 3;

/// The world with all these routes. The authorizer is a sample service that answers everything with 200.
pub fn setup(backends: &Backends, authorizer: &Backend, folder: &std::path::Path) -> Result<Setup> {
    let root = |host: &str, middlewares: Value| {
        json!({"rule": format!("Host(`{host}.localhost`)"), "entryPoints": ["websecure"], "tls": {"options": "mtls"},
            "middlewares": middlewares})
    };
    let plain = |host: &str, middlewares: Value| {
        let mut router = root(host, middlewares);
        router["service"] = json!("bench");
        router
    };
    let stamp = |destination: &str| {
        json!({"headers": {"customRequestHeaders": {
            "X-Portcullis-Destination": destination, "X-Forwarded-Tls-Client-Cert": ""}}})
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
            "bench-layers-gate": gate("bench-layers-root", json!(["bench-certificate"])),
            "bench-layers": leaf("layers", "bench-layers-gate"),
            "bench-guest-root": root("guest", json!(["bench-guest-stamp"])),
            "bench-guest-gate": gate("bench-guest-root", json!(["bench-certificate", "bench-nothing"])),
            "bench-guest": leaf("guest", "bench-guest-gate"),
        },
        "middlewares": {
            "bench-certificate": {"passTLSClientCert": {"pem": true}},
            "bench-layers-stamp": stamp("layers"),
            "bench-guest-stamp": stamp("guest"),
            "bench-nothing": {"plugin": {"nothing": {}}},
            // High enough to let everything pass: its cost is wanted, not its effect.
            "bench-rate": {"rateLimit": {"average": 1_000_000, "burst": 1_000_000}},
            "bench-forward": {"forwardAuth": {"address": format!("http://{}/v1/small", authorizer.address())}},
        },
        "services": {"bench": {"loadBalancer": {"servers": [{"url": backends.url("api")}]}}},
    });
    Ok(Setup { http, plugins: vec![nothing::plugin(folder)?], access_log: false, ..Setup::default() })
}
