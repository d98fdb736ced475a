//! RSA signatures (RFC 8017): the public operation and the two paddings of JWS and X.509.

use super::{
    Hash, InvalidKey,
    montgomery::{Modulus, bytes, limbs},
};

/// Accepted sizes of a modulus, in bits.
const SIZES: core::ops::RangeInclusive<usize> = 2048..=8192;
/// The largest accepted exponent.
const MAX_EXPONENT: u64 = 1 << 32;

/// A key, ready to compute with.
pub(super) struct Key {
    modulus: Modulus,
    exponent: Vec<u32>,
}

impl Key {
    pub(super) fn new(n: &[u8], e: &[u8]) -> Result<Self, InvalidKey> {
        let (n, e) = (super::without_leading_zeros(n), super::without_leading_zeros(e));
        // Before anything is computed.
        if n.len() > SIZES.end() / 8 {
            return Err(InvalidKey::RsaSize);
        }
        let modulus = Modulus::new(n).ok_or(InvalidKey::RsaModulus)?;
        if !SIZES.contains(&modulus.size()) {
            return Err(InvalidKey::RsaSize);
        }
        let exponent = limbs(e, 2).ok_or(InvalidKey::RsaExponent)?;
        let value = exponent.iter().rev().fold(0, |value, limb| value << 32 | u64::from(*limb));
        if value % 2 == 0 || !(3..=MAX_EXPONENT).contains(&value) {
            return Err(InvalidKey::RsaExponent);
        }
        Ok(Self { modulus, exponent })
    }

    /// RSASSA-PKCS1-v1_5 (§8.2.2): the only encoding of this digest is made anew and compared as a whole, so that there is
    /// no padding to read leniently.
    #[inline(never)]
    pub(super) fn verifies_pkcs1(&self, hash: Hash, digest: &[u8], signature: &[u8]) -> bool {
        let Some(encoded) = self.open(signature) else { return false };
        let identifier = digest_info(hash);
        let Some(n_padding) = encoded.len().checked_sub(3 + identifier.len() + digest.len()) else { return false };
        let expected = [&[0, 1][..], &vec![0xFF; n_padding], &[0], identifier, digest].concat();
        n_padding >= 8 && encoded == expected
    }

    /// RSASSA-PSS (§8.1.2, §9.1.2) with a salt as long as the hash.
    #[inline(never)]
    pub(super) fn verifies_pss(&self, hash: Hash, digest: &[u8], signature: &[u8]) -> bool {
        let Some(encoded) = self.open(signature) else { return false };
        // One bit fewer than the modulus, so the first byte of the encoding may be missing.
        let n_bits = self.modulus.size() - 1;
        let len = n_bits.div_ceil(8);
        let (over, encoded) = encoded.split_at(encoded.len().saturating_sub(len));
        let unused = len * 8 - n_bits;
        let Some((0xBC, encoded)) = encoded.split_last() else { return false };
        let Some(db_len) = encoded.len().checked_sub(digest.len()) else { return false };
        let Some((masked, seed)) = encoded.split_at_checked(db_len) else { return false };
        let mut db = masked.to_vec();
        // The bits above the encoding are zero, in the masked text and in what it hides.
        let kept = 0xFF_u8.checked_shr(u32::try_from(unused).unwrap_or(8)).unwrap_or(0);
        let Some(first) = db.first_mut() else { return false };
        if *first & !kept != 0 || over.iter().any(|byte| *byte != 0) {
            return false;
        }
        for (counter, block) in (0_u32..).zip(db.chunks_mut(digest.len())) {
            let mask = hash.digest(&[seed, &counter.to_be_bytes()]);
            block.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        }
        if let Some(first) = db.first_mut() {
            *first &= kept;
        }
        let Some((padding, salt)) = db.split_at_checked(db.len().saturating_sub(digest.len())) else { return false };
        let Some((1, zeros)) = padding.split_last() else { return false };
        zeros.iter().all(|byte| *byte == 0)
            && salt.len() == digest.len()
            && hash.digest(&[&[0; 8], digest, salt]) == seed
    }

    /// The public operation (§5.2.2): what was signed, as long as the modulus. `None` when the signature is not exactly as
    /// long or not below the modulus.
    pub(super) fn open(&self, signature: &[u8]) -> Option<Vec<u8>> {
        let len = self.modulus.size().div_ceil(8);
        let number = self.modulus.number(signature).filter(|_| signature.len() == len)?;
        let mut base = vec![0; number.len()];
        self.modulus.enter(&number, &mut base);
        let power = self.modulus.power(&base, &self.exponent);
        // Times a plain 1: out of form.
        let (plain, mut opened) = (limbs(&[1], power.len())?, base);
        self.modulus.multiply(&plain, &power, &mut opened);
        Some(bytes(&opened, len))
    }
}

/// The beginning of the DER of `DigestInfo` (§9.2, note 1), up to the digest.
fn digest_info(hash: Hash) -> &'static [u8] {
    match hash {
        Hash::Sha256 => b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
        Hash::Sha384 => b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30",
        Hash::Sha512 => b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
    }
}
