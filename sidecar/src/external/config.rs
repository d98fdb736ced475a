//! The configuration's `external` section.

use std::path::PathBuf;

use serde::Deserialize;

/// Services on machines without a Consul agent, from files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalConfig {
    /// A directory of files with nodes and their services.
    pub directory: PathBuf,
    /// The mark of what is ours among external services in Consul, and a part of every Consul node's name (default: `vms`).
    /// Two directories that share one Consul must differ here.
    #[serde(default = "name")]
    pub name: String,
    /// Authorities that the certificates of `https` checks are verified by, in PEM form, read at the start (default: the
    /// system's).
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

impl ExternalConfig {
    /// What types alone do not guarantee.
    pub(crate) fn validate(&self) -> Result<(), &'static str> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fine = (1..=63).contains(&self.name.len()) && self.name.bytes().all(fits);
        if fine { Ok(()) } else { Err("name is 1 to 63 characters of A-Z a-z 0-9 . _ -") }
    }
}

fn name() -> String {
    "vms".to_owned()
}
