//! Traefik as its API shows it, and what is wrong with it whatever the gate is.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Finding;

/// The first version with routers behind routers.
const LEAST: (u64, u64) = (3, 6);

/// What the API says.
#[derive(Debug, Clone, Default)]
pub struct Traefik {
    /// `/api/version`.
    pub version: String,
    /// `/api/entrypoints`.
    pub entry_points: Vec<EntryPoint>,
    /// `/api/rawdata`.
    pub raw: Raw,
}

/// An entry point.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EntryPoint {
    /// Its name.
    pub name: String,
    /// `forwardedHeaders`, as it is.
    pub forwarded_headers: Value,
}

/// Everything that Traefik routes, by names with their providers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Raw {
    /// HTTP routers.
    pub routers: BTreeMap<String, Router>,
    /// HTTP middlewares, as they are.
    pub middlewares: BTreeMap<String, Value>,
    /// HTTP services, as they are.
    pub services: BTreeMap<String, Value>,
}

/// A router, as far as it matters here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Router {
    /// Names with providers.
    pub middlewares: Vec<String>,
    /// The service's name, with its provider or of the router's own; empty for one that has routers behind it.
    pub service: String,
    /// Routers that it is behind.
    pub parent_refs: Vec<String>,
    /// `tls`, if it has TLS.
    pub tls: Option<Value>,
    /// Why it is not in use.
    pub error: Vec<String>,
    /// `enabled`, `disabled` or `warning`.
    pub status: String,
    /// Entry points that it is at.
    pub using: Vec<String>,
}

/// `clientAuthType` by the options' name with its provider; absent types are `NoClientCert`.
pub type TlsOptions = BTreeMap<String, String>;

pub(super) fn check(traefik: &Traefik, findings: &mut Vec<Finding>) {
    let at = format!("Traefik {}", traefik.version);
    match version(&traefik.version) {
        Some(version) if version < LEAST => findings.push(Finding::error(
            "old-traefik",
            at,
            "it has no routers behind routers, so the gate's are not understood and nothing is guarded",
            "run Traefik 3.6 or newer",
        )),
        Some(_) => {}
        None => findings.push(Finding::warning(
            "old-traefik",
            at,
            "this is no version that can be compared",
            "make sure that it is 3.6 or newer",
        )),
    }
    for entry_point in &traefik.entry_points {
        let at = format!("entry point {}", entry_point.name);
        let headers = &entry_point.forwarded_headers;
        let trusted = headers["trustedIPs"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let trusts_all = trusted.into_iter().any(|network| network.ends_with("/0"));
        if headers["insecure"] == true || trusts_all {
            findings.push(Finding::error(
                "forwarded-headers",
                at,
                "it believes every caller's X-Forwarded headers: addresses in the log, in limits and towards services are the caller's to choose",
                "set forwardedHeaders.trustedIPs to the load balancers in front, or nothing",
            ));
        }
    }
}

/// Major and minor.
fn version(text: &str) -> Option<(u64, u64)> {
    let mut parts = text.trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
