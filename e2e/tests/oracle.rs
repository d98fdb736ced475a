//! The policy engine agrees with real Consul and real Envoy on generated policies and requests, but for what is documented.

use std::env;

use portcullis_e2e::oracle::run::{Options, run};
use portcullis_e2e::parts::Mesh;
use portcullis_e2e::report;

/// A variable's number, or the default where it is not set.
fn number(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => default,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verdict_is_envoys_or_differs_in_a_documented_way() {
    let Some(parts) = Mesh::for_test() else { return };
    let requests = usize::try_from(number("PORTCULLIS_ORACLE_REQUESTS", 10_000)).unwrap();
    let options = Options { requests, seed: number("PORTCULLIS_ORACLE_SEED", 4) };
    let folder = tempfile::tempdir().unwrap();
    let found = run(&parts, folder.path(), options).await.unwrap();
    report::say(&found.to_string());
    assert!(found.failures.is_empty(), "{} differences are not documented", found.failures.len());
    assert!(found.requests >= requests);
}
