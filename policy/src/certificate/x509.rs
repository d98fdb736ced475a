//! A certificate (RFC 5280 §4.1) taken apart: one reader for identities, chains and roots, so that what is verified is
//! what is believed.
//!
//! Nothing is judged here but the form. Keys and signatures are left as they are: most certificates are read for less.

use der::{Tag, TagNumber, asn1::BitStringRef};

use super::asn1::{Element, Elements, Malformed, context};

/// 2.5.29.17 (RFC 5280 §4.2.1), and so on.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1D, 17];
const KEY_USAGE: &[u8] = &[0x55, 0x1D, 15];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1D, 19];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1D, 30];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1D, 37];
const ANY_PURPOSE: &[u8] = &[0x55, 0x1D, 37, 0];
/// 1.3.6.1.5.5.7.3.2
const CLIENT_AUTH: &[u8] = &[0x2B, 6, 1, 5, 5, 7, 3, 2];

/// Most extensions of a certificate; those of a CA have about ten.
const MAX_EXTENSIONS: usize = 32;

/// A certificate's parts, as they stand in its bytes.
#[derive(Debug)]
pub(super) struct X509<'a> {
    /// What is signed.
    pub(super) signed: &'a [u8],
    /// How, the same inside and outside of what is signed: an `AlgorithmIdentifier`.
    pub(super) algorithm: Element<'a>,
    /// The signature.
    pub(super) signature: &'a [u8],
    /// The issuer's name, DER.
    pub(super) issuer: &'a [u8],
    /// The holder's name, DER.
    pub(super) subject: &'a [u8],
    /// Valid from, in seconds since the Unix epoch, inclusive.
    pub(super) not_before: u64,
    /// Valid to, likewise inclusive.
    pub(super) not_after: u64,
    /// The holder's key: a `SubjectPublicKeyInfo`.
    pub(super) key: Element<'a>,
    /// What the extensions say.
    pub(super) says: Extensions<'a>,
}

/// The extensions that matter; each is as if absent unless it is there.
#[derive(Debug, Default)]
pub(super) struct Extensions<'a> {
    /// The URIs of the subject alternative names.
    pub(super) uri: Uri<'a>,
    /// Whether the holder is a CA.
    pub(super) is_ca: bool,
    /// How many CAs there may be between this one and a leaf.
    pub(super) path_length: Option<u32>,
    /// What the key may do, where that is said.
    pub(super) key_usage: Option<KeyUsage>,
    /// Whether the key may be used by a TLS client, where purposes are said.
    pub(super) for_clients: Option<bool>,
    /// There is a critical extension that is not read here, or constraints on names, which are not either.
    pub(super) has_unknown: bool,
}

/// The URIs among the subject alternative names.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Uri<'a> {
    /// None.
    #[default]
    None,
    /// Exactly one.
    Only(&'a str),
    /// More than one.
    Several,
}

/// The first bits of a key usage, the only ones that are asked for (RFC 5280 §4.2.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyUsage(u8);

impl KeyUsage {
    /// Sign in handshakes.
    pub(super) fn signs(self) -> bool {
        self.0 & 0x80 != 0
    }

    /// Sign certificates.
    pub(super) fn signs_certificates(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// Sign revocation lists.
    pub(super) fn signs_revocations(self) -> bool {
        self.0 & 0x02 != 0
    }
}

impl<'a> X509<'a> {
    /// Takes a DER certificate apart.
    pub(super) fn parse(der: &'a [u8]) -> Result<Self, Malformed> {
        let mut parts = Element::new(der)?.inside(Tag::Sequence)?;
        let (signed, algorithm, signature) = (parts.next()?, parts.next()?, parts.next()?);
        parts.end()?;
        let mut fields = signed.inside(Tag::Sequence)?;
        // Version 3: the others have no extensions, and so can be neither a workload's nor, for certain, a CA's.
        let mut version = fields.next()?.inside(context(0))?;
        if version.next()?.get::<u8>()? != 2 {
            return Err(Malformed);
        }
        version.end()?;
        let serial = fields.next()?;
        let inner = fields.next()?;
        if serial.tag() != Tag::Integer || inner.raw != algorithm.raw {
            return Err(Malformed);
        }
        let issuer = name(&mut fields)?;
        let mut validity = fields.next()?.inside(Tag::Sequence)?;
        let (not_before, not_after) = (validity.next()?.seconds()?, validity.next()?.seconds()?);
        validity.end()?;
        let subject = name(&mut fields)?;
        let key = fields.next()?;
        // Unique identifiers ([1], [2]) are from before there were extensions; nobody writes them, nobody checks them.
        let says = match fields.next_if(context(3))? {
            Some(wrapped) => {
                let mut inside = wrapped.inside(context(3))?;
                let list = inside.next()?;
                inside.end()?;
                Extensions::read(list.inside(Tag::Sequence)?)?
            }
            None => Extensions::default(),
        };
        fields.end()?;
        let (signed, signature) = (signed.raw, signature.bytes()?);
        Ok(Self { signed, algorithm, signature, issuer, subject, not_before, not_after, key, says })
    }

