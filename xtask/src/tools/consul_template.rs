//! consul-template: renders files from Consul's catalog and keys; the nginx example is tested with it.

use std::path::Path;

use anyhow::Result;

use super::{Part, go_build, version_after};

/// The functions that the example uses are older than its oldest.
pub(super) const PART: Part = Part {
    name: "consul-template",
    variable: "CONSUL_TEMPLATE",
    fetched: VERSION,
    oldest: (0, 30),
    version,
    fetch: |project, _, file| go_build(project, "consul-template", PACKAGE, file),
};

const PACKAGE: &str = "github.com/hashicorp/consul-template";

/// As in `e2e/consul-template/go.mod`.
const VERSION: &str = "0.41.1";

/// `consul-template v0.41.1 (…)`
fn version(program: &Path) -> Result<String> {
    version_after(program, "-version", "consul-template v")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Project;

    #[test]
    fn the_version_is_that_of_the_module() {
        let module = Project::find().unwrap().root.join("e2e/consul-template/go.mod");
        assert!(std::fs::read_to_string(module).unwrap().contains(&format!("{PACKAGE} v{VERSION}\n")), "{VERSION}");
    }
}
