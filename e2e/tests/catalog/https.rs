//! Probes by HTTPS: a place whose certificate is not its own, or of nobody that is trusted, does not live.

use std::fs;
use std::net::SocketAddr;

use portcullis_e2e::certificates::{Authority, Caller, Identity, server_configuration};
use portcullis_e2e::parts::RegistryParts;
use portcullis_e2e::registry::Registry;
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::{Layout, Sidecar};
use portcullis_e2e::synced;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::setup::PATIENCE;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

fn acceptor(identity: &Identity) -> TlsAcceptor {
    TlsAcceptor::from(server_configuration(identity).unwrap())
}

/// A server that says 200 to everything; its certificate may be exchanged.
async fn serve(identity: &Identity) -> (SocketAddr, watch::Sender<TlsAcceptor>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, present) = watch::channel(acceptor(identity));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = present.borrow().clone();
            tokio::spawn(async move {
                // A client that does not trust us breaks off.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(OK).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (address, sender)
}

/// Status and output of a service's check.
async fn check(registry: &Registry, service: &str) -> (String, String) {
    let found = registry.get(&format!("/v1/health/checks/{service}")).await.unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&found[0]["Status"]), text(&found[0]["Output"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_by_https_believes_only_the_right_name_of_a_trusted_authority() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let (trusted, stranger) = (Authority::new("trusted").unwrap(), Authority::new("stranger").unwrap());
    fs::write(folder.path().join("ca.pem"), trusted.pem()).unwrap();
    let good = trusted.server(&["127.0.0.1", "localhost"]).unwrap();
    let misnamed = trusted.server(&["elsewhere.test", "192.0.2.1"]).unwrap();
    let strange = stranger.server(&["127.0.0.1"]).unwrap();
    // A certificate for clients is none for servers.
    let client = trusted.client(&Caller::named("web")).unwrap();
    // By name, whether it is to live, its certificate, and what is said.
    let cases = [
        ("good", "passing", &good, ""),
        ("by-name", "passing", &good, ""),
        ("misnamed", "critical", &misnamed, "not valid for name"),
        ("strange", "critical", &strange, "UnknownIssuer"),
        ("of-a-client", "critical", &client, "invalid peer certificate"),
    ];
    let (mut nodes, mut servers) = (Vec::new(), Vec::new());
    for (name, _, identity, _) in cases {
        let (address, server) = serve(identity).await;
        servers.push(server);
        let check = json!({"https": "/health", "intervalSeconds": 1, "failures": 1, "successes": 1});
        let host = if name == "by-name" { "localhost" } else { "127.0.0.1" };
        nodes.push(json!({"name": name, "address": host,
            "services": [{"name": name, "port": address.port(), "checks": [check]}]}));
    }
    let layout = Layout::new(&folder.path().join("first")).unwrap();
    fs::create_dir_all(layout.root().join("external")).unwrap();
    fs::write(layout.root().join("external/all.json"), json!({"nodes": nodes}).to_string()).unwrap();
    let sections = json!({"consul": {"address": registry.address()},
        "external": {"directory": "external", "caFile": "../ca.pem"}});
    layout.write_configuration_with(&sections).unwrap();
    let sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    let is = async |name: &str, status: &str, said: &str| {
        let (found, output) = check(&registry, name).await;
        found == status && output.contains(said) && !output.contains("not probed")
    };
    for (name, status, _, said) in cases {
        let took =
            synced::wait_for(&format!("{name} is {status}"), PATIENCE, async || is(name, status, said).await).await;
        say(&format!("{name} is {status} after {took:?}: {:?}", check(&registry, name).await.1));
    }
    // Another certificate at the same place, and back.
    servers[0].send_replace(acceptor(&strange));
    synced::wait_for("the stranger", PATIENCE, async || is("good", "critical", "UnknownIssuer").await).await;
    servers[0].send_replace(acceptor(&good));
    synced::wait_for("the good one", PATIENCE, async || is("good", "passing", "").await).await;
    drop(sidecar);

    // Without the file the system's authorities decide, who know none of these.
    let sections = json!({"consul": {"address": registry.address()}, "external": {"directory": "external"}});
    layout.write_configuration_with(&sections).unwrap();
    let _sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    synced::wait_for("the system's word", PATIENCE, async || is("good", "critical", "UnknownIssuer").await).await;
}