    /// Whether it is in force at this time.
    pub(super) fn is_in_force(&self, now: u64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

fn name<'a>(fields: &mut Elements<'a>) -> Result<&'a [u8], Malformed> {
    let name = fields.next()?;
    name.inside(Tag::Sequence)?;
    Ok(name.raw)
}

impl<'a> Extensions<'a> {
    fn read(mut list: Elements<'a>) -> Result<Self, Malformed> {
        let mut says = Self::default();
        let mut seen = Vec::new();
        while !list.is_empty() {
            let mut extension = list.next()?.inside(Tag::Sequence)?;
            let id = extension.next()?.id()?;
            let is_critical = extension.next_if(Tag::Boolean)?.map_or(Ok(false), |it| it.get::<bool>())?;
            let value = Element::new(extension.next()?.bytes_of(Tag::OctetString)?);
            extension.end()?;
            // Said twice, it would be the reader's choice which is meant.
            if seen.contains(&id) || seen.len() == MAX_EXTENSIONS {
                return Err(Malformed);
            }
            seen.push(id);
            match id {
                SUBJECT_ALT_NAME => says.read_names(value?.inside(Tag::Sequence)?)?,
                BASIC_CONSTRAINTS => says.read_constraints(value?.inside(Tag::Sequence)?)?,
                KEY_USAGE => {
                    let bits: BitStringRef<'_> = value?.get()?;
                    says.key_usage = Some(KeyUsage(bits.raw_bytes().first().copied().unwrap_or(0)));
                }
                EXTENDED_KEY_USAGE => says.read_purposes(value?.inside(Tag::Sequence)?)?,
                // Must be critical (RFC 5280 §4.2.1.10); who forgot that meant them all the same.
                NAME_CONSTRAINTS => says.has_unknown = true,
                _ => says.has_unknown |= is_critical,
            }
        }
        Ok(says)
    }

    fn read_names(&mut self, mut names: Elements<'a>) -> Result<(), Malformed> {
        while !names.is_empty() {
            let name = names.next()?;
            // GeneralName: uniformResourceIdentifier is [6] IA5String, implicit.
            if name.tag() == (Tag::ContextSpecific { constructed: false, number: TagNumber::N6 }) {
                let text = core::str::from_utf8(name.value()).ok().filter(|text| text.is_ascii()).ok_or(Malformed)?;
                self.uri = if self.uri == Uri::None { Uri::Only(text) } else { Uri::Several };
            }
        }
        Ok(())
    }

    fn read_constraints(&mut self, mut parts: Elements<'a>) -> Result<(), Malformed> {
        self.is_ca = parts.next_if(Tag::Boolean)?.map_or(Ok(false), |it| it.get::<bool>())?;
        self.path_length = parts.next_if(Tag::Integer)?.map(|it| it.get::<u32>()).transpose()?;
        if self.path_length.is_some() && !self.is_ca {
            return Err(Malformed);
        }
        parts.end()
    }

    fn read_purposes(&mut self, mut purposes: Elements<'a>) -> Result<(), Malformed> {
        let mut for_clients = false;
        while !purposes.is_empty() {
            let purpose = purposes.next()?.id()?;
            for_clients |= purpose == CLIENT_AUTH || purpose == ANY_PURPOSE;
        }
        self.for_clients = Some(for_clients);
        Ok(())
    }
}
