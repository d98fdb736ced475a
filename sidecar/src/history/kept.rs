//! The files of past snapshots: one a generation, bounded in number and bytes.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use portcullis_policy::{HEADER_LEN, Snapshot, peek};

use crate::publish;

const ENDING: &str = ".snapshot";
/// Largest snapshot that is read whole, in bytes: above a million intentions.
const MAX_FILE: u64 = 4 << 30;

/// A snapshot that was in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its generation then.
    pub generation: u64,
    /// Its size, in bytes.
    pub size: u64,
    path: PathBuf,
}

impl Kept {
    /// All of it; else why not.
    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        whole(&self.path)
    }
}

/// The bytes of a generation.
pub(super) fn read(folder: &Path, generation: u64) -> Result<Vec<u8>, String> {
    whole(&path(folder, generation))
}

fn whole(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|error| error.to_string())
}

/// Keeps what was just put in force. `is_first`: the newest that is kept may be the same but for its generation, and is
/// replaced then, so that restarts do not push out what differs.
pub(super) fn keep(folder: &Path, snapshot: &Path, generation: u64, is_first: bool) -> io::Result<()> {
    let before = list(folder)?.into_iter().next();
    let target = path(folder, generation);
    // The file in force is replaced and never changed, so another name for it is as good as a copy.
    if fs::hard_link(snapshot, &target).is_err() {
        let bytes = fs::read(snapshot)?;
        publish::replace(&target, &bytes, publish::SNAPSHOT_MODE).map_err(io::Error::other)?;
    }
    if let Some(before) = before.filter(|before| is_first && before.generation != generation)
        && is_same(&before.path, &target)
    {
        fs::remove_file(before.path)?;
    }
    Ok(())
}

/// Whether two files differ in their generation and time alone.
fn is_same(before: &Path, after: &Path) -> bool {
    let (Ok(before), Ok(after)) = (whole(before), whole(after)) else { return false };
    if before.len() != after.len() {
        return false;
    }
    let Ok(new) = Snapshot::open(after.as_slice()) else { return false };
    let old = Snapshot::open(before.as_slice()).and_then(|old| old.reissue(new.generation(), new.created_ms()));
    old.is_ok_and(|old| old == after)
}

/// Removes the oldest, so that at most `keep` files with at most `keep_bytes` stay. The newest always does.
pub(super) fn prune(folder: &Path, keep: usize, keep_bytes: u64) -> io::Result<()> {
    let pinned = match super::pin::read(folder) {
        super::Pinned::To(pin) => Some(pin.generation),
        _ => None,
    };
    let mut bytes = 0_u64;
    for (index, kept) in list(folder)?.into_iter().enumerate() {
        bytes = bytes.saturating_add(kept.size);
        let is_too_much = index >= keep || bytes > keep_bytes;
        if index > 0 && is_too_much && pinned != Some(kept.generation) {
            fs::remove_file(kept.path)?;
        }
    }
    Ok(())
}

/// All that is kept, the newest first.
pub(super) fn list(folder: &Path) -> io::Result<Vec<Kept>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(ENDING));
        let Some(generation) = name.and_then(|name| name.parse().ok()) else { continue };
        // One that another process removes at this moment is not kept.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_file() && header(&path) == Some(generation) {
            all.push(Kept { generation, size: metadata.len(), path });
        }
    }
    all.sort_by_key(|kept| std::cmp::Reverse(kept.generation));
    Ok(all)
}

/// The generation that the file says of itself; what is broken or of another format has none.
fn header(path: &Path) -> Option<u64> {
    let mut header = [0; HEADER_LEN];
    File::open(path).ok()?.read_exact(&mut header).ok()?;
    peek(&header).ok()
}

fn path(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("{generation}{ENDING}"))
}
