//! The only way to the disk: the snapshot file, open for reading, and the files of the state mount, open for both.
//!
//! Reads and writes are positioned (`pread`, `pwrite`): no seeking, no state, and a read that fails half way leaves
//! nothing behind. The snapshot is opened by its path anew for every generation, because the sidecar replaces it by rename;
//! an open file goes on showing the generation that it was opened for.

use crate::verified::Slots;
use portcullis_policy::{ReadAt, ReadFailed};
use std::{cell::OnceCell, fs::File, io};

/// One generation's file. Closed when dropped.
#[derive(Debug)]
pub struct SnapshotFile(File);

impl SnapshotFile {
    /// Opens a file by its path inside the guest.
    pub fn open(path: &str) -> io::Result<Self> {
        File::open(path).map(Self)
    }
}

impl ReadAt for SnapshotFile {
    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> Result<(), ReadFailed> {
        while !buf.is_empty() {
            // Zero is the end of the file, where a snapshot never points: it was cut.
            let read = match read_some(&self.0, offset, buf) {
                Ok(0) | Err(_) => return Err(ReadFailed),
                Ok(read) => read,
            };
            offset = u64::try_from(read).ok().and_then(|read| offset.checked_add(read)).ok_or(ReadFailed)?;
            buf = buf.get_mut(read..).ok_or(ReadFailed)?;
        }
        Ok(())
    }
}

/// A file that instances share and write to. It is opened, and made if it is not there, when it is first used; the
/// gateway makes it with the rights of its own user only.
#[derive(Debug)]
pub struct StateFile {
    path: String,
    file: OnceCell<File>,
}

impl StateFile {
    /// A file by its path inside the guest, not touched yet.
    pub fn new(path: String) -> Self {
        Self { path, file: OnceCell::new() }
    }

    fn file(&self) -> io::Result<&File> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        // Never cut: what others have written stays. A failure is not kept, the next use tries again.
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&self.path)?;
        Ok(self.file.get_or_init(|| file))
    }
}

impl Slots for StateFile {
    fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        // A short read is taken for the end: what is missing then reads as never written.
        read_some(self.file()?, offset, buf)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // Never in pieces: half of it is as good as nothing, and the rest would be torn all the same.
        match write_some(self.file()?, offset, bytes)? {
            written if written == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    fn name(&self) -> &str {
        &self.path
    }
}

/// One positioned read.
#[cfg(target_os = "wasi")]
#[allow(unsafe_code, reason = "positioned reads are not in stable std for this target")]
pub(crate) fn read_some(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let vector = wasip1::Iovec { buf: buf.as_mut_ptr(), buf_len: buf.len() };
    // SAFETY: the descriptor is open as long as `file` is borrowed; the vector describes exactly the memory of `buf`,
    // which nothing else can see during the call.
    unsafe { wasip1::fd_pread(descriptor(file)?, &[vector], offset) }.map_err(failed)
}

/// One positioned write.
#[cfg(target_os = "wasi")]
#[allow(unsafe_code, reason = "positioned writes are not in stable std for this target")]
pub(crate) fn write_some(file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
    let vector = wasip1::Ciovec { buf: bytes.as_ptr(), buf_len: bytes.len() };
    // SAFETY: the descriptor is open as long as `file` is borrowed; the vector describes exactly the memory of `bytes`,
    // which the host only reads.
    unsafe { wasip1::fd_pwrite(descriptor(file)?, &[vector], offset) }.map_err(failed)
}

#[cfg(target_os = "wasi")]
pub(crate) fn descriptor(file: &File) -> io::Result<wasip1::Fd> {
    use std::os::fd::AsRawFd as _;
    u32::try_from(file.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(target_os = "wasi")]
pub(crate) fn failed(number: wasip1::Errno) -> io::Error {
    io::Error::from_raw_os_error(i32::from(number.raw()))
}

/// One positioned read.
#[cfg(unix)]
pub(crate) fn read_some(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buf, offset)
}

/// One positioned write.
#[cfg(unix)]
pub(crate) fn write_some(file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_exactly_what_is_asked_for_or_fails() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, b"0123456789").unwrap();
        let file = SnapshotFile::open(path.to_str().unwrap()).unwrap();
        let mut buf = [0; 4];
        assert!(file.read_at(3, &mut buf).is_ok());
        assert_eq!(&buf, b"3456");
        assert!(file.read_at(7, &mut buf).is_err());
        assert!(file.read_at(u64::MAX, &mut buf).is_err());
        assert!(file.read_at(10, &mut []).is_ok());
    }

    #[test]
    fn a_state_file_is_made_when_it_is_first_used_and_never_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("verified");
        let (one, other) = (StateFile::new(path.display().to_string()), StateFile::new(path.display().to_string()));
        assert!(!path.exists());
        let mut buf = [7; 4];
        assert_eq!(one.read(100, &mut buf).unwrap(), 0);
        assert!(path.exists());
        one.write(100, b"1234").unwrap();
        other.write(102, b"56").unwrap();
        assert_eq!(one.read(98, &mut buf).unwrap(), 4);
        assert_eq!(&buf, b"\0\x0012");
        assert_eq!(one.read(102, &mut buf).unwrap(), 2);
        assert_eq!(&buf[..2], b"56");
    }

    #[test]
    fn a_state_file_that_could_not_be_opened_is_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = StateFile::new(directory.path().join("later/verified").display().to_string());
        assert_eq!(file.write(0, b"x").unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::create_dir(directory.path().join("later")).unwrap();
        assert!(file.write(0, b"x").is_ok());
    }
}
