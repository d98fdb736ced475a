//! kube-apiserver: where the sidecar reads Services, EndpointSlices and Nodes. Used by tests only.
//!
//! As with Consul, there is no package of it and `go install` refuses it, so it is built as a dependency of a Go module of
//! ours, `e2e/kube-apiserver`, which names every version and every sum.

use std::path::Path;

use anyhow::Result;

use super::{Part, go_build_with, version_after};
use crate::project::Project;

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
    // Outside of Kubernetes' own tree nothing says which version it is.
    let version = format!("-X k8s.io/component-base/version.gitVersion=v{VERSION}");
    go_build_with(project, "kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", &version, file)
}

/// `Kubernetes v1.36.3`
fn version(server: &Path) -> Result<String> {
    version_after(server, "--version", "Kubernetes v")
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
