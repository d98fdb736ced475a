//! A provider, its signing key and its clock, for the targets on tokens and key sets.

use std::{cell::RefCell, sync::OnceLock};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Signer as _, SigningKey};
use portcullis_policy::{
    HeaderList, Memory, Problem,
    jwt::{Checked, JwtProvider, KeySource, ProviderRecord, TokenRequest, check, compile},
};
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "https://issuer.example";
/// The time of every request, in seconds since the Unix epoch.
pub(crate) const NOW: u64 = 1_800_000_000;

/// The provider's key. It guards nothing.
pub(crate) fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// A key of which no key set here knows anything.
pub(crate) fn foreign_key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

/// The JWK set of the signing key.
pub fn key_set() -> Vec<u8> {
    let point = BASE64_URL_SAFE_NO_PAD.encode(signing_key().verifying_key().as_bytes());
    let key = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k1", "alg": "EdDSA", "use": "sig", "x": point});
    json!({"keys": [key]}).to_string().into()
}

/// A provider with this JWK set, and what is wrong with the set.
pub(crate) fn provider(key_set: Vec<u8>) -> (ProviderRecord, Vec<Problem>) {
    let provider = JwtProvider {
        name: "okta".to_owned(),
        issuer: ISSUER.to_owned(),
        audiences: vec!["api".to_owned()],
        keys: KeySource::Inline(key_set),
        locations: Vec::new(),
        forwarding: None,
        clock_skew: 30,
        cache_size: 0,
        broken: false,
    };
    let mut problems = Vec::new();
    let record = compile(&provider, None, &mut problems);
    (record, problems)
}

/// Header and payload, signed.
pub(crate) fn sign(key: &SigningKey, header: &[u8], payload: &[u8]) -> String {
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!("{}.{}", encode(header), encode(payload));
    let signature = key.sign(signed.as_bytes());
    format!("{signed}.{}", encode(&signature.to_bytes()))
}

/// A token that holds.
pub fn good_token() -> &'static str {
    static TOKEN: OnceLock<String> = OnceLock::new();
    TOKEN.get_or_init(|| {
        let claims = json!({"iss": ISSUER, "aud": ["api"], "exp": NOW + 600, "nbf": NOW - 600, "sub": "joe"});
        sign(&signing_key(), br#"{"alg":"EdDSA","kid":"k1"}"#, claims.to_string().as_bytes())
    })
}

/// The claims of a token that holds, found without the code under test: the signature is the provider's, the time is
/// right, and issuer and audience are the provider's.
pub(crate) fn verified_again(token: &[u8]) -> Option<Value> {
    let token = core::str::from_utf8(token).ok()?;
    let (signed, signature) = token.rsplit_once('.')?;
    let signature = Signature::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
    signing_key().verifying_key().verify_strict(signed.as_bytes(), &signature).ok()?;
    let (_, payload) = signed.split_once('.')?;
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let time = |name: &str| claims.get(name).map(Value::as_f64);
    #[allow(clippy::cast_precision_loss, reason = "seconds of this century")]
    let (now, skew) = (NOW as f64, 30.0);
    let in_time = match (time("nbf"), time("exp")) {
        (Some(None), _) | (_, Some(None)) => false,
        (from, to) => {
            from.flatten().is_none_or(|it| it <= now + skew) && to.flatten().is_none_or(|it| now <= it + skew)
        }
    };
    // A slash at the end does not count (consul-policy §4.6).
    let is_ours = |one: &str| one.strip_suffix('/').unwrap_or(one) == "api";
    let audience = match &claims["aud"] {
        Value::String(one) => is_ours(one),
        Value::Array(several) => several.iter().filter_map(Value::as_str).any(is_ours),
        _ => false,
    };
    (in_time && audience && claims["iss"] == ISSUER).then_some(claims)
}

/// Remembers what it is told.
#[derive(Default)]
pub(crate) struct Remembering(pub(crate) RefCell<Vec<([u8; 32], u64)>>);

impl Memory for Remembering {
    fn remembers(&self, digest: &[u8; 32], now: u64) -> bool {
        self.0.borrow().iter().any(|(known, until)| known == digest && now < *until)
    }

    fn remember(&self, digest: &[u8; 32], until: u64) {
        self.0.borrow_mut().push((*digest, until));
    }
}

/// What a request says with this after `Bearer `.
pub(crate) fn ask(provider: &ProviderRecord, token: &[u8], memory: &dyn Memory) -> Checked {
    let headers = HeaderList::new([("authorization", [b"Bearer ", token].concat())]);
    check(provider, &TokenRequest { headers: &headers, uri: "/", now: NOW }, memory)
}
