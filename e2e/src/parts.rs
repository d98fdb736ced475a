//! Where the real parts are: Traefik, the built plugin, the sidecar.
//!
//! An environment variable wins, then the project's own build results, then the search path, then the cache that
//! `cargo xtask` fills. In CI nothing may be skipped: with `PORTCULLIS_REQUIRE=1` a missing part is a failure.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::report;

/// The version of Traefik that `cargo xtask` fetches into the cache.
const TRAEFIK_VERSION: &str = "3.7.15";

/// The same for Consul and Envoy.
const CONSUL_VERSION: &str = "1.22.0";
const ENVOY_VERSION: &str = "1.36.4";
const KUBE_APISERVER_VERSION: &str = "1.36.3";

/// The same for consul-template.
const CONSUL_TEMPLATE_VERSION: &str = "0.41.1";

/// The files of the real parts.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The `traefik` binary.
    pub traefik: PathBuf,
    /// The built plugin.
    pub plugin: PathBuf,
    /// The sidecar's binary.
    pub sidecar: PathBuf,
}

/// The `redis-server` binary: Debian's package of that name.
pub fn redis() -> Result<PathBuf> {
    from_environment("REDIS_SERVER")
        .or_else(|| on_path("redis-server"))
        .context("missing: redis-server (variable REDIS_SERVER, or `cargo xtask tools`)")
}

/// For a test: the same, or `None` after a printed skip where it may be missing.
///
/// # Panics
/// With `PORTCULLIS_REQUIRE=1` when it is missing.
pub fn redis_for_test() -> Option<PathBuf> {
    or_skip(redis())
}

impl Parts {
    /// Finds all of them; the error names what lacks and what would supply it.
    pub fn find() -> Result<Parts> {
        let root = root();
        let traefik = from_environment("TRAEFIK")
            .or_else(|| on_path("traefik"))
            .or_else(|| cache().and_then(|cache| existing(cache.join(format!("traefik-{TRAEFIK_VERSION}/traefik")))));
        let plugin = from_environment("PORTCULLIS_WASM").or_else(|| existing(root.join("dist/plugin.wasm")));
        let sidecar = sidecar(&root);
        match (traefik, plugin, sidecar) {
            (Some(traefik), Some(plugin), Some(sidecar)) => Ok(Parts { traefik, plugin, sidecar }),
            (traefik, plugin, sidecar) => {
                let mut missing = Vec::new();
                if traefik.is_none() {
                    missing.push("traefik (variable TRAEFIK, or `cargo xtask tools`)");
                }
                if plugin.is_none() {
                    missing.push("the plugin (variable PORTCULLIS_WASM, or `cargo xtask wasm`)");
                }
                if sidecar.is_none() {
                    missing.push("the sidecar (variable PORTCULLIS_BIN, or `cargo build -p portcullis`)");
                }
                bail!("missing: {}", missing.join(", "))
            }
        }
    }

    /// What the found `traefik` says of itself, such as `3.7.15`.
    pub fn traefik_version(&self) -> Result<String> {
        let output = Command::new(&self.traefik).arg("version").stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.lines().find_map(|line| line.strip_prefix("Version:"));
        Ok(version.context("`traefik version` prints no version")?.trim().to_owned())
    }

    /// For a test: the parts, or `None` after a printed skip where they may be missing.
    ///
    /// # Panics
    /// With `PORTCULLIS_REQUIRE=1` when a part is missing.
    pub fn for_test() -> Option<Parts> {
        or_skip(Parts::find())
    }
}

/// The files of a real service mesh, to compare our verdicts with.
#[derive(Debug, Clone)]
pub struct Mesh {
    /// The `consul` binary.
    pub consul: PathBuf,
    /// The `envoy` binary.
    pub envoy: PathBuf,
}

impl Mesh {
    /// Finds both; the error names what lacks and what would supply it.
    pub fn find() -> Result<Mesh> {
        let consul = tool("CONSUL", "consul", CONSUL_VERSION);
        let envoy = tool("ENVOY", "envoy", ENVOY_VERSION);
        match (consul, envoy) {
            (Some(consul), Some(envoy)) => Ok(Mesh { consul, envoy }),
            (None, Some(_)) => bail!("missing: consul (variable CONSUL, or `cargo xtask tools`)"),
            (Some(_), None) => bail!("missing: envoy (variable ENVOY, or `cargo xtask tools`)"),
            (None, None) => bail!("missing: consul and envoy (variables CONSUL and ENVOY, or `cargo xtask tools`)"),
        }
    }

    /// For a test: the parts, or `None` after a printed skip where they may be missing.
    ///
    /// # Panics
    /// With `PORTCULLIS_REQUIRE=1` when a part is missing.
    pub fn for_test() -> Option<Mesh> {
        or_skip(Mesh::find())
    }
}

/// The files of a registry and of what writes to it.
#[derive(Debug, Clone)]
pub struct RegistryParts {
    /// The `consul` binary.
    pub consul: PathBuf,
    /// The sidecar's binary.
    pub sidecar: PathBuf,
}

