//! Services with annotations of Traefik v1 in front of one echo backend, and the requests that judge them
//! (`testdata/traefik/v1.yaml`): behind the gate, or by Traefik's own catalog provider.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portcullis_policy::Action;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::backend::Backend;
use crate::certificates::{Authority, Caller};
use crate::client::{Answer, Client};
use crate::oracle::consul::Consul;
use crate::parts::{self, Mesh, Parts};
use crate::sidecar::{self, Layout, Sidecar};
use crate::traefik::{self, GUEST_POLICY, Options, Plugin, Traefik};

/// How long routers may take to appear, and states to change.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// v1's domain of the default rule, and its entry points by their names here.
const DOMAIN: &str = "default.test";
const ENTRY_POINTS: [&str; 2] = ["http=web", "https=websecure/tls"];

/// One service.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it is about.
    pub name: String,
    /// On the Kubernetes Service, with placeholders.
    pub annotations: BTreeMap<String, String>,
    /// No rule is added.
    #[serde(default)]
    pub ruleless: bool,
    /// It means something to the gate only.
    #[serde(default)]
    pub gate_only: bool,
    /// In order.
    pub requests: Vec<Request>,
}

/// One request and what is expected of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    method: String,
    host: String,
    to: String,
    headers: BTreeMap<String, String>,
    tls: bool,
    /// Shows this caller's certificate.
    caller: Option<String>,
    status: u16,
    /// Statuses that all must occur, and no others, among `times` requests at once.
    any: BTreeSet<u16>,
    times: usize,
    /// The status may take a while.
    soon: bool,
    path: Option<String>,
    sees: BTreeMap<String, Option<String>>,
    gets: BTreeMap<String, Option<String>>,
}

impl Default for Request {
    fn default() -> Self {
        Request {
            method: "GET".to_owned(),
            host: "{host}".to_owned(),
            to: "/".to_owned(),
            headers: BTreeMap::new(),
            tls: false,
            caller: None,
            status: 0,
            any: BTreeSet::new(),
            times: 1,
            soon: false,
            path: None,
            sees: BTreeMap::new(),
            gets: BTreeMap::new(),
        }
    }
}

/// The running parts.
pub struct Annotated {
    /// The gateway.
    pub traefik: Traefik,
    authority: Authority,
    backend: Backend,
    // Kept for their drop.
    _others: Box<dyn Any + Send + Sync>,
    _folder: TempDir,
}

/// Reads the cases.
pub fn cases() -> Result<Vec<Case>> {
    let text = fs::read_to_string(parts::root().join("testdata/traefik/v1.yaml")).context("reading the cases")?;
    serde_saphyr::from_str(&text).context("reading the cases")
}

fn service(index: usize) -> String {
    format!("case-{index}")
}

fn fill(text: &str, index: usize, backend: &Backend) -> String {
    let (service, address) = (service(index), backend.address());
    text.replace("{host}", &format!("{service}.test"))
        .replace("{service}", &service)
        .replace("{backend}", &address.to_string())
        .replace("{port}", &address.port().to_string())
}

fn manifests(cases: &[Case], backend: &Backend) -> String {
    let mut objects = vec![json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
        "status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]},
    })];
    for (index, case) in cases.iter().enumerate() {
        let mut annotations: Map<String, Value> =
            case.annotations.iter().map(|(key, value)| (key.clone(), json!(fill(value, index, backend)))).collect();
        if !case.ruleless && !annotations.contains_key("traefik.frontend.rule") {
            annotations.insert("traefik.frontend.rule".to_owned(), json!(fill("Host:{host}", index, backend)));
        }
        let name = service(index);
        objects.push(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "annotations": annotations},
            "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": backend.address().port()}]},
        }));
        objects.push(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": null,
            "metadata": {"name": format!("{name}-1"), "labels": {"kubernetes.io/service-name": name}},
            "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "n1"}],
        }));
    }
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

/// Everything but Traefik and what tells it of the services.
struct Ground {
    folder: TempDir,
    layout: Layout,
    authority: Authority,
    backend: Backend,
}

async fn ground(cases: &[Case]) -> Result<Ground> {
    let folder = tempfile::Builder::new().prefix("portcullis-").tempdir().context("making a folder")?;
    let layout = Layout::new(folder.path())?;
    let backend = Backend::start("echo", "echo-1").await?;
    fs::write(layout.manifests().join("all.json"), manifests(cases, &backend))?;
    let configuration = json!({
        "manifests": "./kubernetes",
        "policy": {"directory": "./policy", "default": "allow", "trustDomains": []},
        "snapshot": {"file": "./run/policy/policy.snapshot"},
        "gate": {
            "file": "./run/traefik/gate.yml", "snapshot": format!("{GUEST_POLICY}/policy.snapshot"), "entryPoints": ["web"],
        },
        "sync": {"traefikDomain": DOMAIN, "traefikEntryPoints": ENTRY_POINTS},
    });
    fs::write(layout.configuration(), configuration.to_string())?;
    let authority = Authority::new("gateway")?;
    let hosts: Vec<String> = (0..cases.len()).map(|index| format!("{}.test", service(index))).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let server = authority.server(&hosts)?.write(folder.path(), "gateway")?;
    let own = json!({
        "http": {"routers": {"own-api": traefik::api_router()}},
        "tls": {
            "stores": {"default": {"defaultCertificate": {"certFile": server, "keyFile": server}}},
            "options": {"default": {"clientAuth": {"clientAuthType": "RequestClientCert"}}},
        },
    });
    fs::write(layout.dynamic().join("own.yml"), own.to_string())?;
    Ok(Ground { folder, layout, authority, backend })
}

