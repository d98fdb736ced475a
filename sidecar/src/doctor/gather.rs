//! Asks whoever there is to ask: Traefik's API, Consul, files. Everything is bounded in time and size, and what cannot be had
//! is told as such.

use std::{fs, path::Path, time::Duration};

use k8s_openapi::jiff::{Timestamp, fmt::rfc2822};
use portcullis_authoring::compile;
use portcullis_policy::{Severity, Snapshot};
use reqwest::{Url, header::DATE, redirect::Policy};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Changes, Clock, EntryPoint, Expected, Facts, Problems, Raw, Right, SnapshotState, TlsOptions, Traefik};
use crate::{
    config::Config,
    consul::{self, Client, ConsulConfig, Scope, client::Asked},
    control,
    history::{History, Numbers, Pinned},
    jwks,
    kube::Cluster,
    policy, sources,
    sync::{SyncOptions, desired, routes},
};

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer of Traefik that is read, in bytes: some hundred thousand routers.
const MAX_ANSWER: usize = 256 << 20;
/// A name that no service, key or node has: what is allowed for it is allowed by a prefix.
const ANY: &str = "portcullis-doctor";

/// Looks at everything. `traefik` is the address of its API; `clusters` are the sources as they are now, or why they cannot be read.
pub async fn facts(
    config: &Config,
    traefik: Option<&str>,
    clusters: Result<Vec<(SyncOptions, Cluster)>, String>,
) -> Facts {
    let mut facts = Facts {
        expected: Expected {
            plugin: config.gate.plugin.clone(),
            client_certificate: config.gate.client_certificate,
            has_services: true,
        },
        ..Facts::default()
    };
    if let Some(address) = traefik {
        let asked = ask_traefik(address, &mut facts.clocks).await;
        facts.traefik = Some(asked);
    }
    facts.tls_options = config.gate.file.as_deref().and_then(Path::parent).map(tls_options).unwrap_or_default();
    (facts.snapshot, facts.problems) = snapshot(config).await;
    let clusters = clusters.map_err(|why| {
        facts.changes.push(Changes { source: "all sources".to_owned(), lines: Err(why) });
    });
    if let Ok(clusters) = &clusters {
        let all: Vec<_> =
            clusters.iter().flat_map(|(options, cluster)| desired(cluster, options).registrations).collect();
        // Without anything to guard there is nothing to be seen in Traefik either; what others registered is not counted here.
        facts.expected.has_services = !routes(&all).0.is_empty();
    }
    if let Some(consul) = &config.consul {
        ask_consul(config, consul, clusters.unwrap_or_default(), &mut facts).await;
    }
    facts
}

async fn ask_traefik(address: &str, clocks: &mut Vec<Clock>) -> Result<Traefik, String> {
    let base = Url::parse(address).map_err(|_| format!("{address:?} is no address like http://127.0.0.1:8080"))?;
    // The one TLS cryptography of the process; an error means that it is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(PATIENCE).redirect(Policy::none()).no_proxy().build();
    let client = client.map_err(|error| error.to_string())?;
    let version: Value = get(&client, &base, "/api/version", clocks).await?;
    let mut ignored = Vec::new();
    let entry_points: Vec<EntryPoint> = get(&client, &base, "/api/entrypoints?per_page=1000", &mut ignored).await?;
    let raw: Raw = get(&client, &base, "/api/rawdata", &mut ignored).await?;
    let version = version["Version"].as_str().unwrap_or_default().to_owned();
    Ok(Traefik { version, entry_points, raw })
}