impl RegistryParts {
    /// Finds both; the error names what lacks and what would supply it.
    pub fn find() -> Result<RegistryParts> {
        let consul = tool("CONSUL", "consul", CONSUL_VERSION);
        Ok(RegistryParts {
            consul: consul.context("missing: consul (variable CONSUL, or `cargo xtask tools`)")?,
            sidecar: sidecar(&root())
                .context("missing: the sidecar (variable PORTCULLIS_BIN, or `cargo build -p portcullis`)")?,
        })
    }

    /// For a test: the parts, or `None` after a printed skip where they may be missing.
    ///
    /// # Panics
    /// With `PORTCULLIS_REQUIRE=1` when a part is missing.
    pub fn for_test() -> Option<RegistryParts> {
        or_skip(RegistryParts::find())
    }
}

/// The files of Kubernetes clusters, of the registry and of what stands between them.
#[derive(Debug, Clone)]
pub struct KubernetesParts {
    /// The `kube-apiserver` binary.
    pub kube_apiserver: PathBuf,
    /// The `etcd` binary.
    pub etcd: PathBuf,
    /// The registry and the sidecar.
    pub registry: RegistryParts,
}

impl KubernetesParts {
    /// Finds all; the error names what lacks and what would supply it.
    pub fn find() -> Result<KubernetesParts> {
        let kube_apiserver = tool("KUBE_APISERVER", "kube-apiserver", KUBE_APISERVER_VERSION);
        let etcd = tool("ETCD", "etcd", "debian");
        Ok(KubernetesParts {
            kube_apiserver: kube_apiserver
                .context("missing: kube-apiserver (variable KUBE_APISERVER, or `cargo xtask tools`)")?,
            etcd: etcd.context("missing: etcd (variable ETCD, or `cargo xtask tools`)")?,
            registry: RegistryParts::find()?,
        })
    }

    /// For a test: the parts, or `None` after a printed skip where they may be missing.
    ///
    /// # Panics
    /// With `PORTCULLIS_REQUIRE=1` when a part is missing.
    pub fn for_test() -> Option<KubernetesParts> {
        or_skip(KubernetesParts::find())
    }
}

/// The files of a registry, and of who renders a balancer's configuration from it.
#[derive(Debug, Clone)]
pub struct TemplateParts {
    /// Consul and the sidecar.
    pub registry: RegistryParts,
    /// The `consul-template` binary.
    pub consul_template: PathBuf,
    /// The `nginx` binary.
    pub nginx: PathBuf,
}

impl TemplateParts {
    /// Finds all of them; the error names what lacks and what would supply it.
    pub fn find() -> Result<TemplateParts> {
        let consul_template = tool("CONSUL_TEMPLATE", "consul-template", CONSUL_TEMPLATE_VERSION)
            .context("missing: consul-template (variable CONSUL_TEMPLATE, or `cargo xtask tools`)")?;
        let nginx = tool("NGINX_BINARY", "nginx", "debian")
            // On `PATH` for the superuser only.
            .or_else(|| existing(PathBuf::from("/usr/sbin/nginx")))
            .context("missing: nginx (variable NGINX_BINARY, or `cargo xtask tools`)")?;
        Ok(TemplateParts { registry: RegistryParts::find()?, consul_template, nginx })
    }

    /// For a test: the parts, or `None` after a printed skip where they may be missing.
    ///
    /// # Panics
    /// With `PORTCULLIS_REQUIRE=1` when a part is missing.
    pub fn for_test() -> Option<TemplateParts> {
        or_skip(TemplateParts::find())
    }
}

fn sidecar(root: &Path) -> Option<PathBuf> {
    from_environment("PORTCULLIS_BIN").or_else(|| {
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        newest([target.join("release/portcullis"), target.join("debug/portcullis")])
    })
}

fn tool(variable: &str, name: &str, version: &str) -> Option<PathBuf> {
    let cached = || cache().and_then(|it| existing(it.join(format!("{name}-{version}")).join(name)));
    from_environment(variable).or_else(|| on_path(name)).or_else(cached)
}

/// What was found, or a printed skip where it may be missing.
fn or_skip<T>(found: Result<T>) -> Option<T> {
    match found {
        Ok(parts) => Some(parts),
        Err(error) if env::var_os("PORTCULLIS_REQUIRE").is_some_and(|value| value == "1") => panic!("{error:#}"),
        Err(error) => {
            report::say(&format!("SKIPPED, nothing was tested: {error:#}"));
            None
        }
    }
}

/// The project's root folder.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

fn cache() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("PORTCULLIS_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|path| path.join("portcullis")))
        .or_else(|| set("HOME").map(|path| path.join(".cache/portcullis")))
}

/// A named part that is not there is an error later, not a reason to take another one quietly.
fn from_environment(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(|value| absolute(&value))
}

fn absolute(path: &OsStr) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path))
}

fn existing(path: PathBuf) -> Option<PathBuf> {
    path.is_file().then_some(path)
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The last built one: whoever rebuilt only one profile wants that.
fn newest(paths: [PathBuf; 2]) -> Option<PathBuf> {
    paths.into_iter().filter(|path| path.is_file()).max_by_key(|path| path.metadata().and_then(|m| m.modified()).ok())
}
