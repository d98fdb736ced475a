//! The compiled policy as bytes, laid out so that reading one decision's worth costs the same for ten intentions and for a
//! hundred thousand.
//!
//! ```text
//!  0        128                                                       file_len
//!  | header | pages of the hash table, 64 bytes each | records … | settings |
//!               hash(key) ─► page ─► slot ─► offset ──────►│ key, payload, checksum
//! ```
//!
//! A reader opens the header and the settings (two reads), and for each lookup reads one page and one record. Everything is
//! covered by checksums that are seeded with the generation and the place, so a torn, mixed or flipped file is noticed at
//! the part that is read; [`Snapshot::verify`] reads all of it. Byte layout and compatibility rule: `docs/reference/snapshot.md`.

pub mod layout;
mod recent;
pub mod record;
mod reissue;
mod write;

pub use self::{
    layout::{HEADER_LEN, peek},
    reissue::Counts,
    write::{NotAdded, Writer},
};

use std::{any::Any, borrow::Cow, net::IpAddr, rc::Rc};

use serde::de::DeserializeOwned;

use self::{
    layout::{FRAME_LEN, Header, PAGE_LEN, Page, RecordFrame, checksum, hash},
    recent::{Answer, Recent},
    record::{ApiKeyRecord, DestinationRecord, IntentionRecord, Key, Settings, SourceRecord},
};
use crate::{
    candidates::Name,
    certificate::CaRoot,
    jwt::ProviderRecord,
    limit::{bucket, wire::LimitList},
    model::IdentityForm,
};

/// Random access to the bytes of a snapshot: a file, or memory.
pub trait ReadAt {
    /// Fills all of `buf` from `offset`, or fails.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadFailed>;

    /// All bytes from `offset` on where they are in memory, which spares a copy; `None` where they are not.
    fn rest_at(&self, _offset: u64) -> Option<&[u8]> {
        None
    }
}

/// The bytes could not be had: beyond the end, or the medium failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes cannot be read")]
pub struct ReadFailed;

/// Why a snapshot cannot be used, as a whole or at the place that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes could not be had.
    #[error("the snapshot cannot be read")]
    Read(#[from] ReadFailed),
    /// Not a snapshot at all.
    #[error("not a policy snapshot")]
    NotASnapshot,
    /// Written by a version of Portcullis with another format.
    #[error("the snapshot has format {found}, this version reads {}", layout::FORMAT)]
    Format {
        /// The format number found.
        found: u16,
    },
    /// A checksum does not match, or a length or offset cannot be.
    #[error("the snapshot is corrupt: {0}")]
    Corrupt(&'static str),
}

/// An opened snapshot.
#[derive(Debug)]
pub struct Snapshot<R> {
    reader: R,
    header: Header,
    settings: Settings,
    intentions: Recent,
    destinations: Recent,
    orders: Recent,
    providers: Recent,
    roots: Recent,
    limits: Recent,
    /// Keys of buckets by their names.
    buckets: Recent,
}

// === impl ReadAt ===

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadFailed> {
        let start = usize::try_from(offset).map_err(|_| ReadFailed)?;
        let end = start.checked_add(buf.len()).ok_or(ReadFailed)?;
        buf.copy_from_slice(self.get(start..end).ok_or(ReadFailed)?);
        Ok(())
    }

    fn rest_at(&self, offset: u64) -> Option<&[u8]> {
        self.get(usize::try_from(offset).ok()?..)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadFailed> {
        self.as_slice().read_at(offset, buf)
    }

    fn rest_at(&self, offset: u64) -> Option<&[u8]> {
        self.as_slice().rest_at(offset)
    }
}

impl<R: ReadAt + ?Sized> ReadAt for Box<R> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadFailed> {
        (**self).read_at(offset, buf)
    }

    fn rest_at(&self, offset: u64) -> Option<&[u8]> {
        (**self).rest_at(offset)
    }
}

impl<R: ReadAt + ?Sized> ReadAt for &R {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadFailed> {
        (**self).read_at(offset, buf)
    }

    fn rest_at(&self, offset: u64) -> Option<&[u8]> {
        (**self).rest_at(offset)
    }
}

// === impl Snapshot ===

