//! Chains verified by the plugin itself, where the gateway only asks for a certificate, and what instances share of it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_authoring::{compile, read};
use portcullis_e2e::backend::Backend;
use portcullis_e2e::certificates::{Authority, Caller, TRUST_DOMAIN};
use portcullis_e2e::client::Client;
use portcullis_e2e::parts::Parts;
use portcullis_e2e::sidecar::Layout;
use portcullis_e2e::traefik::{GUEST_POLICY, GUEST_STATE, Options, Plugin, Traefik};
use portcullis_e2e::world::write_own_configuration;
use portcullis_policy::PolicySettings;
use serde_json::json;
use tempfile::TempDir;

/// How long a router may take to appear.
const PATIENCE: Duration = Duration::from_secs(30);
/// Two middlewares, so that no instance of one is ever an instance of the other.
const HOSTS: [&str; 2] = ["inline.localhost", "plain.localhost"];
/// A slot of the file of verified signatures, in bytes (docs/reference/state.md).
const SLOT: usize = 48;

struct Gateway {
    traefik: Traefik,
    authority: Authority,
    // Kept for their drop.
    _backend: Backend,
    _folder: TempDir,
}

impl Gateway {
    /// Traefik that asks for a certificate and believes any, with a router for each host.
    async fn start(parts: &Parts, plugin: Plugin, state: &str) -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        let authority = Authority::new("mesh").unwrap();
        let backend = Backend::start("api", "api-1").await.unwrap();
        let mut http = json!({
            "middlewares": {"certificate": {"passTLSClientCert": {"pem": true}}},
            "services": {"api": {"loadBalancer": {"servers": [{"url": format!("http://{}", backend.address())}]}}},
        });
        fs::write(plugin.policy.as_ref().unwrap().join("policy.snapshot"), snapshot(&authority)).unwrap();
        let configuration = json!({
            "destination": "api", "clientCertificate": "verify", "state": state,
            "snapshot": format!("{GUEST_POLICY}/policy.snapshot"),
        });
        for host in HOSTS {
            http["middlewares"][format!("guard-{host}")] = json!({"plugin": {"portcullis": configuration}});
            http["routers"][host] = json!({
                "rule": format!("Host(`{host}`)"), "entryPoints": ["websecure"], "service": "api",
                "tls": {"options": "ask"}, "middlewares": ["certificate", format!("guard-{host}")],
            });
        }
        write_own_configuration(&layout, &authority, http).unwrap();
        let ask = json!({"tls": {"options": {"ask": {"clientAuth": {"clientAuthType": "RequestClientCert"}}}}});
        fs::write(layout.dynamic().join("ask.yml"), ask.to_string()).unwrap();
        let mut traefik = Traefik::start(Options {
            binary: parts.traefik.clone(),
            folder: PathBuf::from(folder.path()).join("traefik"),
            dynamic: layout.dynamic(),
            plugins: vec![plugin],
            access_log: true,
            trusts_local_front: false,
            environment: Vec::new(),
        })
        .await
        .unwrap();
        for host in HOSTS {
            traefik.router(&format!("{host}@file"), PATIENCE).await.unwrap();
        }
        Gateway { traefik, authority, _backend: backend, _folder: folder }
    }

    /// A client that shows a certificate of this authority.
    fn client(&self, authority: &Authority, caller: &Caller) -> Client {
        let identity = authority.client(caller).unwrap();
        Client::tls(self.traefik.secure(), &self.authority, Some(&identity)).unwrap()
    }

    async fn ask(&self, client: &Client, host: &str) -> u16 {
        let answer = client.get(host, "/v1/items", &[]).await.unwrap();
        if answer.status == 200 {
            let headers = answer.seen_headers().unwrap();
            assert!(headers.contains(&("x-portcullis-source".to_owned(), "web".to_owned())), "{headers:?}");
        }
        answer.status
    }

    /// Who is let in and who is not, whatever becomes of the state folder.
    async fn check(&self) {
        let stranger = Authority::new("mesh").unwrap();
        let (web, other) = (Caller::named("web"), Caller::named("other"));
        let expired = Caller { expired: true, ..web.clone() };
        for host in HOSTS {
            for (what, client, status) in [
                ("web", self.client(&self.authority, &web), 200),
                ("another service", self.client(&self.authority, &other), 403),
                ("web by another CA of the same name", self.client(&stranger, &web), 401),
                ("web, expired", self.client(&self.authority, &expired), 401),
            ] {
                for round in 0..2 {
                    assert_eq!(self.ask(&client, host).await, status, "{what} at {host}, {round}");
                }
            }
        }
    }

    fn warnings(&self) -> Vec<String> {
        let lines = self.traefik.log().unwrap();
        lines.iter().map(ToString::to_string).filter(|line| line.contains("signatures are verified")).collect()
    }
}

