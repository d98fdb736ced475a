//! The demo and the benchmark: both are programs of the crate `portcullis-e2e` that run real Traefik with what was just
//! built. Here is only what they need around them.

use std::{ffi::OsString, path::PathBuf, process::Command};

use anyhow::{Result, bail, ensure};

use crate::{project::Project, run, tools, wasm};

/// The demo's option for the whole topology, which needs further real parts.
const FULL: &str = "--full";

/// Starts the demo. Unoptimized, because a first start is what most people see, and it takes half as long that way.
pub(crate) fn demo(project: &Project, arguments: &[OsString]) -> Result<()> {
    start(project, "demo", "dev", "debug", arguments)
}

/// The programs that measure, and what `--only` calls them.
const POLICY: (&str, &str) = ("policy-bench", "policy");
const REQUEST: (&str, &str) = ("bench", "request");
const LIMITS: (&str, &str) = ("limits", "limits");
const SYNC: (&str, &str) = ("sync", "sync");

/// Runs the benchmarks, optimized like a release: the cost of a decision, then that of a request on real Traefik; with
/// `--only`, one of them, the attacks on limits, or what it costs to keep Consul in step.
pub(crate) fn bench(project: &Project, arguments: &[OsString]) -> Result<()> {
    let (only, rest) = match arguments {
        [only, what, rest @ ..] if only == "--only" => (what.to_str(), rest),
        _ => (None, arguments),
    };
    match (only, arguments.len() == rest.len()) {
        (None, true) => {}
        (Some(what), _) if what == POLICY.1 => return run::become_program(policy_bench(project)?.args(rest)),
        (Some(what), _) if what == REQUEST.1 => return start(project, REQUEST.0, "release", "release", rest),
        (Some(what), _) if what == LIMITS.1 => return start(project, LIMITS.0, "release", "release", rest),
        (Some(what), _) if what == SYNC.1 => return run::become_program(sync_bench(project)?.args(rest)),
        _ => bail!("`--only` knows `{}`, `{}`, `{}` and `{}`", POLICY.1, REQUEST.1, LIMITS.1, SYNC.1),
    }
    let mut policy = policy_bench(project)?;
    // Where the tables are written to is the same file for both.
    if let Some([write, path]) = arguments.windows(2).find(|pair| pair[0] == "--write") {
        policy.args([write, path]);
    }
    // A budget that does not hold here is no reason not to measure the rest, but one to fail in the end.
    let held = run::check(&mut policy);
    let request = prepared(project, REQUEST.0, "release", "release", arguments);
    request.and_then(|mut program| run::check(&mut program)).and(held)
}

/// The benchmark of decisions, built.
fn policy_bench(project: &Project) -> Result<Command> {
    let module = wasm::build(project)?;
    run::check(run::cargo(project).args(["build", "--workspace", "--profile", "release", "--bin", POLICY.0]))?;
    let mut program = run::program(project.program("release", POLICY.0));
    program.current_dir(&project.root).env("PORTCULLIS_WASM", module);
    Ok(program)
}

/// The benchmark of the sync, built; it needs neither the plugin nor Traefik.
fn sync_bench(project: &Project) -> Result<Command> {
    build_programs(project, SYNC.0, "release")?;
    let mut program = run::program(project.program("release", SYNC.0));
    program.current_dir(&project.root).env("CONSUL", tools::consul(project)?);
    program.env("PORTCULLIS_BIN", sidecar(project, "release")?);
    Ok(program)
}

/// Builds everything that changed and becomes the program.
fn start(project: &Project, name: &str, profile: &str, folder: &str, arguments: &[OsString]) -> Result<()> {
    run::become_program(&mut prepared(project, name, profile, folder, arguments)?)
}

/// Builds everything that changed; the program, ready to be run.
fn prepared(project: &Project, name: &str, profile: &str, folder: &str, arguments: &[OsString]) -> Result<Command> {
    let module = wasm::build(project)?;
    let traefik = tools::traefik(project)?;
    build_programs(project, name, profile)?;
    let mut program = run::program(project.program(folder, name));
    program.args(arguments).current_dir(&project.root);
    program.env("TRAEFIK", traefik).env("PORTCULLIS_WASM", module).env("PORTCULLIS_BIN", sidecar(project, folder)?);
    if [REQUEST.0, LIMITS.0].contains(&name) {
        program.env("REDIS_SERVER", tools::redis(project)?);
    }
    if arguments.iter().any(|argument| argument == FULL) {
        program.env("CONSUL", tools::consul(project)?);
        program.env("KUBE_APISERVER", tools::kube_apiserver(project)?).env("ETCD", tools::etcd(project)?);
    }
    Ok(program)
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
