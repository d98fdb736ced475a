//! The standard library's source and the C library for `wasm32-wasip1`, from Debian's packages `rust-src` and
//! `wasi-libc`.
//!
//! For machines where rustup reaches no server but apt reaches a Debian mirror. Apt runs with a list of sources and
//! folders of our own: nothing is installed and the system's lists stay as they are. The mirror is the one the machine
//! itself uses, and Debian's archive keyring vouches for what comes from it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{project::Project, run};

/// Suites that are asked, in groups: the second only when the first does not have our compiler's version.
const SUITES: [&[&str]; 2] = [&["trixie", "trixie-backports"], &["forky", "sid"]];

/// Debian's archive keys, by the names the package `debian-archive-keyring` has given the file.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// An unpacked standard library and C library.
pub(crate) struct Source {
    /// Rust's `library` folder.
    library: PathBuf,
    /// The folder of `libc.a`.
    wasi: PathBuf,
}

impl Source {
    /// The source for our compiler, if it was fetched before.
    pub(crate) fn cached(project: &Project) -> Result<Option<Self>> {
        let folder = folder(project, &rustc_version(project)?);
        Ok(folder.is_dir().then(|| Self::below(&folder)))
    }

    /// The source for our compiler, fetched if need be.
    pub(crate) fn provide(project: &Project) -> Result<Self> {
        let version = rustc_version(project)?;
        let folder = folder(project, &version);
        if !folder.is_dir() {
            fetch(project, &version, &folder)
                .with_context(|| format!("fetching the standard library's source for Rust {version} from Debian"))?;
        }
        Ok(Self::below(&folder))
    }

    fn below(folder: &Path) -> Self {
        Self { library: folder.join("library"), wasi: folder.join("wasi") }
    }

    /// What makes a stable cargo build the standard library from this source. Our own crates do not get unstable
    /// features by it unless they ask for them.
    pub(crate) fn environment(&self) -> [(&'static str, &Path); 2] {
        [("__CARGO_TESTS_ONLY_SRC_ROOT", &self.library), ("RUSTC_BOOTSTRAP", Path::new("1"))]
    }

    /// Compiler flags: link with the toolchain's own `rust-lld`, and with Debian's C library, because the toolchain brings
    /// neither for this target. No start file: the plugin has a start function of its own.
    pub(crate) fn flags(&self) -> Vec<String> {
        let wasi = self.wasi.display();
        vec![
            "-Clink-self-contained=no".to_owned(),
            "-Clinker=rust-lld".to_owned(),
            format!("-Lnative={wasi}"),
            self.remapped(),
        ]
    }

    /// The flag that hides where the source is.
    pub(crate) fn remapped(&self) -> String {
        format!("--remap-path-prefix={}=std", self.library.display())
    }
}

fn folder(project: &Project, version: &str) -> PathBuf {
    project.cache.join("wasm-std").join(version)
}

/// The compiler's version, such as `1.95.0`.
fn rustc_version(project: &Project) -> Result<String> {
    let mut command = run::program(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let text = run::output(command.current_dir(&project.root).arg("-vV"))?;
    let release = text.lines().find_map(|line| line.strip_prefix("release: "));
    Ok(release.context("`rustc -vV` names no release")?.to_owned())
}

/// Downloads both packages and keeps the two folders that are needed. The final rename makes them appear complete or
/// not at all.
fn fetch(project: &Project, version: &str, folder: &Path) -> Result<()> {
    let work = project.cache.join(format!("wasm-std-{version}.{}", std::process::id()));
    let fetched = download(&work, version).and_then(|()| {
        for package in debs(&work)? {
            run::output(Command::new("dpkg-deb").arg("-x").arg(package).arg(work.join("unpacked")))?;
        }
        let done = work.join("done");
        fs::create_dir(&done)?;
        let unpacked = work.join("unpacked").join("usr");
        let library = unpacked.join("src").join(format!("rustc-{version}")).join("library");
        fs::rename(&library, done.join("library")).context("`rust-src` has no standard library")?;
        let wasi = unpacked.join("lib").join("wasm32-wasi");
        fs::rename(&wasi, done.join("wasi")).context("`wasi-libc` has no library for WASI")?;
        fs::create_dir_all(project.cache.join("wasm-std"))?;
        // Another process may have been first; then its folder is as good.
        fs::rename(&done, folder).or_else(|error| if folder.is_dir() { Ok(()) } else { Err(error) })?;
        Ok(())
    });
    // Hundreds of megabytes that nobody needs any more; a rest is only a waste of space.
    let _ = fs::remove_dir_all(&work);
    fetched
}

/// Downloads both packages into `work`.
fn download(work: &Path, version: &str) -> Result<()> {
    let Some(keyring) = KEYRINGS.iter().find(|keyring| Path::new(keyring).is_file()) else {
        bail!("this is no Debian with its archive keyring (package `debian-archive-keyring`)");
    };
    let mirrors = mirrors(&run::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ]))?);
    let mut failures = Vec::new();
    for mirror in &mirrors {
        for suites in SUITES {
            match try_mirror(work, version, mirror, keyring, suites) {
                Ok(()) => return Ok(()),
                Err(error) => failures.push(format!("{}: {error:#}", suites.join(", "))),
            }
        }
    }
    if mirrors.is_empty() {
        bail!("apt has no sources");
    }
    bail!("no mirror has it:\n  {}", failures.join("\n  "))
}

