//! What people author, after reading and before compiling: intentions, API keys and the settings around them.
//!
//! The words are Consul's. Nothing here is half valid: a piece that could not be read whole is kept as
//! [`SourceRule::Broken`], which denies, so that its scope is never decided by something more permissive below it.

use std::{collections::BTreeMap, fmt};

/// What a rule does with a request that it matches. Only the exact word `allow` allows (consul-policy §2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Let the request pass.
    Allow,
    /// Refuse it.
    Deny,
}

/// Settings that hold for a whole policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySettings {
    /// What happens when no intention applies. Consul's `default_intention_policy`; it is not readable by its ordinary
    /// API, so it is ours to configure, and it denies unless told otherwise.
    pub default: Action,
    /// The trust domains whose SPIFFE IDs are accepted, in lower case (`<cluster uuid>.consul`). An ID from any other
    /// domain is refused before intentions are looked at (consul-policy §1.2).
    pub trust_domains: Vec<String>,
    /// The protocol of a destination where it is not `http`. L7 permissions on a `tcp` destination deny (consul-policy §3.1).
    pub protocols: BTreeMap<String, String>,
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self { default: Action::Deny, trust_domains: Vec::new(), protocols: BTreeMap::new() }
    }
}

/// A service's full name: partition, namespace and name, each exact or, where Consul allows it, `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// Admin partition, `default` in Consul Community Edition. Never `*`.
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

/// One element of `Permissions`. Its criteria are ANDed; `methods` are ORed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// What happens when the criteria match.
    pub action: Action,
    /// The path criterion, if any.
    pub path: Option<PathMatch>,
    /// Accepted methods, upper case; empty accepts any.
    pub methods: Vec<String>,
}

/// `PathExact` or `PathPrefix`. Case-sensitive; a prefix is a plain string prefix, so `/v1` covers `/v1x` (consul-policy §3.2).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum PathMatch {
    /// The whole canonical path.
    Exact(String),
    /// Its beginning.
    Prefix(String),
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

/// A whole policy, ready to [`crate::compile()`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// What holds for all of it.
    pub settings: PolicySettings,
    /// The intentions, in the order in which they were read.
    pub intentions: Vec<Intention>,
    /// The API keys.
    pub api_keys: Vec<ApiKey>,
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

// === impl ServiceName ===

/// The only namespace and partition of Consul Community Edition, and the meaning of an absent one.
pub const DEFAULT_TENANCY: &str = "default";

/// "Any" in a name or a namespace.
pub const WILDCARD: &str = "*";

impl ServiceName {
    /// A name in the default namespace and partition.
    pub fn in_default(name: &str) -> Self {
        Self { partition: DEFAULT_TENANCY.to_owned(), namespace: DEFAULT_TENANCY.to_owned(), name: name.to_owned() }
    }
}

impl ServiceName {
    /// [`fmt::Display`], without the formatting machinery for the usual case: every request asks for it.
    pub fn spelled(&self) -> String {
        if self.partition == DEFAULT_TENANCY && self.namespace == DEFAULT_TENANCY {
            return self.name.clone();
        }
        self.to_string()
    }
}

/// Consul's spelling of intention names: `[partition/][namespace/]name`, default parts left out.
impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.partition != DEFAULT_TENANCY {
            write!(f, "{}/{}/{}", self.partition, self.namespace, self.name)
        } else if self.namespace != DEFAULT_TENANCY {
            write!(f, "{}/{}", self.namespace, self.name)
        } else {
            f.write_str(&self.name)
        }
    }
}
