//! The names of the headers that are the gate's own, and how names are compared.

pub use portcullis_policy::headers::{begins, is_token, same, shape};

/// The reserved prefix: what begins like this is ours to write and nobody else's.
pub const OWN_PREFIX: &str = "x-portcullis-";
/// The verified identity of the caller, for the backend and the access log.
pub const SOURCE: &str = "X-Portcullis-Source";
/// The destination the decision was made for; the gate's leaf routers match on it.
pub const DESTINATION: &str = "X-Portcullis-Destination";
/// `allow` or `deny`.
pub const DECISION: &str = "X-Portcullis-Decision";
/// The rule that decided.
pub const RULE: &str = "X-Portcullis-Rule";
/// The rule in shadow that would have decided otherwise; set where there is one.
pub const SHADOW: &str = "X-Portcullis-Shadow";
/// Why a request was denied; set on denials only, so a backend never sees it.
pub const REASON: &str = "X-Portcullis-Reason";
/// The client's certificates as Traefik's `passTLSClientCert` writes them with `pem: true`.
/// Lower case, as the host lists names.
pub const CERTIFICATE: &str = "x-forwarded-tls-client-cert";
