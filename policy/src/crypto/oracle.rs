//! ECDSA and RSA against the crates that do the whole of them: thousands of signatures that hold, of numbers chosen to be
//! extreme, and of what is one change away from those.
//!
//! Signatures with chosen numbers are made backwards: for any `r`, `s` and digest `z` and a point `R` whose x is `r`, the
//! key `Q = (sR - zG) / r` is one that the signature is of. So `s`, `z` and, where a point has it, `r` can be 1 or the order
//! less 1, and `R` can have an x above the order, which nobody meets by signing.

use p256::elliptic_curve::{PrimeField as _, point::DecompressPoint as _, sec1::ToEncodedPoint as _};
use rsa::{BigUint, rand_core::RngCore as _, traits::PublicKeyParts as _};

use super::{
    Curve, Hash, PublicKey, Scheme, ecdsa,
    montgomery::{Modulus, bytes, limbs},
    rsa::Key,
    test_keys::Numbers,
    test_keys::rsa_key,
    tests::order,
};

fn fixed(number: &BigUint, len: usize) -> Vec<u8> {
    let bytes = number.to_bytes_be();
    [vec![0; len - bytes.len()], bytes].concat()
}

fn random(numbers: &mut Numbers, below: &BigUint) -> BigUint {
    let mut bytes = vec![0; below.to_bytes_be().len() + 8];
    numbers.fill_bytes(&mut bytes);
    BigUint::from_bytes_be(&bytes) % below
}

/// The numbers at the edges of a range, all below 2^bits.
fn edges(order: &BigUint, prime: &BigUint, bits: usize) -> Vec<BigUint> {
    let one = BigUint::from(1_u32);
    let mut all: Vec<BigUint> = [0_u32, 1, 2, 3, 15, 16, 17, 31, 32].map(BigUint::from).to_vec();
    all.extend([order - &one - &one, order - &one, order.clone(), order + &one, prime - &one, prime.clone()]);
    all.extend([order >> 1, (order >> 1) + &one, prime - order, (&one << bits) - &one, &one << (bits - 1)]);
    all.extend([32_usize, 64, 128, bits - 32].map(|at| &one << at));
    all.extend([32_usize, 64, 128, bits - 32].map(|at| (&one << at) - &one));
    all
}

/// The primes of two curves, in hexadecimal digits.
const P256: &[u8] = b"ffffffff00000001000000000000000000000000ffffffffffffffffffffffff";
const P384: &[u8] = b"fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff";

/// What is seen of a curve: how often both said yes, and how often both said no.
#[derive(Debug, Default)]
struct Agreed {
    yes: usize,
    no: usize,
}

