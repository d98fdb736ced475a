//! The pin: a file whose presence holds what is in force.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::publish::{self, PublishError};

const FILE: &str = "pin";
/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 4096;

/// What is pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The generation whose content is in force, under a higher number.
    pub generation: u64,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
}

/// Whether there is a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    /// There is none.
    No,
    /// To this.
    To(Pin),
    /// There is one that cannot be read.
    Unreadable,
}

pub(super) fn read(folder: &Path) -> Pinned {
    let mut bytes = Vec::new();
    match File::open(folder.join(FILE)).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes)) {
        Ok(_) => serde_json::from_slice(&bytes).map_or(Pinned::Unreadable, Pinned::To),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Pinned::No,
        Err(_) => Pinned::Unreadable,
    }
}

pub(super) fn write(folder: &Path, pin: &Pin) -> Result<(), PublishError> {
    let bytes = serde_json::to_vec(pin).unwrap_or_default();
    publish::replace(&folder.join(FILE), &bytes, 0o640)
}

/// Says whether there was one.
pub(super) fn remove(folder: &Path) -> io::Result<bool> {
    match fs::remove_file(folder.join(FILE)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
