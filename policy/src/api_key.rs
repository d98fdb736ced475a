//! API keys: `pcl_<id>_<secret>`. The id is public and finds the record; the secret is known only as a salted SHA-256.
//!
//! The secret is random and long (`portcullis key new` makes 256 bits), so one round of SHA-256 suffices: there is nothing
//! to guess that a slow password hash would protect.

use sha2::{Digest as _, Sha256};

/// What every key begins with, so that secret scanners can find leaked ones.
pub const PREFIX: &str = "pcl_";

/// Longest key text that is looked at, in bytes.
const MAX_LEN: usize = 256;

/// The two parts of a key, borrowed from its text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyText<'a> {
    /// Public part.
    pub id: &'a str,
    /// Secret part.
    pub secret: &'a str,
}

impl<'a> KeyText<'a> {
    /// Splits a presented key; `None` when it has not the shape of one.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.len() > MAX_LEN {
            return None;
        }
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (word(id) && word(secret)).then_some(Self { id, secret })
    }
}

/// The stored form of a secret: SHA-256 over salt and secret.
pub fn hash(salt: &[u8], secret: &str) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(secret.as_bytes()).finalize().into()
}

/// Whether a secret is the one that was hashed; looks at every byte whatever the first ones say.
pub fn verify(salt: &[u8], expected: &[u8; 32], secret: &str) -> bool {
    let differing = hash(salt, secret).iter().zip(expected).fold(0, |seen, (left, right)| seen | (left ^ right));
    core::hint::black_box(differing) == 0
}

/// Reads the `Hash` field of an `api-key` entry: `sha256:<salt in hex>:<hash in hex>`.
pub fn parse_hash(text: &str) -> Option<(Vec<u8>, [u8; 32])> {
    let (salt, hash) = text.strip_prefix("sha256:")?.split_once(':')?;
    let salt = unhex(salt).filter(|salt| !salt.is_empty())?;
    Some((salt, unhex(hash)?.try_into().ok()?))
}

/// Writes what [`parse_hash`] reads.
pub fn format_hash(salt: &[u8], hash: &[u8; 32]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    format!("sha256:{}:{}", hex(salt), hex(hash))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_verifies_against_its_own_hash_only() {
        let stored = format_hash(&[1, 2, 3], &hash(&[1, 2, 3], "s3cret"));
        let (salt, hash) = parse_hash(&stored).unwrap();
        assert!(verify(&salt, &hash, "s3cret"));
        assert!(!verify(&salt, &hash, "s3creT"));
        assert!(!verify(&[1, 2], &hash, "s3cret"));
    }

    #[test]
    fn refuses_texts_that_are_no_keys() {
        for text in ["", "pcl_", "pcl_a", "pcl_a_", "pcl__b", "pcl_a_b c", "PCL_a_b", "a_b", "pcl_a_b_c", "pcl_a_é"] {
            assert!(KeyText::parse(text).is_none(), "{text}");
        }
        assert!(KeyText::parse(&format!("pcl_a_{}", "b".repeat(300))).is_none());
    }

    #[test]
    fn refuses_hashes_of_another_shape() {
        for text in ["", "sha256:", "sha256:00:", "sha256::00", "md5:00:00", "sha256:0:00", "sha256:00:zz"] {
            assert!(parse_hash(text).is_none(), "{text}");
        }
    }
}
