//! An older snapshot under a new generation, and what a snapshot holds in numbers: for people who go back to a policy that was
//! good. Requests need none of it.

use super::{ReadAt, Snapshot, SnapshotError, Writer};

/// How much a snapshot holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All records.
    pub records: u32,
    /// Intentions, one for each pair of destination and source.
    pub intentions: u32,
    /// JWT providers.
    pub providers: u32,
    /// API keys.
    pub api_keys: u32,
    /// Destinations with limits.
    pub limited: u32,
}

impl<R: ReadAt> Snapshot<R> {
    /// When it was published, in milliseconds since 1970.
    pub fn created_ms(&self) -> u64 {
        self.header.created_ms
    }

    /// The same policy under another generation: checksums are seeded with it, so a copy of the bytes would not do. Reads everything
    /// and checks it; no byte of a broken snapshot is taken over.
    pub fn reissue(&self, generation: u64, created_ms: u64) -> Result<Vec<u8>, SnapshotError> {
        self.verify()?;
        let mut writer = Writer::with(self.header.shapes);
        self.each(&mut |key, payload| writer.put_record(key, payload))?;
        Ok(writer.finish(&self.settings, generation, created_ms))
    }

    /// Counts what it holds. Reads everything.
    pub fn counts(&self) -> Result<Counts, SnapshotError> {
        let mut counts = Counts::default();
        self.each(&mut |key, _| {
            counts.records += 1;
            // The letters of `docs/reference/snapshot.md`.
            match key.first() {
                Some(b'I') => counts.intentions += 1,
                Some(b'P') => counts.providers += 1,
                Some(b'K') => counts.api_keys += 1,
                Some(b'L') => counts.limited += 1,
                _ => {}
            }
        })?;
        Ok(counts)
    }

    fn each(&self, take: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), SnapshotError> {
        let mut offset = self.header.records_offset();
        while offset < self.header.settings_offset {
            let frame = self.record(offset)?;
            take(frame.key(), frame.payload());
            offset = offset.saturating_add(frame.len() as u64);
        }
        Ok(())
    }
}
