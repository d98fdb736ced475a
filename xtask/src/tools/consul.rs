//! Consul: the control plane whose intentions the policy engine must understand as it does. Used by tests only.
//!
//! There is no package of it, and `go install` refuses it for the replace directives in its `go.mod`. So it is built as a
//! dependency of a Go module of ours, `e2e/consul`, which names every version and every sum.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};

use super::Part;
use crate::{project::Project, run};

/// The newest that everything was tried with is built. `default_intention_policy` came with 1.18, header criteria as
/// they are compared with 1.20.
pub(super) const PART: Part =
    Part { name: "consul", variable: "CONSUL", fetched: VERSION, oldest: (1, 20), version, fetch: build };

/// As in `e2e/consul/go.mod`.
const VERSION: &str = "1.22.0";

fn build(project: &Project, _work: &Path, file: &Path) -> Result<()> {
    run::say(&format!("building Consul {VERSION} with Go: some minutes, once"));
    let mut go = run::program("go");
    go.args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"]).arg(file);
    go.arg("github.com/hashicorp/consul").current_dir(project.root.join("e2e").join("consul"));
    run::output(&mut go).map(drop).context("building Consul needs Go")
}

/// `Consul v1.22.0`
fn version(consul: &Path) -> Result<String> {
    let text = run::output(Command::new(consul).arg("version"))?;
    let version = text.lines().find_map(|line| line.strip_prefix("Consul v"));
    Ok(version.with_context(|| format!("`{} version` prints no version", consul.display()))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_module() {
        let module = std::fs::read_to_string(Project::find().unwrap().root.join("e2e/consul/go.mod")).unwrap();
        assert!(module.contains(&format!("github.com/hashicorp/consul v{VERSION}\n")), "{VERSION}");
    }
}
