//! External services without Consul: every sidecar probes for itself.

use std::{fs, path::Path, time::Duration};

use portcullis::{
    external::{External, ExternalConfig, Source},
    input::{self, Input},
    sync::{Registration, SyncOptions},
};
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn write(directory: &Path, port: u16) {
    let check = json!({"tcp": true, "intervalSeconds": 1, "timeoutSeconds": 1, "failures": 1});
    let services = json!([{"name": "db", "port": port, "checks": [check]}, {"name": "plain", "port": 1}]);
    let text = json!({"nodes": [{"name": "vm", "address": "127.0.0.1", "services": services}]}).to_string();
    fs::write(directory.join("vms.json"), text).unwrap();
}

/// Waits until the status of `db` is this.
async fn wait_for(said: &mut mpsc::Receiver<Input>, status: &str) -> Registration {
    loop {
        match timeout(PATIENCE, said.recv()).await.unwrap_or_else(|_| panic!("never {status:?}")).unwrap() {
            Input::External(External::Whole { registrations, is_probed, .. }) => {
                assert_eq!(registrations[1].check.status, "passing", "what has no check passes");
                let db = registrations[0].clone();
                assert_eq!(is_probed, !db.check.status.is_empty());
                if db.check.status == status {
                    return db;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_place_is_probed_from_the_beginning_when_its_file_changes_and_for_as_long_as_this_sidecar_leads() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    write(directory.path(), port);
    let config: ExternalConfig = serde_json::from_value(json!({"directory": directory.path()})).unwrap();
    let (leads, is_leader) = watch::channel(true);
    let (inputs, mut said) = mpsc::channel(input::WAITING);
    let (source, found) = Source::new(config, SyncOptions::default(), is_leader, inputs).unwrap();
    tokio::spawn(source.follow(found));

    let db = wait_for(&mut said, "passing").await;
    assert_eq!(
        (db.node.as_str(), db.check.output.as_str()),
        ("external-vms-vm", &*format!("tcp://127.0.0.1:{port} answers"))
    );
    drop(listener);
    let db = wait_for(&mut said, "critical").await;
    assert!(db.check.output.contains("refused"), "{}", db.check.output);

    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    write(directory.path(), other.local_addr().unwrap().port());
    wait_for(&mut said, "passing").await;
    leads.send(false).unwrap();
    wait_for(&mut said, "").await;
    leads.send(true).unwrap();
    wait_for(&mut said, "passing").await;
    // The last word stands when nobody is left to say otherwise.
    drop(leads);
    drop(other);
    wait_for(&mut said, "critical").await;
}
