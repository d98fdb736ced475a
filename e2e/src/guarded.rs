//! Traefik with one plain router for each of several services, each with a plugin and a snapshot of its own; no sidecar.
//!
//! Every router is on two entry points: `websecure` with Traefik's defaults, and `lenient`, where paths come as they are.

use std::collections::HashMap;
use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portcullis_authoring::cases::CaseFile;
use portcullis_authoring::compile;
use serde_json::{Value, json};

use crate::certificates::{Authority, Caller};
use crate::client::Client;
use crate::parts::Parts;
use crate::traefik::{self, GUEST_POLICY, Options, Plugin, Traefik};

/// How long a router may take to appear.
const PATIENCE: Duration = Duration::from_secs(60);

/// One service behind the gateway, at the host `<name>.localhost`.
#[derive(Debug, Clone)]
pub struct Guarded {
    /// Its name, a DNS label.
    pub name: String,
    /// What else has to match beside the host, in Traefik's rule language; empty for nothing.
    pub rule: String,
    /// The policy that the plugin has; without one there is no plugin, and no guard but the rule.
    pub policy: Option<Compiled>,
    /// A prefix that Traefik strips after the guard.
    pub strip_prefix: Option<String>,
    /// The backend.
    pub url: String,
}

/// A policy, ready for the plugin.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The service that is guarded.
    pub destination: String,
    /// The snapshot.
    pub snapshot: Vec<u8>,
}

/// One of the ways in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entry {
    /// Traefik's defaults, by HTTP/1.1.
    Default,
    /// `sanitizePath: false`, by HTTP/1.1.
    Lenient,
    /// `sanitizePath: false`, by HTTP/2.
    Http2,
}

/// The ways in by HTTP/1.1.
pub const HTTP1: [Entry; 2] = [Entry::Default, Entry::Lenient];
/// All ways in.
pub const ENTRIES: [Entry; 3] = [Entry::Default, Entry::Lenient, Entry::Http2];

/// The running gateway.
#[derive(Debug)]
pub struct Gateway {
    /// Traefik itself.
    pub traefik: Traefik,
    authority: Authority,
    /// One client for each way in and identity, since an identity costs a key.
    clients: Mutex<HashMap<(Entry, Vec<String>), Client>>,
    // Kept for its drop.
    _folder: tempfile::TempDir,
}

impl Guarded {
    /// The host that it is reached by.
    pub fn host(&self) -> String {
        format!("{}.localhost", self.name)
    }
}

impl Compiled {
    /// Compiles the policy of a policy test. What the policy core does not understand is an error here: it would deny everything,
    /// and nothing would be tested.
    pub fn new(name: &str, file: &CaseFile) -> Result<Compiled> {
        let (policy, mut problems) = file.policy(name);
        let (snapshot, more) = compile(&policy, 1, 0);
        problems.extend(more);
        ensure!(problems.is_empty(), "{name}: {problems:?}");
        let first = &file.requests.first().context("no requests")?.destination;
        ensure!(file.requests.iter().all(|case| case.destination == *first), "{name}: several destinations");
        Ok(Compiled { destination: first.clone(), snapshot })
    }
}

impl Gateway {
    /// Starts Traefik and waits for every router.
    pub async fn start(parts: &Parts, services: &[Guarded]) -> Result<Gateway> {
        let folder = tempfile::Builder::new().prefix("portcullis-").tempdir().context("making a folder")?;
        let dynamic = folder.path().join("dynamic");
        fs::create_dir_all(&dynamic)?;
        let snapshots = folder.path().join("snapshots");
        fs::create_dir_all(&snapshots)?;
        for service in services {
            if let Some(policy) = &service.policy {
                fs::write(snapshots.join(snapshot(service)), &policy.snapshot)?;
            }
        }
        let authority = Authority::new("guarded")?;
        let ca = folder.path().join("ca.pem");
        fs::write(&ca, authority.pem())?;
        let hosts: Vec<String> = services.iter().map(Guarded::host).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let server = authority.server(&hosts)?.write(folder.path(), "gateway")?;
        let configuration = json!({
            "http": http(services),
            "tls": {
                "stores": {"default": {"defaultCertificate": {"certFile": server, "keyFile": server}}},
                "options": {"mtls": {"clientAuth": {"caFiles": [ca], "clientAuthType": "VerifyClientCertIfGiven"}}},
            },
        });
        fs::write(dynamic.join("own.yml"), serde_json::to_string(&configuration)?)?;
        let mut traefik = Traefik::start(Options {
            binary: parts.traefik.clone(),
            folder: folder.path().join("traefik"),
            dynamic,
            plugins: vec![Plugin::portcullis(parts, Some(snapshots))],
            access_log: false,
            trusts_local_front: false,
            environment: Vec::new(),
        })
        .await?;
        traefik.router("own-api@file", PATIENCE).await?;
        for service in services {
            traefik.router(&format!("{}@file", service.name), PATIENCE).await?;
        }
        Ok(Gateway { traefik, authority, clients: Mutex::default(), _folder: folder })
    }

    /// A client with the certificate that holds these URIs; none: without a certificate.
    ///
    /// # Panics
    /// When another thread has panicked in here.
    pub fn client(&self, entry: Entry, uris: &[String]) -> Result<Client> {
        let mut clients = self.clients.lock().unwrap();
        let key = (entry, uris.to_vec());
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let address = match entry {
            Entry::Default => self.traefik.secure(),
            Entry::Lenient | Entry::Http2 => self.traefik.lenient(),
        };
        let identity = match uris {
            [] => None,
            uris => Some(self.authority.client(&Caller::with_uris(uris.iter().cloned()))?),
        };
        let client = Client::tls(address, &self.authority, identity.as_ref())?;
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// The file with a service's policy.
fn snapshot(service: &Guarded) -> String {
    format!("{}.snapshot", service.name)
}

fn http(services: &[Guarded]) -> Value {
    let mut http = json!({
        "routers": {"own-api": traefik::api_router()},
        "middlewares": {"certificate": {"passTLSClientCert": {"pem": true}}},
    });
    for service in services {
        let name = service.name.as_str();
        let mut middlewares = vec!["certificate".to_owned()];
        if let Some(policy) = &service.policy {
            middlewares.push(format!("guard-{name}"));
            http["middlewares"][format!("guard-{name}")] = json!({"plugin": {"portcullis": {
                "destination": policy.destination, "snapshot": format!("{GUEST_POLICY}/{}", snapshot(service)),
                "clientCertificate": "verifiedByTraefik", "logDenied": "off",
            }}});
        }
        if let Some(prefix) = &service.strip_prefix {
            middlewares.push(format!("strip-{name}"));
            http["middlewares"][format!("strip-{name}")] = json!({"stripPrefix": {"prefixes": [prefix]}});
        }
        let mut rule = format!("Host(`{}`)", service.host());
        if !service.rule.is_empty() {
            rule = format!("{rule} && {}", service.rule);
        }
        http["routers"][name] = json!({
            "rule": rule, "entryPoints": ["websecure", "lenient"], "service": name, "middlewares": middlewares,
            "tls": {"options": "mtls"},
        });
        http["services"][name] = json!({"loadBalancer": {"servers": [{"url": service.url}]}});
    }
    http
}
