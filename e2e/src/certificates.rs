//! Certificates made on the spot: an authority, the gateway's own certificate, and callers, good and broken.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

/// The trust domain of the sample callers, in Consul's shape.
pub const TRUST_DOMAIN: &str = "11111111-2222-3333-4444-555555555555.consul";

/// The SPIFFE identity Consul gives the service `name` in the sample trust domain.
pub fn spiffe(name: &str) -> String {
    spiffe_in(TRUST_DOMAIN, name)
}

/// The same in another trust domain.
pub fn spiffe_in(trust_domain: &str, name: &str) -> String {
    format!("spiffe://{trust_domain}/ns/default/dc/dc1/svc/{name}")
}

/// A certificate authority that can sign.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Vec<u8>,
    pem: String,
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
    certificate_pem: String,
    key_pem: String,
}

/// What a client certificate says of its owner.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The URI names, in order; a proper caller has exactly one.
    pub uris: Vec<String>,
    /// Whether its time is over.
    pub expired: bool,
}

impl Caller {
    /// The proper caller `name` of the sample trust domain.
    pub fn named(name: &str) -> Caller {
        Caller::with_uris([spiffe(name)])
    }

    /// A caller with just these URI names.
    pub fn with_uris(uris: impl IntoIterator<Item = String>) -> Caller {
        Caller { uris: uris.into_iter().collect(), expired: false }
    }
}

impl Authority {
    /// A new authority with its own key.
    pub fn new(name: &str) -> Result<Authority> {
        let key = KeyPair::generate().context("making a key")?;
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = parameters.self_signed(&key).context("signing the authority")?;
        Ok(Authority {
            certificate: certificate.der().to_vec(),
            pem: certificate.pem(),
            issuer: Issuer::new(parameters, key),
        })
    }

    /// A server certificate for these host names.
    pub fn server(&self, hosts: &[&str]) -> Result<Identity> {
        let mut parameters = CertificateParams::new(hosts.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        parameters.distinguished_name.push(DnType::CommonName, "gateway");
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&parameters)
    }

    /// A client certificate.
    pub fn client(&self, caller: &Caller) -> Result<Identity> {
        self.sign(&Self::client_parameters(caller)?)
    }

    /// The certificate of a client that has asked nobody.
    pub fn self_signed(caller: &Caller) -> Result<Identity> {
        let key = KeyPair::generate().context("making a key")?;
        let certificate = Self::client_parameters(caller)?.self_signed(&key).context("signing a certificate")?;
        Ok(Identity::new(&certificate, &key))
    }

    fn client_parameters(caller: &Caller) -> Result<CertificateParams> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "caller");
        (parameters.not_before, parameters.not_after) = validity(caller.expired);
        for uri in &caller.uris {
            parameters.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
        }
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        Ok(parameters)
    }

    /// Its certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its private key in PEM, for a real part that is to sign with it.
    pub(crate) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.certificate.clone())
    }

    fn sign(&self, parameters: &CertificateParams) -> Result<Identity> {
        let key = KeyPair::generate().context("making a key")?;
        let certificate = parameters.signed_by(&key, &self.issuer).context("signing a certificate")?;
        Ok(Identity::new(&certificate, &key))
    }
}

impl Identity {
    fn new(certificate: &Certificate, key: &KeyPair) -> Identity {
        Identity {
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// Writes certificate and key together into `NAME.pem` in the folder: `curl --cert` and Traefik both take that.
    pub fn write(&self, folder: &Path, name: &str) -> Result<PathBuf> {
        let file = folder.join(format!("{name}.pem"));
        fs::write(&file, format!("{}{}", self.certificate_pem, self.key_pem)).context("writing a certificate")?;
        Ok(file)
    }

    /// The certificate as a front would hand it on in `X-Forwarded-Tls-Client-Cert`: base64 of the DER.
    pub fn header(&self) -> String {
        self.certificate_pem.lines().filter(|line| !line.starts_with('-')).collect()
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from(self.certificate.clone())]
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()))
    }
}

/// A day around now, or one that is over.
fn validity(expired: bool) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    let end = if expired { now - Duration::hours(1) } else { now + Duration::days(1) };
    (end - Duration::days(2), end)
}

/// What a server shows, to clients of any kind.
pub fn server_configuration(identity: &Identity) -> Result<Arc<rustls::ServerConfig>> {
    let builder = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth();
    Ok(Arc::new(builder.with_single_cert(identity.chain(), identity.key())?))
}

/// What a client of the gateway trusts and shows. The cryptography provider is named, never the process-wide default.
pub(crate) fn client_configuration(
    authority: &Authority,
    identity: Option<&Identity>,
) -> Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der()).context("trusting the authority")?;
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let configuration = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain(), identity.key())?,
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(configuration))
}
