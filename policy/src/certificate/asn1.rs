//! DER, element by element: the `der` crate reads tags, lengths and values (strictly: no other encoding of the same
//! thing), this keeps the bytes that signatures and names are compared by.

use der::{
    Choice, Decode as _, DecodeValue, Reader as _, SliceReader, Tag, TagNumber, Tagged as _,
    asn1::{AnyRef, BitStringRef, GeneralizedTime, UintRef, UtcTime},
};

/// The bytes are not what was to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// One element: tag, length and value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    any: AnyRef<'a>,
    /// Its bytes, with tag and length.
    pub(super) raw: &'a [u8],
}

/// The elements inside another one.
#[derive(Debug)]
pub(super) struct Elements<'a>(SliceReader<'a>);

impl From<der::Error> for Malformed {
    fn from(_: der::Error) -> Self {
        Self
    }
}

impl<'a> Element<'a> {
    /// Bytes that are one element and nothing else.
    pub(super) fn new(raw: &'a [u8]) -> Result<Self, Malformed> {
        Ok(Self { any: AnyRef::from_der(raw)?, raw })
    }

    pub(super) fn tag(&self) -> Tag {
        self.any.tag()
    }

    /// The bytes of the value.
    pub(super) fn value(&self) -> &'a [u8] {
        self.any.value()
    }

    /// What is inside, if the element has this tag.
    pub(super) fn inside(&self, tag: Tag) -> Result<Elements<'a>, Malformed> {
        Ok(Elements(SliceReader::new(self.bytes_of(tag)?)?))
    }

    /// The value of an element with this tag, as it stands.
    pub(super) fn bytes_of(&self, tag: Tag) -> Result<&'a [u8], Malformed> {
        if self.tag() == tag { Ok(self.value()) } else { Err(Malformed) }
    }

    /// An OBJECT IDENTIFIER, as it is encoded: DER has one encoding for each, so there is nothing to decode.
    pub(super) fn id(&self) -> Result<&'a [u8], Malformed> {
        self.bytes_of(Tag::ObjectIdentifier)
    }

    /// The value as a type of ASN.1.
    pub(super) fn get<T: Choice<'a> + DecodeValue<'a>>(&self) -> Result<T, Malformed> {
        Ok(self.any.decode_as()?)
    }

    /// A BIT STRING of whole bytes.
    pub(super) fn bytes(&self) -> Result<&'a [u8], Malformed> {
        self.get::<BitStringRef<'_>>()?.as_bytes().ok_or(Malformed)
    }

    /// A `Time` (UTCTime or GeneralizedTime), in seconds since the Unix epoch.
    pub(super) fn seconds(&self) -> Result<u64, Malformed> {
        Ok(match self.tag() {
            Tag::UtcTime => self.get::<UtcTime>()?.to_unix_duration(),
            _ => self.get::<GeneralizedTime>()?.to_unix_duration(),
        }
        .as_secs())
    }
}

impl<'a> Elements<'a> {
    /// The next element; none is an error.
    pub(super) fn next(&mut self) -> Result<Element<'a>, Malformed> {
        Element::new(self.0.tlv_bytes()?)
    }

    /// The next element, if it has this tag.
    pub(super) fn next_if(&mut self, tag: Tag) -> Result<Option<Element<'a>>, Malformed> {
        if self.is_empty() || self.0.peek_tag()? != tag { Ok(None) } else { self.next().map(Some) }
    }

    /// The next element, an INTEGER that is not negative: its bytes, big-endian, without leading zeros.
    pub(super) fn unsigned(&mut self) -> Result<&'a [u8], Malformed> {
        Ok(self.next()?.get::<UintRef<'a>>()?.as_bytes())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_finished()
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// An explicit context-specific tag, or an implicit one of something constructed.
pub(super) fn context(number: u8) -> Tag {
    Tag::ContextSpecific { constructed: true, number: TagNumber::new(number) }
}
