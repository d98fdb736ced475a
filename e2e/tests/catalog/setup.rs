//! The stage that the tests share: Consul, the sidecar, and Traefik, which gets routers from the gate and from Consul's catalog.

use std::fs;
use std::time::Duration;

use portcullis_e2e::certificates::{Authority, Caller};
use portcullis_e2e::client::{Answer, Client};
use portcullis_e2e::parts::{Parts, RegistryParts};
use portcullis_e2e::registry::Registry;
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::{Layout, Sidecar};
use portcullis_e2e::traefik::{self, Options, Plugin, Traefik};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Hosts in the gateway's certificate.
const HOSTS: [&str; 4] = ["billing.localhost", "web.localhost", "evil.localhost", "other.localhost"];

/// Everything that runs.
pub(crate) struct Stage {
    pub(crate) traefik: Traefik,
    pub(crate) sidecar: Sidecar,
    pub(crate) registry: Registry,
    pub(crate) layout: Layout,
    authority: Authority,
    // Kept for its drop.
    _folder: TempDir,
}

/// Before anything but Consul runs.
pub(crate) struct Ground {
    parts: Parts,
    pub(crate) consul: std::path::PathBuf,
    pub(crate) registry: Registry,
    pub(crate) layout: Layout,
    pub(crate) folder: TempDir,
}

/// Consul, and a policy that lets `web` call `billing` and `web`; `None` after a printed skip.
pub(crate) async fn ground() -> Option<Ground> {
    let (parts, registry) = (Parts::for_test()?, RegistryParts::for_test()?);
    let folder = tempfile::Builder::new().prefix("portcullis-").tempdir().unwrap();
    let consul = registry.consul;
    let registry = Registry::start(&consul, folder.path(), None).await.unwrap();
    let layout = Layout::new(&folder.path().join("gateway")).unwrap();
    allow(&layout, "billing", &["web"]);
    allow(&layout, "web", &["web"]);
    fs::write(
        layout.manifests().join("all.json"),
        json!({"apiVersion": "v1", "kind": "List", "items": []}).to_string(),
    )
    .unwrap();
    Some(Ground { parts, consul, registry, layout, folder })
}

/// Writes the intentions of a destination.
pub(crate) fn allow(layout: &Layout, destination: &str, sources: &[&str]) {
    let sources: Vec<_> = sources.iter().map(|name| json!({"Name": name, "Action": "allow"})).collect();
    let entry = json!({"Kind": "service-intentions", "Name": destination, "Sources": sources});
    fs::write(layout.policy().join(format!("{destination}.json")), entry.to_string()).unwrap();
}

impl Ground {
    /// Starts the sidecar with these sections and Traefik, whose catalog provider reads `prefix`.
    pub(crate) async fn rise(self, sections: Value, prefix: &str) -> Stage {
        self.rise_with(sections, json!({"consulCatalog": {"prefix": prefix}})).await
    }

    /// The same with other providers of Traefik.
    pub(crate) async fn rise_with(self, mut sections: Value, mut providers: Value) -> Stage {
        let Ground { parts, registry, layout, folder, .. } = self;
        sections["consul"] = json!({"address": registry.address()});
        layout.write_configuration_with(&sections).unwrap();
        let authority = Authority::new("gateway").unwrap();
        let ca = folder.path().join("ca.pem");
        fs::write(&ca, authority.pem()).unwrap();
        let server = authority.server(&HOSTS).unwrap().write(folder.path(), "gateway").unwrap();
        let own = json!({
            "http": {"routers": {"own-api": traefik::api_router()}},
            "tls": {
                "stores": {"default": {"defaultCertificate": {"certFile": server, "keyFile": server}}},
                "options": {"mtls": {"clientAuth": {"caFiles": [ca], "clientAuthType": "VerifyClientCertIfGiven"}}},
            },
        });
        fs::write(layout.dynamic().join("own.yml"), own.to_string()).unwrap();
        let sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
        if let Some(catalog) = providers.get_mut("consulCatalog") {
            catalog["endpoint"] = json!({"address": registry.address()});
            catalog["refreshInterval"] = json!("1s");
            catalog["exposedByDefault"] = json!(false);
            catalog["defaultRule"] = json!("{{ \"\" }}");
        }
        let options = Options {
            binary: parts.traefik.clone(),
            folder: folder.path().join("traefik"),
            dynamic: layout.dynamic(),
            plugins: vec![Plugin::portcullis(&parts, Some(layout.snapshots()))],
            access_log: false,
            trusts_local_front: false,
            environment: Vec::new(),
        };
        let mut traefik = Traefik::start_with(options, &providers).await.unwrap();
        traefik.router("own-api@file", PATIENCE).await.unwrap();
        Stage { traefik, sidecar, registry, layout, authority, _folder: folder }
    }
}

impl Stage {
    /// A GET with the certificate of this caller, or with none.
    pub(crate) async fn get(&self, caller: Option<&str>, host: &str) -> Answer {
        let identity = caller.map(|name| self.authority.client(&Caller::named(name)).unwrap());
        let client = Client::tls(self.traefik.secure(), &self.authority, identity.as_ref()).unwrap();
        // A client's own stamp is worth nothing.
        client.get(host, "/v1/x", &[("X-Portcullis-Destination", "billing")]).await.unwrap()
    }

    /// Waits until this caller gets this status.
    pub(crate) async fn wait_for_status(&self, caller: Option<&str>, host: &str, status: u16) -> Answer {
        let start = Instant::now();
        loop {
            let answer = self.get(caller, host).await;
            if answer.status == status {
                say(&format!("{host} answers {status} to {caller:?} after {:?}", start.elapsed()));
                return answer;
            }
            assert!(start.elapsed() < PATIENCE, "{host} answers {} to {caller:?}, not {status}", answer.status);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for a text in the sidecar's log.
    pub(crate) async fn wait_for_line(&self, text: &str) {
        let start = Instant::now();
        while !self.sidecar.log().unwrap().contains(text) {
            assert!(start.elapsed() < PATIENCE, "no line with {text:?}:\n{}", self.sidecar.log().unwrap());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the aggregated status of a service's only instance is this.
    pub(crate) async fn wait_for_health(&self, service: &str, status: &str) -> Value {
        let start = Instant::now();
        loop {
            let found = self.registry.get(&format!("/v1/health/service/{service}")).await.unwrap();
            let checks = found[0]["Checks"].as_array().cloned().unwrap_or_default();
            let own: Vec<_> = checks.iter().filter(|check| check["ServiceID"] != "").collect();
            if !own.is_empty() && own.iter().all(|check| check["Status"] == status) {
                say(&format!("{service} is {status} after {:?}", start.elapsed()));
                return found[0].clone();
            }
            assert!(start.elapsed() < PATIENCE, "{service} is not {status}: {found}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// All routers that Traefik has for a host, by name.
    pub(crate) async fn routers(&self, host: &str) -> Vec<String> {
        let all: Value =
            serde_json::from_str(&self.traefik.internal("/api/http/routers?per_page=1000").await.unwrap()).unwrap();
        let of_host = |it: &&Value| it["rule"].as_str().is_some_and(|rule| rule.contains(host));
        all.as_array().unwrap().iter().filter(of_host).map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    }
}
