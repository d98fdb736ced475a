//! The state mount: a folder that guests share, write to and find broken.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

/// The guest's view of the folder.
pub(crate) const STATE_MOUNT: &str = "/state";

/// The bytes of one file; who has it open keeps them when the name is gone.
pub(crate) type SharedFile = Arc<Mutex<Vec<u8>>>;

/// A folder on the host's disk. Clones are the same folder, so that several guests can mount it.
#[derive(Clone, Default)]
pub(crate) struct StateFolder(Arc<Mutex<Folder>>);

/// What is in a [`StateFolder`], and what is wrong with it.
#[derive(Default)]
pub(crate) struct Folder {
    /// The files by name.
    pub(crate) files: BTreeMap<String, SharedFile>,
    /// Whether the mount is read-only.
    pub(crate) read_only: bool,
    /// Whether reads fail.
    pub(crate) reads_fail: bool,
    /// How many bytes of a write find room; then the disk is full.
    pub(crate) room: Option<usize>,
}

impl StateFolder {
    /// The folder, to look at and to change.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Folder> {
        self.0.lock().unwrap()
    }

    /// The bytes of a file.
    #[track_caller]
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        self.lock().files[name].lock().unwrap().clone()
    }

    /// Puts other bytes into a file that guests may have open.
    #[track_caller]
    pub(crate) fn overwrite(&self, name: &str, bytes: Vec<u8>) {
        *self.lock().files[name].lock().unwrap() = bytes;
    }
}
