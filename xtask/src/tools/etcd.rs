//! etcd: where kube-apiserver keeps its objects. Used by tests only.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use super::{DEBIANS, Part, is_root, only_file};
use crate::{project::Project, run};

/// kube-apiserver 1.36 works on Debian's 3.4.
pub(super) const PART: Part = Part { name: "etcd", variable: "ETCD", fetched: DEBIANS, oldest: (3, 4), version, fetch };

/// Unpacked, not installed: installing it would start a service.
fn fetch(_: &Project, work: &Path, file: &Path) -> Result<()> {
    let (packages, unpacked) = (work.join("packages"), work.join("unpacked"));
    fs::create_dir(&packages)?;
    run::say("fetching etcd-server by apt-get");
    if is_root() {
        // The lists may be older than the packages on the mirror; an update that fails leaves them as they are.
        let _ = run::output(run::program("apt-get").args(["update", "-q"]));
    }
    let mut download = run::program("apt-get");
    run::output(download.args(["download", "-q", "etcd-server"]).current_dir(&packages))
        .context("etcd is a package of Debian's: `etcd-server`")?;
    let package = only_file(&packages)?;
    run::output(run::program("dpkg").arg("-x").arg(package).arg(&unpacked))?;
    fs::rename(unpacked.join("usr/bin/etcd"), file).context("the package holds no usr/bin/etcd")
}

/// `etcd Version: 3.4.23`
fn version(etcd: &Path) -> Result<String> {
    let text = run::output(Command::new(etcd).arg("--version"))?;
    let version = text.lines().find_map(|line| line.strip_prefix("etcd Version: "));
    Ok(version.with_context(|| format!("`{} --version` prints no version", etcd.display()))?.trim().to_owned())
}
