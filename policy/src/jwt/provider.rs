//! Providers: what people author, with every field of Consul's `jwt-provider` (consul-policy §4.6), and what the snapshot
//! keeps of it.

use serde::{Deserialize, Serialize};

use super::jwk::{self, KeyRecord};
use crate::{
    crypto::Hash,
    problem::{Problem, Severity},
};

/// `ClockSkewSeconds` when it is not set. (Consul never hands its value to its proxies, which take 60.)
pub const DEFAULT_CLOCK_SKEW: u64 = 30;

/// One `jwt-provider`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtProvider {
    /// Its name, by which intentions refer to it.
    pub name: String,
    /// `Issuer`: what `iss` must be. Without one no token passes (consul-policy §4.1).
    pub issuer: String,
    /// `Audiences`: a token must be for one of them; empty is not checked.
    pub audiences: Vec<String>,
    /// `JSONWebKeySet`: where the keys come from.
    pub keys: KeySource,
    /// `Locations`: where a request carries tokens. Empty: `Authorization: Bearer ` and the query's `access_token`.
    pub locations: Vec<Location>,
    /// `Forwarding`: how the backend is told the payload.
    pub forwarding: Option<Forwarding>,
    /// `ClockSkewSeconds`: how far clocks may be apart, in seconds.
    pub clock_skew: u64,
    /// `CacheConfig.Size`: how many tokens Consul's proxies remember. Verified tokens are remembered here in any case.
    pub cache_size: u64,
    /// Set when a part of the entry could not be read (a [`Problem`] says which): no token passes. Its forwarding header,
    /// if that much is known, is still nobody's to send.
    pub broken: bool,
}

/// `JSONWebKeySet`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// `Local.JWKS`, decoded: the JSON of a JWK set.
    Inline(Vec<u8>),
    /// `Local.Filename`: a file on the gateway's disk.
    File(String),
    /// `Remote`: fetched by the sidecar.
    Remote(Box<RemoteKeys>),
}

/// `JSONWebKeySet.Remote`. Durations are in nanoseconds, as Consul's API gives them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteKeys {
    /// `URI`: absolute.
    pub uri: String,
    /// `RequestTimeoutMs`, in milliseconds; 0 is not set.
    pub request_timeout_ms: u64,
    /// `CacheDuration`; 0 is not set, which means five minutes.
    pub cache_duration: u64,
    /// `FetchAsynchronously`: whether requests are answered before the first fetch ended. Here they always are.
    pub fetch_asynchronously: bool,
    /// `UseSNI`. The server's name is always sent.
    pub use_sni: bool,
    /// `RetryPolicy`.
    pub retry: Option<RetryPolicy>,
    /// `JWKSCluster`.
    pub cluster: Option<JwksCluster>,
}

/// `JSONWebKeySet.Remote.RetryPolicy`, its `RetryPolicyBackOff` included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryPolicy {
    /// `NumRetries`.
    pub retries: u64,
    /// `BaseInterval`, in nanoseconds; 0 is not set, which means a second.
    pub base_interval: u64,
    /// `MaxInterval`, in nanoseconds; 0 is not set, which means ten times the base.
    pub max_interval: u64,
}

/// `JSONWebKeySet.Remote.JWKSCluster`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JwksCluster {
    /// `DiscoveryType`, as written; empty is `STRICT_DNS`.
    pub discovery_type: String,
    /// `ConnectTimeout`, in nanoseconds; 0 is not set, which means five seconds.
    pub connect_timeout: u64,
    /// `TLSCertificates`: what the server's certificate is checked with. Without it: the system's roots. (Consul's proxies
    /// check nothing then.)
    pub trusted: Option<TrustedCa>,
}

/// `JSONWebKeySet.Remote.JWKSCluster.TLSCertificates`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustedCa {
    /// `CaCertificateProviderInstance`: a provider of Consul's proxies, by `InstanceName` and `CertificateName`.
    Instance {
        /// `InstanceName`; empty is `default`.
        instance: String,
        /// `CertificateName`.
        certificate: String,
    },
    /// `TrustedCA.Filename`: a PEM file.
    File(String),
    /// `TrustedCA.EnvironmentVariable`: the variable that holds PEM.
    Environment(String),
    /// `TrustedCA.InlineString` or `InlineBytes`: PEM.
    Inline(Vec<u8>),
}

/// Where a request carries tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Location {
    /// A header whose value is a token behind a prefix.
    Header {
        /// Lower case.
        name: String,
        /// What stands before the token; compared with letter case. A value that does not begin so is no token.
        prefix: String,
        /// Whether the backend gets to see the header.
        forward: bool,
    },
    /// A parameter of the query. It is removed from what is forwarded.
    Query(String),
    /// A cookie.
    Cookie(String),
}

/// `Forwarding`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarding {
    /// `HeaderName`, lower case: the header that carries the payload of a verified token, in base64url.
    pub header: String,
    /// `PadForwardPayloadHeader`: whether with `=` up to whole groups of four.
    pub padded: bool,
}

/// What the snapshot keeps of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderRecord {
    /// Its name.
    pub name: String,
    pub(super) issuer: String,
    pub(super) audiences: Vec<String>,
    pub(super) keys: Vec<KeyRecord>,
    /// Digest of the set as it was written: what was verified with other keys is not remembered.
    pub(super) key_set: [u8; 32],
    pub(super) locations: Vec<Location>,
    pub(super) forwarding: Option<Forwarding>,
    pub(super) clock_skew: u64,
}

/// What the snapshot keeps of a provider. `keys` are the bytes of its JWK set when they are not in the entry itself: the
/// file's, or what was fetched; `None` while there are none. A record without keys refuses every token.
pub fn compile(provider: &JwtProvider, keys: Option<&[u8]>, problems: &mut Vec<Problem>) -> ProviderRecord {
    let place = || format!("jwt-provider/{}: JSONWebKeySet", provider.name);
    let set = match (&provider.keys, keys) {
        _ if provider.broken => None,
        (KeySource::Inline(set), _) => Some(set.as_slice()),
        (KeySource::File(_) | KeySource::Remote(_), Some(set)) => Some(set),
        (KeySource::File(_) | KeySource::Remote(_), None) => {
            problems.push(Problem {
                severity: Severity::Warning,
                at: place(),
                what: "the keys have not been read; until then no token of the provider passes".to_owned(),
                hint: String::new(),
            });
            None
        }
    };
    let keys = set.map(|set| jwk::keys(set, &place(), problems)).unwrap_or_default();
    let mut key_set = [0; 32];
    key_set.copy_from_slice(&Hash::Sha256.digest(&[b"portcullis jwt keys\0", set.unwrap_or_default()]));
    let mut locations = provider.locations.clone();
    if locations.is_empty() {
        let bearer =
            Location::Header { name: "authorization".to_owned(), prefix: "Bearer ".to_owned(), forward: false };
        locations = vec![bearer, Location::Query("access_token".to_owned())];
    }
    ProviderRecord {
        name: provider.name.clone(),
        issuer: provider.issuer.clone(),
        audiences: provider.audiences.clone(),
        keys,
        key_set,
        locations,
        forwarding: provider.forwarding.clone(),
        clock_skew: provider.clock_skew,
    }
}

impl ProviderRecord {
    /// The header that only a verified token may fill, lower case: to be removed from every request before anything else,
    /// token or not, in every spelling.
    pub fn stripped_header(&self) -> Option<&str> {
        self.forwarding.as_ref().map(|forwarding| forwarding.header.as_str())
    }
}
