//! A gateway to be attacked: Traefik with a plain entry point behind a front that has ended TLS, a service for each host,
//! and whatever middlewares are to be tried.
//!
//! The front hands the caller's certificate on in a header, so that one connection can be any caller.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use portcullis_authoring::{compile, read};
use portcullis_policy::{Action, PolicySettings};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::backend::Backend;
use crate::certificates::{Authority, Caller, TRUST_DOMAIN};
use crate::client::Client;
use crate::parts::Parts;
use crate::sidecar::{Layout, Sidecar};
use crate::traefik::{self, GUEST_POLICY, GUEST_STATE, Options, Plugin, Traefik};

/// The header that names a tenant.
pub const TENANT: &str = "X-Tenant";
/// The header in which the front hands the caller's certificate on.
pub const CERTIFICATE: &str = "X-Forwarded-Tls-Client-Cert";
/// How long a router may take to appear.
const PATIENCE: Duration = Duration::from_secs(30);
/// A tmpfs, where there is one: what the state folder is meant to be on.
const MEMORY: &str = "/dev/shm";

/// What is to be started.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The policy; none: the plugin is not loaded at all.
    pub policy: Vec<Value>,
    /// The first label of each host, and its middlewares.
    pub hosts: Vec<(String, Vec<Value>)>,
    /// Whether the sidecar runs, and its section `limits` beside `state`; without, the snapshot is written once.
    pub sidecar: Option<Value>,
    /// The state folder; none: a new one.
    pub state: Option<PathBuf>,
    /// Variables for Traefik.
    pub environment: Vec<(&'static str, String)>,
}

/// The running gateway.
#[derive(Debug)]
pub struct Stand {
    /// Traefik itself.
    pub traefik: Traefik,
    /// The sidecar, if it was asked for.
    pub sidecar: Option<Sidecar>,
    /// The service behind every host.
    pub backend: Backend,
    authority: Authority,
    state: PathBuf,
    // Kept for their drop.
    _folder: tempfile::TempDir,
    _memory: Option<tempfile::TempDir>,
}

impl Stand {
    /// Starts everything and waits for every router.
    pub async fn start(parts: &Parts, setup: Setup) -> Result<Stand> {
        let folder = tempfile::Builder::new().prefix("portcullis-").tempdir().context("making a folder")?;
        let layout = Layout::new(folder.path())?;
        let (state, memory) = match setup.state {
            Some(state) => (state, None),
            None => {
                let memory = in_memory()?;
                (memory.path().to_owned(), Some(memory))
            }
        };
        let guarded = !setup.policy.is_empty();
        let sidecar = match setup.sidecar {
            Some(limits) if guarded => Some(start_sidecar(parts, &layout, &setup.policy, limits, &state).await?),
            _ => {
                fs::write(layout.snapshot(), snapshot(&setup.policy)?)?;
                None
            }
        };
        let backend = Backend::start("api", "api-1").await?;
        // The sidecar's own folder holds its gate, which nothing here uses.
        let dynamic = folder.path().join("dynamic");
        fs::create_dir_all(&dynamic)?;
        let configuration = json!({"http": http(&setup.hosts, &backend)});
        fs::write(dynamic.join("own.yml"), configuration.to_string())?;
        let plugin = Plugin::portcullis(parts, Some(layout.snapshots())).with_state(state.clone());
        let mut traefik = Traefik::start(Options {
            binary: parts.traefik.clone(),
            folder: folder.path().join("traefik"),
            dynamic,
            plugins: if guarded { vec![plugin] } else { Vec::new() },
            access_log: false,
            trusts_local_front: true,
            environment: setup.environment,
        })
        .await?;
        for (name, _) in &setup.hosts {
            traefik.router(&format!("{name}@file"), PATIENCE).await?;
        }
        Ok(Stand {
            traefik,
            sidecar,
            backend,
            authority: Authority::new("mesh")?,
            state,
            _folder: folder,
            _memory: memory,
        })
    }