async fn get<T: DeserializeOwned>(
    client: &reqwest::Client,
    base: &Url,
    path: &str,
    clocks: &mut Vec<Clock>,
) -> Result<T, String> {
    let url = base.join(path).map_err(|error| error.to_string())?;
    let fault = |error: reqwest::Error| {
        let mut reason: &dyn std::error::Error = &error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        format!("{path}: {reason}")
    };
    let mut response = client.get(url).send().await.map_err(fault)?;
    if !response.status().is_success() {
        return Err(format!("{path} answers {}", response.status()));
    }
    clocks.extend(clock("Traefik", response.headers().get(DATE).and_then(|value| value.to_str().ok())));
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(fault)? {
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return Err(format!("{path} answers more than {MAX_ANSWER} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&bytes).map_err(|error| format!("{path} is not what Traefik answers: {error}"))
}

/// What a `Date` says of a clock; nothing if it cannot be read.
fn clock(whose: &str, date: Option<&str>) -> Option<Clock> {
    let theirs = rfc2822::parse(date?).ok()?.timestamp().as_second();
    Some(Clock { whose: whose.to_owned(), ahead: theirs - Timestamp::now().as_second() })
}

/// TLS options in the YAML files of a folder of Traefik's file provider. What is no YAML is left out: a finding says that the options are
/// not known.
fn tls_options(folder: &Path) -> TlsOptions {
    let mut found = TlsOptions::new();
    for file in sources::files(folder).unwrap_or_default() {
        let Ok(text) = file.read() else { continue };
        let Ok(value) = serde_saphyr::from_str::<Value>(&text) else { continue };
        for (name, options) in value["tls"]["options"].as_object().into_iter().flatten() {
            let kind = options["clientAuth"]["clientAuthType"].as_str().unwrap_or("NoClientCert").to_owned();
            let name = if name == "default" { name.clone() } else { format!("{name}@file") };
            found.insert(name, kind);
        }
    }
    found
}

async fn snapshot(config: &Config) -> (SnapshotState, Problems) {
    let loaded = control::read_now(config).await.map(|joined| {
        let mut loaded = policy::from_documents_with(&joined.documents, config.policy.settings(), &mut |policy, _| {
            jwks::kept(&config.jwks, policy);
        });
        loaded.problems.extend(joined.all_problems());
        loaded
    });
    let problems = match &loaded {
        Ok(loaded) => {
            let errors = loaded.problems.iter().filter(|it| it.severity >= Severity::Error).count();
            Problems { errors, warnings: loaded.problems.len() - errors }
        }
        Err(_) => Problems { errors: 1, warnings: 0 },
    };
    let path = &config.snapshot.file;
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return (SnapshotState::Broken(format!("{} cannot be read ({error})", path.display())), problems),
    };
    let opened = Snapshot::open(bytes.as_slice()).and_then(|snapshot| snapshot.verify().map(|()| snapshot));
    let state = match opened {
        Err(why) => SnapshotState::Broken(format!("{}: {why}", path.display())),
        Ok(snapshot) => {
            let (generation, created_ms) = (snapshot.generation(), snapshot.created_ms());
            let is_pinned = History::new(&config.snapshot, Numbers::default()).pinned() != Pinned::No;
            // A policy that cannot be read as a whole publishes nothing; that is said already.
            let readable = loaded.ok().filter(|loaded| !loaded.is_fatal());
            let is_stale = readable.is_some_and(|loaded| compile(&loaded.policy, generation, created_ms).0 != bytes);
            SnapshotState::Good { generation, is_stale, is_pinned }
        }
    };
    (state, problems)
}

async fn ask_consul(config: &Config, consul: &ConsulConfig, clusters: Vec<(SyncOptions, Cluster)>, facts: &mut Facts) {
    let client = match Client::new(consul) {
        Ok(client) => client,
        Err(error) => {
            facts.rights = Some(Err(error.to_string()));
            return;
        }
    };
    let wanted = rights(config, consul);
    let asked: Vec<Asked> = wanted.iter().map(|(_, asked)| asked.clone()).collect();
    facts.rights = Some(match client.authorize(&asked).await {
        Ok((given, date)) => {
            facts.clocks.extend(clock("Consul", date.as_deref()));
            let rules = wanted.into_iter().map(|(rule, _)| rule);
            Ok(rules.zip(given).map(|(rule, is_given)| Right { rule, is_given }).collect())
        }
        Err(error) => Err(error.to_string()),
    });
    if facts.rights.as_ref().is_none_or(Result::is_err) {
        return;
    }
    for (options, cluster) in clusters {
        let scope = Scope::new(&options);
        let registrations = desired(&cluster, &options).registrations;
        let nodes = registrations.iter().map(|registration| registration.node.clone()).collect();
        let lines = consul::read::live(&client, &scope, nodes).await.map_err(|error| error.to_string()).map(|live| {
            let difference = consul::diff(&registrations, &live, &scope);
            let conflicts = difference.conflicts.iter().map(ToString::to_string);
            difference.instances().map(ToString::to_string).chain(conflicts).collect()
        });
        facts.changes.push(Changes { source: options.cluster_name.clone(), lines });
    }
}

/// The rights of `deploy/consul/policy.hcl`, as far as the configuration needs them.
fn rights(config: &Config, consul: &ConsulConfig) -> Vec<(String, Asked)> {
    let mut all = Vec::new();
    let mut right = |rule: String, resource, access, segment: &str| {
        all.push((rule, Asked { resource, access, segment: segment.to_owned() }));
    };
    for options in config.clusters_options() {
        let node = &options.consul_node_name;
        right(format!("node_prefix {node:?} {{ policy = \"write\" }}"), "node", "write", node);
        let lock = format!("portcullis/sync/{}/", options.cluster_name);
        right(format!("key_prefix {lock:?} {{ policy = \"write\" }}"), "key", "write", &format!("{lock}{ANY}"));
        if let Some(import) = &consul.kv_import {
            let folder = format!("{}/", import.folder(&options.cluster_name).trim_end_matches('/'));
            right(format!("key_prefix {folder:?} {{ policy = \"write\" }}"), "key", "write", &format!("{folder}{ANY}"));
        }
    }
    right("service_prefix \"\" { policy = \"write\" }".to_owned(), "service", "write", ANY);
    right("session_prefix \"\" { policy = \"write\" }".to_owned(), "session", "write", ANY);
    if config.catalog.watch {
        right("node_prefix \"\" { policy = \"read\" }".to_owned(), "node", "read", ANY);
    }
    if let Some(kv) = &config.gate.kv {
        let prefix = format!("{}/", kv.prefix);
        right(format!("key_prefix {prefix:?} {{ policy = \"write\" }}"), "key", "write", &format!("{prefix}{ANY}"));
    }
    // Who reads policy by a token of its own is not asked here: this token's rights say nothing of that one's.
    if config.policy.consul.as_ref().is_some_and(|policy| policy.token_file.is_none()) {
        right("mesh = \"read\"".to_owned(), "mesh", "read", "");
    }
    all.dedup_by(|left, right| left.0 == right.0);
    all
}
