//! The state mount: a folder that guests share, write to and find broken.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

/// The guest's view of the folder.
pub(crate) const STATE_MOUNT: &str = "/state";

/// The bytes of one file; who has it open keeps them when the name is gone.
pub(crate) type SharedFile = Arc<Mutex<Vec<u8>>>;

/// An open file or folder of the mount.
#[derive(Clone)]
pub(crate) enum Open {
    /// A file.
    File {
        /// Its bytes.
        file: SharedFile,
        /// Whether it may be written to.
        writes: bool,
        /// Whether every write goes to the end.
        appends: bool,
        /// Where the descriptor stands.
        position: usize,
    },
    /// A folder, by its path.
    Folder(String),
}

/// A folder on the host's disk. Clones are the same folder, so that several guests can mount it.
#[derive(Clone, Default)]
pub(crate) struct StateFolder(Arc<Mutex<Folder>>);

/// What is in a [`StateFolder`], and what is wrong with it.
#[derive(Default)]
pub(crate) struct Folder {
    /// The files by their paths.
    pub(crate) files: BTreeMap<String, SharedFile>,
    /// The folders by their paths, but for the mount itself.
    pub(crate) folders: BTreeSet<String>,
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

    /// Makes a file with its folders, or puts other bytes into the one that is there.
    pub(crate) fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut folder = self.lock();
        for (at, _) in name.match_indices('/') {
            folder.folders.insert(name[..at].to_owned());
        }
        let file = folder.files.entry(name.to_owned()).or_default().clone();
        *file.lock().unwrap() = bytes;
    }

    /// The logs, by their paths.
    pub(crate) fn logs(&self) -> Vec<String> {
        let is_log = |name: &&String| name.starts_with("limits/") && *name != "limits/clock";
        self.lock().files.keys().filter(is_log).cloned().collect()
    }

    /// Puts other bytes into a file that guests may have open.
    #[track_caller]
    pub(crate) fn overwrite(&self, name: &str, bytes: Vec<u8>) {
        *self.lock().files[name].lock().unwrap() = bytes;
    }
}

// === impl Folder ===

impl Folder {
    /// Whether there is a folder for a name to be in.
    pub(crate) fn has_place_for(&self, name: &str) -> bool {
        name.rsplit_once('/').is_none_or(|(parent, _)| self.folders.contains(parent))
    }

    /// What is directly in a folder.
    pub(crate) fn names_in(&self, parent: &str) -> Vec<String> {
        let inside = |path: &String| {
            let name = path.strip_prefix(parent)?.strip_prefix('/')?;
            (!name.contains('/')).then(|| name.to_owned())
        };
        self.files.keys().chain(&self.folders).filter_map(inside).collect()
    }
}
