//! A real Consul agent on a machine of its own making: a client that joins the registry with services from its configuration.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::ports;
use crate::process::{Process, Start};
use crate::registry::Registry;

/// How long joining may take.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    // Kept for its drop.
    _process: Process,
}

impl Agent {
    /// Starts one with these service definitions and waits until all of them are in the catalog.
    pub async fn start(
        program: &Path,
        folder: &Path,
        registry: &Registry,
        name: &str,
        services: &Value,
    ) -> Result<Agent> {
        let mut configuration = json!({
            "node_name": name,
            "data_dir": folder.join(name),
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "retry_join": [registry.lan().to_string()],
            "retry_interval": "1s",
            "disable_update_check": true,
            "log_level": "warn",
            "services": services,
            "ports": {
                "http": ports::free()?.port(), "grpc": -1, "grpc_tls": -1, "https": -1, "dns": -1,
                "serf_lan": ports::free()?.port(),
            },
        });
        if let Some(token) = registry.token() {
            let tokens = json!({"agent": token, "default": token});
            configuration["acl"] = json!({"enabled": true, "default_policy": "deny", "tokens": tokens});
        }
        let file = folder.join(format!("{name}.json"));
        fs::write(&file, configuration.to_string()).context("writing an agent's configuration")?;
        let mut process = Process::start(&Start {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments: vec!["agent".into(), "-config-file".into(), file.into()],
            environment: Vec::new(),
            directory: folder.to_owned(),
            log: folder.join(format!("{name}.log")),
        })?;
        let n_services = services.as_array().map_or(0, Vec::len);
        let end = Instant::now() + PATIENCE;
        loop {
            let node = registry.get(&format!("/v1/catalog/node-services/{name}")).await?;
            if node["Services"].as_array().is_some_and(|found| found.len() >= n_services) {
                return Ok(Agent { _process: process });
            }
            process.must_run()?;
            if Instant::now() > end {
                bail!("the agent {name} registers nothing:\n{}", process.log_end());
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
