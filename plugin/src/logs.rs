//! The limiter's logs on the state mount: a folder for each bucket, a file for each of its generations.
//!
//! An append is one write to a descriptor that was opened for appending, which the kernel puts at the end of the file
//! whoever else writes; where it landed is where the descriptor stands afterwards. Folders are made when a log is first
//! made in them, with the rights of the gateway's own user only.

use crate::file::read_some;
#[cfg(target_os = "wasi")]
use crate::file::{descriptor, failed};
use portcullis_limiter::{
    Directory, LogFile,
    store::{self, FOLDER, bucket_name, generation, log_name},
};
use std::{
    fs::{self, File},
    io,
};

/// Bytes of a folder that are read at once: room for some tens of logs, of which a bucket has one or two.
#[cfg(target_os = "wasi")]
const PIECE_LEN: usize = 1024;

/// See the module. Touches nothing until it is asked.
#[derive(Debug)]
pub struct Logs {
    /// [`FOLDER`], by its path inside the guest.
    folder: String,
}

/// An open log. Closed when dropped.
#[derive(Debug)]
pub struct Log(File);

// === impl Logs ===

impl Logs {
    /// The logs in a state folder.
    pub fn new(state: &str) -> Self {
        Self { folder: format!("{state}/{FOLDER}") }
    }

    fn bucket(&self, bucket: u16) -> String {
        format!("{}/{}", self.folder, bucket_name(bucket))
    }

    fn log(&self, bucket: u16, generation: u64) -> String {
        format!("{}/{}", self.bucket(bucket), log_name(generation))
    }
}

impl Directory for Logs {
    type File = Log;

    fn newest(&self, bucket: u16) -> io::Result<Option<u64>> {
        let mut newest = None;
        match for_each_name(&self.bucket(bucket), &mut |name| newest = newest.max(generation(name))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(newest),
        }
    }

    fn open(&self, bucket: u16, generation: u64, create: bool) -> io::Result<Log> {
        let path = self.log(bucket, generation);
        let open = || File::options().read(true).append(true).create(create).open(&path).map(Log);
        match open() {
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => {
                // Who else makes them at the same time is welcome. The state folder itself is the operator's to make.
                for folder in [&self.folder, &self.bucket(bucket)] {
                    match fs::create_dir(folder) {
                        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                        _ => {}
                    }
                }
                open()
            }
            opened => opened,
        }
    }

    fn remove(&self, bucket: u16, generation: u64) -> io::Result<()> {
        match fs::remove_file(self.log(bucket, generation)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Names what is in a folder. (The library's own way is 3 KB of wasm, and asks the host about each file.)
#[cfg(target_os = "wasi")]
#[allow(unsafe_code, reason = "the host's function has no safe spelling")]
fn for_each_name(folder: &str, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let folder = File::open(folder)?;
    let mut cookie = 0;
    loop {
        let mut piece = [0; PIECE_LEN];
        // SAFETY: the descriptor is open as long as `folder` lives; the host writes at most `PIECE_LEN` bytes to `piece`.
        let used = unsafe { wasip1::fd_readdir(descriptor(&folder)?, piece.as_mut_ptr(), PIECE_LEN, cookie) };
        let used = used.map_err(failed)?;
        let mut rest = piece.get(..used).unwrap_or_default();
        let begin = cookie;
        // Each entry: the next one's cookie (8), the inode (8), the length of the name (4), the type (4); then the name.
        while let Some((head, tail)) = rest.split_at_checked(24) {
            let (Some(next), Some(len)) = (head.first_chunk(), head.get(16..).and_then(<[u8]>::first_chunk)) else {
                break;
            };
            let Ok(len) = usize::try_from(u32::from_le_bytes(*len)) else { break };
            // Cut off: it comes again, whole, with the next piece.
            let Some((name, tail)) = tail.split_at_checked(len) else { break };
            each(name);
            (cookie, rest) = (u64::from_le_bytes(*next), tail);
        }
        if used < PIECE_LEN {
            return Ok(());
        }
        if cookie == begin {
            // Nothing has a name that long.
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

/// Names what is in a folder.
#[cfg(unix)]
fn for_each_name(folder: &str, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        each(entry?.file_name().as_encoded_bytes());
    }
    Ok(())
}

// === impl Log ===

impl LogFile for Log {
    fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        // The gateway's host reads once and hands on what came: a log that grows meanwhile is read again later.
        read_some(&self.0, offset, buf)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<u64> {
        store::append(&self.0, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs() -> (tempfile::TempDir, Logs) {
        let state = tempfile::tempdir().unwrap();
        let logs = Logs::new(state.path().to_str().unwrap());
        (state, logs)
    }

    #[test]
    fn folders_are_made_with_the_first_log_and_not_before() {
        let (state, logs) = logs();
        assert_eq!(logs.newest(7).unwrap(), None);
        assert_eq!(logs.open(7, 1, false).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!state.path().join("limits").exists());
        logs.open(7, 1, true).unwrap();
        assert!(state.path().join("limits/007/0000000000000001").exists());
        logs.open(1023, 0xabc, true).unwrap();
        assert!(state.path().join("limits/3ff/0000000000000abc").exists());
        assert_eq!((logs.newest(7).unwrap(), logs.newest(1023).unwrap()), (Some(1), Some(0xabc)));
    }

    #[test]
    fn the_newest_log_is_found_among_older_ones_and_foreign_names() {
        let (state, logs) = logs();
        for generation in [9, 10, 0xff] {
            logs.open(0, generation, true).unwrap();
        }
        for foreign in ["ffffffffffffffff.tmp", "FFFFFFFFFFFFFFFF", "+fffffffffffffff", "clock"] {
            fs::write(state.path().join("limits/000").join(foreign), "").unwrap();
        }
        assert_eq!(logs.newest(0).unwrap(), Some(0xff));
        logs.remove(0, 0xff).unwrap();
        logs.remove(0, 0xff).unwrap();
        assert_eq!(logs.newest(0).unwrap(), Some(10));
    }

    #[test]
    fn each_append_says_where_it_landed_among_those_of_others() {
        let (_state, logs) = logs();
        let (one, other) = (logs.open(0, 1, true).unwrap(), logs.open(0, 1, false).unwrap());
        assert_eq!(one.append(b"one.").unwrap(), 0);
        assert_eq!(other.append(b"other").unwrap(), 4);
        let mut buf = [0; 16];
        assert_eq!(one.read(0, &mut buf).unwrap(), 9);
        assert_eq!(&buf[..9], b"one.other");
        assert_eq!(one.append(b"!").unwrap(), 9, "reading does not move where the next one lands");
        assert_eq!(other.read(10, &mut buf).unwrap(), 0);
    }

    #[test]
    fn an_open_log_goes_on_when_its_name_is_gone() {
        let (_state, logs) = logs();
        let log = logs.open(0, 1, true).unwrap();
        logs.remove(0, 1).unwrap();
        assert_eq!(log.append(b"x").unwrap(), 0);
        assert_eq!(logs.newest(0).unwrap(), None);
    }

    #[test]
    fn without_the_state_folder_there_is_nothing_to_open_or_to_make() {
        let logs = Logs::new("/nowhere");
        assert_eq!(logs.newest(0).unwrap(), None);
        assert_eq!(logs.open(0, 1, true).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
