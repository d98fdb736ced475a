//! A real Consul agent as a child process, and the calls to its API that the test needs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full};
use portcullis_policy::Action;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::certificates::Authority;
use crate::client::{self, Answer, Client};
use crate::ports;
use crate::process::{Process, Start};

/// How long the agent may take to elect itself and to have a certificate authority.
const START_PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// A running agent in development mode: one server, nothing on disk, ACLs off.
#[derive(Debug)]
pub struct Consul {
    program: PathBuf,
    http: SocketAddr,
    grpc: SocketAddr,
    trust_domain: String,
    // Last, so that it ends last.
    process: Process,
}

impl Consul {
    /// Starts an agent whose intentions default to `default` and whose certificates `authority` signs.
    pub async fn start(program: &Path, folder: &Path, default: Action, authority: &Authority) -> Result<Consul> {
        let (http, grpc) = (ports::free()?, ports::free()?);
        let name = format!("consul-{}", default.as_str());
        let file = folder.join(format!("{name}.json"));
        let configuration = json!({
            "node_name": name,
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "default_intention_policy": default.as_str(),
            "disable_update_check": true,
            "log_level": "warn",
            "ports": {
                "http": http.port(), "grpc": grpc.port(), "grpc_tls": -1, "https": -1, "dns": -1, "serf_wan": -1,
                "serf_lan": ports::free()?.port(), "server": ports::free()?.port(),
            },
            "connect": {
                "enabled": true,
                "ca_config": {"private_key": authority.key_pem(), "root_cert": authority.pem()},
            },
        });
        std::fs::write(&file, configuration.to_string()).context("writing Consul's configuration")?;
        let process = Process::start(&Start {
            name: name.clone(),
            program: program.to_owned(),
            arguments: vec!["agent".into(), "-dev".into(), "-config-file".into(), file.into()],
            environment: Vec::new(),
            directory: folder.to_owned(),
            log: folder.join(format!("{name}.log")),
        })?;
        let mut consul = Consul { program: program.to_owned(), http, grpc, trust_domain: String::new(), process };
        consul.trust_domain = consul.wait_for_roots().await?;
        Ok(consul)
    }

    /// `<cluster uuid>.consul`.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    async fn wait_for_roots(&mut self) -> Result<String> {
        let end = Instant::now() + START_PATIENCE;
        loop {
            self.process.must_run()?;
            if let Ok(roots) = self.get("/v1/connect/ca/roots").await
                && let Some(domain) = roots["TrustDomain"].as_str()
                && roots["Roots"].as_array().is_some_and(|roots| !roots.is_empty())
            {
                return Ok(domain.to_owned());
            }
            if Instant::now() > end {
                bail!("Consul has no certificate authority:\n{}", self.process.log_end());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Registers an HTTP service at `backend` with a sidecar that listens at `public`.
    pub async fn register(&self, service: &str, backend: SocketAddr, public: SocketAddr) -> Result<()> {
        self.write_entry(&json!({"Kind": "service-defaults", "Name": service, "Protocol": "http"})).await?;
        let sidecar = json!({
            "Port": public.port(),
            "Address": "127.0.0.1",
            "Checks": [],
            "Proxy": {"LocalServicePort": backend.port(), "LocalServiceAddress": "127.0.0.1"},
        });
        let body = json!({
            "Name": service, "Address": "127.0.0.1", "Port": backend.port(), "Connect": {"SidecarService": sidecar},
        });
        self.call("PUT", "/v1/agent/service/register", Some(&body)).await.map(drop)
    }

    /// What Envoy is to be started with as the sidecar of a service.
    pub fn bootstrap(&self, service: &str, admin: SocketAddr) -> Result<String> {
        let output = Command::new(&self.program)
            .args(["connect", "envoy", "-sidecar-for", service, "-bootstrap", "-ignore-envoy-compatibility"])
            .args(["-admin-bind", &admin.to_string(), "-grpc-addr", &self.grpc.to_string()])
            .args(["-http-addr", &self.http.to_string()])
            .output()
            .context("asking Consul for Envoy's bootstrap")?;
        if !output.status.success() {
            bail!("no bootstrap for {service}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Certificate chain and key of a service, in PEM, as Consul hands them to its workloads.
    pub async fn leaf(&self, service: &str) -> Result<(String, String)> {
        let leaf = self.get(&format!("/v1/agent/connect/ca/leaf/{service}")).await?;
        let text = |name: &str| leaf[name].as_str().map(str::to_owned).with_context(|| format!("no {name} in {leaf}"));
        Ok((text("CertPEM")?, text("PrivateKeyPEM")?))
    }

    /// Writes a config entry.
    pub async fn write_entry(&self, entry: &Value) -> Result<()> {
        self.call("PUT", "/v1/config", Some(entry)).await.with_context(|| format!("writing {entry}")).map(drop)
    }

    /// Deletes a config entry; one that is not there is deleted.
    pub async fn delete_entry(&self, kind: &str, name: &str) -> Result<()> {
        self.call("DELETE", &format!("/v1/config/{kind}/{name}"), None).await.map(drop)
    }

    /// The JSON at a path of the API.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, None).await?.json()
    }

    /// Puts a JSON to a path of the API.
    pub async fn put(&self, path: &str, body: &Value) -> Result<()> {
        self.call("PUT", path, Some(body)).await.map(drop)
    }

    /// Where its API listens.
    pub fn address(&self) -> SocketAddr {
        self.http
    }

    async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let body = Full::from(bytes).map_err(|never| match never {}).boxed_unsync();
        let request = client::request(method, "localhost", path, &[], body)?;
        let answer = Client::plain(self.http).connect("localhost").await?.send(request).await?;
        if answer.status != 200 {
            bail!("Consul answers {} to {method} {path}: {}", answer.status, answer.text());
        }
        Ok(answer)
    }
}
