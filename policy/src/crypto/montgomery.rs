//! Arithmetic modulo an odd number of any length, in Montgomery's form (P. Montgomery, 1985).
//!
//! Numbers are limbs of 32 bits, the lowest first, all as many as the modulus has: WebAssembly multiplies 32 bits by 32
//! into 64, and no wider. A number `x` *in form* stands for `x / 2^(32 * limbs)`. Functions write into `out`, so that the
//! caller decides where numbers live; a slice of another length than the modulus makes a wrong result, never a panic.

use core::cmp::Ordering;

/// An odd modulus above 1 and what is derived from it.
pub(super) struct Modulus {
    limbs: Vec<u32>,
    /// Minus the inverse of the modulus, modulo 2^32.
    inverse: u32,
    /// 1 in form.
    one: Vec<u32>,
    /// The factor that brings a number into form: `2^(32 * limbs)` in form.
    into_form: Vec<u32>,
    /// In bits.
    size: usize,
}

/// Big-endian bytes as limbs, padded with zeros; `None` when the number needs more than `n_limbs`.
pub(super) fn limbs(bytes: &[u8], n_limbs: usize) -> Option<Vec<u32>> {
    let bytes = super::without_leading_zeros(bytes);
    if bytes.len() > n_limbs * 4 {
        return None;
    }
    let mut limbs: Vec<u32> =
        bytes.rchunks(4).map(|chunk| chunk.iter().fold(0, |limb, byte| limb << 8 | u32::from(*byte))).collect();
    limbs.resize(n_limbs, 0);
    Some(limbs)
}

/// Limbs as big-endian bytes, of which only the last `len` are kept.
pub(super) fn bytes(limbs: &[u32], len: usize) -> Vec<u8> {
    let all: Vec<u8> = limbs.iter().rev().flat_map(|limb| limb.to_be_bytes()).collect();
    all.get(all.len().saturating_sub(len)..).unwrap_or_default().to_vec()
}

/// Compares two numbers of the same number of limbs.
pub(super) fn compare(one: &[u32], other: &[u32]) -> Ordering {
    one.iter().rev().cmp(other.iter().rev())
}

/// Whether a number is zero.
pub(super) fn is_zero(limbs: &[u32]) -> bool {
    limbs.iter().all(|limb| *limb == 0)
}

/// `out = one + other`, and what is carried out of the highest limb.
pub(super) fn add(one: &[u32], other: &[u32], out: &mut [u32]) -> bool {
    let mut carry = 0;
    for (out, (one, other)) in out.iter_mut().zip(one.iter().zip(other)) {
        let sum = u64::from(*one) + u64::from(*other) + carry;
        *out = low(sum);
        carry = sum >> 32;
    }
    carry != 0
}

/// `number -= other`, and whether that borrowed.
fn subtract_from(number: &mut [u32], other: &[u32]) -> bool {
    let mut borrow = false;
    for (number, other) in number.iter_mut().zip(other) {
        let (first, below) = number.overflowing_sub(*other);
        let (second, below_again) = first.overflowing_sub(u32::from(borrow));
        *number = second;
        borrow = below | below_again;
    }
    borrow
}

#[allow(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
fn low(wide: u64) -> u32 {
    wide as u32
}

fn array(limbs: &[u32]) -> Option<&[u32; 8]> {
    limbs.try_into().ok()
}

/// Montgomery's product, up to one subtraction of the modulus; returns the bit above the limbs. `out` comes as zero.
#[allow(clippy::inline_always, reason = "where the length is known it is unrolled, which makes P-256 twice as fast")]
#[inline(always)]
fn product(one: &[u32], other: &[u32], modulus: &[u32], inverse: u32, out: &mut [u32]) -> bool {
    let (Some((lowest, limbs)), Some((other_lowest, others))) = (modulus.split_first(), other.split_first()) else {
        return false;
    };
    let (lowest, other_lowest) = (u64::from(*lowest), u64::from(*other_lowest));
    let mut highest = 0;
    // One round for each limb of `one`: add its product, then as many times the modulus as makes the lowest limb zero,
    // and shift that limb out. The sum stays below twice the modulus, which `highest` has the bit for.
    for factor in one {
        let factor = u64::from(*factor);
        let mut places = out.iter_mut();
        let Some(mut place) = places.next() else { return false };
        let sum = u64::from(*place) + factor * other_lowest;
        let times = u64::from(low(sum).wrapping_mul(inverse));
        let mut carry = sum >> 32;
        let mut reducing = (u64::from(low(sum)) + times * lowest) >> 32;
        for (next, (other, limb)) in places.zip(others.iter().zip(limbs)) {
            let sum = u64::from(*next) + factor * u64::from(*other) + carry;
            carry = sum >> 32;
            let reduced = u64::from(low(sum)) + times * u64::from(*limb) + reducing;
            reducing = reduced >> 32;
            *place = low(reduced);
            place = next;
        }
        let sum = highest + carry + reducing;
        *place = low(sum);
        highest = sum >> 32;
    }
    highest != 0
}

