//! Keys that are used, and keys that are left out with a reason.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use rsa::traits::PublicKeyParts as _;
use serde_json::json;

use super::*;
use crate::crypto::test_keys::{curve_key, rsa_key};

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// An RSA key with more members, or others.
fn rsa(more: &Value) -> Value {
    let key = rsa_key(2048);
    let mut jwk = json!({"kty": "RSA", "n": encode(key.n().to_bytes_be()), "e": "AQAB"});
    jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    jwk
}

fn p256(more: &Value) -> Value {
    let (point, _) = curve_key(Curve::P256, 1);
    let mut jwk = json!({"kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..])});
    jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    jwk
}

fn read(set: &Value) -> (Vec<KeyRecord>, Vec<Problem>) {
    let mut problems = Vec::new();
    (keys(set.to_string().as_bytes(), "here", &mut problems), problems)
}

#[test]
fn keys_for_signatures_are_used_with_their_id_and_algorithm() {
    for (key, id, algorithm) in [
        (rsa(&json!({})), None, None),
        (rsa(&json!({"kid": "a", "use": "sig", "alg": "PS384"})), Some("a"), Some(Algorithm::Ps(Hash::Sha384))),
        (rsa(&json!({"key_ops": ["verify"], "x5c": ["AAAA"], "x5t": "AA", "more": 1})), None, None),
        (p256(&json!({"kid": "", "alg": "ES256"})), Some(""), Some(Algorithm::Es(Curve::P256))),
    ] {
        let (keys, problems) = read(&json!({"keys": [key]}));
        assert_eq!(problems, []);
        assert_eq!(keys.len(), 1);
        assert_eq!((keys[0].id.as_deref(), keys[0].algorithm), (id, algorithm));
    }
}

#[test]
fn other_keys_are_left_out_with_a_warning_each() {
    let mut even = rsa_key(2048).n().to_bytes_be();
    even[255] &= 0xFE;
    let (point, _) = curve_key(Curve::P256, 1);
    let bad = [
        json!(1),
        json!({}),
        json!({"kty": "rsa"}),
        json!({"kty": "oct", "k": "AAAA"}),
        json!({"kty": "RSA", "e": "AQAB"}),
        rsa(&json!({"n": encode([0xFF; 128])})),
        rsa(&json!({"n": encode(even)})),
        rsa(&json!({"e": "AQ"})),
        rsa(&json!({"e": "AQAB="})),
        rsa(&json!({"e": 65537})),
        rsa(&json!({"use": "enc"})),
        rsa(&json!({"use": null})),
        rsa(&json!({"key_ops": ["encrypt"]})),
        rsa(&json!({"key_ops": "verify"})),
        rsa(&json!({"alg": "RSA-OAEP"})),
        rsa(&json!({"alg": "ES256"})),
        rsa(&json!({"alg": "HS256"})),
        rsa(&json!({"alg": "none"})),
        rsa(&json!({"alg": 1})),
        rsa(&json!({"kid": 1})),
        rsa(&json!({"kid": "a".repeat(1025)})),
        p256(&json!({"alg": "ES384"})),
        p256(&json!({"crv": "P-384"})),
        p256(&json!({"crv": "secp256k1"})),
        p256(&json!({"x": encode(&point[1..32])})),
        p256(&json!({"x": encode(&point[1..34]), "y": encode(&point[34..])})),
        p256(&json!({"x": encode(&point[33..])})),
        json!({"kty": "OKP", "crv": "Ed448", "x": "AA"}),
        json!({"kty": "OKP", "crv": "X25519", "x": encode([9; 32])}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": encode([0; 32])}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": encode([1; 31])}),
    ];
    let n_bad = bad.len();
    let mut set: Vec<Value> = bad.into();
    set.push(rsa(&json!({"kid": "good"})));
    let (keys, problems) = read(&json!({"keys": set}));
    assert_eq!(keys.iter().map(|key| key.id.as_deref()).collect::<Vec<_>>(), [Some("good")]);
    let at: Vec<_> = problems.iter().map(|problem| (problem.severity, problem.at.as_str())).collect();
    let expected: Vec<_> = (0..n_bad).map(|index| (Severity::Warning, format!("here.keys[{index}]"))).collect();
    assert_eq!(at, expected.iter().map(|(severity, at)| (*severity, at.as_str())).collect::<Vec<_>>());
}

#[test]
fn a_private_key_is_used_as_the_public_one_that_it_holds_and_told_about() {
    for member in PRIVATE {
        let mut key = rsa(&json!({}));
        key[member] = json!("c2VjcmV0");
        let (keys, problems) = read(&json!({"keys": [key]}));
        assert_eq!(keys, read(&json!({"keys": [rsa(&json!({}))]})).0);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].what.contains("private") && !problems[0].to_string().contains("c2VjcmV0"));
    }
}

#[test]
fn what_is_no_set_or_has_no_key_is_an_error() {
    let one = rsa(&json!({})).to_string();
    for text in [
        "",
        "[]",
        "{}",
        "{\"keys\":{}}",
        "{\"keys\":[]}",
        "{\"keys\":[1]}",
        "-----BEGIN PUBLIC KEY-----",
        &one,
        &format!("{{\"keys\":[{one}],\"keys\":[]}}"),
        &format!("{{\"keys\":[{one}],\"x\":\"{}\"}}", "a".repeat(MAX_BYTES)),
    ] {
        let mut problems = Vec::new();
        assert_eq!(keys(text.as_bytes(), "here", &mut problems), []);
        assert!(problems.iter().any(|problem| problem.severity == Severity::Error), "{}", &text[..text.len().min(40)]);
    }
}

#[test]
fn sixty_four_keys_are_read() {
    let set: Vec<_> = (0..70).map(|n| p256(&json!({"kid": n.to_string()}))).collect();
    let (keys, problems) = read(&json!({"keys": set}));
    assert_eq!((keys.len(), problems.len()), (64, 1));
}

#[test]
fn algorithms_have_one_spelling_and_their_own_scheme() {
    for (name, scheme) in [
        ("RS256", Scheme::RsaPkcs1(Hash::Sha256)),
        ("RS384", Scheme::RsaPkcs1(Hash::Sha384)),
        ("RS512", Scheme::RsaPkcs1(Hash::Sha512)),
        ("PS256", Scheme::RsaPss(Hash::Sha256)),
        ("PS384", Scheme::RsaPss(Hash::Sha384)),
        ("PS512", Scheme::RsaPss(Hash::Sha512)),
        ("ES256", Scheme::Ecdsa(Curve::P256, Hash::Sha256)),
        ("ES384", Scheme::Ecdsa(Curve::P384, Hash::Sha384)),
        ("ES512", Scheme::Ecdsa(Curve::P521, Hash::Sha512)),
        ("EdDSA", Scheme::Ed25519),
        ("Ed25519", Scheme::Ed25519),
    ] {
        assert_eq!(Algorithm::parse(name).map(Algorithm::scheme), Some(scheme), "{name}");
    }
    for name in
        ["", "none", "RS", "RS256 ", "rs256", "HS256", "ES256K", "RS1", "eddsa", "Ed448", "É256", "XS256", "E\u{e9}256"]
    {
        assert_eq!(Algorithm::parse(name), None, "{name}");
    }
}