impl<R: ReadAt> Snapshot<R> {
    /// Opens a snapshot: reads and checks its header and its settings, nothing else.
    pub fn open(reader: R) -> Result<Self, SnapshotError> {
        let mut bytes = [0; HEADER_LEN];
        reader.read_at(0, &mut bytes)?;
        let header = Header::decode(&bytes)?;
        let settings = read(&reader, header.settings_offset, header.settings_len)?;
        if checksum(header.generation, header.settings_offset, &settings) != header.settings_checksum {
            return Err(SnapshotError::Corrupt("settings"));
        }
        let settings = postcard::from_bytes(&settings).map_err(|_| SnapshotError::Corrupt("settings"))?;
        Ok(Self {
            reader,
            header,
            settings,
            intentions: Recent::new(32, 512 * 1024),
            destinations: Recent::new(32, 4096),
            orders: Recent::new(32, 16 * 1024),
            providers: Recent::new(8, 64 * 1024),
            roots: Recent::new(8, 64 * 1024),
            limits: Recent::new(32, 256 * 1024),
            buckets: Recent::new(32, 16 * 1024),
        })
    }

    /// The number of this policy; every publication has another, higher one.
    pub fn generation(&self) -> u64 {
        self.header.generation
    }

    /// What holds for the whole policy.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The intention with exactly this destination and source, wildcards taken literally. The last few answers are kept:
    /// a gateway asks for the same ones again and again, and the answer of a generation never changes.
    pub fn intention(&self, key: Key<'_>) -> Result<Option<Rc<IntentionRecord>>, SnapshotError> {
        self.remembered(&self.intentions, key)
    }

    /// What holds for a destination whoever calls, by its name taken literally.
    pub fn destination(&self, key: Key<'_>) -> Result<Option<Rc<DestinationRecord>>, SnapshotError> {
        self.remembered(&self.destinations, key)
    }

    /// An order of identities.
    pub fn identity_order(&self, key: Key<'_>) -> Result<Option<Rc<Vec<IdentityForm>>>, SnapshotError> {
        self.remembered(&self.orders, key)
    }

    /// The JWT provider of this name.
    pub fn provider(&self, name: &str) -> Result<Option<Rc<ProviderRecord>>, SnapshotError> {
        self.remembered(&self.providers, Key::Provider(name))
    }

    /// The CA roots of a trust domain.
    pub fn roots(&self, trust_domain: &str) -> Result<Option<Rc<Vec<CaRoot>>>, SnapshotError> {
        self.remembered(&self.roots, Key::Roots(trust_domain))
    }

    /// The limits of a destination, by its name taken literally.
    pub fn limits(&self, destination: Name<'_>) -> Result<Option<Rc<LimitList>>, SnapshotError> {
        self.remembered(&self.limits, Key::Limits(destination))
    }

    /// The key of a limit's bucket. The digest is dearer than all else that a limit asks of a request, and callers come back.
    pub(crate) fn bucket_key(&self, name: Vec<u8>) -> u64 {
        let hash = hash(&name);
        if let Some(known) = self.buckets.get(hash, &name).flatten().and_then(|it| it.downcast_ref().copied()) {
            return known;
        }
        let (key, len) = (bucket::key(&name), name.len());
        self.buckets.keep(hash, name, Some(Rc::new(key)), len);
        key
    }

    /// The API key with this id.
    pub fn api_key(&self, id: &str) -> Result<Option<ApiKeyRecord>, SnapshotError> {
        self.once(Key::ApiKey(id))
    }

    /// The caller that connections of exactly this network are; `Some(None)` when nobody is known by it.
    pub fn network(&self, address: IpAddr, prefix_len: u8) -> Result<Option<Option<SourceRecord>>, SnapshotError> {
        self.once(Key::Network(address, prefix_len))
    }

    /// All intentions, in the order in which they stand in the file. Reads everything: for people, not for requests.
    pub fn all_intentions(&self) -> Result<Vec<IntentionRecord>, SnapshotError> {
        let mut intentions = Vec::new();
        let mut offset = self.header.records_offset();
        while offset < self.header.settings_offset {
            let frame = self.record(offset)?;
            if Key::is_intention(frame.key()) {
                intentions.push(decode(&frame)?);
            }
            offset = offset.saturating_add(frame.len() as u64);
        }
        Ok(intentions)
    }

    /// Reads all of it and checks that every byte is covered by a checksum that holds.
    pub fn verify(&self) -> Result<(), SnapshotError> {
        for index in 0..self.header.n_pages {
            self.page(index)?;
        }
        let mut offset = self.header.records_offset();
        let mut n_records = 0_u32;
        while offset < self.header.settings_offset {
            offset = offset.saturating_add(self.record(offset)?.len() as u64);
            n_records += 1;
        }
        if offset != self.header.settings_offset || n_records != self.header.n_records {
            return Err(SnapshotError::Corrupt("records"));
        }
        Ok(())
    }

