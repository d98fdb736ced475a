//! ECDSA (FIPS 186-5 §6.4) on the three curves of JWS and X.509, by one implementation.

mod curves;
mod digits;
mod point;

use core::cmp::Ordering;

use der::{Decode as _, Reader as _, SliceReader, asn1::UintRef};

use self::{
    curves::Parameters,
    point::{Group, Point},
};
use super::{
    Curve,
    montgomery::{Modulus, add, compare, is_zero, limbs},
};

/// A key that is known to be on its curve.
pub(super) struct Key {
    parameters: &'static Parameters,
    group: Group,
    point: Point,
}

impl Key {
    /// A key from its uncompressed SEC1 form; `None` when it has another form or is not on the curve. The points of these
    /// curves are all of the one large order, so there are no weak ones among them but infinity, which has no such form.
    pub(super) fn new(curve: Curve, sec1: &[u8]) -> Option<Self> {
        let parameters = curves::parameters(curve);
        let (first, coordinates) = sec1.split_first()?;
        if *first != 4 || coordinates.len() != 2 * parameters.len {
            return None;
        }
        let group = Group::new(parameters)?;
        let (x, y) = coordinates.split_at_checked(parameters.len)?;
        let point = group.point(x, y)?;
        Some(Self { parameters, group, point })
    }

    /// Whether a signature, `r` and `s` side by side, is of this digest. Both `s` and its negative hold: neither JWS nor
    /// X.509 asks for the lower one.
    pub(super) fn verifies(&self, digest: &[u8], signature: &[u8]) -> bool {
        self.try_verify(digest, signature).unwrap_or(false)
    }

    /// `None` is no: a number out of its range, or a sum without coordinates.
    fn try_verify(&self, digest: &[u8], signature: &[u8]) -> Option<bool> {
        let len = self.parameters.len;
        let (r, s) = signature.split_at_checked(len).filter(|(_, s)| s.len() == len)?;
        let order = Modulus::new(self.parameters.order)?;
        let r = order.number(r).filter(|r| !is_zero(r))?;
        let s = order.number(s).filter(|s| !is_zero(s))?;
        // The leftmost bits of the digest, as many as the order has. The orders have whole bytes, or, of P-521, more bits
        // than any digest.
        let digest = limbs(digest.get(..len).unwrap_or(digest), order.n_limbs())?;

        let mut s_in_form = vec![0; s.len()];
        order.enter(&s, &mut s_in_form);
        // Fermat: to the power of the order less 2.
        let mut less_two = order.limbs().to_vec();
        // The orders are odd and end in more than 1, so nothing is borrowed.
        *less_two.first_mut()? -= 2;
        let inverse = order.power(&s_in_form, &less_two);
        // A plain number times one in form is plain. The digest may be above the order, which `multiply` brings below.
        let (mut u1, mut u2) = (vec![0; s.len()], vec![0; s.len()]);
        order.multiply(&digest, &inverse, &mut u1);
        order.multiply(&r, &inverse, &mut u2);

        let sum = self.group.sum_of_multiples(&u1, &u2, &self.point);
        if self.group.is_infinity(&sum) {
            return None;
        }
        if self.group.has_x(&sum, &r) {
            return Some(true);
        }
        // x was taken modulo the order, which is below the field's prime by less than itself: x may have been r + order.
        let mut above = vec![0; r.len()];
        let carried = add(&r, order.limbs(), &mut above);
        let possible = !carried && compare(&above, self.group.prime()) == Ordering::Less;
        Some(possible && self.group.has_x(&sum, &above))
    }
}

/// `r` and `s` side by side from `SEQUENCE {r INTEGER, s INTEGER}`; `None` unless it is DER to the last bit.
pub(super) fn fixed_from_der(curve: Curve, der: &[u8]) -> Option<Vec<u8>> {
    let len = curves::parameters(curve).len;
    let mut reader = SliceReader::new(der).ok()?;
    let pair = reader.sequence(|pair| Ok([UintRef::decode(pair)?, UintRef::decode(pair)?])).ok()?;
    if !reader.is_finished() {
        return None;
    }
    let mut fixed = Vec::with_capacity(2 * len);
    for number in pair {
        let padding = len.checked_sub(number.as_bytes().len())?;
        fixed.resize(fixed.len() + padding, 0);
        fixed.extend_from_slice(number.as_bytes());
    }
    Some(fixed)
}
