//! `cargo deny`: licences, banned and doubled crates, and where crates come from, by `deny.toml`.

use std::path::PathBuf;

use anyhow::Result;

use crate::{project::Project, run, tools};

/// The version that is installed where there is none.
const VERSION: &str = "0.20.2";

/// Runs the checks that need no database of advisories, which is a download of its own.
pub(crate) fn check(project: &Project) -> Result<()> {
    let mut command = run::program(program(project)?);
    command.current_dir(&project.root).args(["check", "licenses", "bans", "sources"]);
    run::check(&mut command)
}

/// The program on `PATH`, else the one in the cache, installed there on first use (four minutes on two cores).
fn program(project: &Project) -> Result<PathBuf> {
    if let Some(path) = tools::on_path("cargo-deny") {
        return Ok(path);
    }
    let folder = project.cache.join(format!("cargo-deny-{VERSION}"));
    let path = folder.join("bin").join(format!("cargo-deny{}", std::env::consts::EXE_SUFFIX));
    if !path.is_file() {
        run::say(&format!("installing cargo-deny {VERSION} into the cache: some minutes, once"));
        let mut install = run::cargo(project);
        // A target folder of cargo's own choice (a temporary one): its thousands of files are of no later use.
        install.env_remove("CARGO_TARGET_DIR").args(["install", "--quiet", "--locked", "--version", VERSION]);
        run::check(install.arg("cargo-deny").arg("--root").arg(&folder))?;
    }
    Ok(path)
}
