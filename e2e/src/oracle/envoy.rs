//! A real Envoy as the sidecar of one service, and how to tell that it works by a policy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;
use tokio::time::Instant;

use super::consul::Consul;
use super::echo::Echo;
use crate::client::Client;
use crate::ports;
use crate::process::{Process, Start};

/// How long Envoy may take to start, or to take a new policy.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// A service behind its sidecar.
#[derive(Debug)]
pub struct Sidecar {
    /// The service's name.
    pub service: String,
    public: SocketAddr,
    admin: SocketAddr,
    process: Process,
    _echo: Echo,
}

impl Sidecar {
    /// Registers the service, starts it and its Envoy.
    pub async fn start(program: &Path, folder: &Path, consul: &Consul, name: &str, service: &str) -> Result<Sidecar> {
        let (public, admin) = (ports::free()?, ports::free()?);
        let echo = Echo::start().await?;
        consul.register(service, echo.address(), public).await?;
        let file: PathBuf = folder.join(format!("envoy-{name}.json"));
        std::fs::write(&file, consul.bootstrap(service, admin)?)?;
        // One worker: once it has shown that it works by a policy, no other can still work by the one before. Connections
        // under an earlier policy are not used again, so they need not drain.
        let arguments = ["--disable-hot-restart", "--concurrency", "1", "--drain-time-s", "1", "-l", "error", "-c"];
        let process = Process::start(&Start {
            name: format!("envoy-{name}"),
            program: program.to_owned(),
            arguments: arguments.into_iter().map(Into::into).chain([file.into()]).collect(),
            environment: Vec::new(),
            directory: folder.to_owned(),
            log: folder.join(format!("envoy-{name}.log")),
        })?;
        Ok(Sidecar { service: service.to_owned(), public, admin, process, _echo: echo })
    }

    /// Where callers connect.
    pub fn public(&self) -> SocketAddr {
        self.public
    }

    /// Waits until the listener that callers connect to satisfies `wanted`, which gets the JSON of the active one.
    pub async fn wait_for_listener(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            self.process.must_run()?;
            let path = "/config_dump?resource=dynamic_listeners";
            if let Ok(answer) = Client::plain(self.admin).get("localhost", path, &[]).await
                && let Ok(dump) = answer.json()
                && active_listener(&dump).is_some_and(&wanted)
            {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("{} does not take its configuration:\n{}", self.service, self.process.log_end());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// An error with the end of its log if it has ended.
    pub fn must_run(&mut self) -> Result<()> {
        self.process.must_run()
    }

    /// The end of what Envoy wrote.
    pub fn log_end(&self) -> String {
        self.process.log_end()
    }
}

/// The listener that callers connect to, in a dump of all.
fn active_listener(dump: &Value) -> Option<&Value> {
    let listeners = dump["configs"].as_array()?;
    let public = listeners.iter().find(|it| it["name"].as_str().is_some_and(|it| it.starts_with("public_listener")))?;
    public.get("active_state")
}
