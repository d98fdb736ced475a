//! The whole of it, against a server of the test without TLS.

use std::{path::Path, time::Duration};

use portcullis_policy::PolicySettings;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::watch,
    time::timeout,
};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// A key set with one key.
fn set(id: &str) -> String {
    json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": id, "x": "NvZbXdQG24s-7mnCpHRk-eVf3xps0QcQG76NzZSpU-k"}]})
        .to_string()
}

/// A server that gives the same answer to everybody, until it is told another one. None: it hangs up.
async fn server() -> (watch::Sender<Option<String>>, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (answer, said) = watch::channel(None);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let said: Option<String> = said.borrow().clone();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            if let Some(text) = said {
                let _ = stream.write_all(text.as_bytes()).await;
            }
        }
    });
    (answer, port)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn policy(uri: &str) -> Policy {
    let retry = json!({"RetryPolicyBackOff": {"BaseInterval": "100ms", "MaxInterval": "100ms"}});
    let entry = json!({"Kind": "jwt-provider", "Name": "okta", "Issuer": "i", "JSONWebKeySet": {"Remote":
        {"URI": uri, "CacheDuration": "1s", "RetryPolicy": retry}}});
    portcullis_authoring::read::entries(&[("a".to_owned(), entry)], PolicySettings::default()).0
}

fn jwks(folder: &Path) -> Jwks {
    let cache = Some(folder.join("keys"));
    Jwks::new(&JwksConfig { cache, allow_http: true, ..JwksConfig::default() }, Numbers::default())
}

/// What the policy would be given now.
fn given(jwks: &mut Jwks, uri: &str) -> (Option<String>, usize) {
    let (mut policy, mut problems) = (policy(uri), Vec::new());
    jwks.fill(&mut policy, &mut problems);
    (policy.key_sets.remove("okta").map(|set| String::from_utf8(set).unwrap()), problems.len())
}

async fn woken(jwks: &Jwks) {
    timeout(PATIENCE, jwks.wake().notified()).await.expect("nobody was woken");
}

/// Waits until so many fetches have failed.
async fn failed(jwks: &Jwks, least: u64) {
    let all = async {
        while jwks.following["okta"].held.counts().failed < least {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, all).await.expect("no fetch failed");
}

#[tokio::test]
async fn keys_are_fetched_rotated_and_kept_through_every_fault_and_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (answer, port) = server().await;
    let uri = format!("http://127.0.0.1:{port}/jwks");
    let mut keys = jwks(folder.path());
    assert_eq!(given(&mut keys, &uri), (None, 0));
    failed(&keys, 1).await;
    answer.send_replace(Some(ok(&set("1"))));
    woken(&keys).await;
    assert_eq!(given(&mut keys, &uri), (Some(set("1")), 0));
    answer.send_replace(Some(ok(&set("2"))));
    woken(&keys).await;
    assert_eq!(given(&mut keys, &uri), (Some(set("2")), 0));
    let moved = format!("HTTP/1.1 302 Found\r\nLocation: http://localhost:{port}/jwks\r\nContent-Length: 0\r\n\r\n");
    let huge = format!("HTTP/1.1 200 OK\r\n\r\n{{\"keys\": []}}{}", " ".repeat(300 * 1024));
    for bad in [
        None,
        Some("garbage".to_owned()),
        Some(ok("{\"keys\": []}")),
        Some(ok("<html>")),
        Some(moved),
        Some(huge),
        Some("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_owned()),
    ] {
        let before = keys.following["okta"].held.counts().failed;
        answer.send_replace(bad.clone());
        failed(&keys, before + 2).await;
        assert_eq!(given(&mut keys, &uri), (Some(set("2")), 0), "{bad:?}");
    }
    // A restart, and one on which the keys' address is another.
    keys = jwks(folder.path());
    assert_eq!(given(&mut keys, &uri), (Some(set("2")), 0));
    assert_eq!(given(&mut keys, &format!("{uri}2")), (None, 0), "keys of another address");
    answer.send_replace(Some(ok(&set("3"))));
    woken(&keys).await;
    assert_eq!(given(&mut keys, &format!("{uri}2")), (Some(set("3")), 0));
    // A provider that is gone is not asked any more.
    let mut none = Policy::default();
    keys.fill(&mut none, &mut Vec::new());
    assert!(keys.following.is_empty());
}

#[tokio::test]
async fn keys_that_are_too_old_let_nobody_in_and_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let uri = "http://127.0.0.1:1/jwks";
    let mut keys = jwks(folder.path());
    let remote = match &policy(uri).providers[0].keys {
        KeySource::Remote(remote) => remote.clone(),
        other => panic!("{other:?}"),
    };
    keys.cache.write("okta", &cache::source(&remote), set("1").as_bytes());
    assert_eq!(given(&mut keys, uri), (Some(set("1")), 0));
    let config =
        JwksConfig { stale_for_seconds: 0, cache: Some(folder.path().join("keys")), allow_http: true, ca_file: None };
    tokio::time::sleep(Duration::from_millis(10)).await;
    let mut keys = Jwks::new(&config, Numbers::default());
    assert_eq!(given(&mut keys, uri), (None, 1));
    let said = |keys: &mut Jwks| {
        let mut problems = Vec::new();
        keys.fill(&mut policy(uri), &mut problems);
        problems
    };
    let before = said(&mut keys);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(said(&mut keys), before, "a standing fault is said in the same words");
}

#[tokio::test]
async fn what_may_not_be_asked_is_a_problem_of_its_provider() {
    let folder = tempfile::tempdir().unwrap();
    let mut keys = jwks(folder.path());
    assert_eq!(given(&mut keys, "https://169.254.169.254/"), (None, 1));
    assert!(keys.following.is_empty());
}
