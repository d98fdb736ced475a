//! The client certificate as Traefik's `passTLSClientCert` (`pem: true`) hands it on, reduced to what policy needs.
//!
//! The header holds plain base64 of the DER of every certificate the client sent, leaf first, joined by commas (traefik
//! §4.1). [`Certificate`] is what the leaf says. Whether the chain was verified is not visible in the header: either
//! [`verify_chain`] does it here, or the operator declares that Traefik does, and Traefik's entry point does.

mod algorithm;
mod asn1;
pub mod chain;
mod root;
#[cfg(test)]
pub(crate) mod test_chains;
mod x509;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use self::x509::{Uri, X509};
pub use self::{
    chain::{InvalidChain, verify_chain},
    root::{CaRoot, InvalidRoot, TrustBundle},
};
use crate::spiffe::{InvalidSpiffeId, SpiffeId, Workload};

/// What a client certificate says of its holder. Owned, so that the parsed form of a header value can be kept and reused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is, by the only URI of the subject alternative names. Its trust domain is not judged yet.
    pub workload: Result<Workload, InvalidSpiffeId>,
    /// Valid from, in seconds since the Unix epoch, inclusive.
    pub not_before: u64,
    /// Valid to, in seconds since the Unix epoch, inclusive (RFC 5280 §4.1.2.5).
    pub not_after: u64,
}

/// Why a header value gives no identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCertificate {
    /// Longer than any chain that a handshake carries.
    #[error("the client certificate header is too long")]
    TooLong,
    /// Not base64 of a DER certificate.
    #[error("the client certificate cannot be read")]
    Unreadable,
    /// No URI among the subject alternative names: no workload's certificate.
    #[error("the client certificate holds no URI")]
    NoUri,
    /// Several URIs: whose identity it is would be the reader's choice.
    #[error("the client certificate holds several URIs")]
    SeveralUris,
}

/// Bound on a header value that is looked at, in bytes: well above Traefik's and Go's own limits on a certificate chain.
pub const MAX_HEADER_LEN: usize = 64 * 1024;

impl InvalidCertificate {
    /// A short name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::TooLong => "certificate-too-long",
            Self::Unreadable => "certificate-unreadable",
            Self::NoUri => "certificate-without-uri",
            Self::SeveralUris => "certificate-with-several-uris",
        }
    }
}

impl Certificate {
    /// Reads the value of `X-Forwarded-Tls-Client-Cert`.
    pub fn from_header(value: &[u8]) -> Result<Self, InvalidCertificate> {
        if value.len() > MAX_HEADER_LEN {
            return Err(InvalidCertificate::TooLong);
        }
        let leaf = value.split(|byte| *byte == b',').next().unwrap_or_default();
        let der = BASE64_STANDARD.decode(leaf).map_err(|_| InvalidCertificate::Unreadable)?;
        Self::from_der(&der)
    }

    /// Reads a DER certificate. Names, keys and signatures are passed over: they are for whoever verifies the chain
    /// ([`verify_chain`], or the gateway).
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidCertificate> {
        let certificate = X509::parse(der).map_err(|_| InvalidCertificate::Unreadable)?;
        let uri = match certificate.says.uri {
            Uri::None => return Err(InvalidCertificate::NoUri),
            Uri::Several => return Err(InvalidCertificate::SeveralUris),
            Uri::Only(uri) => uri,
        };
        Ok(Self {
            workload: SpiffeId::parse(uri).map(|id| id.workload()),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A self-signed certificate with these subject alternative names, valid in 2000-2100.
    fn certificate(names: Vec<rcgen::SanType>) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.subject_alt_names = names;
        parameters.not_before = rcgen::date_time_ymd(2000, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2100, 1, 1);
        parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn uri(text: &str) -> rcgen::SanType {
        rcgen::SanType::URI(text.try_into().unwrap())
    }

    #[test]
    fn reads_the_only_uri_and_the_validity_of_the_first_certificate() {
        const ID: &str = "spiffe://td.consul/ns/default/dc/dc1/svc/web";
        let (leaf, other) =
            (certificate(vec![rcgen::SanType::DnsName("web".try_into().unwrap()), uri(ID)]), certificate(vec![]));
        let header = format!("{},{}", BASE64_STANDARD.encode(&leaf), BASE64_STANDARD.encode(&other));
        // 2000-01-01 is a UTCTime, 2100-01-01 a GeneralizedTime (RFC 5280 §4.1.2.5).
        let expected = Certificate {
            workload: Ok(SpiffeId::parse(ID).unwrap().workload()),
            not_before: 946_684_800,
            not_after: 4_102_444_800,
        };
        assert_eq!(Certificate::from_header(header.as_bytes()), Ok(expected));
    }

    #[test]
    fn a_uri_that_is_no_service_s_id_is_kept_as_such() {
        let certificate = Certificate::from_der(&certificate(vec![uri("https://web.example")])).unwrap();
        assert_eq!(certificate.workload, Err(InvalidSpiffeId::NotSpiffe));
    }

    #[test]
    fn refuses_certificates_with_no_or_several_uris() {
        assert_eq!(Certificate::from_der(&certificate(vec![])), Err(InvalidCertificate::NoUri));
        assert_eq!(
            Certificate::from_der(&certificate(vec![uri("spiffe://a"), uri("spiffe://a")])),
            Err(InvalidCertificate::SeveralUris)
        );
    }

    #[test]
    fn every_cut_and_every_flip_is_refused_or_reads_as_some_certificate_without_panicking() {
        let der = certificate(vec![uri("spiffe://a/b")]);
        for at in 0..der.len() {
            assert!(Certificate::from_der(&der[..at]).is_err(), "cut at {at}");
            for flip in [1, 0x20, 0x80, 0xFF] {
                let mut flipped = der.clone();
                flipped[at] ^= flip;
                // The signature is not checked here, so a flip may go unseen; it must not be more than that.
                let _ = Certificate::from_der(&flipped);
            }
        }
    }

    #[test]
    fn refuses_values_that_are_no_certificate() {
        for value in [&b""[..], b"AAAA", b"-----BEGIN CERTIFICATE-----", b"%2B", b"MIIB,", b"\xff\xfe"] {
            assert_eq!(Certificate::from_header(value), Err(InvalidCertificate::Unreadable));
        }
        assert_eq!(Certificate::from_header(&vec![b'A'; MAX_HEADER_LEN + 1]), Err(InvalidCertificate::TooLong));
    }
}