/// A policy that trusts this authority, as the sidecar would hand it over.
fn snapshot(authority: &Authority) -> Vec<u8> {
    let entries = [
        json!({"Kind": "ca-roots", "TrustDomain": TRUST_DOMAIN, "Roots": [{"RootCert": authority.pem()}]}),
        json!({"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Action": "allow"}]}),
    ];
    let documents = entries.map(|entry| ("test".to_owned(), entry));
    let (policy, problems) = read::entries(&documents, PolicySettings::default());
    assert_eq!(problems, []);
    let (bytes, problems) = compile(&policy, 1, 0);
    assert_eq!(problems, []);
    bytes
}

/// The slots of a file that hold something.
fn slots(file: &Path) -> usize {
    let bytes = fs::read(file).unwrap();
    bytes.chunks(SLOT).filter(|slot| slot.iter().any(|byte| *byte != 0)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_middleware_verified_the_other_takes_from_the_state_folder() {
    let Some(parts) = Parts::for_test() else { return };
    let state = tempfile::tempdir().unwrap();
    let policy = tempfile::tempdir().unwrap();
    let plugin = Plugin::portcullis(&parts, Some(policy.path().to_owned())).with_state(state.path().to_owned());
    let gateway = Gateway::start(&parts, plugin, GUEST_STATE).await;
    let file = state.path().join("verified");
    let web = gateway.client(&gateway.authority, &Caller::named("web"));
    assert!(!file.exists(), "nobody has asked yet");
    assert_eq!(gateway.ask(&web, HOSTS[0]).await, 200);
    let written = fs::metadata(&file).unwrap();
    assert_eq!((written.permissions().mode() & 0o777, slots(&file)), (0o600, 1));
    assert_eq!(gateway.ask(&web, HOSTS[1]).await, 200);
    let after = fs::metadata(&file).unwrap();
    let changed = |it: &fs::Metadata| (it.mtime(), it.mtime_nsec());
    assert_eq!(changed(&after), changed(&written), "the second did not have to verify and write it");

    gateway.check().await;
    // `web` and `other`, each with a new certificate at each host, and the one from before: no failure is kept.
    assert_eq!(slots(&file), 5);
    assert_eq!(gateway.warnings(), [""; 0]);

    // What is in the file is nobody's ticket.
    fs::write(&file, vec![0xFF; 1 << 20]).unwrap();
    gateway.check().await;
    fs::remove_file(&file).unwrap();
    gateway.check().await;
    assert_eq!(gateway.warnings(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_that_cannot_be_written_changes_no_verdict_and_is_reported() {
    let Some(parts) = Parts::for_test() else { return };
    let state = tempfile::tempdir().unwrap();
    // The policy mount is read-only.
    let plugin = Plugin::portcullis(&parts, Some(state.path().to_owned()));
    let gateway = Gateway::start(&parts, plugin, GUEST_POLICY).await;
    gateway.check().await;
    assert!(!state.path().join("verified").exists());
    let warnings = gateway.warnings();
    assert!(!warnings.is_empty());
    assert!(warnings[0].contains("/policy/verified cannot be read"), "{warnings:?}");
}
