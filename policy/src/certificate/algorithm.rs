//! Keys and signature algorithms as certificates name them (RFC 3279, 4055, 5480, 5758, 8410).

use der::Tag;

use super::asn1::{Element, Malformed};
use crate::crypto::{Curve, Hash, PublicKey, Scheme};

/// 1.2.840.113549.1.1, and below it.
const RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 1];
const RSA_PSS: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 10];
const RSA_SHA256: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 11];
const RSA_SHA384: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 12];
const RSA_SHA512: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 13];
/// 1.2.840.10045, and below it.
const EC: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1];
const P256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7];
const ECDSA_SHA256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2];
const ECDSA_SHA384: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 3];
const ECDSA_SHA512: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 4];
/// 1.3.132.0.34 and 35.
const P384: &[u8] = &[0x2B, 0x81, 4, 0, 34];
const P521: &[u8] = &[0x2B, 0x81, 4, 0, 35];
/// 1.3.101.112
const ED25519: &[u8] = &[0x2B, 0x65, 0x70];

/// The parameters of RSASSA-PSS with one hash throughout and a salt of its length (RFC 4055 §3.1), which is the only
/// sensible choice and the only one that is accepted: SHA-256's.
const PSS_SHA256: [u8; 54] = [
    0x30, 0x34, 0xA0, 0x0F, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
    0xA1, 0x1C, 0x30, 0x1A, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x08, 0x30, 0x0D, 0x06, 0x09,
    0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0xA2, 0x03, 0x02, 0x01, 0x20,
];

/// The scheme that an `AlgorithmIdentifier` names, for signatures by this key; `None` when it is not known or does not
/// fit the key.
pub(super) fn scheme(algorithm: Element<'_>, key: &PublicKey) -> Option<Scheme> {
    let (id, parameters) = identifier(algorithm).ok()?;
    let rsa = |hash| {
        // NULL; some leave it out, which says the same.
        let is_plain = parameters.is_none_or(is_null);
        (is_plain && matches!(key, PublicKey::Rsa { .. })).then_some(Scheme::RsaPkcs1(hash))
    };
    let ecdsa = |hash| match key {
        PublicKey::Ec { curve, .. } if parameters.is_none() => Some(Scheme::EcdsaDer(*curve, hash)),
        _ => None,
    };
    match id {
        RSA_SHA256 => rsa(Hash::Sha256),
        RSA_SHA384 => rsa(Hash::Sha384),
        RSA_SHA512 => rsa(Hash::Sha512),
        RSA_PSS => pss_hash(parameters?.raw).filter(|_| matches!(key, PublicKey::Rsa { .. })).map(Scheme::RsaPss),
        ECDSA_SHA256 => ecdsa(Hash::Sha256),
        ECDSA_SHA384 => ecdsa(Hash::Sha384),
        ECDSA_SHA512 => ecdsa(Hash::Sha512),
        ED25519 if parameters.is_none() && matches!(key, PublicKey::Ed25519(_)) => Some(Scheme::Ed25519),
        _ => None,
    }
}

/// The hash of PSS parameters: they differ in the last byte of the hash's identifier, twice, and in the length of the salt.
fn pss_hash(parameters: &[u8]) -> Option<Hash> {
    [(Hash::Sha256, 1, 32), (Hash::Sha384, 2, 48), (Hash::Sha512, 3, 64)].into_iter().find_map(|(hash, id, salt)| {
        let mut expected = PSS_SHA256;
        for (at, byte) in [(16, id), (46, id), (53, salt)] {
            *expected.get_mut(at)? = byte;
        }
        (parameters == expected).then_some(hash)
    })
}

/// The key of a `SubjectPublicKeyInfo`; `None` when it is of a kind or size that is not known, or malformed.
pub(super) fn public_key(info: Element<'_>) -> Option<PublicKey> {
    let mut parts = info.inside(Tag::Sequence).ok()?;
    let (algorithm, key) = (parts.next().ok()?, parts.next().ok()?.bytes().ok()?);
    parts.end().ok()?;
    let (id, parameters) = identifier(algorithm).ok()?;
    match id {
        RSA => {
            parameters.filter(|it| is_null(*it))?;
            let mut numbers = Element::new(key).ok()?.inside(Tag::Sequence).ok()?;
            let (n, e) = (numbers.unsigned().ok()?, numbers.unsigned().ok()?);
            numbers.end().ok()?;
            PublicKey::rsa(n, e).ok()
        }
        EC => {
            let curve = match parameters?.id().ok()? {
                P256 => Curve::P256,
                P384 => Curve::P384,
                P521 => Curve::P521,
                _ => return None,
            };
            PublicKey::ec(curve, key).ok()
        }
        ED25519 if parameters.is_none() => PublicKey::ed25519(key).ok(),
        _ => None,
    }
}

/// `AlgorithmIdentifier`: what, and its parameters.
fn identifier(algorithm: Element<'_>) -> Result<(&[u8], Option<Element<'_>>), Malformed> {
    let mut parts = algorithm.inside(Tag::Sequence)?;
    let id = parts.next()?.id()?;
    let parameters = if parts.is_empty() { None } else { Some(parts.next()?) };
    parts.end()?;
    Ok((id, parameters))
}

fn is_null(element: Element<'_>) -> bool {
    element.bytes_of(Tag::Null).is_ok_and(<[u8]>::is_empty)
}
