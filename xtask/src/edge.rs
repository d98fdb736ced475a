//! The demo and the benchmark: both are programs of the crate `portcullis-e2e` that run real Traefik with what was just
//! built. Here is only what they need around them.

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Result, ensure};

use crate::{project::Project, run, tools, wasm};

/// Starts the demo. Unoptimized, because a first start is what most people see, and it takes half as long that way.
pub(crate) fn demo(project: &Project, arguments: &[OsString]) -> Result<()> {
    start(project, "demo", "dev", "debug", arguments)
}

/// Starts the benchmark, optimized like a release.
pub(crate) fn bench(project: &Project, arguments: &[OsString]) -> Result<()> {
    start(project, "bench", "release", "release", arguments)
}

/// Builds everything that changed and becomes the program.
fn start(project: &Project, name: &str, profile: &str, folder: &str, arguments: &[OsString]) -> Result<()> {
    let module = wasm::build(project)?;
    let traefik = tools::traefik(project)?;
    build_programs(project, name, profile)?;
    let mut program = run::program(project.program(folder, name));
    program.args(arguments).current_dir(&project.root);
    program.env("TRAEFIK", traefik).env("PORTCULLIS_WASM", module).env("PORTCULLIS_BIN", sidecar(project, folder)?);
    run::become_program(&mut program)
}

/// Builds the sidecar and one program of the e2e crate in one go. `--workspace` keeps the features of shared
/// dependencies the same as in other builds of the workspace, so that nothing is compiled twice.
fn build_programs(project: &Project, name: &str, profile: &str) -> Result<()> {
    let mut build = run::cargo(project);
    run::check(build.args(["build", "--workspace", "--profile", profile, "--bin", "portcullis", "--bin", name]))
}

/// The sidecar's binary in a profile's folder, which cargo was just asked to build.
pub(crate) fn sidecar(project: &Project, folder: &str) -> Result<PathBuf> {
    let path = project.program(folder, "portcullis");
    ensure!(path.is_file(), "cargo did not build {}: is `build.target` set?", path.display());
    Ok(path)
}
