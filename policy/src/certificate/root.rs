//! The certificates of CAs that chains may end at, and whose they are.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    algorithm,
    x509::{KeyUsage, X509},
};
use crate::crypto::PublicKey;

/// Longest certificate of a CA that is read, in bytes: four times one with the largest key that is accepted.
const MAX_DER: usize = 8 * 1024;

/// A root: what of a CA's certificate is needed to end a chain at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaRoot {
    /// SHA-256 of the certificate.
    pub(super) fingerprint: [u8; 32],
    /// Its name, DER.
    pub(super) subject: Vec<u8>,
    /// Its key.
    pub(super) key: PublicKey,
    /// Valid from, in seconds since the Unix epoch, inclusive.
    pub(super) not_before: u64,
    /// Valid to, likewise inclusive.
    pub(super) not_after: u64,
    /// How many CAs there may be between this one and a leaf.
    pub(super) path_length: Option<u32>,
}

/// The roots of one trust domain: this cluster's own, or a peer's (consul-policy §1.2, §1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    /// The trust domain, in lower case.
    pub trust_domain: String,
    /// The name by which intentions know the peer; `None` is this cluster.
    pub peer: Option<String>,
    /// The peer's exported partition; `default` when it is not said, and for this cluster.
    pub partition: String,
    /// Every root that is trusted, the old ones of a rotation as well. None: every certificate of the domain is refused.
    pub roots: Vec<CaRoot>,
}

/// Why a certificate cannot end a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRoot {
    /// Not one block of PEM.
    #[error("this is not one certificate in PEM")]
    Pem,
    /// Not a DER certificate of version 3, or too long.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// Not a CA's, or one that may not sign certificates of clients.
    #[error("the certificate is not that of a CA for clients")]
    NotACa,
    /// A critical extension that is not known, or constraints on names, which are not enforced.
    #[error("the certificate is restricted in a way that is not enforced")]
    Restricted,
    /// RSA below 2048 or above 8192 bits, a curve that is not P-256, P-384 or P-521, another algorithm.
    #[error("the certificate's key is of a kind that is not supported")]
    Key,
}

impl CaRoot {
    /// Reads a certificate in PEM: one block, with anything before it and white space behind it.
    pub fn from_pem(text: &str) -> Result<Self, InvalidRoot> {
        let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----").ok_or(InvalidRoot::Pem)?;
        let (body, rest) = rest.split_once("-----END CERTIFICATE-----").ok_or(InvalidRoot::Pem)?;
        if !rest.trim().is_empty() || body.len() > 2 * MAX_DER {
            return Err(InvalidRoot::Pem);
        }
        let base64: Vec<u8> = body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        Self::from_der(&BASE64_STANDARD.decode(base64).map_err(|_| InvalidRoot::Pem)?)
    }

    /// Reads a certificate in DER. Whether it is in force is judged when a chain ends at it, and who signed it matters to
    /// nobody: it is trusted because somebody put it here.
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidRoot> {
        if der.len() > MAX_DER {
            return Err(InvalidRoot::Unreadable);
        }
        let certificate = X509::parse(der).map_err(|_| InvalidRoot::Unreadable)?;
        let says = &certificate.says;
        let signs = says.key_usage.is_none_or(KeyUsage::signs_certificates);
        if !says.is_ca || !signs || says.for_clients == Some(false) {
            return Err(InvalidRoot::NotACa);
        }
        if says.has_unknown {
            return Err(InvalidRoot::Restricted);
        }
        Ok(Self {
            fingerprint: Sha256::digest(der).into(),
            subject: certificate.subject.to_vec(),
            key: algorithm::public_key(certificate.key).ok_or(InvalidRoot::Key)?,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            path_length: says.path_length,
        })
    }
}

#[cfg(test)]
#[path = "root_tests.rs"]
mod tests;
