//! The snapshot file, open for reading.
//!
//! Reads are positioned (`pread`): no seeking, no state, and a read that fails half way leaves nothing behind. The file is
//! opened by its path anew for every generation, because the sidecar replaces it by rename; an open file goes on showing
//! the generation that it was opened for.

use portcullis_policy::{ReadAt, ReadFailed};
use std::{fs::File, io};

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
                Some(0) | None => return Err(ReadFailed),
                Some(read) => read,
            };
            offset = u64::try_from(read).ok().and_then(|read| offset.checked_add(read)).ok_or(ReadFailed)?;
            buf = buf.get_mut(read..).ok_or(ReadFailed)?;
        }
        Ok(())
    }
}

/// One positioned read; `None` when it failed.
#[cfg(target_os = "wasi")]
#[allow(unsafe_code, reason = "positioned reads are not in stable std for this target")]
fn read_some(file: &File, offset: u64, buf: &mut [u8]) -> Option<usize> {
    use std::os::fd::AsRawFd as _;
    let fd = u32::try_from(file.as_raw_fd()).ok()?;
    let vector = wasip1::Iovec { buf: buf.as_mut_ptr(), buf_len: buf.len() };
    // SAFETY: the descriptor is open as long as `file` is borrowed; the vector describes exactly the memory of `buf`,
    // which nothing else can see during the call.
    unsafe { wasip1::fd_pread(fd, &[vector], offset) }.ok()
}

/// One positioned read; `None` when it failed.
#[cfg(unix)]
fn read_some(file: &File, offset: u64, buf: &mut [u8]) -> Option<usize> {
    std::os::unix::fs::FileExt::read_at(file, buf, offset).ok()
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
}