macro_rules! against {
    ($name:ident, $oracle:ident, $curve:expr, $len:expr, $bits:expr, $digest:expr, $prime:expr) => {
        #[test]
        #[allow(clippy::too_many_lines, reason = "one macro for the three crates' types, read from top to bottom")]
        fn $name() {
            use $oracle::{
                AffinePoint, FieldBytes, ProjectivePoint, Scalar, ecdsa::signature::hazmat::PrehashVerifier as _,
            };
            let one = BigUint::from(1_u32);
            let order = BigUint::from_bytes_be(&(-Scalar::ONE).to_repr()) + &one;
            let prime = BigUint::parse_bytes($prime, 16).unwrap();
            let scalar = |it: &BigUint| {
                let mut bytes = FieldBytes::default();
                bytes.copy_from_slice(&fixed(&(it % &order), $len));
                Option::<Scalar>::from(Scalar::from_repr(bytes)).unwrap()
            };
            let sec1 = |it: &AffinePoint| it.to_encoded_point(false).as_bytes().to_vec();
            let oracle = |point: &[u8], digest: &[u8], signature: &[u8]| {
                let key = $oracle::ecdsa::VerifyingKey::from_sec1_bytes(point);
                let signature = $oracle::ecdsa::Signature::from_slice(signature);
                key.is_ok_and(|key| signature.is_ok_and(|it| key.verify_prehash(digest, &it).is_ok()))
            };
            let mut agreed = Agreed::default();
            let mut compare = |point: &[u8], digest: &[u8], signature: &[u8], expected: Option<bool>| {
                let ours = ecdsa::Key::new($curve, point).is_some_and(|key| key.verifies(digest, signature));
                assert_eq!(ours, oracle(point, digest, signature), "{point:x?} {digest:x?} {signature:x?}");
                assert!(expected.is_none_or(|it| it == ours), "{point:x?} {digest:x?} {signature:x?}");
                *(if ours { &mut agreed.yes } else { &mut agreed.no }) += 1;
            };
            let mut numbers = Numbers(7_000_000);
            let edges = edges(&order, &prime, $bits);
            let inside: Vec<&BigUint> =
                edges.iter().filter(|it| **it < order && **it != BigUint::from(0_u32)).collect();
            let digest_of = |it: &BigUint| fixed(&(it % (&one << (8 * $digest))), $digest);
            let digests: Vec<BigUint> = edges.iter().map(|it| it % (&one << (8 * $digest))).collect();

            // Backwards: each r of few bits that is a point's x, also as x = r + order, with each s and some digests.
            let mut tried = 0;
            for (x, reduced) in (1_u32..40).flat_map(|r| [(BigUint::from(r), false), (BigUint::from(r) + &order, true)])
            {
                if x >= prime || tried >= 24 {
                    continue;
                }
                let mut bytes = FieldBytes::default();
                bytes.copy_from_slice(&fixed(&x, $len));
                let Some(top) = Option::<AffinePoint>::from(AffinePoint::decompress(&bytes, 0.into())) else {
                    continue;
                };
                tried += 1;
                let r = &x % &order;
                let s = inside[tried % inside.len()];
                let z = &digests[(tried * 5) % digests.len()];
                let key = (ProjectivePoint::from(top) * scalar(s) - ProjectivePoint::GENERATOR * scalar(z))
                    * Option::<Scalar>::from(scalar(&r).invert()).unwrap();
                let point = sec1(&key.to_affine());
                let signature = [fixed(&r, $len), fixed(s, $len)].concat();
                compare(&point, &digest_of(z), &signature, Some(true));
                if !reduced && &r + &order < (&one << (8 * $len)) {
                    // The same r, as a number above the order.
                    compare(
                        &point,
                        &digest_of(z),
                        &[fixed(&(&r + &order), $len), fixed(s, $len)].concat(),
                        Some(false),
                    );
                }
                let mut other = signature.clone();
                other[$len - 1] ^= 2;
                compare(&point, &digest_of(z), &other, None);
            }
            assert!(tried > 12);

            // Keys and nonces near each other: sums of a point and itself, and of a point and its negative, on the way.
            let near: Vec<BigUint> = [1_u32, 2, 3, 4, 5, 15, 16]
                .map(BigUint::from)
                .into_iter()
                .flat_map(|it| [&order - &it, it])
                .chain([order.clone() >> 1, random(&mut numbers, &order)])
                .collect();
            for (at, secret) in near.iter().enumerate() {
                let point = sec1(&(ProjectivePoint::GENERATOR * scalar(secret)).to_affine());
                let nonce = &near[(at * 7 + 3) % near.len()];
                let top = (ProjectivePoint::GENERATOR * scalar(nonce)).to_affine();
                let r = BigUint::from_bytes_be(&sec1(&top)[1..=$len]) % &order;
                // Digests that are 0, one, random, and as large as what the key adds, with either sign.
                let product = &r * secret % &order;
                for z in [
                    BigUint::from(0_u32),
                    one.clone(),
                    product.clone(),
                    &order - &product,
                    random(&mut numbers, &order),
                ] {
                    let z = BigUint::from_bytes_be(&digest_of(&z));
                    let s =
                        scalar(&((&z + &product) % &order)) * Option::<Scalar>::from(scalar(nonce).invert()).unwrap();
                    let s = BigUint::from_bytes_be(&s.to_repr());
                    let holds = s != BigUint::from(0_u32);
                    compare(&point, &digest_of(&z), &[fixed(&r, $len), fixed(&s, $len)].concat(), Some(holds));
                    if holds {
                        compare(
                            &point,
                            &digest_of(&z),
                            &[fixed(&r, $len), fixed(&(&order - &s), $len)].concat(),
                            Some(true),
                        );
                        compare(&point, &digest_of(&(&z + &one)), &[fixed(&r, $len), fixed(&s, $len)].concat(), None);
                    }
                }
            }

            // Every pair of edges as a signature, none of which holds but by an accident that both would see.
            let point = sec1(&(ProjectivePoint::GENERATOR * scalar(&random(&mut numbers, &order))).to_affine());
            for (at, r) in edges.iter().enumerate() {
                for s in edges.iter().skip(at % 3).step_by(3) {
                    compare(&point, &digest_of(&digests[at]), &[fixed(r, $len), fixed(s, $len)].concat(), None);
                }
            }

            // Signatures that hold, and a flipped bit of them, of their digest and of their key.
            for round in 0..60_usize {
                let (secret, nonce) = (random(&mut numbers, &order), random(&mut numbers, &order));
                let mut point = sec1(&(ProjectivePoint::GENERATOR * scalar(&secret)).to_affine());
                let top = sec1(&(ProjectivePoint::GENERATOR * scalar(&nonce)).to_affine());
                let r = BigUint::from_bytes_be(&top[1..=$len]) % &order;
                let mut digest = digest_of(&random(&mut numbers, &(&one << (8 * $digest))));
                let z = BigUint::from_bytes_be(&digest);
                let s = scalar(&(z + &r * &secret)) * Option::<Scalar>::from(scalar(&nonce).invert()).unwrap();
                let mut signature = [fixed(&r, $len), s.to_repr().to_vec()].concat();
                compare(&point, &digest, &signature, Some(true));
                let at = usize::try_from(numbers.next_u32()).unwrap();
                let changed = [&mut signature, &mut digest, &mut point][round % 3].as_mut_slice();
                changed[at / 8 % changed.len()] ^= 1 << (at % 8);
                compare(&point, &digest, &signature, Some(false));
            }
            assert!(agreed.yes > 150 && agreed.no > 300, "{agreed:?}");
        }
    };
}

