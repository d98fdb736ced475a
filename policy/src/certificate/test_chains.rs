//! Chains for tests: made by `rcgen`, then bent where a CA would not.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SignatureAlgorithm, SigningKey as _, date_time_ymd,
};
use rsa::pkcs8::EncodePrivateKey as _;

use super::{CaRoot, asn1::Element};
use crate::crypto::test_keys::rsa_key;

/// 2026-11-21, 12:00:00 UTC; everything below is valid in 2026 to 2035 unless a test says otherwise.
pub(crate) const NOW: u64 = 1_795_262_400;
/// 2026-01-01 and 2036-01-01.
pub(crate) const FROM: u64 = 1_767_225_600;
pub(crate) const TO: u64 = 2_082_758_400;

pub(crate) const TRUST_DOMAIN: &str = "11111111-2222-3333-4444-555555555555.consul";

/// Someone who holds a key, and what their certificate says.
pub(crate) struct Holder {
    pub(crate) params: CertificateParams,
    pub(crate) key: KeyPair,
    pub(crate) der: Vec<u8>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2036, 1, 1);
    params
}

/// What a CA of Consul says of itself.
pub(crate) fn ca_params(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

/// What a leaf of Consul says of itself.
pub(crate) fn leaf_params() -> CertificateParams {
    let mut params = params("web");
    let uri = format!("spiffe://{TRUST_DOMAIN}/ns/default/dc/dc1/svc/web");
    params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::DataEncipherment,
        KeyUsagePurpose::KeyAgreement,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params
}

pub(crate) fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    let is_rsa = [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_RSA_SHA384, &rcgen::PKCS_RSA_SHA512].contains(&algorithm);
    if !is_rsa {
        return KeyPair::generate_for(algorithm).unwrap();
    }
    let der = rsa_key(2048).to_pkcs8_der().unwrap();
    KeyPair::from_pkcs8_der_and_sign_algo(&der.as_bytes().into(), algorithm).unwrap()
}

impl Holder {
    /// A root with this name, ECDSA on P-256 as Consul's default.
    pub(crate) fn root(name: &str) -> Self {
        Self::root_with(ca_params(name), &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    pub(crate) fn root_with(params: CertificateParams, algorithm: &'static SignatureAlgorithm) -> Self {
        let key = key(algorithm);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { params, key, der }
    }

    /// Someone whose certificate this one signs.
    pub(crate) fn issue(&self, params: CertificateParams) -> Self {
        self.issue_with(params, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    pub(crate) fn issue_with(&self, params: CertificateParams, algorithm: &'static SignatureAlgorithm) -> Self {
        let key = key(algorithm);
        let der = self.certify(&params, &key);
        Self { params, key, der }
    }

    /// A certificate for a key.
    pub(crate) fn certify(&self, params: &CertificateParams, key: &KeyPair) -> Vec<u8> {
        params.signed_by(key, &Issuer::from_params(&self.params, &self.key)).unwrap().der().to_vec()
    }

    pub(crate) fn ca(&self, name: &str) -> Self {
        self.issue(ca_params(name))
    }

    pub(crate) fn leaf(&self) -> Vec<u8> {
        self.issue(leaf_params()).der
    }

    pub(crate) fn as_root(&self) -> CaRoot {
        CaRoot::from_der(&self.der).unwrap()
    }

    /// The certificate with other fields, signed anew by this holder.
    pub(crate) fn resign(&self, der: &[u8], edit: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<u8> {
        let signed = edited(&parts(der)[0], edit);
        let signature = self.key.sign(&signed).unwrap();
        assemble(&signed, &parts(der)[1], &signature)
    }

    /// The certificate with other extensions, signed anew by this holder.
    pub(crate) fn resign_extensions(&self, der: &[u8], edit: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<u8> {
        self.resign(der, |fields| {
            let wrapped = fields.pop().unwrap();
            let list = edited(&parts(&wrapped)[0], edit);
            fields.push(tlv(0xA3, &list));
        })
    }
}

/// A header as Traefik writes it.
pub(crate) fn header<D: AsRef<[u8]>>(certificates: &[D]) -> Vec<u8> {
    let parts: Vec<_> = certificates.iter().map(|der| BASE64_STANDARD.encode(der)).collect();
    parts.join(",").into_bytes()
}

pub(crate) fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| core::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// An element of DER.
pub(crate) fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let len = value.len();
    let header = match len {
        0..=0x7F => vec![tag, u8::try_from(len).unwrap()],
        0x80..=0xFF => vec![tag, 0x81, u8::try_from(len).unwrap()],
        _ => [&[tag, 0x82][..], &u16::try_from(len).unwrap().to_be_bytes()].concat(),
    };
    [&header[..], value].concat()
}

/// The elements inside an element.
pub(crate) fn parts(der: &[u8]) -> Vec<Vec<u8>> {
    let element = Element::new(der).unwrap();
    let mut inside = element.inside(element.tag()).unwrap();
    let mut parts = Vec::new();
    while !inside.is_empty() {
        parts.push(inside.next().unwrap().raw.to_vec());
    }
    parts
}

fn edited(der: &[u8], edit: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<u8> {
    let mut inside = parts(der);
    edit(&mut inside);
    tlv(der[0], &inside.concat())
}

/// A certificate from what is signed, an `AlgorithmIdentifier` and a signature.
pub(crate) fn assemble(signed: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    let signature = tlv(0x03, &[&[0], signature].concat());
    tlv(0x30, &[signed, algorithm, &signature].concat())
}

/// An extension.
pub(crate) fn extension(oid: &[u8], is_critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if is_critical { &[0x01, 0x01, 0xFF] } else { &[] };
    tlv(0x30, &[&tlv(0x06, oid)[..], critical, &tlv(0x04, value)].concat())
}
