//! The byte layout: header, pages, record frames. Integers are little-endian. Everything decoded here is hostile until its
//! checksum holds, and bounded after.

use std::borrow::Cow;

use xxhash_rust::xxh64::xxh64;

use super::{SnapshotError, record::Key};
use crate::{candidates::Name, model::WILDCARD};

/// The format that this version writes, and the only one that it reads: a gateway and its sidecar are released together,
/// and a plugin that meets another format keeps its last good policy and says so.
pub const FORMAT: u16 = 3;

/// Length of the header, in bytes: enough to learn the generation of a file.
pub const HEADER_LEN: usize = 128;

/// Length of a page, in bytes.
pub(super) const PAGE_LEN: usize = 64;
/// Slots in a page.
pub(super) const PAGE_SLOTS: usize = 3;
/// Longest run of pages that a lookup follows. The writer doubles the table rather than make a longer one.
pub(super) const MAX_CHAIN: u32 = 8;
/// Bytes before a record's key.
pub(super) const FRAME_LEN: usize = 16;
/// Bytes of a checksum.
const SUM_LEN: usize = 8;
/// How much of a record is fetched by the first read, in bytes.
pub(super) const READ_AHEAD: u64 = 512;
/// Longest payload, in bytes. A longer intention is refused when it is compiled.
pub(super) const MAX_PAYLOAD: u32 = 256 * 1024;
/// Longest settings, in bytes.
const MAX_SETTINGS: u32 = 64 * 1024;

const MAGIC: [u8; 8] = *b"PORTCLLS";

/// The shapes of keys that a file holds: which of the nine patterns of intentions (an exact name, `*` in a namespace, `*`
/// in `*`, each of destination and source), which of the three of limits, and other kinds. Most policies have two or three, and whoever asks for
/// another is answered without a read: a lookup in a large file is mostly waiting for memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shapes(u32);

/// The first bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) shapes: Shapes,
    pub(super) generation: u64,
    pub(super) created_ms: u64,
    pub(super) n_pages: u32,
    pub(super) n_records: u32,
    pub(super) settings_offset: u64,
    pub(super) settings_len: u32,
    pub(super) settings_checksum: u64,
}

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// Upper half of the key's hash.
    pub(super) tag: u32,
    /// Offset of the record; 0 marks an empty slot.
    pub(super) offset: u64,
}

/// A bucket of the hash table.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Page {
    slots: [Option<Slot>; PAGE_SLOTS],
    overflows: bool,
}

/// A record's bytes, checked.
#[derive(Debug)]
pub(super) struct RecordFrame<'a> {
    bytes: Cow<'a, [u8]>,
    key_len: usize,
}

/// The generation of a file, from its first [`HEADER_LEN`] bytes.
pub fn peek(header: &[u8]) -> Result<u64, SnapshotError> {
    Ok(Header::decode(header)?.generation)
}

/// A checksum of bytes that belong to one generation and one place, so that parts of different files do not mix.
pub(super) fn checksum(generation: u64, offset: u64, bytes: &[u8]) -> u64 {
    // Spread over all bits, so that a higher generation at a lower offset is not the same seed.
    xxh64(bytes, generation.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ offset)
}

/// Where a key is looked for; both halves can be used apart. The table is built from the operator's own names; what a
/// caller sends can only look things up in it.
pub(super) fn hash(key: &[u8]) -> u64 {
    xxh64(key, 0)
}

/// Where a page is.
pub(super) fn page_offset(index: u32) -> u64 {
    HEADER_LEN as u64 + u64::from(index) * PAGE_LEN as u64
}

/// What a slot keeps of a hash.
pub(super) fn tag(hash: u64) -> u32 {
    u32::try_from(hash >> 32).unwrap_or(u32::MAX)
}

// === impl Shapes ===

impl Shapes {
    pub(super) fn add(&mut self, key: Key<'_>) {
        self.0 |= Self::of(key);
    }

    /// Whether the file can hold this key.
    pub(super) fn may_hold(self, key: Key<'_>) -> bool {
        self.0 & Self::of(key) != 0
    }

    fn of(key: Key<'_>) -> u32 {
        let wildness = |name: Name<'_>| u32::from(name.name == WILDCARD) + u32::from(name.namespace == WILDCARD);
        1 << match key {
            Key::Intention { destination, source } => 3 * wildness(destination) + wildness(source),
            Key::Destination(_) => 9,
            Key::ApiKey(_) => 10,
            Key::Provider(_) => 11,
            Key::Roots(_) => 12,
            Key::DestinationOrder(_) => 13,
            Key::EntryPointOrder(_) => 14,
            Key::Network(..) => 15,
            Key::Limits(destination) => 16 + wildness(destination),
        }
    }
}