against!(p256_agrees_with_its_crate_at_every_edge, p256, Curve::P256, 32, 256, 32, P256);
against!(p384_agrees_with_its_crate_at_every_edge, p384, Curve::P384, 48, 384, 48, P384);
against!(
    p521_agrees_with_its_crate_at_every_edge,
    p521,
    Curve::P521,
    66,
    521,
    64,
    b"1fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\
      fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
);

#[test]
fn the_public_operation_of_rsa_is_a_power_for_every_size_and_exponent() {
    let mut numbers = Numbers(8_000_000);
    let (zero, one) = (BigUint::from(0_u32), BigUint::from(1_u32));
    for bits in [2048_usize, 2049, 2055, 2079, 2080, 2081, 3072, 4096, 8191, 8192] {
        let top = &one << bits;
        for e in [3_u64, 5, 17, 65537, 0x8000_0001, 0xFFFF_FFFF] {
            // Moduli of only ones, of nearly only zeros, and random ones.
            let random_one = (random(&mut numbers, &(&one << (bits - 1))) + (&one << (bits - 1))) | &one;
            for n in [&top - &one, (&one << (bits - 1)) + &one, random_one] {
                let len = bits.div_ceil(8);
                let key = Key::new(&n.to_bytes_be(), &e.to_be_bytes()).unwrap();
                for s in [zero.clone(), one.clone(), &n - &one, &n >> 1, random(&mut numbers, &n)] {
                    let expected = fixed(&s.modpow(&BigUint::from(e), &n), len);
                    assert_eq!(key.open(&fixed(&s, len)), Some(expected), "{bits} {e} {n:x} {s:x}");
                }
                assert_eq!(key.open(&fixed(&n, len)), None, "{bits} {e}");
            }
        }
    }
}

