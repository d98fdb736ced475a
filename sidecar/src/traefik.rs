//! Traefik's dynamic configuration as tags write it: `traefik.<key>=<value>` of v3, checked, and of v1, translated.
//!
//! ```text
//!  v1 pairs ──v1::translate──┐
//!                            ├──► pairs of v3 ──tree::read──► a tree in the spelling of Traefik's file provider
//!  v3 pairs ─────────────────┘                  (known keys, types, rules, references)
//! ```
//! Pure: pairs in, pairs and findings out. It knows nothing of Kubernetes, of Consul or of the gate; who may use which of
//! these keys is decided in [`crate::sync`]. One bad tag makes Traefik drop an instance or a whole service without a word
//! to its author, so nothing leaves here that has not been read back.

pub mod rule;
mod schema;
pub mod tree;
pub mod v1;
pub mod value;

/// One finding about one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, as its author wrote it, below the prefix.
    pub key: String,
    /// What is wrong, or what differs.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

impl Problem {
    pub(crate) fn new(key: impl Into<String>, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { key: key.into(), what: what.into(), hint: hint.into() }
    }
}

/// Traefik's own normalisation of a service's name: letters and digits stay, whatever else becomes one dash.
pub fn normalize(name: &str) -> String {
    let words = name.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

/// A name that can stand in a tag's key: it is split at dots, and an index is in brackets.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}
