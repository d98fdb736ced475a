//! The whole topology that Portcullis was asked for: two Kubernetes clusters, a machine with a service of its own, one Consul
//! with ACLs and TLS, and Traefik outside of all of them, with the gate, mTLS, tokens and limits.
//!
//! ```text
//!  kube-apiserver east: shop ──┐                    ┌── agent on a machine: billing
//!  kube-apiserver west: stock ─┴─► portcullis ◄──► Consul (ACLs, TLS)
//!                                      │ gate.yml, snapshot
//!  client ──mTLS, JWT──► Traefik ─► gate ─► shop, stock, billing (tasks in this process)
//! ```
//!
//! The sidecar has the shipped rights and no others: `deploy/kubernetes/rbac.yaml`, `deploy/consul/policy.hcl`.

mod objects;
mod policy;
pub mod stops;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::access::Access;
use crate::agent::Agent;
use crate::backend::Backend;
use crate::certificates::{Authority, TRUST_DOMAIN};
use crate::kubernetes::ApiServer;
use crate::limits::stand::in_memory;
use crate::parts::{KubernetesParts, Parts};
use crate::ports;
use crate::registry::Registry;
use crate::sidecar::{Layout, Sidecar};
use crate::traefik::{GUEST_POLICY, GUEST_STATE, Options, Plugin, Traefik};
use crate::world::write_own_configuration;

/// The clusters, each with the service that runs in it.
pub const CLUSTERS: [(&str, &str); 2] = [("east", "shop"), ("west", "stock")];
/// The service on a machine.
pub const MACHINE: &str = "billing";
/// How long a router may take to appear.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// The management token of this Consul.
const MANAGEMENT: &str = "11111111-2222-3333-4444-555555555555";

/// A running topology. Dropping it ends every process and removes the folder.
#[derive(Debug)]
pub struct Topology {
    /// The gateway.
    pub traefik: Traefik,
    /// The sidecar.
    pub sidecar: Sidecar,
    /// Consul.
    pub registry: Registry,
    /// The API servers, as in [`CLUSTERS`].
    pub clusters: Vec<ApiServer>,
    /// The services: those of [`CLUSTERS`], then the machine's.
    pub backends: Vec<Backend>,
    /// The sidecar's files.
    pub layout: Layout,
    /// `host:port` of the sidecar's metrics.
    pub metrics: String,
    /// The sidecar's binary.
    pub binary: PathBuf,
    authority: Authority,
    token: String,
    // Kept for their drop.
    _agent: Agent,
    _state: TempDir,
    folder: TempDir,
}

