//! The client certificate as Traefik's `passTLSClientCert` (`pem: true`) hands it on, reduced to what policy needs.
//!
//! The header holds plain base64 of the DER of every certificate the client sent, leaf first, joined by commas (traefik
//! §4.1). Only the leaf is read here. Whether the chain was verified is not visible in the header: the plugin accepts it
//! only where the operator declares that Traefik verifies, and Traefik's entry point does.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use der::{
    Decode as _, Reader as _, SliceReader, Tag, TagNumber, Tagged as _,
    asn1::{AnyRef, GeneralizedTime, ObjectIdentifier, OctetStringRef, UtcTime},
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

    /// Reads a DER certificate (RFC 5280 §4.1). Names, keys and signatures are passed over: whoever verified the chain has
    /// read them.
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidCertificate> {
        let tbs = first(children(AnyRef::from_der(der).map_err(unreadable)?, Tag::Sequence)?)?;
        // [0] version, serial, signature algorithm, issuer, validity, subject, public key, then optional parts.
        let mut fields = children(tbs, Tag::Sequence)?.into_iter().skip_while(|it| it.tag() == context(0));
        let validity = fields.nth(3).ok_or(InvalidCertificate::Unreadable)?;
        let mut times = children(validity, Tag::Sequence)?.into_iter();
        let mut time = || seconds(times.next().ok_or(InvalidCertificate::Unreadable)?);
        let (not_before, not_after) = (time()?, time()?);
        let mut uri = None;
        for extensions in fields.skip(2).filter(|it| it.tag() == context(3)) {
            for extension in children(first(children(extensions, context(3))?)?, Tag::Sequence)? {
                add_uris(extension, &mut uri)?;
            }
        }
        let uri = uri.ok_or(InvalidCertificate::NoUri)?;
        Ok(Self { workload: SpiffeId::parse(&uri).map(|id| id.workload()), not_before, not_after })
    }
}

/// Looks for URIs in an extension: `SEQUENCE {OID, [critical BOOLEAN,] OCTET STRING}`.
fn add_uris(extension: AnyRef<'_>, uri: &mut Option<String>) -> Result<(), InvalidCertificate> {
    let parts = children(extension, Tag::Sequence)?;
    let (Some(id), Some(value)) = (parts.first(), parts.last()) else { return Err(InvalidCertificate::Unreadable) };
    if id.decode_as::<ObjectIdentifier>().map_err(unreadable)? != SUBJECT_ALT_NAME {
        return Ok(());
    }
    let names = value.decode_as::<OctetStringRef<'_>>().map_err(unreadable)?;
    for name in children(AnyRef::from_der(names.as_bytes()).map_err(unreadable)?, Tag::Sequence)? {
        // GeneralName: uniformResourceIdentifier is [6] IA5String, implicit.
        if name.tag() == (Tag::ContextSpecific { constructed: false, number: TagNumber::N6 }) {
            let text = core::str::from_utf8(name.value()).ok().filter(|text| text.is_ascii());
            if uri.replace(text.ok_or(InvalidCertificate::Unreadable)?.to_owned()).is_some() {
                return Err(InvalidCertificate::SeveralUris);
            }
        }
    }
    Ok(())
}

/// The elements of a constructed value with the tag that it must have.
fn children(parent: AnyRef<'_>, tag: Tag) -> Result<Vec<AnyRef<'_>>, InvalidCertificate> {
    if parent.tag() != tag {
        return Err(InvalidCertificate::Unreadable);
    }
    let mut reader = SliceReader::new(parent.value()).map_err(unreadable)?;
    let mut elements = Vec::new();
    while !reader.is_finished() {
        elements.push(AnyRef::decode(&mut reader).map_err(unreadable)?);
    }
    Ok(elements)
}

fn first(elements: Vec<AnyRef<'_>>) -> Result<AnyRef<'_>, InvalidCertificate> {
    elements.into_iter().next().ok_or(InvalidCertificate::Unreadable)
}

/// `Time`: UTCTime or GeneralizedTime.
fn seconds(time: AnyRef<'_>) -> Result<u64, InvalidCertificate> {
    let since_epoch = match time.tag() {
        Tag::UtcTime => time.decode_as::<UtcTime>().map(|it| it.to_unix_duration()),
        _ => time.decode_as::<GeneralizedTime>().map(|it| it.to_unix_duration()),
    };
    Ok(since_epoch.map_err(unreadable)?.as_secs())
}

/// An explicit context-specific tag.
fn context(number: u8) -> Tag {
    Tag::ContextSpecific { constructed: true, number: TagNumber::new(number) }
}

fn unreadable(_: der::Error) -> InvalidCertificate {
    InvalidCertificate::Unreadable
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    pub trust_domain: String,
    pub peer: Option<String>,
    pub partition: String,
    pub roots: Vec<CaRoot>,
}
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CaRoot {}
#[derive(Debug, thiserror::Error)]
#[error("chain")]
pub struct InvalidChain;
pub fn verify_chain(_: &[u8], _: &[CaRoot], _: u64, _: &dyn crate::memory::Memory) -> Result<(), InvalidChain> {
    Err(InvalidChain)
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
