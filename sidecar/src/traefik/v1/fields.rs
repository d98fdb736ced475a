//! The keys of one level of v1, taken one by one: whatever is left at the end is a key that v1 did not know.

use std::collections::{BTreeMap, BTreeSet};

use super::Translation;
use crate::traefik::value::{go_bool, is_header, list};

/// One key with its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    /// As its author wrote it.
    pub(super) key: &'a str,
    pub(super) value: &'a str,
}

/// Keys below a common beginning, folded: v1 itself was of two minds about capitals.
#[derive(Debug, Default)]
pub(super) struct Fields<'a>(BTreeMap<String, Field<'a>>);

impl<'a> Fields<'a> {
    /// Adds a key; false if it stands there already.
    pub(super) fn add(&mut self, name: &str, field: Field<'a>) -> bool {
        self.0.insert(name.to_ascii_lowercase(), field).is_none()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key, which is then no longer there.
    pub(super) fn take(&mut self, name: &str) -> Option<Field<'a>> {
        self.0.remove(name)
    }

    /// Either of two spellings, the current one first; the deprecated one is reported.
    pub(super) fn take_either(&mut self, name: &str, old: &str, out: &mut Translation) -> Option<Field<'a>> {
        let current = self.take(name);
        let Some(old) = self.take(old) else { return current };
        if current.is_some() {
            out.warn(old.key, "the key is deprecated and the current one is there too, which counts", "remove it");
            return current;
        }
        out.warn(old.key, "the key was deprecated in v1 already; it is translated", "write the v3 key");
        Some(old)
    }

    /// All keys that begin so, as a level of their own.
    pub(super) fn below(&mut self, prefix: &str) -> Fields<'a> {
        let names: Vec<_> = self.0.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        let taken = names.into_iter().filter_map(|name| Some((name[prefix.len()..].to_owned(), self.0.remove(&name)?)));
        Fields(taken.collect())
    }

    /// The names that stand before the next dot.
    pub(super) fn groups(&self) -> BTreeSet<String> {
        self.0.keys().filter_map(|name| Some(name.split_once('.')?.0.to_owned())).collect()
    }

    /// Whatever has not been taken closes the service.
    pub(super) fn finish(self, out: &mut Translation) {
        for field in self.0.into_values() {
            out.error(field.key, "Traefik v1 and v3 have no such key", "correct it, or remove it");
        }
    }

    /// Looks at a key without taking it.
    pub(super) fn get(&self, name: &str) -> Option<Field<'a>> {
        self.0.get(name).copied()
    }

    /// All keys, in order.
    pub(super) fn into_all(self) -> impl Iterator<Item = (String, Field<'a>)> {
        self.0.into_iter()
    }

    /// Any key, for a finding about all of them.
    pub(super) fn first(&self) -> Option<Field<'a>> {
        self.0.values().next().copied()
    }
}

impl Field<'_> {
    /// A boolean; one that cannot be read closes the service.
    pub(super) fn bool(self, out: &mut Translation) -> Option<bool> {
        let read = go_bool(self.value);
        if read.is_none() {
            out.error(self.key, format!("{:?} is no boolean", self.value), "write true or false");
        }
        read
    }

    /// An integer from 0.
    pub(super) fn count(self, out: &mut Translation) -> Option<u32> {
        let read = self.value.parse().ok();
        if read.is_none() {
            out.error(self.key, format!("{:?} is no number from 0", self.value), "write a number");
        }
        read
    }

    /// A list that is not empty.
    pub(super) fn list(self, out: &mut Translation) -> Option<Vec<String>> {
        let items = list(self.value);
        if items.is_empty() {
            out.error(self.key, "the list is empty", "name something, or remove the key");
        }
        (!items.is_empty()).then_some(items)
    }

    /// `Name:value||Name:value`.
    pub(super) fn headers(self, out: &mut Translation) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for part in self.value.split("||").map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once(':') {
                Some((name, value)) if is_header(name.trim()) => {
                    found.push((name.trim().to_owned(), value.trim().to_owned()));
                }
                _ => out.error(
                    self.key,
                    format!("{part:?} is no header that a tag of v3 can hold"),
                    "write Name:value||Name:value, names without dots",
                ),
            }
        }
        found
    }
}
