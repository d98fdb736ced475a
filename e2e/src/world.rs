//! Everything together: sample services, the sidecar on a copy of `testdata/demo`, and Traefik in front.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::backend::Backend;
use crate::certificates::{Authority, Caller, Identity};
use crate::client::Client;
use crate::parts::{self, Parts};
use crate::sidecar::{Layout, Sidecar};
use crate::traefik::{self, Options, Plugin, Traefik};

/// The sample services with the node port that `testdata/demo` gives them; the kernel's port takes its place.
pub const SERVICES: [(&str, u16); 3] = [("web", 30080), ("api", 30081), ("db", 30082)];
/// The hosts in the gateway's certificate, the last one without a route.
pub const HOSTS: [&str; 15] = [
    "web.localhost",
    "api.localhost",
    "db.localhost",
    "plain.localhost",
    "passed.localhost",
    "layers.localhost",
    "inline.localhost",
    "limited.localhost",
    "guest.localhost",
    "rate.localhost",
    "forward.localhost",
    "shop.localhost",
    "stock.localhost",
    "billing.localhost",
    "nowhere.localhost",
];
/// How long a router may take to appear.
const ROUTER_PATIENCE: Duration = Duration::from_secs(30);
/// The hash in `testdata/demo`'s key file: no text has it, so that the files as they lie there let nobody in.
const NO_HASH: &str =
    "sha256:00000000000000000000000000000000:0000000000000000000000000000000000000000000000000000000000000000";

/// What differs between the uses of a world.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Further Traefik routers, middlewares and services (the content of `http`), built from the backends' addresses.
    pub http: Value,
    /// Further plugins.
    pub plugins: Vec<Plugin>,
    /// Whether Traefik writes an access log.
    pub access_log: bool,
    /// Whether Traefik's plain entry point believes the forwarded headers of local clients.
    pub trusts_local_front: bool,
    /// Variables for Traefik.
    pub environment: Vec<(&'static str, String)>,
    /// A folder that the plugin may write to, below [`traefik::GUEST_STATE`].
    pub state: Option<PathBuf>,
    /// Further sections of the sidecar's configuration.
    pub sidecar: Value,
    /// Further or replaced files, relative to the world's folder.
    pub files: Vec<(PathBuf, String)>,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            http: json!({}),
            plugins: Vec::new(),
            access_log: true,
            trusts_local_front: false,
            environment: Vec::new(),
            state: None,
            sidecar: json!({}),
            files: Vec::new(),
        }
    }
}

/// The sample services, before anything else runs: their addresses are needed to write configurations.
#[derive(Debug)]
pub struct Backends {
    backends: Vec<(String, Backend)>,
}

/// A running world. Dropping it ends every process and removes the folder.
#[derive(Debug)]
pub struct World {
    /// The gateway; first, so that it ends first.
    pub traefik: Traefik,
    /// The sidecar; taken away to see what the gateway does without.
    pub sidecar: Option<Sidecar>,
    /// The sample services.
    pub backends: Backends,
    /// The sidecar's files.
    pub layout: Layout,
    /// Who signs.
    pub authority: Authority,
    /// The authority that the gateway does not know.
    pub stranger: Authority,
    /// The API key's text of the sample partner.
    pub api_key: String,
    parts: Parts,
    folder: TempDir,
}

impl Backends {
    /// Starts one instance of every sample service.
    pub async fn start() -> Result<Backends> {
        let mut backends = Vec::new();
        for (name, _) in SERVICES {
            backends.push((name.to_owned(), Backend::start(name, &format!("{name}-1")).await?));
        }
        Ok(Backends { backends })
    }

    /// One of them.
    ///
    /// # Panics
    /// For a name that is not in [`SERVICES`].
    pub fn get(&self, name: &str) -> &Backend {
        let found = self.backends.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("no sample service {name}")).1
    }

    /// The URL that Traefik reaches one of them by.
    pub fn url(&self, name: &str) -> String {
        format!("http://{}", self.get(name).address())
    }

    fn ports_in(&self, text: &str) -> String {
        SERVICES.iter().fold(text.to_owned(), |text, (name, port)| {
            text.replace(&port.to_string(), &self.get(name).address().port().to_string())
        })
    }
}

impl World {
    /// A world as `testdata/demo` describes it.
    pub async fn start(parts: &Parts) -> Result<World> {
        World::with(parts, Backends::start().await?, Setup::default()).await
    }

