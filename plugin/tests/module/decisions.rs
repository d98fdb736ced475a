//! The shared case files: the built module gives the verdict, the rule and the status that the native engine gives.
//!
//! A case says who calls; here that becomes a certificate, and claims become tokens that a provider of the test signs.

#[path = "../../../testdata/files.rs"]
mod files;

use crate::{
    host::{Guest, Request, START_MS, STATE_MOUNT, StateFolder},
    support::{FILE, certificate, gate},
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use portcullis_authoring::{
    cases::{Case, CaseFile},
    compile,
};
use portcullis_policy::{Verdict, model::Mode};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

type Outcome = (String, String, i32);

#[test]
fn every_case_file_is_decided_as_by_the_native_engine() {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut n_requests = 0;
    for (_, path) in files::all() {
        let mut file: CaseFile = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for case in &mut file.requests {
            // An instance that looks at the clock looks at a real one.
            case.at = if case.at == 0 { START_MS / 1000 } else { case.at };
        }
        n_requests += check(&path, &file, &key);
    }
    assert!(n_requests > 100, "only {n_requests} requests were found");
}

fn check(path: &Path, file: &CaseFile, key: &KeyPair) -> usize {
    let runner = file.runner("native").unwrap();
    let providers: BTreeSet<_> =
        file.requests.iter().flat_map(|case| case.jwt.iter().flat_map(BTreeMap::keys)).collect();
    let mut signed = file.clone();
    signed.policy.retain(|entry| !(is_provider(entry) && providers.iter().any(|it| name(entry) == it.as_str())));
    signed.policy.extend(providers.iter().map(|it| provider(it, key)));
    let (bytes, _) = compile(&signed.policy("signed").0, 1, 0);
    let mut guests = BTreeMap::new();
    for (n, case) in file.requests.iter().enumerate() {
        let place = format!("{} request {n}", path.display());
        let decision = file.run(&runner, case);
        assert_eq!(case.differences(&decision), Vec::<String>::new(), "{place}");
        assert_eq!(decision.status == 200, decision.verdict == Verdict::Allow);
        let native = (decision.verdict.as_str().to_owned(), decision.rule, i32::from(decision.status));
        if !decision.charges.is_empty() {
            // An instance of its own, on a folder of its own: no case is to be refused for what another one took.
            guests.remove(case.entry_point.as_str());
        }
        let guest = guests.entry(case.entry_point.as_str()).or_insert_with(|| {
            let mut config = gate();
            config["entryPoint"] = case.entry_point.as_str().into();
            config["apiKeyHeader"] = file.api_key_header.as_str().into();
            config["state"] = STATE_MOUNT.into();
            let mut guest = Guest::start(&config);
            guest.mount_state(&StateFolder::default());
            guest.publish(FILE, bytes.clone());
            guest
        });
        let (outcome, told) = in_the_module(guest, case, key);
        assert_eq!(outcome, native, "{place}: the engines differ");
        let enforced = decision.charges.iter().filter(|charge| charge.mode == Mode::Enforce);
        let names: Vec<_> = enforced.map(|charge| format!("\"{}\"", charge.name)).collect();
        assert_eq!(names, told, "{place}: the engines charge other limits");
    }
    file.requests.len()
}

fn is_provider(entry: &Value) -> bool {
    ["Kind", "kind"].iter().any(|it| matches!(entry[it].as_str(), Some("jwt-provider" | "JWTProvider")))
}

fn name(entry: &Value) -> &str {
    entry["Name"].as_str().or_else(|| entry["metadata"]["name"].as_str()).unwrap_or_default()
}

/// A provider of this name whose tokens the test can make.
fn provider(name: &str, key: &KeyPair) -> Value {
    let x = BASE64_URL_SAFE_NO_PAD.encode(key.der_bytes());
    let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]});
    json!({
        "Kind": "jwt-provider", "Name": name, "Issuer": issuer(name),
        "JSONWebKeySet": {"Local": {"JWKS": BASE64_STANDARD.encode(set.to_string())}},
        "Locations": [{"Header": {"Name": header(name)}}],
    })
}

fn issuer(provider: &str) -> String {
    format!("https://{provider}.test")
}

fn header(provider: &str) -> String {
    format!("x-token-{provider}")
}

fn token(provider: &str, claims: &Value, key: &KeyPair) -> String {
    let mut claims = claims.clone();
    claims["iss"] = issuer(provider).into();
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(&json!({"alg": "EdDSA"})), encode(&claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()).unwrap());
    format!("{message}.{signature}")
}

/// The outcome, and the names of the limits that the caller is told of.
fn in_the_module(guest: &mut Guest, case: &Case, key: &KeyPair) -> (Outcome, Vec<String>) {
    let mut request = Request::new(&case.method, &case.path).with("x-portcullis-destination", case.full_destination());
    if let Some(id) = &case.source {
        request = request.with("x-forwarded-tls-client-cert", certificate(std::slice::from_ref(id)));
    }
    request.headers.insert("host".to_owned(), vec![case.host.clone().into_bytes()]);
    for (name, values) in &case.headers {
        request = values.as_slice().iter().fold(request, |request, value| request.with(name, value));
    }
    for (provider, claims) in case.jwt.iter().flatten() {
        request = request.with(&header(provider), token(provider, claims, key));
    }
    request.source_address = case.source_address.map(|it| std::net::SocketAddr::new(it, 4711).to_string());
    guest.world().now_ms = case.at * 1000;
    let answer = guest.request(request);
    let told = answer.reply.headers.iter().find(|(name, _)| name == "RateLimit");
    let names = told.iter().flat_map(|(_, value)| value.split(", ")).filter_map(|item| item.split(';').next());
    (answer.verdict(), names.map(str::to_owned).collect())
}
