//! Inline and tags mode: the whole policy in the middleware's configuration, the destination fixed, no sidecar at all.

use std::path::PathBuf;
use std::time::Duration;

use portcullis_e2e::backend::Backend;
use portcullis_e2e::certificates::{Authority, Caller, TRUST_DOMAIN};
use portcullis_e2e::client::Client;
use portcullis_e2e::parts::Parts;
use portcullis_e2e::sidecar::Layout;
use portcullis_e2e::traefik::{Options, Plugin, Traefik};
use portcullis_e2e::world::{ApiKey, write_own_configuration};
use serde_json::{Value, json};

/// How long a router may take to appear.
const PATIENCE: Duration = Duration::from_secs(30);

/// The policy that every configuration below holds.
fn policy(key: &ApiKey) -> Value {
    json!({
        "default": "deny",
        "trustDomains": [TRUST_DOMAIN],
        "entries": [
            {"Kind": "service-intentions", "Name": "api", "Sources": [
                {"Name": "web", "Permissions": [{"Action": "allow", "HTTP": {"PathPrefix": "/v1/", "Methods": ["GET"]}}]},
                {"Name": "partner", "Action": "allow"},
            ]},
            {"Kind": "api-key", "Name": "partner", "Source": {"Name": "partner"}, "Hash": key.hash},
        ],
    })
}

struct Gateway {
    traefik: Traefik,
    authority: Authority,
    // Kept for their drop.
    _backend: Backend,
    _folder: tempfile::TempDir,
}

impl Gateway {
    /// Traefik with a plain router for each host, guarded by the plugin in this configuration.
    async fn start(parts: &Parts, configurations: &[(&str, Value)]) -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        let authority = Authority::new("inline").unwrap();
        let backend = Backend::start("api", "api-1").await.unwrap();
        let mut http = json!({
            "middlewares": {"certificate": {"passTLSClientCert": {"pem": true}}},
            "services": {"api": {"loadBalancer": {"servers": [{"url": format!("http://{}", backend.address())}]}}},
        });
        for (name, configuration) in configurations {
            http["middlewares"][format!("guard-{name}")] = json!({"plugin": {"portcullis": configuration}});
            http["routers"][*name] = json!({
                "rule": format!("Host(`{name}.localhost`)"), "entryPoints": ["websecure"], "service": "api",
                "tls": {"options": "mtls"}, "middlewares": ["certificate", format!("guard-{name}")],
            });
        }
        write_own_configuration(&layout, &authority, http).unwrap();
        let mut traefik = Traefik::start(Options {
            binary: parts.traefik.clone(),
            folder: PathBuf::from(folder.path()).join("traefik"),
            dynamic: layout.dynamic(),
            plugins: vec![Plugin::portcullis(parts, None)],
            access_log: true,
            trusts_local_front: false,
            environment: Vec::new(),
        })
        .await
        .unwrap();
        for (name, _) in configurations {
            traefik.router(&format!("{name}@file"), PATIENCE).await.unwrap();
        }
        Gateway { traefik, authority, _backend: backend, _folder: folder }
    }

    fn client(&self, caller: Option<&str>) -> Client {
        let identity = caller.map(|name| self.authority.client(&Caller::named(name)).unwrap());
        Client::tls(self.traefik.secure(), &self.authority, identity.as_ref()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_policy_may_stand_in_the_middleware_as_a_structure_or_as_text() {
    let Some(parts) = Parts::for_test() else { return };
    let key = ApiKey::new("partner").unwrap();
    let base = |policy: Value| {
        json!({
            "destination": "api", "policy": policy, "clientCertificate": "verifiedByTraefik",
            "apiKeyHeader": "X-Api-Key", "logDenied": "info",
        })
    };
    let text = policy(&key).to_string();
    let gateway = Gateway::start(&parts, &[("inline", base(policy(&key))), ("plain", base(json!(text)))]).await;
    let (web, other, nobody) = (gateway.client(Some("web")), gateway.client(Some("other")), gateway.client(None));
    for host in ["inline.localhost", "plain.localhost"] {
        let answer = web.get(host, "/v1/items", &[]).await.unwrap();
        assert_eq!(answer.status, 200, "{host}: {}\n{:#?}", answer.text(), gateway.traefik.log().unwrap());
        let headers = answer.seen_headers().unwrap();
        assert!(headers.contains(&("x-portcullis-source".to_owned(), "web".to_owned())), "{headers:?}");
        assert!(headers.contains(&("x-portcullis-destination".to_owned(), "api".to_owned())), "{headers:?}");
        assert_eq!(web.get(host, "/v2/items", &[]).await.unwrap().status, 403, "{host}");
        assert_eq!(web.send("PUT", host, "/v1/items", &[]).await.unwrap().status, 403, "{host}");
        assert_eq!(other.get(host, "/v1/items", &[]).await.unwrap().status, 403, "{host}");
        assert_eq!(nobody.get(host, "/v1/items", &[]).await.unwrap().status, 401, "{host}");
        let forged = [("X-Portcullis-Destination", "web"), ("X-Portcullis-Source", "web")];
        assert_eq!(other.get(host, "/v1/items", &forged).await.unwrap().status, 403, "{host}");
        let partner = [("X-Api-Key", key.text.as_str())];
        assert_eq!(nobody.get(host, "/any", &partner).await.unwrap().status, 200, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_cannot_be_used_denies_everything_with_503_and_says_why() {
    let Some(parts) = Parts::for_test() else { return };
    let key = ApiKey::new("partner").unwrap();
    let both = json!({"destination": "api", "policy": policy(&key), "snapshot": "/policy/policy.snapshot"});
    let broken = json!({"destination": "api", "policy": "{not json", "clientCertificate": "verifiedByTraefik"});
    let gateway = Gateway::start(&parts, &[("inline", both), ("plain", broken), ("layers", json!({}))]).await;
    for host in ["inline.localhost", "plain.localhost", "layers.localhost"] {
        let path = format!("/v1/broken-{}", host.replace('.', "-"));
        let answer = gateway.client(Some("web")).get(host, &path, &[]).await.unwrap();
        assert_eq!(answer.status, 503, "{host}: {}", answer.text());
        let log: Vec<String> = gateway.traefik.log().unwrap().iter().map(ToString::to_string).collect();
        let lines: Vec<&String> = log.iter().filter(|line| line.contains(&path)).collect();
        assert_eq!(lines.len(), 1, "{host}: {log:#?}");
        assert!(lines[0].contains("rule=configuration"), "{}", lines[0]);
    }
}
