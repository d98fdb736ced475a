//! Real consul-template and real nginx on the files of `deploy/examples/nginx`, only the addresses are others.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::client::Client;
use crate::parts::{TemplateParts, root};
use crate::ports;
use crate::process::{Process, Start};

/// How long nginx may take to answer.
const START_PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// The files of the example, and where it listens.
const FILES: [&str; 4] = ["nginx.conf", "consul-template.hcl", "from-keys.ctmpl", "from-catalog.ctmpl"];
const BY_KEYS: &str = "127.0.0.1:8080";
const BY_CATALOG: &str = "127.0.0.1:8081";

/// The running example.
#[derive(Debug)]
pub struct Templating {
    folder: PathBuf,
    by_keys: SocketAddr,
    by_catalog: SocketAddr,
    nginx: Process,
    consul_template: Process,
}

impl Templating {
    /// Starts both in `folder` against this Consul (`host:port`).
    pub async fn start(parts: &TemplateParts, folder: &Path, consul: &str) -> Result<Templating> {
        let (by_keys, by_catalog) = (ports::free()?, ports::free()?);
        fs::create_dir_all(folder.join("conf.d"))?;
        fs::create_dir_all(folder.join("temp"))?;
        for name in FILES {
            let text = fs::read_to_string(root().join("deploy/examples/nginx").join(name))?;
            let text = text.replace(BY_KEYS, &by_keys.to_string()).replace(BY_CATALOG, &by_catalog.to_string());
            ensure!(!text.contains("127.0.0.1:80"), "{name} listens somewhere else than the test knows");
            fs::write(folder.join(name), text)?;
        }
        let process = |name: &str, program: &Path, arguments: &[&str]| {
            let beside = parts.nginx.parent().unwrap_or(Path::new("/")).display();
            Process::start(&Start {
                name: name.to_owned(),
                program: program.to_owned(),
                arguments: arguments.iter().map(Into::into).collect(),
                // The example's command is `nginx`.
                environment: vec![
                    ("CONSUL_HTTP_ADDR", consul.to_owned()),
                    ("PATH", format!("{beside}:{}", std::env::var("PATH").unwrap_or_default())),
                ],
                directory: folder.to_owned(),
                log: folder.join(format!("{name}.log")),
            })
        };
        let nginx =
            process("nginx", &parts.nginx, &["-p", ".", "-c", "nginx.conf", "-g", "daemon off; master_process on;"])?;
        let arguments = ["-config", "consul-template.hcl", "-log-level", "info"];
        let mut templating = Templating {
            folder: folder.to_owned(),
            by_keys,
            by_catalog,
            nginx,
            consul_template: process("consul-template", &parts.consul_template, &arguments)?,
        };
        let end = Instant::now() + START_PATIENCE;
        while Client::plain(by_keys).get("nobody", "/", &[]).await.is_err() {
            templating.nginx.must_run()?;
            templating.consul_template.must_run()?;
            ensure!(Instant::now() < end, "nginx does not answer:\n{}", templating.nginx.log_end());
            tokio::time::sleep(POLL).await;
        }
        Ok(templating)
    }

    /// To the services of the keys, by host name `<service>.example.com`.
    pub fn by_keys(&self) -> Client {
        Client::plain(self.by_keys)
    }

    /// To the one service of the catalog.
    pub fn by_catalog(&self) -> Client {
        Client::plain(self.by_catalog)
    }

    /// A rendered file, empty before the first time.
    pub fn rendered(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join("conf.d").join(name)).unwrap_or_default()
    }

    /// What consul-template has said.
    pub fn log(&self) -> Result<String> {
        self.consul_template.log()
    }
}
