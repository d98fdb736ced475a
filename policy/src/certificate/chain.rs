//! A client's certificate and what it sent along, verified up to a root (RFC 5280 §6), whatever the gateway has checked:
//! with `RequestClientCert` it proves that the client holds the key, and nothing else (traefik §4.3).
//!
//! ```text
//!  leaf ──issuer──► root of the policy: verified              names equal byte by byte, signature, in force,
//!    └────issuer──► another certificate that was sent ──► …    CA, may sign, path length, for clients
//! ```
//!
//! A certificate can have several issuers of the same name (a rotation, a cross-signed root), so this is a search; it ends
//! after [`MAX_SIGNATURES`] signatures, found or not. Roots are tried first: who signs straight below one is done in one.
//! Where RFC 5280 leaves a choice the narrower one is taken, and what is not understood is refused. Revocation is not
//! asked for: Consul's leaves live for three days and there is no list of revoked ones.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};

use super::{
    MAX_HEADER_LEN, algorithm,
    root::CaRoot,
    x509::{KeyUsage, X509},
};
use crate::{crypto::PublicKey, memory::Memory};

/// Most certificates in a header.
pub const MAX_CERTIFICATES: usize = 8;
/// Most signatures that are verified for one header; a chain of Consul's takes one to three.
pub const MAX_SIGNATURES: usize = 8;

/// Says what a digest of a chain is the digest of, so that it is nothing else's.
const DOMAIN: &[u8] = b"portcullis certificate chain 1\0";

/// Why a chain does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChain {
    /// Too many certificates, or too long.
    #[error("the client certificate's chain is too long")]
    TooLong,
    /// Not base64 of DER certificates of version 3.
    #[error("a certificate of the client's chain cannot be read")]
    Unreadable,
    /// A certificate on the way is not valid yet, or no longer.
    #[error("a certificate of the client's chain is not in force")]
    NotInForce,
    /// The client's certificate is a CA's, or not for clients.
    #[error("the client certificate is not one for a client")]
    NotForClients,
    /// An issuer is no CA, or not for this.
    #[error("an issuer in the client's chain may not issue such certificates")]
    NotAnIssuer,
    /// There are more CAs below one than it allows.
    #[error("the client certificate's chain has more links than its CA allows")]
    PathLength,
    /// A critical extension that is not known, or constraints on names, which are not enforced.
    #[error("a certificate of the client's chain is restricted in a way that is not enforced")]
    Restricted,
    /// An algorithm or a key that is not known, or that do not fit each other.
    #[error("a certificate of the client's chain has an unsupported algorithm or key")]
    Algorithm,
    /// A signature that is not the issuer's.
    #[error("a signature in the client's chain does not hold")]
    Signature,
    /// Nobody who is known or was sent along has the issuer's name.
    #[error("the client certificate's chain does not end at a known root")]
    UnknownIssuer,
    /// So many possible issuers that the search was given up.
    #[error("the client certificate's chain takes too many signatures to verify")]
    TooManySignatures,
}

impl InvalidChain {
    /// A short name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::TooLong => "chain-too-long",
            Self::Unreadable => "chain-unreadable",
            Self::NotInForce => "chain-not-in-force",
            Self::NotForClients => "certificate-not-for-clients",
            Self::NotAnIssuer => "chain-issuer-is-no-ca",
            Self::PathLength => "chain-path-length",
            Self::Restricted => "chain-restricted",
            Self::Algorithm => "chain-algorithm",
            Self::Signature => "chain-signature",
            Self::UnknownIssuer => "chain-unknown-issuer",
            Self::TooManySignatures => "chain-too-many-signatures",
        }
    }
}

/// Verifies the value of `X-Forwarded-Tls-Client-Cert`: every certificate that the client sent, leaf first, the others
/// in any order. `roots` are those of the trust domain that the leaf claims; `now` is in seconds since the Unix epoch.
///
/// A chain that holds is remembered until the first of its certificates ends. Validity of the leaf is the caller's to
/// judge at every request, whatever is remembered.
pub fn verify_chain(header: &[u8], roots: &[CaRoot], now: u64, memory: &dyn Memory) -> Result<(), InvalidChain> {
    if header.len() > MAX_HEADER_LEN {
        return Err(InvalidChain::TooLong);
    }
    let digest = digest(header, roots);
    if memory.remembers(&digest, now) {
        return Ok(());
    }
    let sent = decode(header)?;
    let sent: Vec<X509<'_>> =
        sent.iter().map(|der| X509::parse(der)).collect::<Result<_, _>>().map_err(|_| InvalidChain::Unreadable)?;
    let (leaf, others) = sent.split_first().ok_or(InvalidChain::Unreadable)?;
    check_leaf(leaf, now)?;
    let mut search = Search { others, used: vec![false; others.len()], roots, now, signatures_left: MAX_SIGNATURES };
    let until = search.up_from(leaf, 0)?;
    memory.remember(&digest, until);
    Ok(())
}

