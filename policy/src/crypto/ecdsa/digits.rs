//! A number in signed digits, of which few are not zero: each of those saves an addition of points.

/// Bits that a digit covers.
const WIDTH: usize = 5;

/// The digits of a number, the lowest first: the sum of `digit * 2^place`. Each is zero or odd, from -15 to 15, and among
/// five neighbours at most one is not zero.
pub(super) fn digits(limbs: &[u32]) -> Vec<i8> {
    let n_bits = limbs.len() * 32;
    let bit = |place: usize| {
        let limb = limbs.get(place / 32).copied().unwrap_or_default();
        i8::from(limb >> (place % 32) & 1 == 1)
    };
    let mut digits = vec![0; n_bits + 1];
    let (mut place, mut carry) = (0, 0);
    while let Some(digit) = digits.get_mut(place) {
        if bit(place) == carry {
            // An even rest: both zero, or both one, which carries on.
            place += 1;
            continue;
        }
        let window = (0..WIDTH).fold(carry, |window, at| window + (bit(place + at) << at));
        // From 16 on it is a negative digit, and one more of the next.
        carry = i8::from(window >= 16);
        *digit = window - 32 * carry;
        place += WIDTH;
    }
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rsa::BigUint;

    use super::*;

    proptest! {
        #[test]
        fn digits_add_up_to_the_number_and_are_far_apart(limbs in proptest::collection::vec(
            prop_oneof![Just(0), Just(u32::MAX), any::<u32>()], 1..6,
        )) {
            let digits = digits(&limbs);
            prop_assert!(digits.iter().all(|it| *it == 0 || (it % 2 != 0 && it.abs() < 16)));
            prop_assert!(digits.windows(WIDTH).all(|few| few.iter().filter(|it| **it != 0).count() <= 1));
            let sum = |negative: bool| digits.iter().enumerate().fold(BigUint::from(0_u32), |sum, (place, digit)| {
                let counts = (*digit < 0) == negative;
                sum + (BigUint::from(u32::from(digit.unsigned_abs()) * u32::from(counts)) << place)
            });
            let number = limbs.iter().rev().fold(BigUint::from(0_u32), |number, limb| (number << 32_usize) + *limb);
            prop_assert_eq!(sum(false), number + sum(true));
        }
    }
}
