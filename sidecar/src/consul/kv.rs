//! The KV import: every service as one JSON value in Consul's key-value store, for consul-template and others that read keys.
//!
//! ```text
//!  live catalog (ours) ─► wanted ─► diff ◄─ entries ◄─ the keys below <prefix>/<cluster>/
//!                                    └─► operations ─► fenced transactions
//! ```
//! What is wanted follows from what the catalog holds of ours *after* a pass, not from the source: whatever the catalog keeps,
//! because a removal waits or the source is broken, its key keeps too. Pure; `keeper` reads, writes and waits.
//!
//! A key is ours if it bears our flags ([`MARK`]). `consul kv put` over it takes them away, and then it is left alone.

mod keeper;
#[cfg(test)]
mod tests;
mod value;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

pub use keeper::would;
pub(super) use keeper::{Changed, Guard, Keeper, Kept};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{
    brake::{Hold, hold_keys},
    live::{Live, Scope},
    operation::Operation,
};

/// The flags of every key of ours: "portcu", below 2^53, so that no reader of JSON rounds it.
pub const MARK: u64 = 0x706f_7274_6375;
/// Largest value, in bytes. Consul takes 524,288 for a value and for a whole transaction, where values are in base64.
pub const MAX_VALUE: usize = 360 << 10;
/// Longest prefix, in bytes.
const MAX_PREFIX: usize = 128;
/// What stays readable of a service's name in its key; the rest would be a further folder, or another key to some readers.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The configuration's `consul.kvImport`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KvImport {
    /// The folder that holds one folder for each cluster, without a slash at its ends (default: `portcullis/services`).
    pub prefix: String,
}

/// What a key should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Consul service name.
    pub service: String,
    /// JSON.
    pub value: Vec<u8>,
}

/// A key as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// [`MARK`] if it is ours.
    pub flags: u64,
    /// For compare-and-set.
    pub modify_index: u64,
    /// SHA-256 of its value.
    pub digest: [u8; 32],
}

/// The keys that were read, by their whole path.
pub type Entries = BTreeMap<String, Entry>;

/// What has to change among the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyDifference {
    /// Keys to make (`modify_index` 0) or to change, then such to remove; each sorted by key.
    pub operations: Vec<Operation>,
    /// What cannot be written and why, by key; one line each.
    pub notes: BTreeMap<String, String>,
}

// === impl KvImport ===

impl Default for KvImport {
    fn default() -> Self {
        Self { prefix: "portcullis/services".to_owned() }
    }
}

impl KvImport {
    /// What types alone do not guarantee: what the faulty key allows.
    pub(super) fn validate(&self) -> Result<(), &'static str> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.');
        let is_name = |segment: &str| !segment.is_empty() && segment.bytes().any(|byte| byte != b'.');
        let prefix = &self.prefix;
        if prefix.len() > MAX_PREFIX || !prefix.bytes().all(fits) || !prefix.split('/').all(is_name) {
            return Err("kvImport.prefix is 1 to 128 characters of A-Z a-z 0-9 . _ - and single slashes between names");
        }
        // The lock is there.
        if prefix == "portcullis" || prefix == "portcullis/sync" || prefix.starts_with("portcullis/sync/") {
            return Err("kvImport.prefix cannot be portcullis itself nor below portcullis/sync");
        }
        Ok(())
    }

    /// Where the keys of a cluster are, with the slash at its end.
    pub fn folder(&self, cluster: &str) -> String {
        format!("{}/{cluster}/", self.prefix)
    }
}

/// The key of a service; no two services have the same.
pub fn key(folder: &str, service: &str) -> String {
    format!("{folder}{}", utf8_percent_encode(service, PLAIN))
}

/// What the keys of a catalog's services should hold, or only of those in `only`.
pub fn wanted(live: &Live, scope: &Scope, folder: &str, only: Option<&BTreeSet<String>>) -> BTreeMap<String, Wanted> {
    let values = value::by_service(live, scope, only);
    values.into_iter().map(|(service, value)| (key(folder, &service), Wanted { service, value })).collect()
}

/// What has to change so that the keys hold what is wanted, and none of ours holds anything else. Looked at are the keys in
/// `only`, or all.
pub fn diff(wanted: &BTreeMap<String, Wanted>, entries: &Entries, only: Option<&BTreeSet<String>>) -> KeyDifference {
    let mut found = KeyDifference::default();
    for (key, Wanted { service, value }) in wanted {
        let entry = entries.get(key);
        if entry.is_some_and(|entry| !entry.is_ours()) {
            let note = format!(
                "key {key} was written by somebody else and is left alone; remove it, or choose another consul.kvImport.prefix"
            );
            found.notes.insert(key.clone(), note);
        } else if value.len() > MAX_VALUE {
            let note = format!(
                "key {key} is not written: {service} needs {} bytes, Consul takes {MAX_VALUE}; split the service, or give it fewer tags",
                value.len()
            );
            found.notes.insert(key.clone(), note);
        } else if entry.is_none_or(|entry| entry.digest != digest(value)) {
            let modify_index = entry.map_or(0, |entry| entry.modify_index);
            found.operations.push(Operation::SetKey {
                key: key.clone(),
                value: value.clone(),
                flags: MARK,
                modify_index,
            });
        }
    }
    let looked_at = |key: &String| only.is_none_or(|only| only.contains(key));
    let gone = entries.iter().filter(|(key, entry)| entry.is_ours() && looked_at(key) && !wanted.contains_key(*key));
    found.operations.extend(
        gone.map(|(key, entry)| Operation::DeleteKey { key: key.clone(), modify_index: Some(entry.modify_index) }),
    );
    found
}

pub(super) fn digest(value: &[u8]) -> [u8; 32] {
    Sha256::digest(value).into()
}

// === impl Entry ===

impl Entry {
    /// Whether we wrote it, and nobody since.
    pub fn is_ours(&self) -> bool {
        self.flags == MARK
    }
}

// === impl KeyDifference ===

impl KeyDifference {
    /// Whether nothing has to be written.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Keys that would be removed.
    pub fn removals(&self) -> impl Iterator<Item = &str> {
        self.operations.iter().filter_map(|operation| match operation {
            Operation::DeleteKey { key, .. } => Some(key.as_str()),
            _ => None,
        })
    }

    /// Whether removals have to wait. Those in `explained` do not: instances of theirs were taken out of the catalog just now.
    pub fn hold(
        &self,
        explained: &BTreeSet<String>,
        entries: &Entries,
        source_is_empty: bool,
        percent: u8,
    ) -> Option<Hold> {
        let removals = self.removals().filter(|key| !explained.contains(*key)).count();
        let owned = entries.values().filter(|entry| entry.is_ours()).count();
        hold_keys(removals, owned, source_is_empty, percent)
    }

    /// The same without removals but those in `explained`.
    #[must_use]
    pub fn without_removals(mut self, explained: &BTreeSet<String>) -> Self {
        self.operations
            .retain(|operation| !matches!(operation, Operation::DeleteKey { key, .. } if !explained.contains(key)));
        self
    }
}

impl fmt::Display for KeyDifference {
    /// One line a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.operations.iter().try_for_each(|operation| writeln!(f, "{operation}"))
    }
}
