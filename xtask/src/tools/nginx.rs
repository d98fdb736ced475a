//! nginx: the balancer of the consul-template example.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use super::{DEBIANS, Part};
use crate::{project::Project, run};

/// Upstreams and names are all that the example asks for. (The variable `NGINX` is nginx's own: sockets that it inherits.)
pub(super) const PART: Part =
    Part { name: "nginx", variable: "NGINX_BINARY", fetched: DEBIANS, oldest: (1, 18), version, fetch };

/// Where Debian puts it, which is on `PATH` for the superuser only.
const INSTALLED: &str = "/usr/sbin/nginx";

/// `nginx version: nginx/1.22.1`, on standard error.
fn version(nginx: &Path) -> Result<String> {
    let output = Command::new(nginx).arg("-v").output().with_context(|| format!("starting {}", nginx.display()))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let version = text.split("nginx/").nth(1).and_then(|rest| rest.split_whitespace().next());
    Ok(version.with_context(|| format!("`{} -v` prints no version", nginx.display()))?.to_owned())
}

/// The installed one, else the program out of Debian's package: installing it would start a service.
fn fetch(_: &Project, work: &Path, file: &Path) -> Result<()> {
    if Path::new(INSTALLED).is_file() {
        fs::copy(INSTALLED, file)?;
        return Ok(());
    }
    ensure!(Path::new("/etc/debian_version").is_file(), "this is no Debian");
    // The lists may be older than the packages on the mirror; an update that fails leaves them as they are.
    let _ = run::output(run::program("apt-get").args(["update", "-q"]));
    run::output(run::program("apt-get").current_dir(work).args(["download", "-q", "nginx"]))?;
    for entry in fs::read_dir(work)? {
        let package = entry?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            run::output(run::program("dpkg-deb").arg("-x").arg(package).arg(work.join("unpacked")))?;
        }
    }
    fs::rename(work.join("unpacked/usr/sbin/nginx"), file).context("the package `nginx` holds no program")
}
