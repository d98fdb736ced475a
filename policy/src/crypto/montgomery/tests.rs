//! Against `num-bigint-dig`, which the crate `rsa` hands on.

use proptest::prelude::*;
use rsa::BigUint;

use super::*;

fn big(limbs: &[u32]) -> BigUint {
    BigUint::from_bytes_be(&bytes(limbs, limbs.len() * 4))
}

fn plain(modulus: &Modulus, in_form: &[u32]) -> BigUint {
    let mut out = vec![0; in_form.len()];
    modulus.multiply(&limbs(&[1], in_form.len()).unwrap(), in_form, &mut out);
    big(&out)
}

#[test]
fn only_odd_numbers_above_one_are_moduli() {
    for bytes in [&[][..], &[0], &[1], &[0, 1], &[2], &[1, 0, 0, 0, 0], &[0xFF, 0xFE]] {
        assert!(Modulus::new(bytes).is_none(), "{bytes:?}");
    }
    for (bytes, size) in [(&[3][..], 2), (&[0, 0, 5], 3), (&[1, 0, 0, 0, 1], 33), (&[0xFF; 4], 32)] {
        assert_eq!(Modulus::new(bytes).unwrap().size(), size, "{bytes:?}");
    }
}

#[test]
fn a_number_is_below_the_modulus_and_keeps_its_bytes() {
    let modulus = Modulus::new(&[1, 0, 0, 0, 7]).unwrap();
    assert_eq!(bytes(&modulus.number(&[0, 0, 1, 0, 0, 0, 6]).unwrap(), 5), [1, 0, 0, 0, 6]);
    assert!(modulus.number(&[1, 0, 0, 0, 7]).is_none());
    assert!(modulus.number(&[1; 9]).is_none());
}

/// Bytes of which many are 0 or 0xFF, where carries go wrong.
fn edges(len: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0_u8), Just(0xFF_u8), any::<u8>()];
    let runs = proptest::collection::vec((byte, 1..5_usize), 1..=len);
    runs.prop_map(move |runs| {
        let mut bytes: Vec<u8> = runs.into_iter().flat_map(|(byte, n)| vec![byte; n]).collect();
        bytes.truncate(len);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn agrees_with_another_library(n in edges(40), a in edges(40), b in edges(40), exponent in 0_u64..1 << 33) {
        let mut n = n;
        if let Some(last) = n.last_mut() {
            *last |= 1;
        }
        let Some(modulus) = Modulus::new(&n) else { return Ok(()) };
        let n = big(modulus.limbs());
        let len = modulus.n_limbs() * 4;
        let (a, b) = (&a[..a.len().min(len)], &b[..b.len().min(len)]);
        let (a, b) = (BigUint::from_bytes_be(a), BigUint::from_bytes_be(b) % &n);
        let number = |it: &BigUint| limbs(&it.to_bytes_be(), modulus.n_limbs()).unwrap();
        let (mut a_in, mut b_in, mut out) = (number(&n), number(&n), number(&n));
        prop_assert_eq!(plain(&modulus, modulus.one()), BigUint::from(1_u32));
        // Any number enters; all of what follows is for numbers below the modulus.
        modulus.enter(&number(&a), &mut a_in);
        modulus.enter(&number(&b), &mut b_in);
        let a = a % &n;
        prop_assert_eq!(plain(&modulus, &a_in), a.clone());
        modulus.multiply(&a_in, &b_in, &mut out);
        prop_assert_eq!(plain(&modulus, &out), &a * &b % &n);
        modulus.multiply(&number(&a), &b_in, &mut out);
        prop_assert_eq!(big(&out), &a * &b % &n);
        modulus.add(&number(&a), &number(&b), &mut out);
        prop_assert_eq!(big(&out), (&a + &b) % &n);
        modulus.subtract(&number(&a), &number(&b), &mut out);
        prop_assert_eq!(big(&out), (&a + &n - &b) % &n);
        let power = modulus.power(&a_in, &limbs(&exponent.to_be_bytes(), 2).unwrap());
        prop_assert_eq!(plain(&modulus, &power), a.modpow(&BigUint::from(exponent), &n));
    }
}
