//! Authored policy: any JSON as config entries, read, compiled and asked. Whatever compiles opens and verifies, is the same
//! every time, and is never more permissive under a stricter default.

use portcullis_authoring::{compile, read};
use portcullis_policy::{Action, Decision, PolicySettings, Severity, Snapshot, Verdict};
use serde_json::Value;

use crate::ask;

/// Destinations of the seeds; the fuzzer finds others that matter by itself, as they stand in the input.
const DESTINATIONS: [&str; 3] = ["db", "api", "web"];
const CALLERS: [&str; 2] = ["web", "reader"];

/// The target's body.
pub fn run(data: &[u8]) {
    let Ok(document) = serde_json::from_slice::<Value>(data) else { return };
    let strict = decisions(&document, Action::Deny);
    let lenient = decisions(&document, Action::Allow);
    for (strict, lenient) in strict.iter().zip(&lenient) {
        let more = strict.verdict == Verdict::Allow && lenient.verdict == Verdict::Deny;
        assert!(!more, "a default of allow denies what a default of deny allows: {strict:?}, {lenient:?}");
    }
    // A broken entry denies, but no rule of a policy that is empty may do anything.
    if document.as_array().is_some_and(Vec::is_empty) {
        assert!(strict.iter().all(|decision| decision.verdict == Verdict::Deny));
    }
}

fn decisions(document: &Value, default: Action) -> Vec<Decision> {
    let settings =
        PolicySettings { default, trust_domains: vec![ask::TRUST_DOMAIN.to_owned()], ..PolicySettings::default() };
    let documents = [("fuzz".to_owned(), document.clone())];
    let (policy, problems) = read::entries(&documents, settings);
    for problem in &problems {
        assert!(!problem.what.is_empty(), "{problem:?}");
    }
    let (bytes, more) = compile(&policy, 7, 0);
    assert!(more.iter().all(|problem| problem.severity != Severity::Fatal), "{more:?}");
    assert_eq!(compile(&policy, 7, 0).0, bytes, "compiled twice");
    let snapshot = Snapshot::open(bytes.as_slice()).unwrap_or_else(|error| panic!("{error}"));
    snapshot.verify().unwrap_or_else(|error| panic!("{error}"));
    let mut destinations = DESTINATIONS.to_vec();
    destinations.extend(policy.intentions.iter().map(|it| it.destination.name.as_str()).take(4));
    ask::all(&snapshot, &destinations, &CALLERS)
}
