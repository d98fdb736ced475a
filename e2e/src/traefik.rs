//! Real Traefik as a child process, configured by files in a folder of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::Client;
use crate::parts::{self, Parts};
use crate::ports;
use crate::process::{Process, Start, Usage};

/// The module name that the plugin has for Traefik.
const MODULE: &str = "github.com/portcullis-gate/portcullis";
/// Where the guest sees the policy folder.
pub const GUEST_POLICY: &str = "/policy";
/// Where the guest sees the state folder.
pub const GUEST_STATE: &str = "/state";
/// How long Traefik may take to be ready; it compiles the plugin at start.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How often a state is asked for while waiting.
const POLL: Duration = Duration::from_millis(20);

/// A plugin to load.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// The name that middlewares use.
    pub name: String,
    /// Traefik's module name for it.
    pub module: String,
    /// The built module.
    pub wasm: PathBuf,
    /// Its manifest (`.traefik.yml`), naming the module `plugin.wasm`; none: one is made up.
    pub manifest: Option<PathBuf>,
    /// A folder that the guest sees read-only below [`GUEST_POLICY`].
    pub policy: Option<PathBuf>,
    /// A folder that the guest may write to, below [`GUEST_STATE`].
    pub state: Option<PathBuf>,
}

impl Plugin {
    /// Portcullis itself, with the project's own manifest.
    pub fn portcullis(parts: &Parts, policy: Option<PathBuf>) -> Plugin {
        Plugin {
            name: "portcullis".to_owned(),
            module: MODULE.to_owned(),
            wasm: parts.plugin.clone(),
            manifest: Some(parts::root().join(".traefik.yml")),
            policy,
            state: None,
        }
    }

    /// The same with a state folder.
    #[must_use]
    pub fn with_state(self, folder: PathBuf) -> Plugin {
        Plugin { state: Some(folder), ..self }
    }
}

/// How to start Traefik.
#[derive(Debug, Clone)]
pub struct Options {
    /// The binary.
    pub binary: PathBuf,
    /// An empty folder for everything Traefik needs.
    pub folder: PathBuf,
    /// The folder with the dynamic configuration, watched.
    pub dynamic: PathBuf,
    /// The plugins.
    pub plugins: Vec<Plugin>,
    /// Whether to write an access log.
    pub access_log: bool,
    /// Whether the plain entry point believes the forwarded headers of local clients, as behind a front that ends TLS.
    pub trusts_local_front: bool,
    /// Variables for the process.
    pub environment: Vec<(&'static str, String)>,
}

/// A running Traefik.
#[derive(Debug)]
pub struct Traefik {
    process: Process,
    options: Options,
    /// What was added to the static configuration's `providers`.
    providers: Value,
    secure: SocketAddr,
    plain: SocketAddr,
    lenient: SocketAddr,
    internal: SocketAddr,
}

impl Traefik {
    /// Starts it and waits until it answers on its internal entry point.
    pub async fn start(options: Options) -> Result<Traefik> {
        Traefik::start_with(options, &json!({})).await
    }

    /// The same with further providers: the content of the static configuration's `providers`.
    pub async fn start_with(options: Options, providers: &Value) -> Result<Traefik> {
        let (secure, plain, lenient, internal) = (ports::free()?, ports::free()?, ports::free()?, ports::free()?);
        Traefik::start_at(options, providers.clone(), [secure, plain, lenient, internal]).await
    }

    /// Kills it as a crash would and starts it anew at the same addresses and on the same files.
    pub async fn crash(&mut self) -> Result<()> {
        self.process.kill();
        let addresses = [self.secure, self.plain, self.lenient, self.internal];
        *self = Traefik::start_at(self.options.clone(), self.providers.clone(), addresses).await?;
        Ok(())
    }

