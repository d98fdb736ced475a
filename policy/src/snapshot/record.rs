//! What is stored: the payloads of records and the keys under which they are found. Encoded by `postcard`, whose wire
//! format is stable; a change to any of these types is a change of [`super::layout::FORMAT`].

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    candidates::Name,
    model::{Action, IdentityForm, Mode, Permission, Requirement, ServiceName, Underscores},
    path::Normalization,
};

/// What holds for a whole policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// What happens when no intention applies.
    pub default: Action,
    /// Accepted trust domains.
    pub trust_domains: Vec<TrustDomain>,
    /// The order of identities where no other is given; `None`: [`Settings::USUAL_ORDER`].
    pub identities: Option<Vec<IdentityForm>>,
    /// The mesh's request normalization.
    pub normalization: Normalization,
    /// The mesh's word on header names with underscores.
    pub underscores: Underscores,
    /// Headers that only we may set: those in which providers forward a token's payload. Lower case.
    pub reserved_headers: Vec<String>,
    /// Lengths of the network prefixes that exist, longest first: IPv4.
    pub networks_v4: Vec<u8>,
    /// The same for IPv6.
    pub networks_v6: Vec<u8>,
    /// Whether any intention has a namespace `*`: without one, five of nine lookups are needless.
    pub namespace_wildcards: bool,
    /// Whether any limit looks at the client's address.
    pub limits_by_address: bool,
}

/// A trust domain whose SPIFFE IDs are known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustDomain {
    /// `<cluster uuid>.consul`, in lower case.
    pub name: String,
    /// Set when it is a peer's: its name here, and the partition that it exports from, which is in its IDs.
    pub peer: Option<PeerDomain>,
}

/// See [`TrustDomain::peer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerDomain {
    /// The peering's name.
    pub name: String,
    /// `ExportedPartition`; `default` stands for none.
    pub partition: String,
}

/// One source of one intention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentionRecord {
    /// The rule's name, e.g. `service-intentions/db/sources/web`.
    pub rule: String,
    /// Whether it counts.
    pub mode: Mode,
    /// What the caller must bring besides: the entry's requirement.
    pub jwt: Option<Requirement>,
    /// What it says.
    pub body: Body,
}

/// What an intention says about its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// L4.
    Action(Action),
    /// L7.
    Permissions(Vec<Permission>),
    /// Could not be read; denied.
    Broken,
}

/// What holds for a destination whoever calls. Either no destination has one, or all with an entry have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationRecord {
    /// Everything to it is denied because its entry could not be read.
    pub broken: bool,
    /// The entry's mode: in shadow, callers whom no source covers pass where the default would deny.
    pub mode: Mode,
}

/// One API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyRecord {
    /// The caller it stands for.
    pub source: SourceRecord,
    /// Salt of the hash.
    pub salt: Vec<u8>,
    /// SHA-256 over salt and secret; none when no secret is accepted.
    pub hash: Option<[u8; 32]>,
}

/// A local service as the caller that a key or a network stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// Admin partition.
    pub partition: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// The name of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// An intention by its destination and source, both as authored.
    Intention {
        /// Destination.
        destination: Name<'a>,
        /// Source.
        source: Name<'a>,
    },
    /// A [`DestinationRecord`].
    Destination(Name<'a>),
    /// An API key by its id.
    ApiKey(&'a str),
    /// A JWT provider by its name.
    Provider(&'a str),
    /// The CA roots of a trust domain.
    Roots(&'a str),
    /// The order of identities of a destination.
    DestinationOrder(Name<'a>),
    /// The order of identities of an entry point.
    EntryPointOrder(&'a str),
    /// A network by its first address and the length of its prefix.
    Network(IpAddr, u8),
    /// The limits of a destination, as authored: a [`crate::limit::wire::LimitList`].
    Limits(Name<'a>),
}

impl Settings {
    /// The order of identities when nothing is said: a certificate proves more than a key, a key more than an address.
    pub const USUAL_ORDER: &'static [IdentityForm] =
        &[IdentityForm::Certificate, IdentityForm::ApiKey, IdentityForm::Network];

    /// The trust domain with this name.
    pub fn trust_domain(&self, name: &str) -> Option<&TrustDomain> {
        self.trust_domains.iter().find(|it| it.name == name)
    }
}

impl From<&ServiceName> for SourceRecord {
    fn from(name: &ServiceName) -> Self {
        let ServiceName { peer: _, partition, namespace, name } = name.clone();
        Self { partition, namespace, name }
    }
}

impl From<SourceRecord> for ServiceName {
    fn from(SourceRecord { partition, namespace, name }: SourceRecord) -> Self {
        Self { peer: String::new(), partition, namespace, name }
    }
}

impl Key<'_> {
    /// Whether the bytes of a key are an intention's.
    pub(super) fn is_intention(key: &[u8]) -> bool {
        key.first() == Some(&b'I')
    }

    /// The key's bytes: a kind, then the parts, each after a NUL, which no part may hold.
    pub(super) fn encode(self) -> Vec<u8> {
        fn push(bytes: &mut Vec<u8>, parts: &[&str]) {
            bytes.reserve(parts.iter().map(|part| part.len() + 1).sum());
            for part in parts {
                bytes.push(0);
                bytes.extend_from_slice(part.as_bytes());
            }
        }
        // The peer comes last: most names have none, and a name is as long as its parts.
        let name = |it: Name<'_>, bytes: &mut Vec<u8>| push(bytes, &[it.partition, it.namespace, it.name, it.peer]);
        // Room for an intention between names of usual length: the allocator is the dear part.
        let mut bytes = Vec::with_capacity(128);
        match self {
            Self::Intention { destination, source } => {
                bytes.push(b'I');
                name(destination, &mut bytes);
                name(source, &mut bytes);
            }
            Self::Destination(destination) => {
                bytes.push(b'D');
                name(destination, &mut bytes);
            }
            Self::ApiKey(id) => {
                bytes.push(b'K');
                push(&mut bytes, &[id]);
            }
            Self::Provider(provider) => {
                bytes.push(b'P');
                push(&mut bytes, &[provider]);
            }
            Self::Roots(trust_domain) => {
                bytes.push(b'R');
                push(&mut bytes, &[trust_domain]);
            }
            Self::DestinationOrder(destination) => {
                bytes.push(b'O');
                name(destination, &mut bytes);
            }
            Self::EntryPointOrder(entry_point) => {
                bytes.push(b'E');
                push(&mut bytes, &[entry_point]);
            }
            Self::Network(address, prefix_len) => {
                bytes.push(b'N');
                match address {
                    IpAddr::V4(address) => bytes.extend_from_slice(&address.octets()),
                    IpAddr::V6(address) => bytes.extend_from_slice(&address.octets()),
                }
                bytes.push(prefix_len);
            }
            Self::Limits(destination) => {
                bytes.push(b'L');
                name(destination, &mut bytes);
            }
        }
        bytes
    }
}
