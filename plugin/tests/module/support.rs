//! What the tests are made of: policies, snapshots, certificates, keys and the guests that use them.

use crate::host::{Guest, MOUNT, Request};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use portcullis_authoring::{compile, read};
use portcullis_policy::{Action, PolicySettings, api_key};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};
use serde_json::{Value, json};

/// The trust domain of every test policy.
pub(crate) const TRUST_DOMAIN: &str = "11111111-2222-3333-4444-555555555555.consul";
/// The snapshot's name inside the mount.
pub(crate) const FILE: &str = "policy.snapshot";
/// An API key that [`policy`] knows as `partner`.
pub(crate) const KEY: &str = "pcl_k1_s3cret";

/// The SPIFFE ID of a service.
pub(crate) fn spiffe(service: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/default/dc/dc1/svc/{service}")
}

/// A certificate header as `passTLSClientCert` writes it, for a certificate with these URIs.
pub(crate) fn certificate(uris: &[String]) -> String {
    let mut params = CertificateParams::default();
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().unwrap())).collect();
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    BASE64_STANDARD.encode(certificate.der())
}

/// A certificate header of a service.
pub(crate) fn certificate_of(service: &str) -> String {
    certificate(&[spiffe(service)])
}

/// A CA of the trust domain.
pub(crate) struct Authority {
    params: CertificateParams,
    key: KeyPair,
    certificate: Vec<u8>,
}

impl Authority {
    /// With a key of its own; all have the same name.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        Self { params, key, certificate }
    }

    /// A CA below it, in force until the beginning of this year.
    pub(crate) fn delegate(&self, until: i32) -> Self {
        let mut params = self.params.clone();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "intermediate");
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap().der().to_vec();
        Self { params, key, certificate }
    }

    /// Its own certificate, as one of a header.
    pub(crate) fn encoded(&self) -> String {
        BASE64_STANDARD.encode(&self.certificate)
    }

    /// A certificate header of a service.
    pub(crate) fn certify(&self, service: &str) -> String {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(spiffe(service).as_str().try_into().unwrap())];
        let issuer = Issuer::from_params(&self.params, &self.key);
        BASE64_STANDARD.encode(params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der())
    }

    /// The policy entry that trusts it.
    pub(crate) fn roots(&self) -> Value {
        let body = self.encoded();
        let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        json!({"Kind": "ca-roots", "TrustDomain": TRUST_DOMAIN, "Roots": [{"RootCert": pem}]})
    }
}

/// The entries that most tests use: `web` may call `db`, `reader` may read below `/v1/` there, the key's holder may call
/// `db`, and `bad` may not.
pub(crate) fn policy() -> Vec<Value> {
    let hash = api_key::format_hash(b"salt", &api_key::hash(b"salt", "s3cret"));
    vec![
        json!({"Kind": "service-intentions", "Name": "db", "Sources": [
            {"Name": "web", "Action": "allow"},
            {"Name": "partner", "Action": "allow"},
            {"Name": "bad", "Action": "deny"},
            {"Name": "reader", "Permissions": [
                {"Action": "allow", "HTTP": {"PathPrefix": "/v1/", "Methods": ["GET", "HEAD"]}}]}]}),
        json!({"Kind": "api-key", "Name": "k1", "Source": {"Name": "partner"}, "Hash": hash}),
    ]
}

/// A snapshot of some entries with the default to deny.
pub(crate) fn snapshot(entries: &[Value], generation: u64) -> Vec<u8> {
    let settings =
        PolicySettings { default: Action::Deny, trust_domains: vec![TRUST_DOMAIN.to_owned()], ..Default::default() };
    let documents: Vec<_> = entries.iter().map(|entry| ("test".to_owned(), entry.clone())).collect();
    let (policy, problems) = read::entries(&documents, settings);
    assert_eq!(problems, []);
    let (bytes, problems) = compile(&policy, generation, 0);
    assert_eq!(problems, []);
    bytes
}

/// A configuration for the gate: destination from the header, certificates and keys accepted.
pub(crate) fn gate() -> Value {
    json!({"snapshot": format!("{MOUNT}/{FILE}"), "clientCertificate": "verifiedByTraefik", "apiKeyHeader": "X-Api-Key"})
}

/// A guest of the gate with generation 1 of [`policy`], not asked anything yet.
pub(crate) fn guest() -> Guest {
    guest_with(&gate())
}

/// As [`guest`], with another configuration.
pub(crate) fn guest_with(config: &Value) -> Guest {
    let mut guest = Guest::start(config);
    guest.publish(FILE, snapshot(&policy(), 1));
    guest
}

/// As [`guest`], after a first request, so that the snapshot is open.
pub(crate) fn warm_guest() -> Guest {
    let mut guest = guest();
    assert!(guest.request(call("web")).forwarded);
    guest
}

/// A request for `db` as it leaves the gate's root router.
pub(crate) fn to_db() -> Request {
    Request::new("GET", "/v1/x?y=1").with("x-portcullis-destination", "db")
}

/// A request for `db` by a service with a certificate.
pub(crate) fn call(service: &str) -> Request {
    to_db().with("x-forwarded-tls-client-cert", certificate_of(service))
}