// === impl Header ===

impl Header {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        const CORRUPT: SnapshotError = SnapshotError::Corrupt("header");
        let bytes: &[u8; HEADER_LEN] = bytes.try_into().map_err(|_| CORRUPT)?;
        if field::<8>(bytes, 0) != MAGIC {
            return Err(SnapshotError::NotASnapshot);
        }
        // Before the checksum: another format may keep it elsewhere.
        let format = u16::from_le_bytes(field(bytes, 8));
        if format != FORMAT {
            return Err(SnapshotError::Format { found: format });
        }
        let (covered, sum) = bytes.split_at(HEADER_LEN - SUM_LEN);
        if checksum(0, 0, covered).to_le_bytes() != sum {
            return Err(CORRUPT);
        }
        let header = Self {
            shapes: Shapes(u32::from_le_bytes(field(bytes, 12))),
            generation: u64::from_le_bytes(field(bytes, 16)),
            created_ms: u64::from_le_bytes(field(bytes, 24)),
            n_pages: u32::from_le_bytes(field(bytes, 32)),
            n_records: u32::from_le_bytes(field(bytes, 36)),
            settings_offset: u64::from_le_bytes(field(bytes, 40)),
            settings_len: u32::from_le_bytes(field(bytes, 48)),
            settings_checksum: u64::from_le_bytes(field(bytes, 56)),
        };
        let sane = header.n_pages.is_power_of_two()
            && header.settings_offset >= header.records_offset()
            && header.settings_len <= MAX_SETTINGS;
        if sane { Ok(header) } else { Err(CORRUPT) }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.resize(12, 0);
        bytes.extend_from_slice(&self.shapes.0.to_le_bytes());
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&self.created_ms.to_le_bytes());
        bytes.extend_from_slice(&self.n_pages.to_le_bytes());
        bytes.extend_from_slice(&self.n_records.to_le_bytes());
        bytes.extend_from_slice(&self.settings_offset.to_le_bytes());
        bytes.extend_from_slice(&self.settings_len.to_le_bytes());
        bytes.resize(56, 0);
        bytes.extend_from_slice(&self.settings_checksum.to_le_bytes());
        bytes.resize(HEADER_LEN - SUM_LEN, 0);
        let sum = checksum(0, 0, &bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(super) fn records_offset(&self) -> u64 {
        page_offset(self.n_pages)
    }

    /// The page to look at, `step` pages after the one that the hash names.
    pub(super) fn page_index(&self, hash: u64, step: u32) -> u32 {
        let low = u32::try_from(hash & u64::from(u32::MAX)).unwrap_or(0);
        low.wrapping_add(step) & (self.n_pages - 1)
    }
}

// === impl Page ===

impl Page {
    /// Bytes of a slot: tag, then offset.
    const SLOT_LEN: usize = 12;
    const OVERFLOW_AT: usize = PAGE_SLOTS * Self::SLOT_LEN;

    pub(super) fn decode(bytes: &[u8; PAGE_LEN], generation: u64, offset: u64) -> Result<Self, SnapshotError> {
        let (covered, sum) = bytes.split_at(PAGE_LEN - SUM_LEN);
        if checksum(generation, offset, covered).to_le_bytes() != sum {
            return Err(SnapshotError::Corrupt("page"));
        }
        let slot = |index: usize| {
            let at = index * Self::SLOT_LEN;
            let offset = u64::from_le_bytes(field(bytes, at + 4));
            (offset != 0).then(|| Slot { tag: u32::from_le_bytes(field(bytes, at)), offset })
        };
        Ok(Self { slots: [slot(0), slot(1), slot(2)], overflows: field(bytes, Self::OVERFLOW_AT) != [0_u8] })
    }

    pub(super) fn encode(&self, generation: u64, offset: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PAGE_LEN);
        for slot in self.slots {
            let slot = slot.unwrap_or(Slot { tag: 0, offset: 0 });
            bytes.extend_from_slice(&slot.tag.to_le_bytes());
            bytes.extend_from_slice(&slot.offset.to_le_bytes());
        }
        bytes.push(u8::from(self.overflows));
        bytes.resize(PAGE_LEN - SUM_LEN, 0);
        let sum = checksum(generation, offset, &bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.slots.into_iter().flatten()
    }

    pub(super) fn overflows(&self) -> bool {
        self.overflows
    }