    async fn start_at(
        options: Options,
        providers: Value,
        [secure, plain, lenient, internal]: [SocketAddr; 4],
    ) -> Result<Traefik> {
        fs::create_dir_all(&options.folder)?;
        for plugin in &options.plugins {
            lay_out(&options.folder, plugin)?;
        }
        let file = options.folder.join("traefik.yml");
        // JSON is YAML: what Traefik reads stays plain data here, without quoting by hand.
        let mut configuration = static_configuration(&options, [secure, plain, lenient, internal]);
        for (name, provider) in providers.as_object().into_iter().flatten() {
            configuration["providers"][name] = provider.clone();
        }
        fs::write(&file, serde_json::to_string_pretty(&configuration)?)?;
        let process = Process::start(&Start {
            name: "traefik".to_owned(),
            program: options.binary.clone(),
            arguments: vec![format!("--configFile={}", file.display()).into()],
            environment: options.environment.clone(),
            directory: options.folder.clone(),
            log: options.folder.join("traefik.log"),
        })?;
        let mut traefik = Traefik { process, options, providers, secure, plain, lenient, internal };
        let deadline = Instant::now() + START_PATIENCE;
        while traefik.internal("/ping").await.is_err() {
            traefik.process.must_run()?;
            if Instant::now() > deadline {
                bail!("traefik is not ready after {START_PATIENCE:?}:\n{}", traefik.process.log_end());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(traefik)
    }

    /// How it was started.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The TLS entry point, `websecure`.
    pub fn secure(&self) -> SocketAddr {
        self.secure
    }

    /// The plain entry point, `web`.
    pub fn plain(&self) -> SocketAddr {
        self.plain
    }

    /// The entry point `lenient`: like `websecure`, and Traefik leaves paths as they came. Attacks that its defaults would
    /// clean away reach the plugin here.
    pub fn lenient(&self) -> SocketAddr {
        self.lenient
    }

    /// The address of its API.
    pub fn api(&self) -> String {
        format!("http://{}", self.internal)
    }

    /// Traefik's own log, JSON lines.
    pub fn log(&self) -> Result<Vec<Value>> {
        Ok(json_lines(&self.process.log()?))
    }

    /// The file with Traefik's own log.
    pub fn log_path(&self) -> &Path {
        self.process.log_path()
    }

    /// The access log so far, JSON lines.
    pub fn access_log(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.access_log_path()).context("reading the access log")?;
        Ok(json_lines(&text))
    }

    /// The file with the access log.
    pub fn access_log_path(&self) -> PathBuf {
        self.options.folder.join("access.log")
    }

    /// Memory and processor time.
    pub fn usage(&self) -> Result<Usage> {
        self.process.usage()
    }

    /// How many configurations it has taken since start.
    pub async fn reloads(&self) -> Result<u64> {
        let metrics = self.internal("/metrics").await?;
        let line = metrics.lines().find_map(|line| line.strip_prefix("traefik_config_reloads_total "));
        let value: f64 = line.context("no reload counter in the metrics")?.trim().parse()?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a counter of whole numbers
        Ok(value as u64)
    }

    /// Waits until it has taken more than `before` configurations.
    pub async fn reloaded(&self, before: u64, patience: Duration) -> Result<u64> {
        let deadline = Instant::now() + patience;
        loop {
            let now = self.reloads().await?;
            if now > before {
                return Ok(now);
            }
            if Instant::now() > deadline {
                bail!("no reload within {patience:?}, the counter stays at {now}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until the router (`name@provider`) is there and enabled.
    pub async fn router(&mut self, name: &str, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let answer = self.internal(&format!("/api/http/routers/{name}")).await;
            let router: Option<Value> = answer.as_ref().ok().and_then(|text| serde_json::from_str(text).ok());
            let enabled = router.as_ref().and_then(|router| router.get("status")).is_some_and(|s| s == "enabled");
            if enabled {
                return Ok(());
            }
            self.process.must_run()?;
            if Instant::now() > deadline {
                bail!("router {name} is not enabled after {patience:?}: {answer:?}\n{}", self.process.log_end());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What the internal entry point (API, metrics, ping) answers; an error for any status but 200.
    pub async fn internal(&self, path: &str) -> Result<String> {
        let answer = Client::plain(self.internal).get("localhost", path, &[]).await?;
        if answer.status != 200 {
            bail!("{path} answered {}: {}", answer.status, answer.text());
        }
        Ok(answer.text())
    }
}

fn static_configuration(options: &Options, [secure, plain, lenient, internal]: [SocketAddr; 4]) -> Value {
    let mut plugins = serde_json::Map::new();
    for plugin in &options.plugins {
        let policy = plugin.policy.iter().map(|folder| format!("{}:{GUEST_POLICY}:ro", folder.display()));
        let state = plugin.state.iter().map(|folder| format!("{}:{GUEST_STATE}", folder.display()));
        let mounts: Vec<String> = policy.chain(state).collect();
        plugins.insert(plugin.name.clone(), json!({"moduleName": plugin.module, "settings": {"mounts": mounts}}));
    }
    let mut configuration = json!({
        "global": {"checkNewVersion": false, "sendAnonymousUsage": false},
        "entryPoints": {
            "websecure": {"address": secure.to_string()},
            "web": {
                "address": plain.to_string(),
                "forwardedHeaders": {"trustedIPs": if options.trusts_local_front { vec!["127.0.0.1/32"] } else { vec![] }},
            },
            // Everything else is as `websecure` has it.
            "lenient": {"address": lenient.to_string(), "http": {"sanitizePath": false}},
            "internal": {"address": internal.to_string()},
        },
        "api": {"insecure": false},
        "ping": {"entryPoint": "internal"},
        "metrics": {"prometheus": {"entryPoint": "internal"}},
        "log": {"level": "INFO", "format": "json"},
        "providers": {
            // The default of two seconds would only make the tests slower.
            "providersThrottleDuration": "50ms",
            "file": {"directory": options.dynamic, "watch": true},
        },
    });
    // Traefik takes no empty map here.
    if !plugins.is_empty() {
        configuration["experimental"] = json!({"abortOnPluginFailure": true, "localPlugins": plugins});
    }
    if options.access_log {
        let keep = |name: &str| (format!("X-Portcullis-{name}"), json!("keep"));
        let names: serde_json::Map<String, Value> =
            ["Source", "Destination", "Decision", "Rule", "Shadow"].into_iter().map(keep).collect();
        configuration["accessLog"] = json!({
            "format": "json",
            "filePath": options.folder.join("access.log"),
            "fields": {"headers": {"defaultMode": "drop", "names": names}},
        });
    }
    configuration
}

/// The internal router of the API; part of every dynamic configuration, since `api.insecure` would take an entry point
/// with a fixed name and port.
pub fn api_router() -> Value {
    json!({"rule": "PathPrefix(`/api`)", "entryPoints": ["internal"], "service": "api@internal"})
}

fn lay_out(folder: &Path, plugin: &Plugin) -> Result<()> {
    let place = folder.join("plugins-local/src").join(&plugin.module);
    fs::create_dir_all(&place)?;
    fs::copy(&plugin.wasm, place.join("plugin.wasm")).with_context(|| format!("copying {}", plugin.wasm.display()))?;
    let manifest = match &plugin.manifest {
        Some(file) => fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?,
        None => json!({
            "displayName": plugin.name, "type": "middleware", "runtime": "wasm", "summary": "under test",
            "wasmPath": "plugin.wasm", "testData": {},
        })
        .to_string(),
    };
    fs::write(place.join(".traefik.yml"), manifest)?;
    Ok(())
}

/// Lines that are not JSON are left out: Go's runtime writes plain text when it dies, and that is shown elsewhere.
fn json_lines(text: &str) -> Vec<Value> {
    // The last line may be half written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
