//! Whether every way to a guarded service leads through the plugin, and whether the plugin is given what it needs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Expected, Finding, Raw, Router, TlsOptions, Traefik};
use crate::config::ClientCertificate;

/// The header by which root routers tell the plugin the service.
const DESTINATION_HEADER: &str = "X-Portcullis-Destination";
/// Depth to which routers behind routers, and chains of middlewares, are followed.
const DEPTH: usize = 8;
/// Options that are taken when a router names none.
const DEFAULT_OPTIONS: &str = "default";

/// The routers with what is said of them.
struct Ways<'a> {
    raw: &'a Raw,
    plugin: &'a str,
}

pub(super) fn check(expected: &Expected, traefik: &Traefik, options: &TlsOptions, findings: &mut Vec<Finding>) {
    let ways = Ways { raw: &traefik.raw, plugin: &expected.plugin };
    let guards: Vec<(&str, &Router)> = ways.routers().filter(|(name, _)| ways.plugin_at(name).is_some()).collect();
    if guards.is_empty() && expected.has_services {
        findings.push(Finding::error(
            "no-gate",
            "Traefik's routers",
            format!("none of them uses the plugin {:?}, so nothing is guarded, or nothing is routed", expected.plugin),
            "point Traefik's file provider (watch: true) or its Consul provider at what the sidecar writes, and load the plugin",
        ));
    }
    ways.faults(&guards, findings);
    ways.around(findings);
    for (name, router) in guards {
        ways.guard(name, router, findings);
        ways.tls(name, router, expected, options, findings);
    }
}

