//! Redis: the store through which hosts share limits. Valkey will do too; it is named by the variable.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};

use super::{DEBIANS, Part, apt_install};
use crate::{project::Project, run};

/// Publishing and users with passwords are all that is asked for.
pub(super) const PART: Part =
    Part { name: "redis-server", variable: "REDIS_SERVER", fetched: DEBIANS, oldest: (6, 0), version, fetch };

/// The program of Debian's tools package: it is the server when it is called by that name. The package `redis-server`
/// holds only a link to it, and a service, which installing it would start.
const PROGRAM: &str = "/usr/bin/redis-check-rdb";

/// `Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=…`
fn version(server: &Path) -> Result<String> {
    let text = run::output(Command::new(server).arg("--version"))?;
    let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="));
    Ok(version.with_context(|| format!("`{} --version` prints no version", server.display()))?.to_owned())
}

/// A link, so that what Debian updates is updated.
#[cfg(unix)]
fn fetch(_: &Project, _: &Path, file: &Path) -> Result<()> {
    apt_install("redis-tools")?;
    std::os::unix::fs::symlink(PROGRAM, file)?;
    Ok(())
}

#[cfg(not(unix))]
fn fetch(_: &Project, _: &Path, _: &Path) -> Result<()> {
    apt_install("redis-tools")
}
