//! Traefik with one service behind several middlewares, each at a host of its own. They share one snapshot, which the
//! test writes in the sidecar's place, and one state folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portcullis_authoring::{compile, read};
use portcullis_policy::{Action, PolicySettings};
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::certificates::{Authority, Identity, TRUST_DOMAIN};
use crate::client::Client;
use crate::parts::Parts;
use crate::traefik::{self, GUEST_POLICY, GUEST_STATE, Options, Plugin, Traefik};

/// How long a router may take to appear.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than the middlewares wait between two looks at the snapshot.
pub const NOTICED: Duration = Duration::from_millis(400);
/// The service behind all of them, which is also the destination.
pub const SERVICE: &str = "api";
/// The snapshot's name.
const SNAPSHOT: &str = "policy.snapshot";

/// What is to be started.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// Traefik's `clientAuthType`. The authority is its CA where it verifies.
    pub client_authentication: &'a str,
    /// The middlewares: the first label of the host, and the settings beside destination, snapshot and state.
    pub middlewares: &'a [(&'a str, Value)],
    /// The first policy.
    pub policy: &'a [Value],
}

/// The running gateway.
#[derive(Debug)]
pub struct Solo {
    /// Traefik itself.
    pub traefik: Traefik,
    /// Who signed the gateway's certificate.
    pub authority: Authority,
    generation: u64,
    folder: tempfile::TempDir,
    // Kept for its drop.
    _backend: Backend,
}

impl Solo {
    /// Starts Traefik and waits for every router.
    pub async fn start(parts: &Parts, setup: Setup<'_>) -> Result<Solo> {
        let folder = tempfile::Builder::new().prefix("portcullis-").tempdir().context("making a folder")?;
        let [dynamic, snapshots, state] = ["dynamic", "snapshots", "state"].map(|name| folder.path().join(name));
        for folder in [&dynamic, &snapshots, &state] {
            fs::create_dir_all(folder)?;
        }
        fs::write(snapshots.join(SNAPSHOT), snapshot(setup.policy, 1)?)?;
        let authority = Authority::new("mesh")?;
        let backend = Backend::start(SERVICE, "api-1").await?;
        let configuration = json!({
            "http": http(setup.middlewares, &backend),
            "tls": tls(&authority, setup, folder.path())?,
        });
        fs::write(dynamic.join("own.yml"), configuration.to_string())?;
        let mut traefik = Traefik::start(Options {
            binary: parts.traefik.clone(),
            folder: folder.path().join("traefik"),
            dynamic,
            plugins: vec![Plugin::portcullis(parts, Some(snapshots)).with_state(state)],
            access_log: true,
            trusts_local_front: false,
            environment: Vec::new(),
        })
        .await?;
        for (name, _) in setup.middlewares {
            traefik.router(&format!("{name}@file"), PATIENCE).await?;
        }
        Ok(Solo { traefik, authority, generation: 1, folder, _backend: backend })
    }

    /// Puts another policy in the place of the one before, as the sidecar does. It is in force after [`NOTICED`].
    pub fn publish(&mut self, policy: &[Value]) -> Result<()> {
        self.generation += 1;
        let beside = self.folder.path().join("snapshots/new");
        fs::write(&beside, snapshot(policy, self.generation)?)?;
        fs::rename(beside, self.folder.path().join("snapshots").join(SNAPSHOT)).context("replacing the snapshot")
    }

    /// The file in which the middlewares share what they verified.
    pub fn verified(&self) -> PathBuf {
        self.folder.path().join("state/verified")
    }

    /// A client that shows this certificate.
    pub fn client(&self, identity: Option<&Identity>) -> Result<Client> {
        Client::tls(self.traefik.secure(), &self.authority, identity)
    }
}

/// The host of a middleware.
pub fn host(name: &str) -> String {
    format!("{name}.localhost")
}

/// A policy that denies by default. What is not understood is an error here: it would deny everything, and nothing would
/// be tested.
fn snapshot(policy: &[Value], generation: u64) -> Result<Vec<u8>> {
    let settings =
        PolicySettings { default: Action::Deny, trust_domains: vec![TRUST_DOMAIN.to_owned()], ..Default::default() };
    let documents: Vec<_> = policy.iter().map(|entry| ("test".to_owned(), entry.clone())).collect();
    let (policy, mut problems) = read::entries(&documents, settings);
    let (bytes, more) = compile(&policy, generation, 0);
    problems.extend(more);
    ensure!(problems.is_empty(), "{problems:?}");
    Ok(bytes)
}

fn http(middlewares: &[(&str, Value)], backend: &Backend) -> Value {
    let mut http = json!({
        "routers": {"own-api": traefik::api_router()},
        "middlewares": {"certificate": {"passTLSClientCert": {"pem": true}}},
        "services": {SERVICE: {"loadBalancer": {"servers": [{"url": format!("http://{}", backend.address())}]}}},
    });
    for (name, settings) in middlewares {
        let mut settings = settings.clone();
        settings["destination"] = json!(SERVICE);
        settings["snapshot"] = json!(format!("{GUEST_POLICY}/{SNAPSHOT}"));
        settings["state"] = json!(GUEST_STATE);
        let guard = format!("guard-{name}");
        http["routers"][*name] = json!({
            "rule": format!("Host(`{}`)", host(name)), "entryPoints": ["websecure"], "service": SERVICE,
            "tls": {"options": "clients"}, "middlewares": ["certificate", guard],
        });
        http["middlewares"][guard] = json!({"plugin": {"portcullis": settings}});
    }
    http
}

fn tls(authority: &Authority, setup: Setup<'_>, folder: &Path) -> Result<Value> {
    let hosts: Vec<String> = setup.middlewares.iter().map(|(name, _)| host(name)).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let server = authority.server(&hosts)?.write(folder, "gateway")?;
    let mut clients = json!({"clientAuthType": setup.client_authentication});
    if setup.client_authentication.contains("Verify") {
        let ca = folder.join("ca.pem");
        fs::write(&ca, authority.pem())?;
        clients["caFiles"] = json!([ca]);
    }
    Ok(json!({
        "stores": {"default": {"defaultCertificate": {"certFile": server, "keyFile": server}}},
        "options": {"clients": {"clientAuth": clients}},
    }))
}
