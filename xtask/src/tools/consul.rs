//! Consul: the control plane whose intentions the policy engine must understand as it does, and the registry that services are
//! registered in. Used by tests only.
//!
//! There is no package of it, and `go install` refuses it for the replace directives in its `go.mod`. So it is built as a
//! dependency of a Go module of ours, `e2e/consul` or `e2e/consul-1.16`, which names every version and every sum.

use std::path::Path;

use anyhow::Result;

use super::{Part, go_build, version_after};
use crate::project::Project;

/// The newest that everything was tried with is built. `default_intention_policy` came with 1.18, header criteria as
/// they are compared with 1.20.
pub(super) const PART: Part =
    Part { name: "consul", variable: "CONSUL", fetched: VERSION, oldest: (1, 20), version, fetch: build };

/// The oldest line that registrations are promised for. Never one from `PATH`: its name is our own.
pub(super) const OLD: Part = Part {
    name: "consul-1.16",
    variable: "CONSUL_1_16",
    fetched: OLD_VERSION,
    oldest: (1, 16),
    version,
    fetch: |project, _, file| go_build(project, "consul-1.16", PACKAGE, file),
};

const PACKAGE: &str = "github.com/hashicorp/consul";

/// As in `e2e/consul/go.mod`.
const VERSION: &str = "1.22.0";

/// As in `e2e/consul-1.16/go.mod`.
const OLD_VERSION: &str = "1.16.6";

fn build(project: &Project, _work: &Path, file: &Path) -> Result<()> {
    go_build(project, "consul", PACKAGE, file)
}

/// `Consul v1.22.0`
fn version(consul: &Path) -> Result<String> {
    version_after(consul, "version", "Consul v")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_those_of_the_modules() {
        let root = Project::find().unwrap().root;
        for (folder, version) in [("consul", VERSION), ("consul-1.16", OLD_VERSION)] {
            let module = std::fs::read_to_string(root.join("e2e").join(folder).join("go.mod")).unwrap();
            assert!(module.contains(&format!("{PACKAGE} v{version}\n")), "{version}");
        }
    }
}
