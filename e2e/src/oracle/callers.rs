//! Who calls: services with the certificates that Consul gave them, and identities that Consul would never hand out but
//! that its authority could sign.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use portcullis_policy::{Certificate, InvalidCertificate};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::consul::Consul;
use super::wire::Wire;
use crate::certificates::{Authority, Caller as Names};

/// The services that call. `axb` is what the dot of `a.b` would cover if it were a regular expression's; `Web` is `web` to
/// whoever folds case.
pub const SERVICES: [&str; 6] = ["web", "batch", "admin", "a.b", "axb", "Web"];

/// The service whose requests show that a policy is in force.
pub const CANARY: &str = "canary";

/// A caller with its certificate.
pub struct Caller {
    /// A short name for reports.
    pub label: String,
    /// The URI names of its certificate.
    pub uris: Vec<String>,
    /// The service that it is, if it is one of this mesh.
    pub service: Option<String>,
    /// Its certificate as the plugin reads it.
    pub certificate: Result<Certificate, InvalidCertificate>,
    connector: TlsConnector,
}

impl Caller {
    /// All callers of a mesh: [`SERVICES`] first, then the strange ones.
    pub async fn all(consul: &Consul, authority: &Authority) -> Result<Vec<Caller>> {
        let mut callers = Vec::new();
        for service in SERVICES {
            callers.push(Caller::service(consul, service).await?);
        }
        for (label, uris, service) in strange(consul.trust_domain()) {
            let identity = authority.client(&Names::with_uris(uris.clone()))?;
            let (chain, key) = (identity.chain(), identity.key());
            callers.push(Caller::new(label, uris, service.map(str::to_owned), chain, key)?);
        }
        Ok(callers)
    }

    /// A service with the certificate that Consul's API gives it.
    pub async fn service(consul: &Consul, service: &str) -> Result<Caller> {
        let (chain, key) = consul.leaf(service).await?;
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.context("reading a leaf certificate")?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).context("reading a leaf's key")?;
        let uri = format!("spiffe://{}/ns/default/dc/dc1/svc/{service}", consul.trust_domain());
        Caller::new(service, vec![uri], Some(service.to_owned()), chain, key)
    }

    fn new(
        label: &str,
        uris: Vec<String>,
        service: Option<String>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Caller> {
        let certificate = Certificate::from_der(chain.first().context("an empty chain")?);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let configuration = rustls::ClientConfig::builder_with_provider(provider as Arc<CryptoProvider>)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer(algorithms)))
            .with_client_auth_cert(chain, key)?;
        let connector = TlsConnector::from(Arc::new(configuration));
        Ok(Caller { label: label.to_owned(), uris, service, certificate, connector })
    }

    /// A new connection to a sidecar.
    pub async fn connect(&self, address: std::net::SocketAddr) -> Result<Wire> {
        let stream = TcpStream::connect(address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("sidecar")?;
        let stream = self.connector.connect(name, stream).await;
        Ok(Wire::new(Box::new(stream.with_context(|| format!("TLS handshake of {}", self.label))?)))
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("label", &self.label).field("uris", &self.uris).finish_non_exhaustive()
    }
}

/// Identities beside the ordinary ones: a label, the certificate's URI names, and the service that Consul takes it for.
fn strange(domain: &str) -> Vec<(&'static str, Vec<String>, Option<&'static str>)> {
    let one = |rest: &str| vec![format!("spiffe://{domain}{rest}")];
    let web = "/ns/default/dc/dc1/svc/web";
    vec![
        ("web of another datacenter", one("/ns/default/dc/dc9/svc/web"), Some("web")),
        (
            "web of another trust domain",
            vec![format!("spiffe://99999999-2222-3333-4444-555555555555.consul{web}")],
            None,
        ),
        ("web of another namespace", one("/ns/team/dc/dc1/svc/web"), None),
        ("web of another partition", one("/ap/blue/ns/default/dc/dc1/svc/web"), None),
        ("web of a written default partition", one("/ap/default/ns/default/dc/dc1/svc/web"), None),
        ("web with a slash behind", one("/ns/default/dc/dc1/svc/web/"), None),
        ("web with an escape", one("/ns/default/dc/dc1/svc/w%65b"), Some("w%65b")),
        ("an agent", one("/agent/client/dc/dc1/id/node"), None),
        ("a mesh gateway", one("/gateway/mesh/dc/dc1"), None),
        ("no URI", Vec::new(), None),
        ("web and batch", [one(web), one("/ns/default/dc/dc1/svc/batch")].concat(), None),
    ]
}

/// Takes any server: a sidecar's certificate names a SPIFFE ID and no host, and nothing here is secret.
#[derive(Debug)]
struct AnyServer(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