impl<'a> Ways<'a> {
    fn routers(&self) -> impl Iterator<Item = (&'a str, &'a Router)> + use<'a> {
        self.raw.routers.iter().map(|(name, router)| (name.as_str(), router))
    }

    /// The middlewares of a router, chains resolved.
    fn middlewares(&self, router: &str) -> Vec<&'a Value> {
        let mut found = Vec::new();
        if let Some(it) = self.raw.routers.get(router) {
            self.expand(&it.middlewares, router, DEPTH, &mut found);
        }
        found
    }

    fn expand(&self, names: &[String], of: &str, depth: usize, found: &mut Vec<&'a Value>) {
        for name in names {
            let name = qualified(name, of);
            let Some(middleware) = self.raw.middlewares.get(&name) else { continue };
            match middleware["chain"]["middlewares"].as_array() {
                Some(chain) if depth > 0 => {
                    let names: Vec<String> = chain.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                    self.expand(&names, &name, depth - 1, found);
                }
                _ => found.push(middleware),
            }
        }
    }

    /// Where in a router's middlewares the plugin is, and its settings.
    fn plugin_at(&self, router: &str) -> Option<(usize, &'a Value)> {
        let all = self.middlewares(router);
        let at = all.iter().position(|middleware| middleware["plugin"].get(self.plugin).is_some())?;
        Some((at, &all.get(at)?["plugin"][self.plugin]))
    }

    /// Whether every way to a router leads through the plugin.
    fn is_guarded(&self, router: &str, depth: usize) -> bool {
        if self.plugin_at(router).is_some() {
            return true;
        }
        let Some(parents) = self.raw.routers.get(router).map(|it| &it.parent_refs) else { return false };
        depth > 0 && !parents.is_empty() && parents.iter().all(|it| self.is_guarded(&qualified(it, router), depth - 1))
    }

    /// The addresses of a router's service.
    fn servers(&self, name: &str, router: &Router) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        if !router.service.is_empty() {
            self.collect(&qualified(&router.service, name), DEPTH, &mut found);
        }
        found
    }

    fn collect(&self, service: &str, depth: usize, found: &mut BTreeSet<&'a str>) {
        let Some(it) = self.raw.services.get(service) else { return };
        let servers = it["loadBalancer"]["servers"].as_array().into_iter().flatten();
        found.extend(servers.filter_map(|server| server["url"].as_str()).map(|url| url.trim_end_matches('/')));
        if depth == 0 {
            return;
        }
        let weighted = it["weighted"]["services"].as_array().into_iter().flatten().filter_map(|it| it["name"].as_str());
        let others = [&it["mirroring"]["service"], &it["failover"]["service"], &it["failover"]["fallback"]];
        for inner in weighted.chain(others.into_iter().filter_map(Value::as_str)) {
            self.collect(&qualified(inner, service), depth - 1, found);
        }
    }

    /// What of the gate Traefik does not use. One cause is one finding: without its plugin no router of the gate is in use, and without
    /// the gate none of its roots.
    fn faults(&self, guards: &[(&str, &Router)], findings: &mut Vec<Finding>) {
        let hint = "load the plugin in the static configuration (experimental.plugins), with mounts that exist; see Traefik's log";
        let before = findings.len();
        for (name, middleware) in &self.raw.middlewares {
            if middleware["plugin"].get(self.plugin).is_some() && middleware["status"] == "disabled" {
                let errors = middleware["error"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let text = format!("Traefik cannot make it: {}", errors.collect::<Vec<_>>().join("; "));
                findings.push(Finding::error("plugin", format!("middleware {name}"), text, hint));
            }
        }
        if findings.len() > before {
            return;
        }
        let is_faulty = guards.iter().any(|(_, router)| !router.error.is_empty());
        let roots = guards.iter().flat_map(|(name, router)| router.parent_refs.iter().map(|it| qualified(it, name)));
        let roots: BTreeSet<String> = roots.collect();
        for (name, router) in self.routers().filter(|(_, router)| !router.error.is_empty()) {
            if !self.is_guarded(name, DEPTH) && (is_faulty || !roots.contains(name)) {
                continue;
            }
            let text = router.error.join("; ");
            let (check, hint) = if text.contains("plugin") {
                ("plugin", hint)
            } else {
                ("router", "see Traefik's log, and what the error names")
            };
            let what = format!("Traefik does not use it: {text}");
            findings.push(Finding::error(check, format!("router {name}"), what, hint));
        }
    }

    /// Routers that lead to a guarded service past the plugin.
    fn around(&self, findings: &mut Vec<Finding>) {
        let mut guarded: BTreeMap<&str, &str> = BTreeMap::new();
        let mut open = Vec::new();
        for (name, router) in self.routers() {
            let servers = self.servers(name, router);
            if self.is_guarded(name, DEPTH) {
                guarded.extend(servers.into_iter().map(|url| (url, name)));
            } else if router.status != "disabled" {
                open.push((name, servers));
            }
        }
        for (name, servers) in open {
            let Some((url, by)) = servers.iter().find_map(|url| Some((url, guarded.get(url)?))) else { continue };
            findings.push(Finding::error(
                "unguarded-router",
                format!("router {name}"),
                format!("it leads to {url}, which {by} guards, and not through the plugin: whoever finds it needs no identity"),
                "remove the router; of Consul's catalog: turn defaultRule off (`{{ \"\" }}`) and take traefik.* tags away, or set exposedByDefault: false",
            ));
        }
    }

    /// What the plugin needs of its router.
    fn guard(&self, name: &str, router: &Router, findings: &mut Vec<Finding>) {
        let Some((at, settings)) = self.plugin_at(name) else { return };
        let mode = settings["clientCertificate"].as_str().unwrap_or("off");
        let before = self.middlewares(name).into_iter().take(at);
        let passes = before.into_iter().any(|it| {
            matches!(&it["passTLSClientCert"]["pem"], Value::Bool(true)) || it["passTLSClientCert"]["pem"] == "true"
        });
        if mode != "off" && !passes {
            findings.push(Finding::error(
                "client-certificate",
                format!("router {name}"),
                "client certificates are an identity, but no passTLSClientCert with pem: true is before the plugin: every certificate is lost, or a caller's own header is believed",
                "put a passTLSClientCert middleware with pem: true in front of the plugin, or leave the gate to the sidecar",
            ));
        }
        if settings["destination"].as_str().is_some_and(|it| !it.is_empty()) {
            return;
        }
        let header = settings["destinationHeader"].as_str().unwrap_or(DESTINATION_HEADER);
        let roots: Vec<String> = router.parent_refs.iter().map(|it| qualified(it, name)).collect();
        let unstamped = roots.iter().filter(|root| !self.stamps(root, header)).cloned();
        let unstamped: Vec<String> = if roots.is_empty() { vec![name.to_owned()] } else { unstamped.collect() };
        for root in unstamped {
            findings.push(Finding::error(
                "destination",
                format!("router {root}"),
                format!("it does not set {header}, so callers choose for which service they are judged"),
                "set the header by customRequestHeaders at this router, or give the plugin a destination",
            ));
        }
    }

    fn stamps(&self, router: &str, header: &str) -> bool {
        self.middlewares(router).into_iter().any(|middleware| {
            let headers = middleware["headers"]["customRequestHeaders"].as_object();
            headers.is_some_and(|it| it.iter().any(|(name, value)| name.eq_ignore_ascii_case(header) && value != ""))
        })
    }

    /// The TLS options of the routers by which requests come to a guard.
    fn tls(&self, name: &str, router: &Router, expected: &Expected, options: &TlsOptions, findings: &mut Vec<Finding>) {
        let Some((_, settings)) = self.plugin_at(name) else { return };
        let mode = match settings["clientCertificate"].as_str() {
            Some("verifiedByTraefik") => ClientCertificate::VerifiedByTraefik,
            Some("verify") => ClientCertificate::Verify,
            Some(_) => ClientCertificate::Off,
            None => expected.client_certificate,
        };
        if mode == ClientCertificate::Off {
            return;
        }
        let parents = router.parent_refs.iter().filter_map(|it| self.raw.routers.get_key_value(&qualified(it, name)));
        let entries: Vec<(&str, &Router)> = parents
            .map(|(name, router)| (name.as_str(), router))
            .chain(router.parent_refs.is_empty().then_some((name, router)))
            .collect();
        let mut used: BTreeMap<String, &str> = BTreeMap::new();
        for (name, router) in entries {
            if let Some(tls) = &router.tls {
                let written = tls["options"].as_str().filter(|it| !it.is_empty()).unwrap_or(DEFAULT_OPTIONS);
                let options = if written == DEFAULT_OPTIONS { written.to_owned() } else { qualified(written, name) };
                used.entry(options).or_insert(name);
            }
        }
        for (name, by) in used {
            let at = format!("TLS options {name} (router {by})");
            let verifies = |kind: &str| ["VerifyClientCertIfGiven", "RequireAndVerifyClientCert"].contains(&kind);
            match (options.get(&name).map(String::as_str), mode) {
                (None, _) => findings.push(Finding::warning(
                    "tls-options",
                    at,
                    "Traefik's API does not show them, and they are not in the YAML files beside the gate's",
                    "make sure that clientAuth.clientAuthType fits gate.clientCertificate, and that caFiles are the mesh's roots",
                )),
                (Some(kind), ClientCertificate::VerifiedByTraefik) if !verifies(kind) => findings.push(Finding::error(
                    "tls-options",
                    at,
                    format!("clientAuthType is {kind}, which verifies nothing: whoever makes a certificate is whom it names"),
                    "set clientAuthType to VerifyClientCertIfGiven or RequireAndVerifyClientCert, with caFiles",
                )),
                (Some("NoClientCert"), ClientCertificate::Verify) => findings.push(Finding::error(
                    "tls-options",
                    at,
                    "clientAuthType is NoClientCert: nobody is asked for a certificate, so nobody has an identity by one",
                    "set clientAuthType to RequestClientCert",
                )),
                _ => {}
            }
        }
    }
}

/// A name with its provider: that of whoever names it, if it names none.
fn qualified(name: &str, of: &str) -> String {
    match (name.contains('@'), of.rsplit_once('@')) {
        (false, Some((_, provider))) => format!("{name}@{provider}"),
        _ => name.to_owned(),
    }
}
