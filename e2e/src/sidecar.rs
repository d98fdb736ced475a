//! The real sidecar as a child process, running on a folder of files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::certificates::TRUST_DOMAIN;
use crate::process::{Process, Start, Usage};
use crate::traefik::GUEST_POLICY;

/// How long the first snapshot and gate file may take.
const START_PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// The files a sidecar works on. Every path is below one folder.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

/// A running sidecar.
#[derive(Debug)]
pub struct Sidecar {
    process: Process,
}

impl Layout {
    /// Below this folder; makes the folders.
    pub fn new(root: &Path) -> Result<Layout> {
        let layout = Layout { root: root.to_owned() };
        for folder in [layout.manifests(), layout.policy(), layout.snapshots(), layout.dynamic()] {
            fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        }
        Ok(layout)
    }

    /// The folder of everything.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Kubernetes manifests.
    pub fn manifests(&self) -> PathBuf {
        self.root.join("kubernetes")
    }

    /// Policy files.
    pub fn policy(&self) -> PathBuf {
        self.root.join("policy")
    }

    /// The folder that is mounted into the guest.
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("run/policy")
    }

    /// The snapshot.
    pub fn snapshot(&self) -> PathBuf {
        self.snapshots().join("policy.snapshot")
    }

    /// Traefik's dynamic configuration.
    pub fn dynamic(&self) -> PathBuf {
        self.root.join("run/traefik")
    }

    /// The gate's part of it, written by the sidecar.
    pub fn gate(&self) -> PathBuf {
        self.dynamic().join("gate.yml")
    }

    /// The sidecar's configuration.
    pub fn configuration(&self) -> PathBuf {
        self.root.join("portcullis.yml")
    }

    /// Writes the sidecar's configuration.
    pub fn write_configuration(&self) -> Result<()> {
        self.write_configuration_with(&json!({}))
    }

    /// The same with further or other sections.
    pub fn write_configuration_with(&self, sections: &Value) -> Result<()> {
        let mut configuration = json!({
            "manifests": "./kubernetes",
            "policy": {"directory": "./policy", "default": "deny", "trustDomains": [TRUST_DOMAIN]},
            "snapshot": {"file": "./run/policy/policy.snapshot"},
            "gate": {
                "file": "./run/traefik/gate.yml",
                "snapshot": format!("{GUEST_POLICY}/policy.snapshot"),
                "entryPoints": ["websecure"],
                "tls": {"options": "mtls@file"},
                "clientCertificate": "verifiedByTraefik",
                "apiKeyHeader": "X-Api-Key",
            },
            "sync": {"nodePortSync": "ExternalFirst"},
        });
        for (name, section) in sections.as_object().into_iter().flatten() {
            configuration[name] = section.clone();
        }
        fs::write(self.configuration(), serde_json::to_string_pretty(&configuration)?)
            .context("writing the sidecar's configuration")
    }
}

impl Sidecar {
    /// Starts `portcullis run` and waits for its first snapshot and gate file.
    pub async fn start(binary: &Path, layout: &Layout) -> Result<Sidecar> {
        let mut sidecar = Sidecar::launch(binary, layout)?;
        let deadline = Instant::now() + START_PATIENCE;
        while !(layout.snapshot().is_file() && layout.gate().is_file()) {
            sidecar.process.must_run()?;
            if Instant::now() > deadline {
                bail!("the sidecar wrote nothing within {START_PATIENCE:?}:\n{}", sidecar.process.log_end());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(sidecar)
    }

    /// Starts it and waits for nothing.
    pub fn launch(binary: &Path, layout: &Layout) -> Result<Sidecar> {
        let process = Process::start(&Start {
            name: "portcullis".to_owned(),
            program: binary.to_owned(),
            arguments: vec!["run".into(), "-c".into(), layout.configuration().into()],
            environment: Vec::new(),
            directory: layout.root().to_owned(),
            log: layout.root().join("portcullis.log"),
        })?;
        Ok(Sidecar { process })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Memory and processor time.
    pub fn usage(&self) -> Result<Usage> {
        self.process.usage()
    }

    /// What it has written to standard output and error.
    pub fn log(&self) -> Result<String> {
        self.process.log()
    }
}

/// Runs one of the sidecar's commands to its end.
pub fn command(binary: &Path, layout: &Layout, arguments: &[&str]) -> Result<Output> {
    Command::new(binary)
        .args(arguments)
        .current_dir(layout.root())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {}", binary.display()))
}
