//! The plugin as a WebAssembly module: `dist/plugin.wasm`.
//!
//! Two routes lead to the same module, and they differ only in where the standard library for `wasm32-wasip1` comes
//! from: rustup's prebuilt one, or Debian's source of exactly our compiler's version (see [`source`]) where rustup
//! reaches no server. Each route has a target folder of its own below cargo's, so that neither the other route nor
//! native builds are invalidated by its flags.

mod shrink;
pub(crate) mod source;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{project::Project, run};
use source::Source;

/// The module may not be larger than this, in bytes. Traefik compiles it once for every router that uses it and at
/// every reload: with 407 KB instead of 72 KB that took five times the processor time (design, section 2).
pub(crate) const BUDGET: u64 = 400_000;

/// The target that Traefik's plugin host runs.
pub(crate) const TARGET: &str = "wasm32-wasip1";

/// The target that browsers run.
const BROWSER: &str = "wasm32-unknown-unknown";

/// Rustup retries a server that does not answer for minutes; its download takes seconds.
const RUSTUP_LIMIT: Duration = Duration::from_secs(60);

/// Where the standard library comes from.
pub(crate) enum StandardLibrary {
    /// The toolchain has it installed.
    Target,
    /// Built with the plugin, from this source.
    Source(Source),
}

/// Builds the module as [`build`] does and fails above the [`BUDGET`].
pub(crate) fn build_within_budget(project: &Project) -> Result<PathBuf> {
    let module = build(project)?;
    let size = fs::metadata(&module)?.len();
    let shown = project.shown(&module);
    ensure!(size <= BUDGET, "{shown} is {} bytes above its budget of {BUDGET} bytes", size - BUDGET);
    Ok(module)
}

/// Builds the module, copies it to `dist/plugin.wasm` and prints its size. Returns its path. The demo and single tests
/// take this one: who tries something out is told of a module that is too large, but not kept from it.
pub(crate) fn build(project: &Project) -> Result<PathBuf> {
    let library = standard_library(project, TARGET)?;
    let mut command = run::cargo(project);
    // `--crate-type`: cargo links a library of several types without LTO (`cargo::core::compiler::lto`), and tests
    // want the plugin as a Rust library too. Without LTO it is a fifth larger (290 KB against 240 KB).
    command.args(["rustc", "--package", "portcullis-plugin", "--lib", "--crate-type", "cdylib"]);
    command.args(["--profile", "wasm", "--target", TARGET]);
    let folder = target_folder(project, &library);
    command.env("CARGO_TARGET_DIR", &folder);
    let mut flags = vec!["-Clink-arg=-zstack-size=65536".to_owned()];
    flags.extend(remapped(project));
    if let StandardLibrary::Source(source) = &library {
        command.args(["-Z", "build-std=std,panic_abort"]).envs(source.environment());
        flags.extend(source.flags());
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", encoded(env::var("CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS").ok(), &flags));
    run::check(&mut command)?;

    let built = folder.join(TARGET).join("wasm").join("portcullis_plugin.wasm");
    let module = project.dist().join("plugin.wasm");
    let size = publish(&shrink::shrink(project, &built)?, &module)?;
    let shown = project.shown(&module);
    run::say(&format!("{shown}: {size} bytes of {BUDGET}"));
    Ok(module)
}

/// Builds the policy core for browsers, copies it to `dist/console.wasm` and prints its size. Returns its path.
pub(crate) fn build_console(project: &Project) -> Result<PathBuf> {
    let library = standard_library(project, BROWSER)?;
    let mut command = run::cargo(project);
    command.args(["rustc", "--package", "portcullis-console", "--lib", "--crate-type", "cdylib"]);
    command.args(["--profile", "wasm", "--target", BROWSER]);
    let folder = target_folder(project, &library);
    command.env("CARGO_TARGET_DIR", &folder);
    let mut flags = remapped(project);
    if let StandardLibrary::Source(source) = &library {
        // Nothing of a C library, and the target's own linker is the toolchain's.
        command.args(["-Z", "build-std=std,panic_abort"]).envs(source.environment());
        flags.push(source.remapped());
    }
    let users = env::var("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS").ok();
    run::check(command.env("CARGO_ENCODED_RUSTFLAGS", encoded(users, &flags)))?;
    let built = folder.join(BROWSER).join("wasm").join("portcullis_console.wasm");
    let module = project.dist().join("console.wasm");
    let size = publish(&built, &module)?;
    run::say(&format!("{}: {size} bytes", project.shown(&module)));
    Ok(module)
}

/// Clippy on the plugin as it is built for Traefik; `false` where only the source route is open (its clippy would
/// check the whole standard library too).
pub(crate) fn clippy(project: &Project) -> Result<bool> {
    let library = standard_library(project, TARGET)?;
    if matches!(library, StandardLibrary::Source(_)) {
        return Ok(false);
    }
    let mut command = run::cargo(project);
    command.args(["clippy", "--package", "portcullis-plugin", "--target", TARGET, "--", "-D", "warnings"]);
    run::check(command.env("CARGO_TARGET_DIR", target_folder(project, &library)))?;
    Ok(true)
}

/// Finds a standard library, fetching it if need be. `PORTCULLIS_WASM_STD` forces one route.
fn standard_library(project: &Project, target: &str) -> Result<StandardLibrary> {
    let forced = env::var("PORTCULLIS_WASM_STD").unwrap_or_default();
    match forced.as_str() {
        "" => {}
        "target" => {
            ensure!(
                installed(project, target)? || installed_by_rustup(target),
                "the active toolchain has no standard library for {target}, and `rustup target add {target}` failed"
            );
            return Ok(StandardLibrary::Target);
        }
        "source" => return Ok(StandardLibrary::Source(Source::provide(project)?)),
        other => bail!("PORTCULLIS_WASM_STD is `{other}`: expected `target` or `source`"),
    }
    if installed(project, target)? {
        return Ok(StandardLibrary::Target);
    }
    // Before rustup, which may take its whole time limit on a machine that can reach no server.
    if let Some(source) = Source::cached(project)? {
        return Ok(StandardLibrary::Source(source));
    }
    if installed_by_rustup(target) {
        return Ok(StandardLibrary::Target);
    }
    run::say(&format!("rustup cannot install {target}: taking the standard library's source from Debian"));
    let source = Source::provide(project).with_context(|| {
        format!("no standard library for {target}; where rustup works, run `rustup target add {target}`")
    })?;
    Ok(StandardLibrary::Source(source))
}

/// Whether the active toolchain has the target's standard library.
fn installed(project: &Project, target: &str) -> Result<bool> {
    let mut command = run::program(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.current_dir(&project.root).args(["--print", "target-libdir", "--target", target]);
    let folder = run::output(&mut command)?;
    // Rustc names the folder also when it is not there.
    let Ok(entries) = fs::read_dir(folder.trim()) else { return Ok(false) };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.into_iter().any(|name| name.starts_with("libstd-")))
}

fn installed_by_rustup(target: &str) -> bool {
    // Rustup's own variable says which toolchain runs us; it adds the target to that one.
    run::succeeds_within(Command::new("rustup").args(["target", "add", target]), RUSTUP_LIMIT)
}

fn target_folder(project: &Project, library: &StandardLibrary) -> PathBuf {
    project.target.join(match library {
        StandardLibrary::Target => "plugin",
        StandardLibrary::Source(_) => "plugin-source",
    })
}

/// Panic messages hold file names: show them relative, so that the module is the same from every folder and tells
/// nothing about the machine that built it.
fn remapped(project: &Project) -> Vec<String> {
    let mut prefixes = vec![(project.root.clone(), "portcullis")];
    let home = env::var_os("HOME").map(PathBuf::from);
    if let Some(cargo) = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| home.map(|home| home.join(".cargo"))) {
        prefixes.push((cargo, "cargo"));
    }
    prefixes.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect()
}

