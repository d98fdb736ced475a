//! The shared decision files: the built module gives the verdict and the rule that the native engine gives.

use crate::{
    host::{Guest, Request},
    support::{FILE, certificate, gate},
};
use portcullis_policy::{Action, Credential, PolicySettings, Snapshot, Verdict, compile, decide, read};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path};

/// A policy test file (the format of `portcullis test`). A field that this engine could not convey fails the reading.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Cases {
    #[serde(default)]
    default: Option<Action>,
    trust_domain: String,
    #[serde(default)]
    protocols: BTreeMap<String, String>,
    #[serde(default)]
    policy: Vec<Value>,
    requests: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    source: Option<String>,
    destination: String,
    #[serde(default = "get")]
    method: String,
    #[serde(default = "root")]
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, Values>,
    expect: Action,
    rule: Option<String>,
    status: Option<i32>,
}

/// One value of a header, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Several(Vec<String>),
}

impl Values {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Several(values) => values,
        }
    }
}

fn get() -> String {
    "GET".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

#[test]
fn every_decision_file_is_decided_as_by_the_native_engine() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/decisions");
    let mut n_requests = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let cases = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap())
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            n_requests += check(&path, &cases);
        }
    }
    assert!(n_requests > 0, "there are no decision files");
}

fn check(path: &Path, cases: &Cases) -> usize {
    let settings = PolicySettings {
        default: cases.default.unwrap_or(Action::Deny),
        trust_domains: vec![cases.trust_domain.clone()],
        protocols: cases.protocols.clone(),
    };
    let documents: Vec<_> = cases.policy.iter().map(|entry| ("policy".to_owned(), entry.clone())).collect();
    let (policy, _) = read::entries(&documents, settings);
    let (bytes, _) = compile(&policy, 1, 0);
    let snapshot = Snapshot::open(bytes.clone()).unwrap();
    let mut guest = Guest::start(&gate());
    guest.publish(FILE, bytes);
    for (n, case) in cases.requests.iter().enumerate() {
        let place = format!("{} request {n}", path.display());
        let native = natively(&snapshot, case);
        let built = in_the_module(&mut guest, case);
        assert_eq!(built, native, "{place}: the engines differ");
        assert_eq!(built.0, case.expect.as_str(), "{place}: {built:?}");
        if let Some(rule) = &case.rule {
            assert_eq!(&built.1, rule, "{place}");
        }
        if let Some(status) = case.status {
            assert_eq!(built.2, status, "{place}");
        }
    }
    cases.requests.len()
}

type Outcome = (String, String, i32);

fn natively(snapshot: &Snapshot<Vec<u8>>, case: &Case) -> Outcome {
    let credential = match (&case.source, case.headers.get("x-api-key").map(Values::as_slice)) {
        (Some(id), _) => Credential::Spiffe(id),
        (None, Some([key])) => Credential::ApiKey(key),
        (None, None) => Credential::None,
        (None, Some(_)) => Credential::Invalid("several keys"),
    };
    let request = portcullis_policy::Request {
        destination: &case.destination,
        method: &case.method,
        uri: &case.path,
        credential,
        now: crate::host::START_MS / 1000,
    };
    let decision = decide(snapshot, &request);
    assert_eq!(decision.status == 200, decision.verdict == Verdict::Allow);
    (decision.verdict.as_str().to_owned(), decision.rule, i32::from(decision.status))
}

fn in_the_module(guest: &mut Guest, case: &Case) -> Outcome {
    let mut request = Request::new(&case.method, &case.path).with("x-portcullis-destination", &case.destination);
    if let Some(id) = &case.source {
        request = request.with("x-forwarded-tls-client-cert", certificate(std::slice::from_ref(id)));
    }
    for (name, values) in &case.headers {
        request = values.as_slice().iter().fold(request, |request, value| request.with(name, value));
    }
    guest.request(request).verdict()
}
