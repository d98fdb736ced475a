//! The configuration file of `portcullis run`: one struct a concern, unknown keys refused, relative paths relative to the file.

use std::path::{Path, PathBuf};

use portcullis_policy::{Action, PolicySettings};
use serde::Deserialize;

pub use crate::control::config::ConsulPolicy;
pub use crate::limits::config::{LimitsConfig, MetricsConfig, RedisConfig, StoreDown};
use crate::{
    consul::{CatalogConfig, ConsulConfig},
    external::ExternalConfig,
    gate::kv::GateKv,
    history,
    jwks::config::JwksConfig,
    kube::{self, ClusterConfig},
    sources::{self, SourceError, SourceErrors},
    sync::SyncOptions,
};

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// A directory of Kubernetes manifests: Services, Nodes, EndpointSlices; it stands for the cluster that `sync.clusterName`
    /// names (default: none; then there is at least one of `clusters`).
    #[serde(default)]
    pub manifests: Option<PathBuf>,
    /// Kubernetes clusters that are read from their API servers (default: none).
    #[serde(default)]
    pub clusters: Vec<ClusterConfig>,
    /// Who may call whom.
    pub policy: PolicyConfig,
    /// How the keys of JWT providers are fetched.
    #[serde(default)]
    pub jwks: JwksConfig,
    /// Where the compiled policy goes.
    pub snapshot: SnapshotConfig,
    /// The routers that guard the services.
    pub gate: GateConfig,
    /// How services become registrations.
    #[serde(default)]
    pub sync: SyncOptions,
    /// Limits on this host and across hosts (default: the sidecar has nothing to do with them).
    #[serde(default)]
    pub limits: Option<LimitsConfig>,
    /// Where the sidecar's numbers can be had (default: nowhere).
    #[serde(default)]
    pub metrics: Option<MetricsConfig>,
    /// The Consul that is kept in step (default: none; nothing is written anywhere else than to files).
    #[serde(default)]
    pub consul: Option<ConsulConfig>,
    /// Services that others registered in that Consul.
    #[serde(default)]
    pub catalog: CatalogConfig,
    /// Services on machines without an agent (default: none).
    #[serde(default)]
    pub external: Option<ExternalConfig>,
    /// What `portcullis doctor` looks at.
    #[serde(default)]
    pub doctor: DoctorConfig,
}

/// What `portcullis doctor` looks at beside the rest.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DoctorConfig {
    /// Where Traefik's API is, like `http://127.0.0.1:8080` (default: it is not asked).
    #[serde(default)]
    pub traefik: Option<String>,
}

/// Where policy is read: at least one of a directory, Consul and clusters with `policy: true`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyConfig {
    /// A directory of config entries and API keys (default: none, if there is another source).
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// Consul's config entries, CA roots and keys (default: not read).
    #[serde(default)]
    pub consul: Option<ConsulPolicy>,
    /// What happens when no intention applies (default: deny). Keep it equal to Consul's `default_intention_policy`.
    #[serde(default = "deny")]
    pub default: Action,
    /// Accepted trust domains, as in `TrustDomain` of Consul's `/v1/connect/ca/roots` (default: none, so every certificate is refused).
    #[serde(default)]
    pub trust_domains: Vec<String>,
}

/// Where the snapshot is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotConfig {
    /// The file. Its directory is what Traefik mounts into the plugin, read-only; a tmpfs is a good place.
    pub file: PathBuf,
    /// How many past snapshots are kept for `portcullis rollback`, the one in force included (default: 10).
    #[serde(default = "keep")]
    pub keep: usize,
    /// How many megabytes they may have together (default: 64). The newest is kept in any case.
    #[serde(default = "keep_megabytes")]
    pub keep_megabytes: u64,
    /// The folder that they are kept in (default: `.history` beside the file).
    #[serde(default)]
    pub history: Option<PathBuf>,
}

impl SnapshotConfig {
    /// The folder of past snapshots.
    pub(crate) fn history_folder(&self) -> PathBuf {
        self.history.clone().unwrap_or_else(|| history::beside(&self.file))
    }
}

/// How the gate's routers are written (design §2).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GateConfig {
    /// The file that Traefik's file provider reads (default: none, and then there is `kv`).
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Consul's key-value store, for gateways whose Traefik reads its routers there (default: not written).
    #[serde(default)]
    pub kv: Option<GateKv>,
    /// Name of the plugin in Traefik's static configuration (default: portcullis).
    #[serde(default = "plugin_name")]
    pub plugin: String,
    /// The snapshot as the plugin sees it (default: `/policy/policy.snapshot`).
    #[serde(default)]
    pub snapshot: Option<String>,
    /// Entry points of services that name none (default: Traefik's defaults).
    #[serde(default)]
    pub entry_points: Vec<String>,
    /// TLS of the routers; absent: routers without TLS, unless a service's annotation asks for it.
    #[serde(default)]
    pub tls: Option<GateTls>,
    /// Whether client certificates are an identity, and who verifies them (default: off).
    #[serde(default)]
    pub client_certificate: ClientCertificate,
    /// The request header that carries API keys (default: none, so that keys are not accepted).
    #[serde(default)]
    pub api_key_header: Option<String>,
    /// Further settings of the plugin, passed as they are (`reloadMilliseconds`, `logDenied`, `revealRule`).
    #[serde(default)]
    pub plugin_settings: serde_json::Map<String, serde_json::Value>,
}

/// TLS of the gate's routers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GateTls {
    /// Name of the TLS options, with its provider (`mtls@file`) (default: Traefik's default options).
    #[serde(default)]
    pub options: Option<String>,
    /// Name of the certificate resolver (default: none).
    #[serde(default)]
    pub cert_resolver: Option<String>,
}

