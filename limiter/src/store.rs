//! Where the logs are: a directory for each bucket, a file for each of its generations.

use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
};

/// The folder of all logs, inside the state folder.
pub const FOLDER: &str = "limits";
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

/// The name of a bucket's folder.
pub fn bucket_name(bucket: u16) -> String {
    format!("{bucket:03x}")
}

/// The name of a generation's log.
pub fn log_name(generation: u64) -> String {
    format!("{generation:0LOG_NAME_LEN$x}")
}

/// Length of a log's name: its generation in hexadecimal digits.
const LOG_NAME_LEN: usize = 16;

/// The generation that a log's name spells out; `None` for the name of anything else.
pub fn generation(name: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let value = name.iter().try_fold(0, |value: u64, byte| Some(value << 4 | u64::from(digit(byte)?)))?;
    (name.len() == LOG_NAME_LEN).then_some(value)
}

/// [`LogFile::append`] to a file that was opened for appending: one write, which the kernel puts at the end whoever else
/// writes. Afterwards the descriptor stands behind it, wherever the file ends by now.
pub fn append(mut file: &File, bytes: &[u8]) -> io::Result<u64> {
    // Never in pieces: the rest would land behind somebody else's.
    match file.write(bytes)? {
        written if written == bytes.len() => {}
        _ => return Err(io::ErrorKind::WriteZero.into()),
    }
    let end = file.stream_position()?;
    end.checked_sub(bytes.len() as u64).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