/// Traefik in this folder, with the files of this layout.
pub fn options(parts: &Parts, folder: &Path, layout: &Layout, plugins: Vec<Plugin>) -> Options {
    Options {
        binary: parts.traefik.clone(),
        folder: folder.join("traefik"),
        dynamic: layout.dynamic(),
        plugins,
        access_log: false,
        trusts_local_front: false,
        environment: Vec::new(),
    }
}

impl Annotated {
    /// The services behind the gate that the sidecar writes.
    pub async fn behind_the_gate(parts: &Parts, cases: &[Case]) -> Result<Annotated> {
        let Ground { folder, layout, authority, backend } = ground(cases).await?;
        let sidecar = Sidecar::start(&parts.sidecar, &layout).await?;
        let plugins = vec![Plugin::portcullis(parts, Some(layout.snapshots()))];
        let mut traefik = Traefik::start(options(parts, folder.path(), &layout, plugins)).await?;
        for router in ["own-api@file", "gate@file"] {
            traefik.router(router, PATIENCE).await?;
        }
        Ok(Annotated { traefik, authority, backend, _others: Box::new(sidecar), _folder: folder })
    }

    /// The services in real Consul, with tags for Traefik's own provider, as `plan` has them.
    pub async fn in_the_catalog(parts: &Parts, mesh: &Mesh, cases: &[Case]) -> Result<Annotated> {
        let Ground { folder, layout, authority, backend } = ground(cases).await?;
        let consul = Consul::start(&mesh.consul, folder.path(), Action::Allow, &authority).await?;
        let arguments = ["plan", "-c", "portcullis.yml", "--json", "--set", "exposure=tags"];
        let output = sidecar::command(&parts.sidecar, &layout, &arguments)?;
        let registrations: Vec<Value> = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        ensure!(registrations.len() == cases.len(), "{} registrations", registrations.len());
        for registration in &registrations {
            consul.put("/v1/catalog/register", registration).await?;
        }
        let catalog = json!({"endpoint": {"address": consul.address().to_string()}, "refreshInterval": "1s"});
        let more = json!({"consulCatalog": catalog});
        let mut traefik = Traefik::start_with(options(parts, folder.path(), &layout, Vec::new()), &more).await?;
        for router in ["own-api@file", "case-0@consulcatalog"] {
            traefik.router(router, PATIENCE).await?;
        }
        Ok(Annotated { traefik, authority, backend, _others: Box::new(consul), _folder: folder })
    }

    /// Sends every request of every case; what is not as it should be.
    pub async fn judge(&self, cases: &[Case]) -> Result<Vec<String>> {
        let mut failures = Vec::new();
        for (index, case) in cases.iter().enumerate() {
            for (number, request) in case.requests.iter().enumerate() {
                let wrong = self.judge_one(index, request).await?;
                let at = format!("{} ({}), request {number}", case.name, service(index));
                failures.extend(wrong.iter().map(|what| format!("{at}: {what}")));
            }
        }
        // A router in error answers 404, which some requests want for other reasons.
        let is_broken = |line: &&Value| {
            line["level"] == "error" && line["routerName"].is_string() && line["middlewareType"] != "Buffer"
        };
        failures.extend(self.traefik.log()?.iter().filter(is_broken).map(ToString::to_string));
        Ok(failures)
    }

    fn client(&self, request: &Request) -> Result<Client> {
        if !request.tls {
            return Ok(Client::plain(self.traefik.plain()));
        }
        let identity = request.caller.as_ref().map(|name| self.authority.client(&Caller::named(name))).transpose()?;
        Client::tls(self.traefik.secure(), &self.authority, identity.as_ref())
    }

    async fn send(&self, index: usize, request: &Request) -> Result<Answer> {
        let text = |text: &str| fill(text, index, &self.backend);
        let headers: Vec<_> = request.headers.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.client(request)?.send(&request.method, &text(&request.host), &text(&request.to), &headers).await
    }

    async fn judge_one(&self, index: usize, request: &Request) -> Result<Vec<String>> {
        if !request.any.is_empty() {
            let answers = (0..request.times).map(|_| self.send(index, request));
            let answers = futures_util::future::try_join_all(answers).await?;
            let found: BTreeSet<u16> = answers.iter().map(|answer| answer.status).collect();
            return Ok(if found == request.any { Vec::new() } else { vec![format!("statuses {found:?}")] });
        }
        let start = Instant::now();
        let mut answer = self.send(index, request).await?;
        while request.soon && answer.status != request.status && start.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(20)).await;
            answer = self.send(index, request).await?;
        }
        let mut wrong = Vec::new();
        if answer.status != request.status {
            wrong.push(format!("status {}, not {}: {}", answer.status, request.status, answer.text()));
        }
        let seen = answer.json().unwrap_or_default();
        if let Some(path) = &request.path
            && seen["path"] != json!(path)
        {
            wrong.push(format!("the backend saw {}, not {path}", seen["path"]));
        }
        let got =
            |name: &str| answer.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let headers = answer.seen_headers().unwrap_or_default();
        let saw = |name: &str| headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.clone());
        let sees = request.sees.iter().map(|(name, wanted)| ("the backend", name, wanted, saw(name)));
        let gets = request.gets.iter().map(|(name, wanted)| ("the client", name, wanted, got(name)));
        for (who, name, wanted, found) in sees.chain(gets) {
            let wanted = wanted.as_deref().map(|text| fill(text, index, &self.backend));
            let fits = match (&wanted, &found) {
                (None, None) => true,
                (Some(wanted), Some(found)) => found.contains(wanted.as_str()),
                _ => false,
            };
            if !fits {
                wrong.push(format!("{who} has {name}: {found:?}, not {wanted:?}"));
            }
        }
        Ok(wrong)
    }
}
