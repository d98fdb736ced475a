//! A real Consul as the registry that the sidecar writes to: one server with its data on disk, so that it can be restarted.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::certificates::Authority;
use crate::client::{self, Client, Connection};
use crate::ports;
use crate::process::{Process, Start, Usage};

/// How long the server may take to elect itself.
const START_PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// How often it is started with other ports.
const ATTEMPTS: usize = 3;

/// A running Consul server.
#[derive(Debug)]
pub struct Registry {
    start: Start,
    http: SocketAddr,
    https: SocketAddr,
    /// Where agents join.
    lan: SocketAddr,
    dns: SocketAddr,
    authority: PathBuf,
    token: Option<String>,
    process: Option<Process>,
}

impl Registry {
    /// Starts a server with its files below `folder`. With a token, that is the management token, and whoever has none may
    /// do nothing.
    pub async fn start(program: &Path, folder: &Path, token: Option<&str>) -> Result<Registry> {
        // It listens on six ports: that somebody takes one of them between our asking and its binding does happen.
        for _ in 1..ATTEMPTS {
            match Registry::start_once(program, folder, token).await {
                Err(error) if error.to_string().contains("address already in use") => {}
                outcome => return outcome,
            }
        }
        Registry::start_once(program, folder, token).await
    }

    async fn start_once(program: &Path, folder: &Path, token: Option<&str>) -> Result<Registry> {
        let (http, https, dns, lan) = (ports::free()?, ports::free()?, ports::free()?, ports::free()?);
        let authority = Authority::new("registry")?;
        let certificate = authority.server(&["127.0.0.1", "localhost"])?.write(folder, "consul")?;
        let authority_file = folder.join("consul-ca.pem");
        std::fs::write(&authority_file, authority.pem()).context("writing the authority's certificate")?;
        let mut configuration = json!({
            "node_name": "server",
            "server": true,
            "bootstrap_expect": 1,
            "data_dir": folder.join("consul"),
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "disable_update_check": true,
            "log_level": "warn",
            "tls": {"https": {"ca_file": authority_file, "cert_file": certificate, "key_file": certificate}},
            "performance": {"raft_multiplier": 1},
            "ports": {
                "http": http.port(), "grpc": -1, "grpc_tls": -1, "https": https.port(), "dns": dns.port(), "serf_wan": -1,
                "serf_lan": lan.port(), "server": ports::free()?.port(),
            },
        });
        if let Some(token) = token {
            configuration["acl"] = json!({"enabled": true, "default_policy": "deny", "tokens": {"initial_management": token, "agent": token}});
        }
        let file = folder.join("consul.json");
        std::fs::write(&file, configuration.to_string()).context("writing Consul's configuration")?;
        let start = Start {
            name: "consul".to_owned(),
            program: program.to_owned(),
            arguments: vec!["agent".into(), "-config-file".into(), file.into()],
            environment: Vec::new(),
            directory: folder.to_owned(),
            log: folder.join("consul.log"),
        };
        // Of another attempt.
        let _ = std::fs::remove_file(&start.log);
        let mut registry = Registry {
            start,
            http,
            https,
            lan,
            dns,
            authority: authority_file,
            token: token.map(str::to_owned),
            process: None,
        };
        registry.resume().await?;
        Ok(registry)
    }

    /// `host:port` of its HTTP API.
    pub fn address(&self) -> String {
        self.http.to_string()
    }

    /// The management token, where there are ACLs.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Where an agent joins it.
    pub fn lan(&self) -> SocketAddr {
        self.lan
    }

    /// The same with TLS.
    pub fn tls_address(&self) -> String {
        format!("https://{}", self.https)
    }

    /// Where its DNS answers.
    pub fn dns(&self) -> SocketAddr {
        self.dns
    }

    /// The certificate of who has signed Consul's.
    pub fn authority(&self) -> &Path {
        &self.authority
    }

    /// Kills it; its data stays.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Takes the data of one that was killed away.
    pub fn wipe(&self) -> Result<()> {
        std::fs::remove_dir_all(self.start.directory.join("consul")).context("removing Consul's data")
    }

    /// Starts it again on its data and waits until it can be written to.
    pub async fn resume(&mut self) -> Result<()> {
        self.process = Some(Process::start(&self.start)?);
        let end = Instant::now() + START_PATIENCE;
        while self.put("/v1/kv/ready", &json!(1)).await.is_err() {
            if let Some(process) = &mut self.process {
                process.must_run()?;
            }
            if Instant::now() > end {
                bail!("Consul takes no writes");
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Memory and processor time of the server.
    pub fn usage(&self) -> Result<Usage> {
        self.process.as_ref().context("Consul was killed")?.usage()
    }

    /// Major and minor number of its version.
    pub async fn version(&self) -> Result<(u32, u32)> {
        let agent = self.get("/v1/agent/self").await?;
        let version = agent["Config"]["Version"].as_str().context("the agent names no version")?;
        let mut numbers = version.split('.').map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
            _ => bail!("no version: {version}"),
        }
    }

    /// A connection of its own, for many reads.
    pub async fn connect(&self) -> Result<Connection> {
        Client::plain(self.http).connect("localhost").await
    }

    /// The JSON at a path of the API.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, None).await
    }

    /// The same once its index is no longer `index` (0: at once), or after some seconds; with the index.
    pub async fn get_after(&self, connection: &mut Connection, path: &str, index: u64) -> Result<(Value, u64)> {
        let body = Full::from(String::new()).map_err(|never| match never {}).boxed_unsync();
        let token = self.token.as_deref().unwrap_or_default();
        let path = format!("{path}?index={index}&wait=10s");
        let request = client::request("GET", "localhost", &path, &[("X-Consul-Token", token)], body)?;
        let answer = connection.send(request).await?;
        let index = answer
            .headers
            .get("X-Consul-Index")
            .and_then(|text| text.to_str().ok()?.parse().ok())
            .context("no index")?;
        Ok((answer.json()?, index))
    }

    /// Writes JSON; what is answered.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.call("PUT", path, Some(body)).await
    }

    /// Takes something away.
    pub async fn delete(&self, path: &str) -> Result<Value> {
        self.call("DELETE", path, None).await
    }

    async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let body =
            Full::from(body.map(Value::to_string).unwrap_or_default()).map_err(|never| match never {}).boxed_unsync();
        let token = self.token.as_deref().unwrap_or_default();
        let request = client::request(method, "localhost", path, &[("X-Consul-Token", token)], body)?;
        let answer = self.connect().await?.send(request).await?;
        if answer.status != 200 {
            bail!("Consul answers {} to {method} {path}: {}", answer.status, answer.text());
        }
        answer.json()
    }
}
