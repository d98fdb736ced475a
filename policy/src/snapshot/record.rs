//! What is stored: the payloads of records and the keys under which they are found. Encoded by `postcard`, whose wire
//! format is stable; a change to any of these types is a change of [`super::layout::FORMAT`].

use serde::{Deserialize, Serialize};

use crate::{
    candidates::Name,
    model::{Action, PathMatch},
};

/// What holds for a whole policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// What happens when no intention applies.
    pub default: Action,
    /// Accepted trust domains.
    pub trust_domains: Vec<String>,
    /// Whether any intention has a namespace `*`: without one, five of nine lookups are needless.
    pub namespace_wildcards: bool,
    /// Whether any destination is broken as a whole.
    pub broken_destinations: bool,
}

/// One source of one intention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentionRecord {
    /// The rule's name, e.g. `service-intentions/db/sources/web`.
    pub rule: String,
    /// What it says.
    pub body: Body,
}

/// What an intention says about its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// L4.
    Action(Action),
    /// L7.
    Permissions(Vec<PermissionRecord>),
    /// Could not be read; denied.
    Broken,
}

/// One permission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionRecord {
    /// What happens when it matches.
    pub action: Action,
    /// Its path criterion.
    pub path: Option<PathMatch>,
    /// Its methods; empty is any.
    pub methods: Vec<String>,
}

/// One API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyRecord {
    /// The caller it stands for.
    pub partition: String,
    /// See `partition`.
    pub namespace: String,
    /// See `partition`.
    pub name: String,
    /// Salt of the hash.
    pub salt: Vec<u8>,
    /// SHA-256 over salt and secret.
    pub hash: [u8; 32],
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
    /// A destination that is broken as a whole.
    Broken(Name<'a>),
    /// An API key by its id.
    ApiKey(&'a str),
}

impl Key<'_> {
    /// The key's bytes: a kind, then the parts, separated by NUL, which no part may hold.
    pub(super) fn encode(self) -> Vec<u8> {
        fn push(bytes: &mut Vec<u8>, parts: &[&str]) {
            bytes.reserve(parts.iter().map(|part| part.len() + 1).sum());
            for part in parts {
                bytes.push(0);
                bytes.extend_from_slice(part.as_bytes());
            }
        }
        let name = |it: Name<'_>, bytes: &mut Vec<u8>| push(bytes, &[it.partition, it.namespace, it.name]);
        // Room for an intention between names of usual length: the allocator is the dear part.
        let mut bytes = Vec::with_capacity(128);
        match self {
            Self::Intention { destination, source } => {
                bytes.push(b'I');
                name(destination, &mut bytes);
                name(source, &mut bytes);
            }
            Self::Broken(destination) => {
                bytes.push(b'B');
                name(destination, &mut bytes);
            }
            Self::ApiKey(id) => {
                bytes.push(b'K');
                push(&mut bytes, &[id]);
            }
        }
        bytes
    }
}
