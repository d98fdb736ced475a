//! Writing files that others read while they are replaced: beside, then renamed, so that a reader sees the old or the new.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use portcullis_authoring::compile;
use portcullis_policy::{HEADER_LEN, Policy, peek};

/// API key hashes are in a snapshot: for the group that the sidecar and Traefik share, not for everyone.
pub(crate) const SNAPSHOT_MODE: u32 = 0o640;

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct PublishError {
    path: PathBuf,
    source: io::Error,
}

// === impl PublishError ===

impl PublishError {
    /// What could not be written, and why.
    pub(crate) fn new(path: &Path, source: io::Error) -> Self {
        Self { path: path.to_owned(), source }
    }

    /// Whether there is no room.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// Compiles a policy and puts it in force. Returns the new generation.
pub fn snapshot(path: &Path, policy: &Policy) -> Result<u64, PublishError> {
    let now_ms = now_ms();
    let generation = next_generation(path, now_ms);
    let (bytes, _) = compile(policy, generation, now_ms);
    replace(path, &bytes, SNAPSHOT_MODE)?;
    Ok(generation)
}

/// The time, in milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Replaces a file's content in one step. Does nothing when the content is the same already.
pub fn text(path: &Path, content: &str) -> Result<bool, PublishError> {
    if fs::read(path).is_ok_and(|present| present == content.as_bytes()) {
        return Ok(false);
    }
    replace(path, content.as_bytes(), 0o644)?;
    Ok(true)
}

/// A number above the present file's, and above all that were given before a wiped tmpfs: the time is the floor.
pub(crate) fn next_generation(path: &Path, now_ms: u64) -> u64 {
    present_generation(path).map_or(now_ms, |present| now_ms.max(present.saturating_add(1)))
}

/// The generation of the file that is there, if it is a snapshot.
pub(crate) fn present_generation(path: &Path) -> Option<u64> {
    let mut header = [0; HEADER_LEN];
    File::open(path).ok()?.read_exact(&mut header).ok()?;
    peek(&header).ok()
}

/// Makes a folder of our own where it is missing, with this mode; those above it are made as usual.
pub(crate) fn folder(path: &Path, mode: u32) -> io::Result<()> {
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// Replaces a file in one step, with this mode.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PublishError> {
    let write = || {
        let directory = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        // The temporary name is hidden, so that Traefik's file provider does not take it for a configuration.
        let mut file = tempfile::Builder::new().prefix(".portcullis-").tempfile_in(directory)?;
        file.write_all(bytes)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| PublishError::new(path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_rise_even_when_the_clock_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sub/policy.snapshot");
        let first = snapshot(&path, &Policy::default()).unwrap();
        let second = snapshot(&path, &Policy::default()).unwrap();
        assert!(second > first);
        assert_eq!(next_generation(&path, 5), second + 1);
    }

    #[test]
    fn an_unchanged_text_is_not_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gate.yml");
        assert!(text(&path, "a").unwrap());
        assert!(!text(&path, "a").unwrap());
        assert!(text(&path, "b").unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file stays");
    }
}