impl Topology {
    /// Starts everything and waits until each service has its route.
    pub async fn start(parts: &Parts, kubernetes: &KubernetesParts) -> Result<Topology> {
        let folder = tempfile::Builder::new().prefix("portcullis-").tempdir().context("making a folder")?;
        let consul = &kubernetes.registry.consul;
        let mut backends = Vec::new();
        for name in CLUSTERS.map(|(_, service)| service).into_iter().chain([MACHINE]) {
            backends.push(Backend::start(name, &format!("{name}-1")).await?);
        }
        let registry = Registry::start(consul, folder.path(), Some(MANAGEMENT)).await?;
        let services = json!([objects::machine_service(MACHINE, backends[CLUSTERS.len()].address())]);
        let agent = Agent::start(consul, folder.path(), &registry, "vm-1", &services).await?;
        let layout = Layout::new(&folder.path().join("gateway"))?;
        let (mut clusters, mut sections) = (Vec::new(), Vec::new());
        for ((cluster, service), backend) in CLUSTERS.into_iter().zip(&backends) {
            let server = ApiServer::start(kubernetes, &folder.path().join(cluster)).await?;
            for object in objects::cluster(service, backend.address())? {
                server.put(&object).await?;
            }
            let (kubeconfig, token) = (layout.root().join(cluster), layout.root().join(format!("{cluster}.token")));
            fs::write(&token, objects::USER)?;
            server.kubeconfig(&kubeconfig, &server.url(), &token)?;
            sections.push(json!({"name": cluster, "kubeconfig": kubeconfig}));
            clusters.push(server);
        }
        let (key, authority, state) = (policy::key(), Authority::new("topology")?, in_memory()?);
        for (name, text) in policy::files(&key) {
            fs::write(layout.policy().join(name), text)?;
        }
        put_entry(&registry, &policy::entry()).await?;
        let metrics = ports::free()?.to_string();
        configure(&layout, &registry, json!(sections), state.path(), &metrics).await?;
        write_own_configuration(&layout, &authority, json!({}))?;
        let sidecar = Sidecar::start(&parts.sidecar, &layout).await?;
        let plugin = Plugin::portcullis(parts, Some(layout.snapshots())).with_state(state.path().to_owned());
        let mut traefik = Traefik::start(Options {
            binary: parts.traefik.clone(),
            folder: folder.path().join("traefik"),
            dynamic: layout.dynamic(),
            plugins: vec![plugin],
            access_log: true,
            trusts_local_front: false,
            environment: Vec::new(),
        })
        .await?;
        for name in CLUSTERS.map(|(_, service)| service).into_iter().chain([MACHINE]) {
            let log = || sidecar.log().unwrap_or_default();
            traefik.router(&format!("{name}-root@file"), PATIENCE).await.with_context(log)?;
        }
        let token = policy::token(&key)?;
        let binary = parts.sidecar.clone();
        Ok(Topology {
            traefik,
            sidecar,
            registry,
            clusters,
            backends,
            layout,
            metrics,
            binary,
            authority,
            token,
            _agent: agent,
            _state: state,
            folder,
        })
    }

    /// The way in for the callers of [`stops::STOPS`].
    pub fn access(&self) -> Result<Access<'_>> {
        let file = self.layout.root().join("certificates/ca.pem");
        Ok(Access::new(&self.authority, &file, self.traefik.secure(), &["web", "batch"])?.with_token(&self.token))
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Writes a config entry; a Consul that has just begun refuses them for a while.
async fn put_entry(registry: &Registry, entry: &Value) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match registry.put("/v1/config", entry).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > end => return Err(error.context("writing a config entry")),
            Err(_) => sleep(POLL).await,
        }
    }
}

/// Writes the sidecar's configuration, with a token of Consul that has the shipped rights for both clusters.
async fn configure(layout: &Layout, registry: &Registry, clusters: Value, state: &Path, metrics: &str) -> Result<()> {
    let token_file = layout.root().join("consul.token");
    let policy = json!({"Name": "portcullis", "Rules": objects::consul_rules(&CLUSTERS.map(|(name, _)| name))?});
    registry.put("/v1/acl/policy", &policy).await?;
    let token = registry.put("/v1/acl/token", &json!({"Policies": [{"Name": "portcullis"}]})).await?;
    fs::write(&token_file, token["SecretID"].as_str().context("a token without a secret")?)?;
    layout.write_configuration_with(&json!({
        "manifests": null,
        "clusters": clusters,
        "consul": {"address": registry.tls_address(), "caFile": registry.authority(), "tokenFile": token_file},
        // This Traefik reads no routers from Consul's catalog, so no tag of a service is a way around the gate.
        "catalog": {"traefikPrefix": "none"},
        "gate": {
            "file": layout.gate(),
            "snapshot": format!("{GUEST_POLICY}/policy.snapshot"),
            "entryPoints": ["websecure"],
            "tls": {"options": "mtls@file"},
            "clientCertificate": "verifiedByTraefik",
            "pluginSettings": {"state": GUEST_STATE},
        },
        "policy": {"directory": "./policy", "trustDomains": [TRUST_DOMAIN], "consul": {"caRoots": false}},
        "limits": {"state": state},
        "metrics": {"listen": metrics},
    }))
}
