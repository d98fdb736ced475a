//! Where the logs are: a directory for each bucket, a file for each of its generations.

use std::io;

/// Buckets that keys are spread over.
pub const BUCKETS: u16 = 1024;

/// The directory of all logs.
pub trait Directory {
    /// An open log.
    type File: LogFile;

    /// The newest generation of a bucket; `None` when it has none.
    fn newest(&self, bucket: u16) -> io::Result<Option<u64>>;

    /// Opens a generation's log for reading and appending. With `create` it is made, empty, when it is not there; without,
    /// that is [`io::ErrorKind::NotFound`].
    fn open(&self, bucket: u16, generation: u64, create: bool) -> io::Result<Self::File>;

    /// Removes a generation's log; descriptors that are open go on. One that is not there is no error.
    fn remove(&self, bucket: u16, generation: u64) -> io::Result<()>;
}

/// One log.
pub trait LogFile {
    /// Reads at most `buf.len()` bytes at `offset`; fewer only at the end.
    fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Appends in one piece, atomically among all who append, and says where the bytes begin.
    fn append(&self, bytes: &[u8]) -> io::Result<u64>;
}
