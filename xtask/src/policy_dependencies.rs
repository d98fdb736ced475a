//! Holds the policy core to its dependencies: the list in `xtask/policy-dependencies.txt` is all it may use.
//!
//! The core decides on every request in the plugin, the sidecar and the console, and nothing in it may do IO or read a
//! clock. A crate that comes in by an update or a feature of another is seen here.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, bail};

use crate::{project::Project, run};

/// The recorded names, one per line, sorted; below the work tree.
const RECORD: &str = "xtask/policy-dependencies.txt";

/// Compares the dependencies with the record, or rewrites the record.
pub(crate) fn check(project: &Project, bless: bool) -> Result<()> {
    let mut tree = run::cargo(project);
    // Every target: a dependency for another platform is one too.
    tree.args(["tree", "--package", "portcullis-policy", "--edges", "normal", "--target", "all"]);
    let found = names(&run::output(tree.args(["--prefix", "none", "--format", "{p}"]))?);
    let path = project.root.join(RECORD);
    if bless {
        let text = found.iter().flat_map(|name| [name, "\n"]).collect::<String>();
        fs::write(&path, text).with_context(|| format!("writing {RECORD}"))?;
        run::say(&format!("{RECORD}: {} crates recorded", found.len()));
        return Ok(());
    }
    let record = fs::read_to_string(&path).with_context(|| format!("reading {RECORD}"))?;
    let recorded: BTreeSet<&str> = record.lines().collect();
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    let list = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join(", ");
    let (new, gone) = (list(&found - &recorded), list(&recorded - &found));
    if !new.is_empty() || !gone.is_empty() {
        bail!(
            "the dependencies of portcullis-policy differ from {RECORD}: new: [{new}], gone: [{gone}]; \
             if that is meant, run `cargo xtask test --bless`"
        );
    }
    run::say(&format!("portcullis-policy uses the {} recorded crates", found.len()));
    Ok(())
}

/// The crates' names in `cargo tree`'s output, without the core itself.
fn names(tree: &str) -> BTreeSet<String> {
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "portcullis-policy").map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_crate_counts_once_and_the_core_not_at_all() {
        let tree = "portcullis-policy v0.1.0 (/x/policy)\nserde v1.0.0\nserde_core v1.0.0\nserde v1.0.0 (*)\n";
        assert_eq!(names(tree).into_iter().collect::<Vec<_>>(), ["serde", "serde_core"]);
    }
}