#[test]
fn rsa_agrees_with_ring_on_signatures_and_on_what_is_one_bit_away() {
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents};
    let mut numbers = Numbers(9_000_000);
    let mut held = 0;
    for bits in [2048, 2056, 3072] {
        let key = rsa_key(bits);
        let (n, e) = (key.n().to_bytes_be(), key.e().to_bytes_be());
        let ours = PublicKey::rsa(&n, &e).unwrap();
        let rings = RsaPublicKeyComponents { n: &n, e: &e };
        for round in 0..6_u8 {
            let message = [round; 20];
            let digest = Hash::Sha256.digest(&[&message]);
            let pkcs1 = key.sign(rsa::Pkcs1v15Sign::new::<sha2::Sha256>(), &digest).unwrap();
            let pss = key.sign_with_rng(&mut numbers, rsa::Pss::new::<sha2::Sha256>(), &digest).unwrap();
            for flipped in 0..20 {
                for (signature, ring_scheme, scheme) in [
                    (&pkcs1, &RSA_PKCS1_2048_8192_SHA256, Scheme::RsaPkcs1(Hash::Sha256)),
                    (&pss, &RSA_PSS_2048_8192_SHA256, Scheme::RsaPss(Hash::Sha256)),
                ] {
                    let mut signature = signature.clone();
                    if flipped > 0 {
                        let at = usize::try_from(numbers.next_u32()).unwrap();
                        let len = signature.len();
                        signature[at / 8 % len] ^= 1 << (at % 8);
                    }
                    let expected = rings.verify(ring_scheme, &message, &signature).is_ok();
                    assert_eq!(ours.verify(scheme, &message, &signature), expected, "{bits} {scheme:?} {flipped}");
                    assert_eq!(expected, flipped == 0);
                    held += usize::from(expected);
                }
            }
        }
    }
    assert_eq!(held, 36);
}

/// Against `crypto-bigint`, which shares no code with the library that [`mod@super::montgomery`]'s own tests compare with.
#[test]
fn arithmetic_modulo_the_primes_and_orders_agrees_with_crypto_bigint_at_every_edge() {
    use p256::elliptic_curve::bigint::{
        Encoding as _, U576,
        modular::runtime_mod::{DynResidue, DynResidueParams},
    };
    let wide = |it: &BigUint| U576::from_be_slice(&fixed(it, 72));
    let mut numbers = Numbers(10_000_000);
    let (zero, one) = (BigUint::from(0_u32), BigUint::from(1_u32));
    for curve in [Curve::P256, Curve::P384, Curve::P521] {
        let order = BigUint::from_bytes_be(&order(curve));
        let (bits, prime) = match curve {
            Curve::P256 => (256, BigUint::parse_bytes(P256, 16).unwrap()),
            Curve::P384 => (384, BigUint::parse_bytes(P384, 16).unwrap()),
            Curve::P521 => (521, (&one << 521_usize) - &one),
        };
        for n in [&prime, &order] {
            let modulus = Modulus::new(&n.to_bytes_be()).unwrap();
            let params = DynResidueParams::new(&wide(n));
            let len = modulus.n_limbs() * 4;
            let number = |it: &BigUint| limbs(&it.to_bytes_be(), modulus.n_limbs()).unwrap();
            let enter = |it: &BigUint| {
                let mut out = number(&zero);
                modulus.enter(&number(it), &mut out);
                out
            };
            let plain = |it: &[u32]| {
                let mut out = number(&zero);
                modulus.multiply(&number(&one), it, &mut out);
                bytes(&out, len)
            };
            let expected = |it: DynResidue<{ U576::LIMBS }>| it.retrieve().to_be_bytes()[72 - len..].to_vec();
            let mut operands: Vec<BigUint> = edges(&order, &prime, bits).into_iter().filter(|it| it < n).collect();
            operands.extend((0..6).map(|_| random(&mut numbers, n)));
            for a in &operands {
                let (a_in, a_other) = (enter(a), DynResidue::new(&wide(a), params));
                for b in &operands {
                    let (b_in, b_other) = (enter(b), DynResidue::new(&wide(b), params));
                    let mut out = number(&zero);
                    modulus.multiply(&a_in, &b_in, &mut out);
                    assert_eq!(plain(&out), expected(a_other.mul(&b_other)), "{a:x} * {b:x}");
                    modulus.add(&a_in, &b_in, &mut out);
                    assert_eq!(plain(&out), expected(a_other.add(&b_other)), "{a:x} + {b:x}");
                    modulus.subtract(&a_in, &b_in, &mut out);
                    assert_eq!(plain(&out), expected(a_other.sub(&b_other)), "{a:x} - {b:x}");
                }
                // Fermat's inverse, as ECDSA takes it.
                let inverse = modulus.power(&a_in, &number(&(n - &one - &one)));
                let mut product = number(&zero);
                modulus.multiply(&inverse, &a_in, &mut product);
                let is_one = if *a == zero { &zero } else { &one };
                assert_eq!(BigUint::from_bytes_be(&plain(&product)), *is_one, "1 / {a:x}");
            }
        }
    }
}
