//! Writing a snapshot: records first in memory, then the smallest table in which every chain is short.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    layout::{
        Header, MAX_CHAIN, PAGE_LEN, PAGE_SLOTS, Page, RecordFrame, Shapes, Slot, checksum, hash, page_offset, tag,
    },
    record::{Key, Settings},
};

/// Why a record was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdded {
    /// It is larger than a reader would accept.
    #[error("it is too large for a snapshot")]
    TooLarge,
    /// There is one with this key.
    #[error("it is defined twice")]
    Twice,
}

/// Collects records, then lays them out.
#[derive(Debug, Default)]
pub struct Writer {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    shapes: Shapes,
}

impl Writer {
    /// Nothing yet, of keys with these shapes.
    pub(super) fn with(shapes: Shapes) -> Self {
        Self { records: BTreeMap::new(), shapes }
    }

    /// Takes a record over from another snapshot.
    pub(super) fn put_record(&mut self, key: &[u8], payload: &[u8]) {
        self.records.insert(key.to_vec(), payload.to_vec());
    }

    /// Adds one record with a key of its own.
    pub fn add<T: Serialize>(&mut self, key: Key<'_>, record: &T) -> Result<(), NotAdded> {
        if self.records.contains_key(&key.encode()) {
            return Err(NotAdded::Twice);
        }
        self.put(key, record)
    }

    /// Adds one record, in place of the one with its key if there is one.
    pub fn put<T: Serialize>(&mut self, key: Key<'_>, record: &T) -> Result<(), NotAdded> {
        let payload = postcard::to_allocvec(record).map_err(|_| NotAdded::TooLarge)?;
        self.put_bytes(key, payload)
    }

    fn put_bytes(&mut self, key: Key<'_>, payload: Vec<u8>) -> Result<(), NotAdded> {
        let bytes = key.encode();
        // Encoded once more with its real place; this only asks whether it fits.
        RecordFrame::encode(&bytes, &payload, 0, 0).ok_or(NotAdded::TooLarge)?;
        self.records.insert(bytes, payload);
        self.shapes.add(key);
        Ok(())
    }

    /// The bytes of the file.
    pub fn finish(self, settings: &Settings, generation: u64, created_ms: u64) -> Vec<u8> {
        let settings = postcard::to_allocvec(settings).unwrap_or_default();
        let n_records = u32::try_from(self.records.len()).unwrap_or(u32::MAX);
        let mut n_pages = self.records.len().div_ceil(PAGE_SLOTS - 1).next_power_of_two();
        loop {
            let header = Header {
                shapes: self.shapes,
                generation,
                created_ms,
                n_pages: u32::try_from(n_pages).unwrap_or(1 << 31),
                n_records,
                settings_offset: 0,
                settings_len: u32::try_from(settings.len()).unwrap_or(u32::MAX),
                settings_checksum: 0,
            };
            if let Some(bytes) = self.lay_out(header, &settings) {
                return bytes;
            }
            n_pages *= 2;
        }
    }

    /// Lays everything out in a table of the header's size; `None` when a chain would be too long.
    fn lay_out(&self, mut header: Header, settings: &[u8]) -> Option<Vec<u8>> {
        let mut pages = vec![Page::default(); header.n_pages as usize];
        let mut records = Vec::new();
        for (key, payload) in &self.records {
            let offset = header.records_offset() + records.len() as u64;
            let hash = hash(key);
            (0..MAX_CHAIN).find(|step| {
                let page = pages.get_mut(header.page_index(hash, *step) as usize);
                page.is_some_and(|page| page.insert(Slot { tag: tag(hash), offset }))
            })?;
            records.append(&mut RecordFrame::encode(key, payload, header.generation, offset)?);
        }
        header.settings_offset = header.records_offset() + records.len() as u64;
        header.settings_checksum = checksum(header.generation, header.settings_offset, settings);

        let mut bytes = header.encode();
        bytes.reserve(pages.len() * PAGE_LEN + records.len() + settings.len());
        for (index, page) in (0..).zip(&pages) {
            bytes.append(&mut page.encode(header.generation, page_offset(index)));
        }
        bytes.append(&mut records);
        bytes.extend_from_slice(settings);
        Some(bytes)
    }
}