/// How far the client certificate that Traefik hands on can be trusted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClientCertificate {
    /// It is not an identity.
    #[default]
    Off,
    /// The TLS options verify every client certificate against the mesh's CA (`VerifyClientCertIfGiven` or
    /// `RequireAndVerifyClientCert`).
    VerifiedByTraefik,
    /// The plugin verifies them against the CA roots in the policy; Traefik only asks for one (`RequestClientCert` or
    /// `RequireAnyClientCert`).
    Verify,
}

impl Config {
    /// Reads a configuration file.
    pub fn load(path: &Path) -> Result<Self, SourceErrors> {
        const HINT: &str = "see docs/reference/configuration.md";
        let at = path.display().to_string();
        let invalid = |what: String| SourceErrors(vec![SourceError::new(&at, what, HINT)]);
        let [file] = <[_; 1]>::try_from(sources::files(path).map_err(SourceErrors)?)
            .map_err(|_| invalid("a file is needed, not a directory".to_owned()))?;
        let text = file.read().map_err(|error| SourceErrors(vec![error]))?;
        let mut config: Self = serde_saphyr::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        config.sync.validate().map_err(|error| invalid(format!("sync: {error}")))?;
        let base = path.parent().unwrap_or(Path::new(""));
        if let Some(manifests) = &mut config.manifests {
            *manifests = base.join(&*manifests);
        }
        let places = [&mut config.snapshot.file].into_iter().chain(&mut config.policy.directory);
        for place in places.chain(&mut config.gate.file) {
            *place = base.join(&*place);
        }
        if let Some(history) = &mut config.snapshot.history {
            *history = base.join(&*history);
        }
        if !(1..=1000).contains(&config.snapshot.keep) {
            return Err(invalid("snapshot: keep is 1 to 1000".to_owned()));
        }
        config.jwks.resolve(base, &config.snapshot.file).map_err(|what| invalid(format!("jwks: {what}")))?;
        let taken = config.manifests.as_ref().map(|_| config.sync.cluster_name.as_str());
        kube::config::prepare(&mut config.clusters, &config.sync, taken, base).map_err(invalid)?;
        if config.manifests.is_none() && config.clusters.is_empty() {
            return Err(invalid("there is no source: one of manifests and clusters is needed".to_owned()));
        }
        if config.consul.is_none() && config.clusters.iter().any(|cluster| cluster.to_kubernetes.is_some()) {
            return Err(invalid("clusters: toKubernetes needs the section consul".to_owned()));
        }
        config.limits.as_mut().map_or(Ok(()), |limits| limits.resolve(base)).map_err(invalid)?;
        if let Some(consul) = &mut config.consul {
            consul.resolve(base);
        }
        if let Some(consul) = &config.consul {
            let all = config.clusters_options();
            all.iter().try_for_each(|it| consul.validate(it)).map_err(|what| invalid(format!("consul: {what}")))?;
        }
        if let Some(consul) = &mut config.policy.consul {
            consul.resolve(base);
            consul.validate().map_err(|what| invalid(format!("policy.consul: {what}")))?;
        }
        let has_policy = config.policy.directory.is_some() || config.policy.consul.is_some();
        if !has_policy && !config.clusters.iter().any(|cluster| cluster.policy) {
            let what = "policy: there is no source: one of directory, consul and a cluster with policy: true is needed";
            return Err(invalid(what.to_owned()));
        }
        config.catalog.validate().map_err(|what| invalid(format!("catalog: {what}")))?;
        if let Some(external) = &mut config.external {
            external.validate().map_err(|what| invalid(format!("external: {what}")))?;
            external.directory = base.join(&external.directory);
            if let Some(file) = &mut external.ca_file {
                *file = base.join(&*file);
            }
            if config.consul.is_some() && !config.catalog.watch {
                return Err(invalid(
                    "external: with consul it needs catalog.watch: true, to see what the leader probes".to_owned(),
                ));
            }
        }
        match (&config.gate.file, &config.gate.kv) {
            (None, None) => return Err(invalid("gate: one of file and kv is needed".to_owned())),
            (_, Some(_)) if config.consul.is_none() => {
                return Err(invalid("gate: kv needs the section consul".to_owned()));
            }
            (_, Some(kv)) => kv.validate().map_err(|what| invalid(format!("gate: {what}")))?,
            _ => {}
        }
        let files = [&config.snapshot.file].into_iter().chain(&config.gate.file);
        if files.into_iter().any(|file| file.file_name().is_none()) {
            return Err(invalid("snapshot.file and gate.file must name files".to_owned()));
        }
        Ok(config)
    }

    /// The sync's options of each cluster: of the manifests' first, if there are any.
    pub fn clusters_options(&self) -> Vec<SyncOptions> {
        let manifests = self.manifests.iter().map(|_| self.sync.clone());
        // Those that cannot be had were refused when the file was read.
        manifests.chain(self.clusters.iter().filter_map(|cluster| cluster.options(&self.sync).ok())).collect()
    }
}

impl PolicyConfig {
    /// The part that the policy core needs.
    pub fn settings(&self) -> PolicySettings {
        PolicySettings {
            default: self.default,
            trust_domains: self.trust_domains.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
            protocols: std::collections::BTreeMap::new(),
        }
    }
}

fn deny() -> Action {
    Action::Deny
}

fn keep() -> usize {
    10
}

fn keep_megabytes() -> u64 {
    64
}

fn plugin_name() -> String {
    "portcullis".to_owned()
}
