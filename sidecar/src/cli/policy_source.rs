//! Where the commands that decide take their policy from: a configuration file, policy files, or a snapshot in force.

use std::{fs::File, os::unix::fs::FileExt as _, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use portcullis_authoring::compile;
use portcullis_policy::{Action, PolicySettings, Problem, ReadAt, ReadFailed, Snapshot};

use crate::{config::Config, policy};

/// The options that name a policy.
#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    #[command(flatten)]
    place: Place,
    /// What happens when no intention applies (with --policy)
    #[arg(long, value_enum, default_value_t = Default::Deny, value_name = "ACTION")]
    default: Default,
    /// An accepted trust domain; may be repeated (with --policy)
    #[arg(long = "trust-domain", value_name = "DOMAIN")]
    trust_domains: Vec<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// Take the policy that this configuration file names
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Take the policy from this file or directory
    #[arg(long, value_name = "PATH")]
    policy: Option<PathBuf>,
    /// Take the compiled policy, as the gateway reads it
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Default {
    Allow,
    Deny,
}

/// A policy to ask, from memory or from a file.
pub(super) type AnySnapshot = Snapshot<Box<dyn ReadAt>>;

struct SnapshotFile(File);

impl ReadAt for SnapshotFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadFailed> {
        self.0.read_exact_at(buf, offset).map_err(|_| ReadFailed)
    }
}

impl PolicyArgs {
    /// Reads and compiles, or opens, what the options name.
    pub(super) fn open(&self) -> anyhow::Result<(AnySnapshot, Vec<Problem>)> {
        if let Some(path) = &self.place.snapshot {
            let file = File::open(path).with_context(|| path.display().to_string())?;
            let snapshot = Snapshot::open(Box::new(SnapshotFile(file)) as Box<dyn ReadAt>);
            return Ok((snapshot.with_context(|| path.display().to_string())?, Vec::new()));
        }
        let (path, settings) = match (&self.place.config, &self.place.policy) {
            (Some(config), _) => {
                let config = Config::load(config)?;
                (config.policy.directory.clone(), config.policy.settings())
            }
            (_, Some(path)) => (path.clone(), self.settings()),
            _ => anyhow::bail!("one of --config, --policy and --snapshot is needed"),
        };
        let loaded = policy::load(&path, settings)?;
        super::report(&loaded.problems);
        if loaded.is_fatal() {
            anyhow::bail!("{}: the policy could not be read as a whole", path.display());
        }
        let (bytes, _) = compile(&loaded.policy, 1, 0);
        Ok((Snapshot::open(Box::new(bytes) as Box<dyn ReadAt>)?, loaded.problems))
    }

    fn settings(&self) -> PolicySettings {
        let default = match self.default {
            Default::Allow => Action::Allow,
            Default::Deny => Action::Deny,
        };
        PolicySettings {
            default,
            trust_domains: self.trust_domains.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
            protocols: std::collections::BTreeMap::new(),
        }
    }
}
