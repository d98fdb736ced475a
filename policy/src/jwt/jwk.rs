//! JWK sets (RFC 7517): the keys of an issuer. What is no key for signatures is left out, with a problem that says so:
//! issuers publish other keys too, and one that cannot be read verifies nothing.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{json, token::decode};
use crate::{
    crypto::{Curve, Hash, PublicKey, Scheme},
    problem::{Problem, Severity},
};

/// Largest set, in bytes. A key with its certificates takes a few KiB.
const MAX_BYTES: usize = 256 * 1024;
/// Most keys of a set that are looked at.
const MAX_KEYS: usize = 64;
/// Longest `kid`, in bytes.
const MAX_KEY_ID: usize = 1024;
/// Members that only a private key has (RFC 7518 §6, RFC 8037 §2).
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

/// An algorithm of JWS (RFC 7518 §3.1, RFC 8037 §3.1). `none` and those with a shared secret do not exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// RS256, RS384, RS512.
    Rs(Hash),
    /// PS256, PS384, PS512.
    Ps(Hash),
    /// ES256, ES384, ES512: each is for one curve.
    Es(Curve),
    /// EdDSA, with Ed25519.
    EdDsa,
}

/// One key of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// `kid`. Several keys may have the same; each is tried.
    pub id: Option<String>,
    /// `alg`: the only algorithm that it is for. Without one, an RSA key is for RS and PS with any hash; a curve says it.
    pub algorithm: Option<Algorithm>,
    /// The key.
    pub key: PublicKey,
}

impl Algorithm {
    /// An algorithm by its name, which is case-sensitive.
    pub fn parse(name: &str) -> Option<Self> {
        let hash = match name.get(2..)? {
            "256" => Hash::Sha256,
            "384" => Hash::Sha384,
            "512" => Hash::Sha512,
            _ => return (name == "EdDSA" || name == "Ed25519").then_some(Self::EdDsa),
        };
        match (name.get(..2)?, hash) {
            ("RS", hash) => Some(Self::Rs(hash)),
            ("PS", hash) => Some(Self::Ps(hash)),
            ("ES", Hash::Sha256) => Some(Self::Es(Curve::P256)),
            ("ES", Hash::Sha384) => Some(Self::Es(Curve::P384)),
            ("ES", Hash::Sha512) => Some(Self::Es(Curve::P521)),
            _ => None,
        }
    }

    /// How its signatures are made.
    pub fn scheme(self) -> Scheme {
        match self {
            Self::Rs(hash) => Scheme::RsaPkcs1(hash),
            Self::Ps(hash) => Scheme::RsaPss(hash),
            Self::Es(Curve::P256) => Scheme::Ecdsa(Curve::P256, Hash::Sha256),
            Self::Es(Curve::P384) => Scheme::Ecdsa(Curve::P384, Hash::Sha384),
            Self::Es(Curve::P521) => Scheme::Ecdsa(Curve::P521, Hash::Sha512),
            Self::EdDsa => Scheme::Ed25519,
        }
    }

    /// Whether a key is of its kind.
    fn fits(self, key: &PublicKey) -> bool {
        match (self, key) {
            (Self::Rs(_) | Self::Ps(_), PublicKey::Rsa { .. }) | (Self::EdDsa, PublicKey::Ed25519(_)) => true,
            (Self::Es(of), PublicKey::Ec { curve, .. }) => of == *curve,
            _ => false,
        }
    }
}

impl KeyRecord {
    /// Whether it may have signed a token that names this algorithm.
    pub(super) fn accepts(&self, algorithm: Algorithm) -> bool {
        self.algorithm.is_none_or(|only| only == algorithm) && algorithm.fits(&self.key)
    }
}