/// The flags for `CARGO_ENCODED_RUSTFLAGS`, which allows spaces in paths and outranks `RUSTFLAGS`: what a user sets
/// there is meant for native code (`-Ctarget-cpu=native`, another linker). Flags for this target are kept and come
/// first. Build scripts and macros see none of it, because cargo is given a `--target`.
fn encoded(users: Option<String>, ours: &[String]) -> String {
    let users = users.unwrap_or_default();
    users.split_whitespace().chain(ours.iter().map(String::as_str)).collect::<Vec<_>>().join("\x1f")
}

/// Copies the module if it changed, in one step: a running Traefik or test never sees half of it. Returns its size.
fn publish(built: &Path, module: &Path) -> Result<u64> {
    let bytes = fs::read(built).with_context(|| format!("reading {}", built.display()))?;
    if !fs::read(module).is_ok_and(|present| present == bytes) {
        let folder = module.parent().context("the module has no folder")?;
        let temporary = module.with_extension(format!("wasm.{}", std::process::id()));
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        fs::write(&temporary, &bytes).with_context(|| format!("writing {}", temporary.display()))?;
        fs::rename(&temporary, module).with_context(|| format!("writing {}", module.display()))?;
    }
    Ok(bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_flags_for_the_target_come_before_ours() {
        let ours = ["-Clink-arg=-zstack-size=65536".to_owned(), "-Lnative=a folder".to_owned()];
        assert_eq!(
            encoded(Some(" -Cdebuginfo=1 ".to_owned()), &ours),
            "-Cdebuginfo=1\x1f-Clink-arg=-zstack-size=65536\x1f-Lnative=a folder"
        );
        assert_eq!(encoded(None, &ours[..1]), ours[0]);
    }

    #[test]
    fn an_unchanged_module_is_not_written_again() {
        let folder = env::temp_dir().join(format!("portcullis-xtask-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (built, module) = (folder.join("built.wasm"), folder.join("dist").join("plugin.wasm"));
        fs::write(&built, b"one").unwrap();
        assert_eq!(publish(&built, &module).unwrap(), 3);
        let first = fs::metadata(&module).unwrap().modified().unwrap();
        assert_eq!(publish(&built, &module).unwrap(), 3);
        assert_eq!(fs::metadata(&module).unwrap().modified().unwrap(), first);
        fs::write(&built, b"changed").unwrap();
        assert_eq!(publish(&built, &module).unwrap(), 7);
        assert_eq!(fs::read(&module).unwrap(), b"changed");
        assert_eq!(fs::read_dir(folder.join("dist")).unwrap().count(), 1, "the temporary file is gone");
        fs::remove_dir_all(&folder).unwrap();
    }
}
