//! The client certificate as Traefik's `passTLSClientCert` (`pem: true`) hands it on, reduced to what policy needs.
//!
//! The header holds plain base64 of the DER of every certificate the client sent, leaf first, joined by commas (traefik
//! §4.1). Only the leaf is read here. Whether the chain was verified is not visible in the header: the plugin accepts it
//! only where the operator declares that Traefik verifies, and Traefik's entry point does.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use x509_cert::{
    der::{Decode as _, asn1::ObjectIdentifier},
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// What a client certificate says of its holder. Owned, so that the parsed form of a header value can be kept and reused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The only URI of the subject alternative names. Not checked to be a SPIFFE ID yet.
    pub uri: String,
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

const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

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

    /// Reads a DER certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidCertificate> {
        let unreadable = |_| InvalidCertificate::Unreadable;
        let certificate = x509_cert::Certificate::from_der(der).map_err(unreadable)?.tbs_certificate;
        let mut uri = None;
        for extension in certificate.extensions.iter().flatten().filter(|it| it.extn_id == SUBJECT_ALT_NAME) {
            let names = SubjectAltName::from_der(extension.extn_value.as_bytes()).map_err(unreadable)?;
            for name in names.0 {
                if let GeneralName::UniformResourceIdentifier(found) = name
                    && uri.replace(found.to_string()).is_some()
                {
                    return Err(InvalidCertificate::SeveralUris);
                }
            }
        }
        Ok(Self {
            uri: uri.ok_or(InvalidCertificate::NoUri)?,
            not_before: certificate.validity.not_before.to_unix_duration().as_secs(),
            not_after: certificate.validity.not_after.to_unix_duration().as_secs(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_values_that_are_no_certificate() {
        for value in [&b""[..], b"AAAA", b"-----BEGIN CERTIFICATE-----", b"%2B", b"MIIB,", b"\xff\xfe"] {
            assert_eq!(Certificate::from_header(value), Err(InvalidCertificate::Unreadable));
        }
        assert_eq!(Certificate::from_header(&vec![b'A'; MAX_HEADER_LEN + 1]), Err(InvalidCertificate::TooLong));
    }
}
