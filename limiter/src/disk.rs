//! The logs on a disk, by the standard library: for the sidecar, tests and benches.

use crate::store::{self, Directory, FOLDER, LogFile};
use std::{
    fs::File,
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

/// A state directory. Nothing of it has to be there but itself.
#[derive(Debug, Clone)]
pub struct Disk(PathBuf);

/// A log.
#[derive(Debug)]
pub struct DiskFile(File);

// === impl Disk ===

impl Disk {
    /// The state directory that the plugin's setting `state` names.
    pub fn new(state: impl Into<PathBuf>) -> Self {
        Self(state.into())
    }

    fn bucket(&self, bucket: u16) -> PathBuf {
        self.0.join(FOLDER).join(store::bucket_name(bucket))
    }

    fn path(&self, bucket: u16, generation: u64) -> PathBuf {
        self.bucket(bucket).join(store::log_name(generation))
    }
}

impl Directory for Disk {
    type File = DiskFile;

    fn newest(&self, bucket: u16) -> io::Result<Option<u64>> {
        let names = match std::fs::read_dir(self.bucket(bucket)) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut newest = None;
        for name in names {
            newest = newest.max(store::generation(name?.file_name().as_encoded_bytes()));
        }
        Ok(newest)
    }

    fn open(&self, bucket: u16, generation: u64, create: bool) -> io::Result<DiskFile> {
        let path = self.path(bucket, generation);
        let mut options = File::options();
        options.read(true).append(true).create(create).mode(0o600);
        match options.open(&path) {
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => {
                // The state directory itself is the operator's: without it there is none.
                for folder in [self.0.join(FOLDER), self.bucket(bucket)] {
                    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
                        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                        _ => {}
                    }
                }
                options.open(&path).map(DiskFile)
            }
            file => file.map(DiskFile),
        }
    }

    fn remove(&self, bucket: u16, generation: u64) -> io::Result<()> {
        match std::fs::remove_file(self.path(bucket, generation)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

// === impl DiskFile ===

impl LogFile for DiskFile {
    fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<u64> {
        store::append(&self.0, bytes)
    }
}
