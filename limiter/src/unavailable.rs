//! Why units cannot be counted.

use std::io;

/// Units cannot be counted, so that nobody knows whether there are any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The state directory is not there, or was not mounted.
    #[error("the state directory is not there: mount it, or set `state` to the folder that is")]
    NoDirectory,
    /// The state directory cannot be written to.
    #[error("the state directory cannot be written to: mount it without `:ro`, owned by the gateway's user")]
    ReadOnly,
    /// There is no room.
    #[error("there is no room in the state directory: make its file system larger")]
    Full,
    /// Others were always faster; the next request may well be counted.
    #[error("the log was never still: is the state directory on a local file system?")]
    Busy,
    /// The steady time is [`crate::clock::UNKNOWN`], or beyond the year 2115.
    #[error("the time is not known: set the clock, and remove `limits/clock` if no sidecar is to write it")]
    Clock,
    /// Something else.
    #[error("the state directory fails: {0}")]
    Io(io::ErrorKind),
}

// === impl Unavailable ===

impl From<io::ErrorKind> for Unavailable {
    fn from(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::NoDirectory,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero => Self::Full,
            kind => Self::Io(kind),
        }
    }
}

impl From<io::Error> for Unavailable {
    fn from(error: io::Error) -> Self {
        error.kind().into()
    }
}
