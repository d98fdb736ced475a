//! What people author, after reading and before compiling: intentions, API keys and the settings around them.
//!
//! The words are Consul's. Nothing here is half valid: a piece that could not be read whole is kept as
//! [`SourceRule::Broken`], which denies, so that its scope is never decided by something more permissive below it.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{
    certificate::TrustBundle, header_match::HeaderMatch, jwt::JwtProvider, limit::rule::Limits, path::Normalization,
    regex::Pattern,
};

/// What a rule does with a request that it matches. Only the exact word `allow` allows (consul-policy §2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Let the request pass.
    Allow,
    /// Refuse it.
    Deny,
}

/// Whether a rule counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// It decides.
    #[default]
    Enforce,
    /// It decides nothing, and suspends a default of deny for what it covers; where it would have decided otherwise, the
    /// decision says so ([`crate::Decision::shadow`]).
    Shadow,
    /// As if it were not written.
    Off,
}

/// Settings that hold for a whole policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySettings {
    /// What happens when no intention applies. Consul's `default_intention_policy`; it is not readable by its ordinary
    /// API, so it is ours to configure, and it denies unless told otherwise.
    pub default: Action,
    /// The trust domains whose SPIFFE IDs are accepted as local, in lower case (`<cluster uuid>.consul`). An ID from any
    /// other domain is refused before intentions are looked at (consul-policy §1.2), unless a [`TrustBundle`] names it.
    pub trust_domains: Vec<String>,
    /// The protocol of a destination where it is not `http`; under `*` that of all others. L7 permissions on a `tcp` destination
    /// deny (consul-policy §3.1).
    pub protocols: BTreeMap<String, String>,
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self { default: Action::Deny, trust_domains: Vec::new(), protocols: BTreeMap::new() }
    }
}

/// A service's full name: peer, partition, namespace and name, each exact or, where Consul allows it, `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// The cluster peering that the service is reached through, for sources; empty for what is local. Never `*`.
    pub peer: String,
    /// Admin partition, `default` in Consul Community Edition. Never `*`. A peer's services are all in `default`: their
    /// partition is the peer's own affair (consul-policy §1.3).
    pub partition: String,
    /// Namespace, `default` in Consul Community Edition; `*` forces the name to be `*`.
    pub namespace: String,
    /// Service name; compared case-sensitively and whole.
    pub name: String,
}

/// One `service-intentions` entry: everything that is said about one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intention {
    /// Whom it guards.
    pub destination: ServiceName,
    /// Who may or may not call it.
    pub sources: Vec<Source>,
    /// What every source of the entry must bring besides (consul-policy §4.1).
    pub jwt: Option<Requirement>,
    /// Of the entry as a whole: of each source that has none of its own, and of the default for this destination.
    pub mode: Mode,
    /// Set when a part of the entry could not be read and its reach is the whole destination: everything to it is denied.
    pub broken: bool,
}

/// One element of `Sources`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The caller it speaks of.
    pub source: ServiceName,
    /// What it says.
    pub rule: SourceRule,
    /// Whether it counts; that of the entry when it is not written.
    pub mode: Mode,
}

/// What an intention says about a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceRule {
    /// L4: the whole connection.
    Action(Action),
    /// L7: the first permission whose HTTP criteria match ends it; none matches: the default (consul-policy §3.1).
    Permissions(Vec<Permission>),
    /// The source could not be read whole (a [`crate::Problem`] says why): it is denied.
    Broken,
}

/// One element of `Permissions`. Its criteria are ANDed; `methods` are ORed, `headers` are ANDed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// What happens when the criteria match.
    pub action: Action,
    /// The path criterion, if any.
    pub path: Option<PathMatch>,
    /// Accepted methods, upper case; empty accepts any.
    pub methods: Vec<String>,
    /// The header criteria.
    pub headers: Vec<HeaderMatch>,
    /// What an allowed request must bring besides. No criterion: it does not decide whether the permission matches.
    pub jwt: Option<Requirement>,
    /// Whether it counts.
    pub mode: Mode,
}

/// `PathExact`, `PathPrefix` or `PathRegex`. Case-sensitive; a prefix is a plain string prefix, so `/v1` covers `/v1x`
/// (consul-policy §3.2); a regex covers the whole path (§3.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathMatch {
    /// The whole canonical path.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// The whole canonical path, as an RE2 pattern.
    Regex(Pattern),
}

/// The `JWT` of an entry or a permission: one of the providers must be satisfied (consul-policy §4.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// The alternatives; never empty.
    pub providers: Vec<ProviderRequirement>,
    /// Whether it counts. In shadow a requirement that is not met is noted and waived.
    pub mode: Mode,
}

/// One element of `JWT.Providers`: a valid token of the provider whose claims all hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderRequirement {
    /// The `jwt-provider`'s name.
    pub provider: String,
    /// `VerifyClaims`, ANDed.
    pub claims: Vec<ClaimCheck>,
}