    /// Kills Traefik and starts it anew at the same addresses.
    pub async fn crash(&mut self) -> Result<()> {
        self.traefik.crash().await
    }

    /// The state folder.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// A client of the plain entry point.
    pub fn client(&self) -> Client {
        Client::plain(self.traefik.plain())
    }

    /// The headers of a caller, as the front hands them on.
    pub fn caller(&self, name: &str) -> Result<Vec<(String, String)>> {
        Ok(vec![(CERTIFICATE.to_owned(), self.authority.client(&Caller::named(name))?.header())])
    }
}

/// The host of a service.
pub fn host(name: &str) -> String {
    format!("{name}.localhost")
}

/// Our plugin as a middleware, for this destination.
pub fn guard(destination: &str) -> Value {
    guard_with(destination, json!({}))
}

/// The same with further settings.
pub fn guard_with(destination: &str, mut settings: Value) -> Value {
    settings["destination"] = json!(destination);
    settings["snapshot"] = json!(format!("{GUEST_POLICY}/policy.snapshot"));
    settings["state"] = json!(GUEST_STATE);
    settings["clientCertificate"] = json!("verifiedByTraefik");
    settings["logDenied"] = json!("off");
    json!({"plugin": {"portcullis": settings}})
}

/// Every known caller may call the service.
pub fn everybody(destination: &str) -> Value {
    json!({"Kind": "service-intentions", "Name": destination, "Sources": [{"Name": "*", "Action": "allow"}]})
}

/// A folder on a tmpfs, where there is one.
pub fn in_memory() -> Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("portcullis-state-");
    builder.tempdir_in(MEMORY).or_else(|_| builder.tempdir()).context("making the state folder")
}

async fn start_sidecar(
    parts: &Parts,
    layout: &Layout,
    policy: &[Value],
    mut limits: Value,
    state: &Path,
) -> Result<Sidecar> {
    for (index, document) in policy.iter().enumerate() {
        fs::write(layout.policy().join(format!("{index:02}.json")), document.to_string())?;
    }
    limits["state"] = json!(state);
    layout.write_configuration_with(&json!({"limits": limits}))?;
    let sidecar = Sidecar::start(&parts.sidecar, layout).await?;
    let deadline = Instant::now() + PATIENCE;
    while !state.join("limits/clock").is_file() {
        if Instant::now() > deadline {
            bail!("the sidecar's clock does not beat:\n{}", sidecar.log()?);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(sidecar)
}

/// A policy that denies by default. What is not understood is an error: nothing would be tested.
fn snapshot(policy: &[Value]) -> Result<Vec<u8>> {
    let settings =
        PolicySettings { default: Action::Deny, trust_domains: vec![TRUST_DOMAIN.to_owned()], ..Default::default() };
    let documents: Vec<_> = policy.iter().map(|entry| ("test".to_owned(), entry.clone())).collect();
    let (policy, mut problems) = read::entries(&documents, settings);
    let (bytes, more) = compile(&policy, 1, 0);
    problems.extend(more);
    ensure!(problems.is_empty(), "{problems:?}");
    Ok(bytes)
}

fn http(hosts: &[(String, Vec<Value>)], backend: &Backend) -> Value {
    let mut http = json!({
        "routers": {"own-api": traefik::api_router()},
        "services": {"api": {"loadBalancer": {"servers": [{"url": format!("http://{}", backend.address())}]}}},
    });
    for (name, middlewares) in hosts {
        let mut names = Vec::new();
        for (index, middleware) in middlewares.iter().enumerate() {
            let middleware_name = format!("{name}-{index}");
            http["middlewares"][&middleware_name] = middleware.clone();
            names.push(middleware_name);
        }
        http["routers"][name] = json!({
            "rule": format!("Host(`{}`)", host(name)), "entryPoints": ["web"], "service": "api", "middlewares": names,
        });
    }
    http
}