    /// Puts a slot in; when the page is full, marks it as overflowing instead and says so.
    pub(super) fn insert(&mut self, slot: Slot) -> bool {
        match self.slots.iter_mut().find(|place| place.is_none()) {
            Some(place) => {
                *place = Some(slot);
                true
            }
            None => {
                self.overflows = true;
                false
            }
        }
    }
}

// === impl RecordFrame ===

/// `[checksum u64][payload_len u32][key_len u16][0 u16][key][payload]`
impl<'a> RecordFrame<'a> {
    /// Length of the whole record, told by its first bytes; `None` when it is more than any record's.
    pub(super) fn total_len(bytes: &[u8]) -> Option<u32> {
        let bytes: &[u8; FRAME_LEN] = bytes.first_chunk()?;
        let payload = u32::from_le_bytes(field(bytes, 8));
        let key = u16::from_le_bytes(field(bytes, 12));
        (payload <= MAX_PAYLOAD).then(|| payload + u32::from(key) + 16)
    }

    pub(super) fn decode(bytes: Cow<'a, [u8]>, generation: u64, offset: u64) -> Result<Self, SnapshotError> {
        const CORRUPT: SnapshotError = SnapshotError::Corrupt("record");
        let frame: &[u8; FRAME_LEN] = bytes.first_chunk().ok_or(CORRUPT)?;
        let key_len = usize::from(u16::from_le_bytes(field(frame, 12)));
        let covered = bytes.get(SUM_LEN..).unwrap_or_default();
        if checksum(generation, offset, covered).to_le_bytes() != field(frame, 0) || bytes.len() < FRAME_LEN + key_len {
            return Err(CORRUPT);
        }
        Ok(Self { bytes, key_len })
    }

    pub(super) fn encode(key: &[u8], payload: &[u8], generation: u64, offset: u64) -> Option<Vec<u8>> {
        let payload_len = u32::try_from(payload.len()).ok().filter(|len| *len <= MAX_PAYLOAD)?;
        let mut bytes = vec![0; SUM_LEN];
        bytes.extend_from_slice(&payload_len.to_le_bytes());
        bytes.extend_from_slice(&u16::try_from(key.len()).ok()?.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(payload);
        let sum = checksum(generation, offset, bytes.get(SUM_LEN..)?);
        bytes.splice(..SUM_LEN, sum.to_le_bytes());
        Some(bytes)
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn key(&self) -> &[u8] {
        self.bytes.get(FRAME_LEN..FRAME_LEN + self.key_len).unwrap_or_default()
    }

    pub(super) fn payload(&self) -> &[u8] {
        self.bytes.get(FRAME_LEN + self.key_len..).unwrap_or_default()
    }
}

/// `N` bytes of a fixed array. All callers name places inside it; past its end they would read zeros.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Action,
        path::Normalization,
        snapshot::{
            Snapshot, Writer,
            record::{Settings, SourceRecord},
        },
    };

    /// In a large, full table a name that is not there may lead into a run of full pages as long as the longest chain.
    #[test]
    fn a_name_that_is_not_there_is_not_there_however_full_its_pages_are() {
        let mut writer = Writer::default();
        let address = |n: u8| [10, 0, 0, n].into();
        for n in 0..200 {
            let source = SourceRecord { partition: String::new(), namespace: String::new(), name: n.to_string() };
            writer.add(Key::Network(address(n), 32), &Some(source)).unwrap();
        }
        let settings = Settings {
            default: Action::Deny,
            trust_domains: Vec::new(),
            identities: None,
            normalization: Normalization::default(),
            underscores: crate::model::Underscores::Allow,
            reserved_headers: Vec::new(),
            networks_v4: vec![32],
            networks_v6: Vec::new(),
            namespace_wildcards: false,
            limits_by_address: false,
        };
        let mut bytes = writer.finish(&settings, 7, 0);
        let header = Header::decode(&bytes[..HEADER_LEN]).unwrap();
        for index in 0..header.n_pages {
            let offset = page_offset(index);
            let place = usize::try_from(offset).unwrap();
            let mut page = Page::decode(bytes[place..].first_chunk().unwrap(), 7, offset).unwrap();
            page.overflows = true;
            bytes.splice(place..place + PAGE_LEN, page.encode(7, offset));
        }
        let snapshot = Snapshot::open(bytes).unwrap();
        for n in 0..=255 {
            let found = snapshot.network(address(n), 32).unwrap().flatten().map(|source| source.name);
            assert_eq!(found, (n < 200).then(|| n.to_string()), "{n}");
        }
    }
}
