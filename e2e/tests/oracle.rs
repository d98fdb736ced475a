//! The policy engine agrees with real Consul and real Envoy on generated policies and requests, but for what is documented.

use std::env;

use portcullis_e2e::oracle::classes::CLASSES;
use portcullis_e2e::oracle::run::{Options, run};
use portcullis_e2e::parts::Mesh;
use portcullis_e2e::report;

/// In so many requests every class was seen with every seed that was tried.
const ENOUGH_FOR_EVERY_CLASS: usize = 50_000;

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
    let found = Box::pin(run(&parts, folder.path(), options)).await.unwrap();
    report::say(&found.to_string());
    assert!(found.failures.is_empty(), "{} differences are not documented", found.failures.len());
    assert!(found.requests >= requests);
    // What is documented happens, or it would be an excuse for what is not meant.
    if requests >= ENOUGH_FOR_EVERY_CLASS {
        let never: Vec<_> =
            CLASSES.iter().filter(|class| !found.classes.keys().any(|(name, _)| *name == class.name)).collect();
        assert!(never.is_empty(), "these documented differences did not happen: {never:?}");
    }
}