    /// Looks a record up, or in what was looked up last.
    fn remembered<T: DeserializeOwned + 'static>(
        &self,
        recent: &Recent,
        key: Key<'_>,
    ) -> Result<Option<Rc<T>>, SnapshotError> {
        if !self.header.shapes.may_hold(key) {
            return Ok(None);
        }
        let found = self.recalled(recent, key, &|frame| Ok(Rc::new(decode::<T>(frame)?)))?;
        // Each kind of record has a memory of its own, so it is of the type that it was kept with.
        found.map(|it| it.downcast().map_err(|_| SnapshotError::Corrupt("record"))).transpose()
    }

    /// What is the same for all kinds of [`Self::remembered`].
    fn recalled(&self, recent: &Recent, key: Key<'_>, decode: Decode<'_>) -> Result<Answer, SnapshotError> {
        let key = key.encode();
        let hash = hash(&key);
        if let Some(known) = recent.get(hash, &key) {
            return Ok(known);
        }
        let frame = self.find(hash, &key)?;
        let len = frame.as_ref().map_or(0, |frame| frame.payload().len());
        let found = frame.map(|frame| decode(&frame)).transpose()?;
        recent.keep(hash, key, found.clone(), len);
        Ok(found)
    }

    /// Looks a record up that is not worth remembering.
    fn once<T: DeserializeOwned>(&self, key: Key<'_>) -> Result<Option<T>, SnapshotError> {
        if !self.header.shapes.may_hold(key) {
            return Ok(None);
        }
        let key = key.encode();
        self.find(hash(&key), &key)?.map(|frame| decode(&frame)).transpose()
    }

    /// The record with this key.
    fn find(&self, hash: u64, key: &[u8]) -> Result<Option<RecordFrame<'_>>, SnapshotError> {
        // Bounded by the number of pages; the writer keeps chains short (`layout::MAX_CHAIN`).
        for step in 0..layout::MAX_CHAIN {
            let page = self.page(self.header.page_index(hash, step))?;
            for slot in page.slots().filter(|slot| slot.tag == layout::tag(hash)) {
                let frame = self.record(slot.offset)?;
                if frame.key() == key {
                    return Ok(Some(frame));
                }
            }
            if !page.overflows() {
                return Ok(None);
            }
        }
        // The writer puts no record further from its page than that, however full the pages between are.
        Ok(None)
    }

    fn page(&self, index: u32) -> Result<Page, SnapshotError> {
        let offset = layout::page_offset(index);
        if let Some(page) = self.reader.rest_at(offset).and_then(<[u8]>::first_chunk) {
            return Page::decode(page, self.header.generation, offset);
        }
        let mut bytes = [0; PAGE_LEN];
        self.reader.read_at(offset, &mut bytes)?;
        Page::decode(&bytes, self.header.generation, offset)
    }

    fn record(&self, offset: u64) -> Result<RecordFrame<'_>, SnapshotError> {
        let end = self.header.settings_offset;
        if offset < self.header.records_offset() || offset.saturating_add(FRAME_LEN as u64) > end {
            return Err(SnapshotError::Corrupt("record offset"));
        }
        // Most records are short: one read fetches the frame and, usually, all that follows it.
        let guess = u32::try_from((end - offset).min(layout::READ_AHEAD)).unwrap_or(0);
        let mut bytes = match self.reader.rest_at(offset) {
            Some(rest) => Cow::Borrowed(rest),
            None => Cow::Owned(read(&self.reader, offset, guess)?),
        };
        let len = RecordFrame::total_len(&bytes).ok_or(SnapshotError::Corrupt("record length"))?;
        if offset.saturating_add(u64::from(len)) > end {
            return Err(SnapshotError::Corrupt("record length"));
        }
        match &mut bytes {
            Cow::Borrowed(rest) => *rest = rest.get(..len as usize).ok_or(ReadFailed)?,
            Cow::Owned(bytes) => {
                if len > guess {
                    bytes.append(&mut read(&self.reader, offset + u64::from(guess), len - guess)?);
                }
                bytes.truncate(len as usize);
            }
        }
        RecordFrame::decode(bytes, self.header.generation, offset)
    }
}

/// Reads a record's payload.
type Decode<'d> = &'d dyn Fn(&RecordFrame<'_>) -> Result<Rc<dyn Any>, SnapshotError>;

fn decode<T: DeserializeOwned>(frame: &RecordFrame<'_>) -> Result<T, SnapshotError> {
    postcard::from_bytes(frame.payload()).map_err(|_| SnapshotError::Corrupt("record"))
}

fn read<R: ReadAt>(reader: &R, offset: u64, len: u32) -> Result<Vec<u8>, SnapshotError> {
    let mut bytes = vec![0; len as usize];
    reader.read_at(offset, &mut bytes)?;
    Ok(bytes)
}
