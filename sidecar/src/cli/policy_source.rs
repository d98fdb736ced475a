//! Where the commands that decide take their policy from: a configuration file, policy files, or a snapshot in force.

use std::{fs::File, os::unix::fs::FileExt as _, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use portcullis_authoring::compile;
use portcullis_policy::{Action, PolicySettings, Problem, ReadAt, ReadFailed, Snapshot};

use crate::{
    config::Config,
    control, jwks,
    policy::{self, Loaded},
};

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

/// What a configuration's sources hold now, and what comes of it, with what is wrong among the sources.
pub(super) fn of_configuration(config: &Config) -> anyhow::Result<(usize, Loaded)> {
    let joined = control::read_once(config)?;
    // Keys that are fetched are those that the running sidecar has kept.
    let mut loaded = policy::from_documents_with(&joined.documents, config.policy.settings(), &mut |policy, _| {
        jwks::kept(&config.jwks, policy);
    });
    loaded.problems.extend(joined.all_problems());
    Ok((joined.documents.len(), loaded))
}

impl PolicyArgs {
    /// Reads and compiles, or opens, what the options name.
    pub(super) fn open(&self) -> anyhow::Result<(AnySnapshot, Vec<Problem>)> {
        if let Some(path) = &self.place.snapshot {
            let file = File::open(path).with_context(|| path.display().to_string())?;
            let snapshot = Snapshot::open(Box::new(SnapshotFile(file)) as Box<dyn ReadAt>);
            return Ok((snapshot.with_context(|| path.display().to_string())?, Vec::new()));
        }
        let (path, loaded) = match (&self.place.config, &self.place.policy) {
            (Some(path), _) => (path, of_configuration(&Config::load(path)?)?.1),
            (_, Some(path)) => (path, policy::load(path, self.settings())?),
            _ => anyhow::bail!("one of --config, --policy and --snapshot is needed"),
        };
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