/// Reads a set. `place` is where it stands, for problems.
pub(super) fn keys(set: &[u8], place: &str, problems: &mut Vec<Problem>) -> Vec<KeyRecord> {
    let mut report = |severity, at: String, what: &str, hint: &str| {
        problems.push(Problem { severity, at, what: what.to_owned(), hint: hint.to_owned() });
    };
    let parsed = Some(set).filter(|set| set.len() <= MAX_BYTES).and_then(json::object);
    let Some(Value::Array(list)) = parsed.as_ref().and_then(|set| set.get("keys")) else {
        let what = "this is no JWK set of at most 256 KiB; the provider's tokens are refused";
        report(Severity::Error, place.to_owned(), what, "a set looks like {\"keys\": [{\"kty\": …}]} (RFC 7517)");
        return Vec::new();
    };
    if list.len() > MAX_KEYS {
        report(Severity::Warning, place.to_owned(), "the set has more than 64 keys; the others are left out", "");
    }
    let mut keys = Vec::new();
    for (index, value) in list.iter().enumerate().take(MAX_KEYS) {
        let at = || format!("{place}.keys[{index}]");
        match value.as_object().ok_or("this is no key").and_then(key) {
            Ok(key) => {
                if value.as_object().is_some_and(|key| PRIVATE.iter().any(|member| key.contains_key(*member))) {
                    let hint = "whoever reads this can sign: publish the public part only, and make a new key";
                    report(Severity::Warning, at(), "this is a private key; its private part is ignored", hint);
                }
                keys.push(key);
            }
            Err(what) => report(Severity::Warning, at(), what, "the key is left out"),
        }
    }
    if keys.is_empty() {
        let what = "the set has no key that signatures can be checked with; the provider's tokens are refused";
        report(Severity::Error, place.to_owned(), what, "");
    }
    keys
}

fn key(object: &Map<String, Value>) -> Result<KeyRecord, &'static str> {
    let text = |member: &str| object.get(member).and_then(Value::as_str);
    let bytes = |member: &str| {
        let number = text(member).and_then(decode);
        number.ok_or("a number of the key is missing or not base64url without padding")
    };
    if object.get("use").is_some_and(|it| it.as_str() != Some("sig")) {
        return Err("the key's `use` is not `sig`");
    }
    let verifies = |operations: &Value| operations.as_array().is_some_and(|list| list.iter().any(|it| it == "verify"));
    if object.get("key_ops").is_some_and(|it| !verifies(it)) {
        return Err("the key's `key_ops` have no `verify`");
    }
    let key = match text("kty") {
        Some("RSA") => PublicKey::rsa(&bytes("n")?, &bytes("e")?)
            .map_err(|_| "not an RSA key of 2048 to 8192 bits with an odd exponent from 3 to 2^32")?,
        Some("EC") => {
            let curve = match text("crv") {
                Some("P-256") => Curve::P256,
                Some("P-384") => Curve::P384,
                Some("P-521") => Curve::P521,
                _ => return Err("the key's curve is not supported"),
            };
            let (x, y) = (bytes("x")?, bytes("y")?);
            let point = Some([&[4], x.as_slice(), y.as_slice()].concat()).filter(|_| x.len() == y.len());
            let key = point.and_then(|point| PublicKey::ec(curve, &point).ok());
            key.ok_or("x and y are no point of the curve in its full length")?
        }
        Some("OKP") if text("crv") == Some("Ed25519") => {
            PublicKey::ed25519(&bytes("x")?).map_err(|_| "x is no Ed25519 key, or a weak one")?
        }
        Some("OKP") => return Err("the key's curve is not supported"),
        Some("oct") => return Err("shared secrets (`oct`) are not supported"),
        _ => return Err("the key's `kty` is not supported"),
    };
    let algorithm = match object.get("alg") {
        None => None,
        Some(name) => {
            let algorithm = name.as_str().and_then(Algorithm::parse).filter(|it| it.fits(&key));
            Some(algorithm.ok_or("the key's `alg` is not supported, or not for a key of its kind")?)
        }
    };
    let id = match object.get("kid") {
        None => None,
        Some(Value::String(id)) if id.len() <= MAX_KEY_ID => Some(id.clone()),
        Some(_) => return Err("the key's `kid` is not a text of at most 1024 bytes"),
    };
    Ok(KeyRecord { id, algorithm, key })
}

#[cfg(test)]
mod tests;
