//! Keys that tokens are signed with, of every kind that a provider can have, and the signing.

use std::fmt;

use anyhow::{Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::Signer as _;
use fastrand::Rng;
use hmac::Mac as _;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use rsa::traits::PublicKeyParts as _;
use rsa::{RsaPrivateKey, pkcs1v15, pss};
use serde_json::{Value, json};
use sha2::{Sha256, Sha384, Sha512};

/// A key pair.
pub struct Key {
    /// Its `kid`.
    pub id: String,
    /// The algorithms that it can sign with, the usual one first.
    pub algorithms: &'static [&'static str],
    secret: Secret,
}

enum Secret {
    Rsa(Box<RsaPrivateKey>),
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
    Ed25519(ed25519_dalek::SigningKey),
}

const RSA: &[&str] = &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];

/// The keys of a run: two RSA, two P-256, and one of each other kind.
pub fn ring(random: &mut Rng) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    for id in ["rsa-1", "rsa-2"] {
        let key =
            RsaPrivateKey::new(&mut Seeded(random), 2048).map_err(|error| anyhow!("making an RSA key: {error}"))?;
        keys.push(Key { id: id.to_owned(), algorithms: RSA, secret: Secret::Rsa(Box::new(key)) });
    }
    keys.extend(elliptic(random));
    Ok(keys)
}

/// Those of them that take no time to make.
pub fn elliptic(random: &mut Rng) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut add = |id: &str, algorithms, secret| keys.push(Key { id: id.to_owned(), algorithms, secret });
    for id in ["p256-1", "p256-2"] {
        add(id, &["ES256"], Secret::P256(p256::ecdsa::SigningKey::random(&mut Seeded(random))));
    }
    add("p384", &["ES384"], Secret::P384(p384::ecdsa::SigningKey::random(&mut Seeded(random))));
    add("p521", &["ES512"], Secret::P521(p521::ecdsa::SigningKey::random(&mut Seeded(random))));
    let mut seed = [0; 32];
    random.fill(&mut seed);
    add("ed25519", &["EdDSA"], Secret::Ed25519(ed25519_dalek::SigningKey::from_bytes(&seed)));
    keys
}

impl Key {
    /// The public key as a JWK, with or without `alg`.
    pub fn jwk(&self, with_algorithm: bool) -> Value {
        let mut jwk = match &self.secret {
            Secret::Rsa(key) => {
                json!({"kty": "RSA", "n": text(&key.n().to_bytes_be()), "e": text(&key.e().to_bytes_be())})
            }
            Secret::P256(key) => point("P-256", key.verifying_key().to_encoded_point(false).as_bytes()),
            Secret::P384(key) => point("P-384", key.verifying_key().to_encoded_point(false).as_bytes()),
            Secret::P521(key) => {
                let key = p521::ecdsa::VerifyingKey::from(key);
                point("P-521", key.to_encoded_point(false).as_bytes())
            }
            Secret::Ed25519(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": text(key.verifying_key().as_bytes())})
            }
        };
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        if with_algorithm {
            jwk["alg"] = json!(self.algorithms[0]);
        }
        jwk
    }

    /// A token. The signature is made with the algorithm that the header names if the key can; with `HS256`, with the
    /// public key's text as the secret, which is what a confused verifier would check; else it is empty.
    pub fn token(&self, header: &Value, payload: &[u8]) -> String {
        let signed = format!("{}.{}", text(header.to_string().as_bytes()), text(payload));
        let signature = self.sign(header["alg"].as_str().unwrap_or_default(), signed.as_bytes()).unwrap_or_default();
        format!("{signed}.{}", text(&signature))
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Option<Vec<u8>> {
        if algorithm == "HS256" {
            let mut mac = hmac::Hmac::<Sha256>::new_from_slice(self.jwk(true).to_string().as_bytes()).ok()?;
            mac.update(message);
            return Some(mac.finalize().into_bytes().to_vec());
        }
        Some(match (&self.secret, algorithm) {
            (Secret::Rsa(key), "RS256") => pkcs1v15::SigningKey::<Sha256>::new((**key).clone()).sign(message).to_vec(),
            (Secret::Rsa(key), "RS384") => pkcs1v15::SigningKey::<Sha384>::new((**key).clone()).sign(message).to_vec(),
            (Secret::Rsa(key), "RS512") => pkcs1v15::SigningKey::<Sha512>::new((**key).clone()).sign(message).to_vec(),
            (Secret::Rsa(key), "PS256") => salted::<Sha256>(key, message),
            (Secret::Rsa(key), "PS384") => salted::<Sha384>(key, message),
            (Secret::Rsa(key), "PS512") => salted::<Sha512>(key, message),
            (Secret::P256(key), "ES256") => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_bytes().to_vec()
            }
            (Secret::P384(key), "ES384") => {
                let signature: p384::ecdsa::Signature = key.sign(message);
                signature.to_bytes().to_vec()
            }
            (Secret::P521(key), "ES512") => {
                let mut random = Rng::with_seed(0);
                let signature: p521::ecdsa::Signature = key.sign_with_rng(&mut Seeded(&mut random), message);
                signature.to_bytes().to_vec()
            }
            (Secret::Ed25519(key), "EdDSA") => key.sign(message).to_bytes().to_vec(),
            _ => return None,
        })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

fn salted<D>(key: &RsaPrivateKey, message: &[u8]) -> Vec<u8>
where
    D: sha2::Digest + rsa::sha2::digest::FixedOutputReset,
{
    // The salt need not be secret, and nothing is to depend on anything but the seed.
    let mut random = Rng::with_seed(0);
    pss::SigningKey::<D>::new(key.clone()).sign_with_rng(&mut Seeded(&mut random), message).to_vec()
}

fn point(curve: &str, sec1: &[u8]) -> Value {
    let (x, y) = sec1[1..].split_at(sec1.len() / 2);
    json!({"kty": "EC", "crv": curve, "x": text(x), "y": text(y)})
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The run's generator where a cryptographic one is asked for. The keys guard nothing.
struct Seeded<'a>(&'a mut Rng);

impl rsa::rand_core::CryptoRng for Seeded<'_> {}

impl rsa::rand_core::RngCore for Seeded<'_> {
    fn next_u32(&mut self) -> u32 {
        self.0.u32(..)
    }

    fn next_u64(&mut self) -> u64 {
        self.0.u64(..)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}