/// One attempt, in an empty folder.
fn try_mirror(work: &Path, version: &str, mirror: &str, keyring: &str, suites: &[&str]) -> Result<()> {
    if work.exists() {
        fs::remove_dir_all(work)?;
    }
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(work.join(folder))?;
    }
    let lines = suites.iter().map(|suite| format!("deb [signed-by={keyring}] {mirror} {suite} main\n"));
    fs::write(work.join("sources.list"), lines.collect::<String>())?;
    run::say(&format!("fetching rust-src {version} and wasi-libc by apt ({})", suites.join(", ")));
    // A suite that a mirror lacks is no error as long as the others have what we need: the next step decides.
    let _ = run::output(apt("apt-get", work).args(["update", "-q"]));
    let known = run::output(apt("apt-cache", work).args(["madison", "rust-src"]))?;
    let Some(package) = package_version(&known, version) else { bail!("no rust-src {version}") };
    run::output(apt("apt-get", work).args(["download", "-q", &format!("rust-src={package}"), "wasi-libc"]))?;
    Ok(())
}

/// An apt program that reads and writes only below `work` and does not need root.
fn apt(name: &str, work: &Path) -> Command {
    let mut command = run::program(name);
    command.current_dir(work);
    for (option, place) in [
        ("Dir::Etc::SourceList", "sources.list"),
        ("Dir::State::Lists", "lists"),
        ("Dir::Cache", "cache"),
        ("Dir::Etc::SourceParts", "none"),
    ] {
        command.arg("-o").arg(format!("{option}={}", work.join(place).display()));
    }
    // Without it apt complains that its own user cannot write to our folder.
    command.args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"]);
    command
}

/// The addresses of the machine's own sources, without the security archive, which has no compilers.
fn mirrors(targets: &str) -> Vec<String> {
    let mut mirrors = Vec::new();
    for address in targets.lines().map(str::trim) {
        let is_debian = address.trim_end_matches('/').rsplit('/').next() == Some("debian");
        if is_debian && !mirrors.iter().any(|known| known == address) {
            mirrors.push(address.to_owned());
        }
    }
    mirrors
}

/// Debian's version (`1.95.0+dfsg1-2~bpo13+1`) of exactly this upstream version, from `apt-cache madison`.
fn package_version<'a>(madison: &'a str, version: &str) -> Option<&'a str> {
    madison
        .lines()
        .filter_map(|line| Some(line.split('|').nth(1)?.trim()))
        .find(|package| package.strip_prefix(version).is_some_and(|rest| rest.starts_with(['+', '-', '~'])))
}

fn debs(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_compiler_version_is_taken() {
        let known = "  rust-src | 1.96.1+dfsg1-2~bpo13+1 | http://mirror/debian trixie-backports/main amd64 Packages
  rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://mirror/debian trixie-backports/main amd64 Packages
  rust-src | 1.85.1+dfsg1-1+deb13u1 | http://mirror/debian trixie/main amd64 Packages";
        assert_eq!(package_version(known, "1.95.0"), Some("1.95.0+dfsg1-2~bpo13+1"));
        assert_eq!(package_version(known, "1.95"), None);
        assert_eq!(package_version(known, "1.9"), None);
        assert_eq!(package_version("", "1.95.0"), None);
    }

    #[test]
    fn the_machines_debian_mirrors_are_asked_once_each() {
        let targets =
            "http://mirror/debian/\nhttp://mirror/debian/\nhttp://mirror/debian-security/\nhttps://other/apt\n";
        assert_eq!(mirrors(targets), ["http://mirror/debian/"]);
        assert!(mirrors("").is_empty());
    }
}
