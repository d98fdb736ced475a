//! The state folder as the sidecar enters it.
//!
//! It belongs to Traefik's user, who may put anything there, links included. So nothing below it is followed, and what
//! the sidecar makes can be used by that user: it runs as that user, or as root where Traefik does.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use portcullis_limiter::{clock::FILE_NAME as CLOCK, store::FOLDER as LOGS};
use rustix::{
    fs::{FileType, Mode, OFlags, fstat, mkdirat, open, openat},
    process::geteuid,
};

/// The state folder.
#[derive(Debug, Clone)]
pub struct StateFolder(PathBuf);

impl StateFolder {
    /// The folder at this path, which need not exist yet.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The folder of the logs.
    pub fn logs(&self) -> PathBuf {
        self.0.join(LOGS)
    }

    /// The clock's file, for those who only read it.
    pub fn clock(&self) -> PathBuf {
        self.logs().join(CLOCK)
    }

    /// Whether files that we make here can be used by whom the folder belongs to.
    pub fn check_owner(&self) -> io::Result<()> {
        self.open().map(drop)
    }

    /// Opens the clock for reading and writing, and makes it (mode 0600) and its folder (0700) where they are missing. The
    /// state folder itself is not made: Traefik mounts it, and one that we made too late would not be the one mounted.
    pub fn open_clock(&self) -> io::Result<File> {
        let state = self.open()?;
        match mkdirat(&state, LOGS, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let below = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let logs = openat(&state, LOGS, below | OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())?;
        // NONBLOCK: a pipe of that name must not make us wait.
        let flags = below | OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK;
        let clock = openat(&logs, CLOCK, flags, Mode::RUSR | Mode::WUSR)?;
        if FileType::from_raw_mode(fstat(&clock)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("the clock is no regular file"));
        }
        Ok(File::from(clock))
    }

    fn open(&self) -> io::Result<OwnedFd> {
        let state = open(&self.0, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let owner = fstat(&state)?.st_uid;
        // Root could write here, and the folder's user could not read it. Everybody else is told by the kernel.
        if geteuid().is_root() && owner != 0 {
            let text = format!("the folder belongs to user {owner}: run the sidecar as that user");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _, os::unix::fs::symlink};

    #[test]
    fn the_clock_is_made_for_its_user_alone() {
        let state = tempfile::tempdir().unwrap();
        let folder = StateFolder::new(state.path());
        folder.open_clock().unwrap();
        folder.open_clock().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder.logs()), mode(&folder.clock())), (0o700, 0o600));
    }

    #[test]
    fn links_are_not_followed_and_a_missing_folder_is_not_made() {
        let (state, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = StateFolder::new(state.path());
        symlink(elsewhere.path(), folder.logs()).unwrap();
        folder.open_clock().unwrap_err();
        fs::remove_file(folder.logs()).unwrap();
        fs::create_dir(folder.logs()).unwrap();
        symlink(elsewhere.path().join("target"), folder.clock()).unwrap();
        folder.open_clock().unwrap_err();
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);

        let missing = StateFolder::new(&state.path().join("missing"));
        assert_eq!(missing.open_clock().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!state.path().join("missing").exists());
    }
}
