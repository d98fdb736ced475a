//! Signatures: the only place that knows how one is verified.
//!
//! Everything here is public (keys, messages, signatures), so nothing needs to run in constant time, and nothing of it may
//! be used with a secret. One arithmetic of ours serves RSA and all three curves (`montgomery`), because no library
//! fits the plugin: `docs/adr/0008-signatures-in-the-plugin.md` has the figures. The libraries are what the tests compare
//! with. Ed25519 is `ed25519-dalek`.
//!
//! A signature either holds or does not: [`PublicKey::verify`] says `false` to everything else, a scheme that does not
//! fit the key included, so that who makes a token cannot choose how it is read.

mod ecdsa;
mod ed25519;
mod montgomery;
mod rsa;

use serde::{Deserialize, Serialize};
use sha2::{Sha256, Sha384, Sha512};

/// A prime-order curve of FIPS 186-5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Curve {
    /// secp256r1.
    P256,
    /// secp384r1.
    P384,
    /// secp521r1.
    P521,
}

/// A hash function of the SHA-2 family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hash {
    /// 32 bytes.
    Sha256,
    /// 48 bytes.
    Sha384,
    /// 64 bytes.
    Sha512,
}

/// How a signature is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scheme {
    /// RSASSA-PKCS1-v1_5 (RFC 8017 §8.2).
    RsaPkcs1(Hash),
    /// RSASSA-PSS with MGF1 over the same hash and a salt as long as the hash (RFC 8017 §8.1, RFC 7518 §3.5).
    RsaPss(Hash),
    /// ECDSA, the signature being `r` and `s` side by side, each as long as the curve's order (RFC 7518 §3.4).
    Ecdsa(Curve, Hash),
    /// ECDSA, the signature being the DER of `SEQUENCE {r, s}` (RFC 5480, RFC 5758).
    EcdsaDer(Curve, Hash),
    /// Ed25519 (RFC 8032), without the latitude that it leaves: no key or commitment of small order.
    Ed25519,
}

/// A public key. Make one by [`PublicKey::rsa`], [`PublicKey::ec`] or [`PublicKey::ed25519`], which look at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PublicKey {
    /// RSA.
    Rsa {
        /// The modulus, big-endian without leading zeros.
        n: Vec<u8>,
        /// The exponent, likewise.
        e: Vec<u8>,
    },
    /// A point of a curve.
    Ec {
        /// Which curve.
        curve: Curve,
        /// SEC1, uncompressed: `04`, x, y.
        point: Vec<u8>,
    },
    /// Ed25519.
    Ed25519([u8; 32]),
}

/// Why something is no key that signatures are checked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Below what is held to be safe, or larger than anybody uses and dear to compute with.
    #[error("the RSA modulus has not 2048 to 8192 bits")]
    RsaSize,
    /// An even modulus.
    #[error("the RSA modulus is even")]
    RsaModulus,
    /// Even, below 3 or above 2^32.
    #[error("the RSA exponent is not an odd number from 3 to 2^32")]
    RsaExponent,
    /// Of another length or form, or not on the curve.
    #[error("the point is not an uncompressed one of the curve")]
    Point,
    /// Not the encoding of a point, or of one of small order.
    #[error("not an Ed25519 key, or a weak one")]
    Ed25519,
}

impl Hash {
    /// The digest of the parts, one after the other.
    pub(crate) fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        fn of<D: sha2::Digest>(parts: &[&[u8]]) -> Vec<u8> {
            let mut hasher = D::new();
            for part in parts {
                hasher.update(part);
            }
            hasher.finalize().to_vec()
        }
        match self {
            Self::Sha256 => of::<Sha256>(parts),
            Self::Sha384 => of::<Sha384>(parts),
            Self::Sha512 => of::<Sha512>(parts),
        }
    }
}

impl PublicKey {
    /// An RSA key from its big-endian numbers. 2048 to 8192 bits; the exponent is odd, from 3 to 2^32.
    pub fn rsa(n: &[u8], e: &[u8]) -> Result<Self, InvalidKey> {
        rsa::Key::new(n, e)?;
        Ok(Self::Rsa { n: without_leading_zeros(n).to_vec(), e: without_leading_zeros(e).to_vec() })
    }

    /// A key on a curve from its uncompressed SEC1 form: `04`, x, y.
    pub fn ec(curve: Curve, point: &[u8]) -> Result<Self, InvalidKey> {
        ecdsa::Key::new(curve, point).ok_or(InvalidKey::Point)?;
        Ok(Self::Ec { curve, point: point.to_vec() })
    }

    /// An Ed25519 key.
    pub fn ed25519(bytes: &[u8]) -> Result<Self, InvalidKey> {
        let bytes = bytes.try_into().map_err(|_| InvalidKey::Ed25519)?;
        ed25519::key(&bytes).ok_or(InvalidKey::Ed25519)?;
        Ok(Self::Ed25519(bytes))
    }

    /// Whether the signature of the message is this key's. A scheme that does not fit the key is `false`.
    pub fn verify(&self, scheme: Scheme, message: &[u8], signature: &[u8]) -> bool {
        match (self, scheme) {
            (Self::Rsa { n, e }, Scheme::RsaPkcs1(hash)) => {
                rsa::Key::new(n, e).is_ok_and(|key| key.verifies_pkcs1(hash, &hash.digest(&[message]), signature))
            }
            (Self::Rsa { n, e }, Scheme::RsaPss(hash)) => {
                rsa::Key::new(n, e).is_ok_and(|key| key.verifies_pss(hash, &hash.digest(&[message]), signature))
            }
            (Self::Ec { curve, point }, Scheme::Ecdsa(of, hash)) if *curve == of => {
                ecdsa::Key::new(*curve, point).is_some_and(|key| key.verifies(&hash.digest(&[message]), signature))
            }
            (Self::Ec { curve, point }, Scheme::EcdsaDer(of, hash)) if *curve == of => ecdsa::Key::new(*curve, point)
                .zip(ecdsa::fixed_from_der(*curve, signature))
                .is_some_and(|(key, signature)| key.verifies(&hash.digest(&[message]), &signature)),
            (Self::Ed25519(bytes), Scheme::Ed25519) => ed25519::verifies(bytes, message, signature),
            _ => false,
        }
    }
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
pub(crate) mod test_keys;
#[cfg(test)]
mod tests;