/// One element of `VerifyClaims`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimCheck {
    /// Nested keys, one per element, each taken whole.
    pub path: Vec<String>,
    /// The text that the claim must be, or that a claim which is a list must hold.
    pub value: String,
}

/// What to do with headers whose names hold an underscore (`HeadersWithUnderscoresAction`, consul-policy §6.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Underscores {
    /// Leave them; where a rule speaks of a header with such an alias, the request is doubtful.
    #[default]
    Allow,
    /// Answer 400.
    RejectRequest,
    /// Take them out before anything looks at headers.
    DropHeader,
}

/// A way in which a caller can show who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentityForm {
    /// A client certificate with a SPIFFE ID.
    Certificate,
    /// A claim of a valid token.
    Jwt {
        /// The `jwt-provider`'s name.
        provider: String,
        /// The claim: nested keys, one per element.
        claim: Vec<String>,
        /// Put before the claim's text, so that tokens cannot name services; may be empty.
        prefix: String,
    },
    /// An API key.
    ApiKey,
    /// The network that the connection comes from.
    Network,
}

/// Where an identity order holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum IdentityScope {
    /// Everywhere that no other order is given.
    Default,
    /// For requests of one entry point, as the middleware's configuration names it.
    EntryPoint(String),
    /// For requests to one destination; goes before the entry point's.
    Destination(ServiceName),
}

/// A network whose connections are a source: VMs, partners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The first address, its bits beyond the prefix zero.
    pub address: IpAddr,
    /// Length of the prefix, in bits.
    pub prefix_len: u8,
    /// The caller that a connection from it is.
    pub source: ServiceName,
}

/// An API key that stands for a source: its identity is what the name says, its secret is known only as a salted hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The public part of the key, shown in logs.
    pub id: String,
    /// The caller that a holder of the key is.
    pub source: ServiceName,
    /// The salt.
    pub salt: Vec<u8>,
    /// SHA-256 over salt and secret.
    pub hash: [u8; 32],
}

/// A whole policy, ready to be compiled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// What holds for all of it.
    pub settings: PolicySettings,
    /// The intentions, in the order in which they were read.
    pub intentions: Vec<Intention>,
    /// The limits, in the order in which they were read.
    pub limits: Vec<Limits>,
    /// The API keys.
    pub api_keys: Vec<ApiKey>,
    /// The JWT providers.
    pub providers: Vec<JwtProvider>,
    /// JWK sets that a provider names but does not hold (files, remote ones), by the provider's name. Whoever reads or
    /// fetches them puts them here; a provider without its keys is never satisfied.
    pub key_sets: BTreeMap<String, Vec<u8>>,
    /// Trust domains with their CA roots: ours and those of peers.
    pub trust_bundles: Vec<TrustBundle>,
    /// The order in which ways of showing an identity are tried.
    pub identities: BTreeMap<IdentityScope, Vec<IdentityForm>>,
    /// Networks that stand for a source.
    pub networks: Vec<Network>,
    /// The mesh's request normalization.
    pub normalization: Normalization,
    /// The mesh's word on header names with underscores.
    pub underscores: Underscores,
}

// === impl Action ===

impl Action {
    /// `allow` or `deny`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

// === impl Requirement ===

impl Requirement {
    /// The names of the providers, one of which must be satisfied.
    pub fn provider_names(&self) -> impl Iterator<Item = &str> {
        self.providers.iter().map(|it| it.provider.as_str())
    }
}

// === impl IdentityScope ===

impl fmt::Display for IdentityScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::EntryPoint(name) => write!(f, "entry-point/{name}"),
            Self::Destination(name) => write!(f, "destination/{name}"),
        }
    }
}

// === impl ServiceName ===

/// The only namespace and partition of Consul Community Edition, and the meaning of an absent one.
pub const DEFAULT_TENANCY: &str = "default";

/// "Any" in a name or a namespace.
pub const WILDCARD: &str = "*";

impl ServiceName {
    /// A name in the default namespace and partition.
    pub fn in_default(name: &str) -> Self {
        Self {
            peer: String::new(),
            partition: DEFAULT_TENANCY.to_owned(),
            namespace: DEFAULT_TENANCY.to_owned(),
            name: name.to_owned(),
        }
    }

    /// [`fmt::Display`], without the formatting machinery for the usual case: every request asks for it.
    pub fn spelled(&self) -> String {
        if self.peer.is_empty() && self.partition == DEFAULT_TENANCY && self.namespace == DEFAULT_TENANCY {
            return self.name.clone();
        }
        self.to_string()
    }
}

/// Consul's spelling of intention names: `[partition/][namespace/]name` and `peer:<peer>/[namespace/]name`, default parts
/// left out.
impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.peer.is_empty() {
            write!(f, "peer:{}/", self.peer)?;
        }
        if self.partition != DEFAULT_TENANCY {
            write!(f, "{}/{}/{}", self.partition, self.namespace, self.name)
        } else if self.namespace != DEFAULT_TENANCY {
            write!(f, "{}/{}", self.namespace, self.name)
        } else {
            f.write_str(&self.name)
        }
    }
}
