//! kube-apiserver: where the sidecar reads Services, EndpointSlices and Nodes. Used by tests only.
//!
//! As with Consul, there is no package of it and `go install` refuses it, so it is built as a dependency of a Go module of
//! ours, `e2e/kube-apiserver`, which names every version and every sum.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};

use super::Part;
use crate::{project::Project, run};

/// EndpointSlices of `discovery.k8s.io/v1` came with 1.21; older ones were not tried.
pub(super) const PART: Part = Part {
    name: "kube-apiserver",
    variable: "KUBE_APISERVER",
    fetched: VERSION,
    oldest: (1, 30),
    version,
    fetch: build,
};

/// As in `e2e/kube-apiserver/go.mod`.
const VERSION: &str = "1.36.3";

fn build(project: &Project, _work: &Path, file: &Path) -> Result<()> {
    run::say(&format!("building kube-apiserver {VERSION} with Go: some minutes, once"));
    // Outside of Kubernetes' own tree nothing says which version it is.
    let flags = format!("-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=v{VERSION}");
    let mut go = run::program("go");
    go.args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false", &flags, "-o"]).arg(file);
    go.arg("k8s.io/kubernetes/cmd/kube-apiserver").current_dir(project.root.join("e2e").join("kube-apiserver"));
    run::output(&mut go).map(drop).context("building kube-apiserver needs Go")
}

/// `Kubernetes v1.36.3`
fn version(server: &Path) -> Result<String> {
    let text = run::output(Command::new(server).arg("--version"))?;
    let version = text.lines().find_map(|line| line.strip_prefix("Kubernetes v"));
    Ok(version.with_context(|| format!("`{} --version` prints no version", server.display()))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_module() {
        let module = std::fs::read_to_string(Project::find().unwrap().root.join("e2e/kube-apiserver/go.mod")).unwrap();
        assert!(module.contains(&format!("k8s.io/kubernetes v{VERSION}\n")), "{VERSION}");
    }
}
