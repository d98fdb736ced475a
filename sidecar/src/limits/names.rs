//! What limits are called. The logs hold only a tag of a limit's name, which cannot be turned back.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use portcullis_limiter::charge::tag;

/// Names by tag, replaced as a whole when the policy changes.
#[derive(Debug, Default)]
pub struct Names(RwLock<BTreeMap<u32, String>>);

impl Names {
    /// These are the names now.
    pub fn set(&self, names: impl IntoIterator<Item = String>) {
        let names = names.into_iter().map(|name| (tag(&name), name)).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// The limit's name, else its tag.
    pub fn of(&self, tag: u32) -> String {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        names.get(&tag).cloned().unwrap_or_else(|| format!("tag {tag:08x}"))
    }
}