/// Everything that [`verify_chain`] decides on but the time: the header as a whole, and which roots there are.
fn digest(header: &[u8], roots: &[CaRoot]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(DOMAIN);
    // With its number, so that no header can pass for another root.
    hasher.update(u64::try_from(roots.len()).unwrap_or(u64::MAX).to_be_bytes());
    for root in roots {
        hasher.update(root.fingerprint);
    }
    hasher.update(header);
    hasher.finalize().into()
}

fn decode(header: &[u8]) -> Result<Vec<Vec<u8>>, InvalidChain> {
    let parts: Vec<_> = header.split(|byte| *byte == b',').take(MAX_CERTIFICATES + 1).collect();
    if parts.len() > MAX_CERTIFICATES {
        return Err(InvalidChain::TooLong);
    }
    parts.into_iter().map(|part| BASE64_STANDARD.decode(part).map_err(|_| InvalidChain::Unreadable)).collect()
}

/// A leaf may do what a client does and nothing that a CA does.
fn check_leaf(leaf: &X509<'_>, now: u64) -> Result<(), InvalidChain> {
    if !leaf.is_in_force(now) {
        return Err(InvalidChain::NotInForce);
    }
    let says = &leaf.says;
    let acts_as_ca = |usage: KeyUsage| usage.signs_certificates() || usage.signs_revocations() || !usage.signs();
    if says.is_ca || says.key_usage.is_some_and(acts_as_ca) || says.for_clients == Some(false) {
        return Err(InvalidChain::NotForClients);
    }
    if says.has_unknown { Err(InvalidChain::Restricted) } else { Ok(()) }
}

/// The way up from a leaf.
struct Search<'a> {
    /// What was sent besides the leaf.
    others: &'a [X509<'a>],
    /// Which of them are on the way that is being tried: no certificate is its own issuer.
    used: Vec<bool>,
    roots: &'a [CaRoot],
    now: u64,
    signatures_left: usize,
}

impl Search<'_> {
    /// Finds a way from a certificate to a root. `below` is the number of CAs under the one that is looked for. Returns
    /// the last second at which every certificate on the way is in force.
    fn up_from(&mut self, child: &X509<'_>, below: u32) -> Result<u64, InvalidChain> {
        let mut why = InvalidChain::UnknownIssuer;
        let mut note = |failed: InvalidChain| {
            // What is wrong with an issuer that is there says more than that another one is not.
            if failed != InvalidChain::UnknownIssuer {
                why = failed;
            }
        };
        let roots = self.roots;
        for root in roots.iter().filter(|root| root.subject == child.issuer) {
            match self.check_root(child, root, below) {
                Ok(()) => return Ok(child.not_after.min(root.not_after)),
                Err(failed) => note(failed),
            }
        }
        let others = self.others;
        for (at, issuer) in others.iter().enumerate().filter(|(_, it)| it.subject == child.issuer) {
            if self.used.get(at).copied().unwrap_or(true) {
                continue;
            }
            let found = self.check_issuer(child, issuer, below).and_then(|()| {
                self.mark(at, true);
                // One that renews itself counts as one with what it renews (RFC 5280 §6.1.4 (l)).
                let found = self.up_from(issuer, below + u32::from(issuer.subject != issuer.issuer));
                self.mark(at, false);
                found
            });
            match found {
                Ok(until) => return Ok(until.min(child.not_after)),
                Err(failed) => note(failed),
            }
        }
        Err(why)
    }

    fn mark(&mut self, at: usize, used: bool) {
        if let Some(mark) = self.used.get_mut(at) {
            *mark = used;
        }
    }

    fn check_root(&mut self, child: &X509<'_>, root: &CaRoot, below: u32) -> Result<(), InvalidChain> {
        if !(root.not_before..=root.not_after).contains(&self.now) {
            return Err(InvalidChain::NotInForce);
        }
        if root.path_length.is_some_and(|most| most < below) {
            return Err(InvalidChain::PathLength);
        }
        self.check_signature(child, &root.key)
    }

    fn check_issuer(&mut self, child: &X509<'_>, issuer: &X509<'_>, below: u32) -> Result<(), InvalidChain> {
        if !issuer.is_in_force(self.now) {
            return Err(InvalidChain::NotInForce);
        }
        let says = &issuer.says;
        let signs = says.key_usage.is_some_and(KeyUsage::signs_certificates);
        if !says.is_ca || !signs || says.for_clients == Some(false) {
            return Err(InvalidChain::NotAnIssuer);
        }
        if says.has_unknown {
            return Err(InvalidChain::Restricted);
        }
        if says.path_length.is_some_and(|most| most < below) {
            return Err(InvalidChain::PathLength);
        }
        let key = algorithm::public_key(issuer.key).ok_or(InvalidChain::Algorithm)?;
        self.check_signature(child, &key)
    }

    fn check_signature(&mut self, child: &X509<'_>, key: &PublicKey) -> Result<(), InvalidChain> {
        let scheme = algorithm::scheme(child.algorithm, key).ok_or(InvalidChain::Algorithm)?;
        self.signatures_left = self.signatures_left.checked_sub(1).ok_or(InvalidChain::TooManySignatures)?;
        if key.verify(scheme, child.signed, child.signature) { Ok(()) } else { Err(InvalidChain::Signature) }
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "chain_bounds_tests.rs"]
mod bounds_tests;