impl Modulus {
    /// The modulus from its big-endian bytes; `None` when it is even or below 3.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        let bytes = super::without_leading_zeros(bytes);
        let n_limbs = bytes.len().div_ceil(4);
        let limbs = limbs(bytes, n_limbs)?;
        let lowest = *limbs.first()?;
        if lowest % 2 == 0 || (n_limbs == 1 && lowest == 1) {
            return None;
        }
        // Newton's iteration doubles the right bits: 1, 2, 4, 8, 16, 32. An odd number is its own inverse modulo 2.
        let inverse =
            (0..5).fold(1_u32, |it, _| it.wrapping_mul(2_u32.wrapping_sub(lowest.wrapping_mul(it)))).wrapping_neg();
        let n_bits = n_limbs * 32;
        let unused = usize::try_from(limbs.last()?.leading_zeros()).ok()?;
        let mut modulus = Self { limbs, inverse, one: Vec::new(), into_form: Vec::new(), size: n_bits - unused };

        // The highest power of two below the modulus, doubled up to 2^n_bits, which is 1 in form.
        let mut power = vec![0; n_limbs];
        *power.last_mut()? = 1 << (31 - unused);
        modulus.double(&mut power, unused + 1);
        modulus.one.clone_from(&power);
        // 2^n_limbs in form, squared five times: 2^(32 * n_limbs) in form.
        modulus.double(&mut power, n_limbs);
        for _ in 0..5 {
            let square = power.clone();
            modulus.multiply(&square, &square, &mut power);
        }
        modulus.into_form = power;
        Some(modulus)
    }

    /// How many limbs its numbers have.
    pub(super) fn n_limbs(&self) -> usize {
        self.limbs.len()
    }

    /// The modulus itself.
    pub(super) fn limbs(&self) -> &[u32] {
        &self.limbs
    }

    /// In bits.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// 1 in form.
    pub(super) fn one(&self) -> &[u32] {
        &self.one
    }

    /// Big-endian bytes of a number below the modulus; `None` when it is not below.
    pub(super) fn number(&self, bytes: &[u8]) -> Option<Vec<u32>> {
        limbs(bytes, self.n_limbs()).filter(|it| compare(it, &self.limbs) == Ordering::Less)
    }

    /// `out = number` in form. The number need not be below the modulus.
    pub(super) fn enter(&self, number: &[u32], out: &mut [u32]) {
        self.multiply(number, &self.into_form, out);
    }

    /// `out = one * other`, both in form. `one` may be any number of as many limbs, `other` is below the modulus. With
    /// one of them plain and the other in form, `out` is plain.
    pub(super) fn multiply(&self, one: &[u32], other: &[u32], out: &mut [u32]) {
        out.fill(0);
        // P-256 is what nearly all certificates and many tokens are of: its length is worth code of its own.
        let carried = match (array(one), array(other), array(&self.limbs), <&mut [u32; 8]>::try_from(&mut *out)) {
            (Some(one), Some(other), Some(limbs), Ok(out)) => product(one, other, limbs, self.inverse, out),
            _ => product(one, other, &self.limbs, self.inverse, out),
        };
        self.reduce_once(carried, out);
    }

    /// `out = one + other`, both below the modulus.
    pub(super) fn add(&self, one: &[u32], other: &[u32], out: &mut [u32]) {
        let carried = add(one, other, out);
        self.reduce_once(carried, out);
    }

    /// `out = one - other`, both below the modulus.
    pub(super) fn subtract(&self, one: &[u32], other: &[u32], out: &mut [u32]) {
        out.copy_from_slice(one);
        if subtract_from(out, other) {
            let mut carry = 0;
            for (out, limb) in out.iter_mut().zip(&self.limbs) {
                let sum = u64::from(*out) + u64::from(*limb) + carry;
                *out = low(sum);
                carry = sum >> 32;
            }
        }
    }

    /// A number in form, to a power that is given by its limbs; in form.
    pub(super) fn power(&self, base: &[u32], exponent: &[u32]) -> Vec<u32> {
        let (mut result, mut before) = (self.one.clone(), self.one.clone());
        let bits = exponent.iter().rev().flat_map(|limb| (0..32).rev().map(move |bit| limb >> bit & 1 == 1));
        for bit in bits.skip_while(|bit| !bit) {
            before.copy_from_slice(&result);
            self.multiply(&before, &before, &mut result);
            if bit {
                before.copy_from_slice(&result);
                self.multiply(&before, base, &mut result);
            }
        }
        result
    }

    fn double(&self, number: &mut [u32], times: usize) {
        for _ in 0..times {
            let mut carry = 0;
            for limb in number.iter_mut() {
                (*limb, carry) = (*limb << 1 | carry, *limb >> 31);
            }
            self.reduce_once(carry != 0, number);
        }
    }

    /// Brings a number below twice the modulus below it; `carried` is its bit above the limbs.
    fn reduce_once(&self, carried: bool, number: &mut [u32]) {
        if carried || compare(number, &self.limbs) != Ordering::Less {
            subtract_from(number, &self.limbs);
        }
    }
}

#[cfg(test)]
mod tests;