    /// A world with additions.
    pub async fn with(parts: &Parts, backends: Backends, setup: Setup) -> Result<World> {
        let folder = tempfile::Builder::new().prefix("portcullis-").tempdir().context("making a folder")?;
        let layout = Layout::new(folder.path())?;
        let (authority, stranger) = (Authority::new("portcullis sample")?, Authority::new("stranger")?);
        let key = ApiKey::new("partner")?;
        copy_templates(&parts::root().join("testdata/demo"), &layout, |text| {
            backends.ports_in(text).replace(NO_HASH, &key.hash)
        })?;
        for (path, text) in &setup.files {
            fs::write(folder.path().join(path), backends.ports_in(text))
                .with_context(|| format!("writing {}", path.display()))?;
        }
        layout.write_configuration_with(&setup.sidecar)?;
        write_own_configuration(&layout, &authority, setup.http)?;

        let sidecar = Sidecar::start(&parts.sidecar, &layout).await?;
        let mut plugins = setup.plugins;
        let plugin = Plugin::portcullis(parts, Some(layout.snapshots()));
        plugins.push(Plugin { state: setup.state, ..plugin });
        let traefik = start_gateway(Options {
            binary: parts.traefik.clone(),
            folder: folder.path().join("traefik"),
            dynamic: layout.dynamic(),
            plugins,
            access_log: setup.access_log,
            trusts_local_front: setup.trusts_local_front,
            environment: setup.environment,
        })
        .await?;
        Ok(World {
            traefik,
            sidecar: Some(sidecar),
            backends,
            layout,
            authority,
            stranger,
            api_key: key.text,
            parts: parts.clone(),
            folder,
        })
    }

    /// Ends Traefik and starts it anew on the same files: no guest has seen a policy before. Its ports are others, so
    /// clients made before are of no use.
    pub async fn restart_traefik(&mut self) -> Result<()> {
        let options = self.traefik.options().clone();
        self.traefik = start_gateway(options).await?;
        Ok(())
    }

    /// The world's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The files of the real parts.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// A client that shows no certificate.
    pub fn anonymous(&self) -> Result<Client> {
        Client::tls(self.traefik.secure(), &self.authority, None)
    }

    /// A client with the certificate of the sample caller `name`.
    pub fn caller(&self, name: &str) -> Result<Client> {
        self.client(&self.authority.client(&Caller::named(name))?)
    }

    /// A client with any certificate.
    pub fn client(&self, identity: &Identity) -> Result<Client> {
        Client::tls(self.traefik.secure(), &self.authority, Some(identity))
    }

    /// The authority's certificate file.
    pub fn authority_file(&self) -> PathBuf {
        self.folder().join("certificates/ca.pem")
    }
}

async fn start_gateway(options: Options) -> Result<Traefik> {
    let mut traefik = Traefik::start(options).await?;
    traefik.router("own-api@file", ROUTER_PATIENCE).await?;
    traefik.router("gate@file", ROUTER_PATIENCE).await?;
    Ok(traefik)
}

/// Writes the part of Traefik's configuration that is the operator's own: TLS, and what the test adds.
pub fn write_own_configuration(layout: &Layout, authority: &Authority, mut http: Value) -> Result<()> {
    let certificates = layout.root().join("certificates");
    fs::create_dir_all(&certificates)?;
    let ca = certificates.join("ca.pem");
    fs::write(&ca, authority.pem())?;
    let server = authority.server(&HOSTS)?.write(&certificates, "gateway")?;
    http["routers"]["own-api"] = traefik::api_router();
    let configuration = json!({
        "http": http,
        "tls": {
            "stores": {"default": {"defaultCertificate": {"certFile": server, "keyFile": server}}},
            "options": {"mtls": {
                "minVersion": "VersionTLS12",
                // A certificate that is shown must be good; none is a matter of the policy (API keys).
                "clientAuth": {"caFiles": [ca], "clientAuthType": "VerifyClientCertIfGiven"},
            }},
        },
    });
    fs::write(layout.dynamic().join("own.yml"), serde_json::to_string_pretty(&configuration)?)
        .context("writing Traefik's own configuration")
}

fn copy_templates(source: &Path, layout: &Layout, fill: impl Fn(&str) -> String) -> Result<()> {
    for (from, to) in [("kubernetes", layout.manifests()), ("policy", layout.policy())] {
        let from = source.join(from);
        for entry in fs::read_dir(&from).with_context(|| format!("reading {}", from.display()))? {
            let path = entry?.path();
            if path.is_file() {
                let name = path.file_name().context("a file without a name")?;
                fs::write(to.join(name), fill(&fs::read_to_string(&path)?))?;
            }
        }
    }
    Ok(())
}

/// An API key: the text for the caller, the hash for the policy.
#[derive(Debug)]
pub struct ApiKey {
    /// `pcl_<id>_<secret>`.
    pub text: String,
    /// `sha256:<salt>:<hash of salt and secret>`.
    pub hash: String,
}

impl ApiKey {
    /// A fresh key.
    pub fn new(id: &str) -> Result<ApiKey> {
        let mut salt = [0; 16];
        let mut secret = [0; 20];
        for bytes in [&mut salt[..], &mut secret[..]] {
            getrandom::fill(bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        }
        let secret = hex(&secret);
        let digest = Sha256::new().chain_update(salt).chain_update(secret.as_bytes()).finalize();
        Ok(ApiKey { text: format!("pcl_{id}_{secret}"), hash: format!("sha256:{}:{}", hex(&salt), hex(&digest)) })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_files_hold_every_placeholder() {
        let demo = parts::root().join("testdata/demo");
        let key = fs::read_to_string(demo.join("policy/partner-key.yaml")).unwrap();
        assert!(key.contains(&format!("Hash: {NO_HASH}\n")));
        for (name, port) in SERVICES {
            let service = fs::read_to_string(demo.join(format!("kubernetes/{name}.yaml"))).unwrap();
            assert!(service.contains(&format!("nodePort: {port}}}")), "{name}");
        }
    }
}
