//! Every scheme against signatures of the crates that it stands in for, and against what forgers send.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ed25519_dalek::Signer as _;
use rsa::{BigUint, traits::PublicKeyParts as _};

use super::{
    Curve, Hash, InvalidKey, PublicKey, Scheme,
    test_keys::{curve_key, pkcs1, pss, public, raw, rsa_key},
};

const HASHES: [Hash; 3] = [Hash::Sha256, Hash::Sha384, Hash::Sha512];
const CURVES: [Curve; 3] = [Curve::P256, Curve::P384, Curve::P521];
const MESSAGE: &[u8] = b"header.payload";

fn fixed_len(curve: Curve) -> usize {
    match curve {
        Curve::P256 => 64,
        Curve::P384 => 96,
        Curve::P521 => 132,
    }
}

/// The curve's order, from its own crate.
pub(super) fn order(curve: Curve) -> Vec<u8> {
    use p256::elliptic_curve::{Curve as _, bigint::ArrayEncoding as _};
    match curve {
        Curve::P256 => p256::NistP256::ORDER.to_be_byte_array().to_vec(),
        Curve::P384 => p384::NistP384::ORDER.to_be_byte_array().to_vec(),
        Curve::P521 => {
            let bytes = p521::NistP521::ORDER.to_be_byte_array().to_vec();
            bytes[bytes.len() - 66..].to_vec()
        }
    }
}

#[test]
fn rsa_signatures_of_every_kind_and_size_hold_and_no_other_scheme_takes_them() {
    for bits in [2048, 2056, 3072] {
        let key = rsa_key(bits);
        let public = public(&key);
        for hash in HASHES {
            let salt = hash.digest(&[]).len();
            let (pkcs1, pss) = (pkcs1(&key, hash, MESSAGE), pss(&key, hash, salt, MESSAGE));
            for other in HASHES {
                assert_eq!(public.verify(Scheme::RsaPkcs1(other), MESSAGE, &pkcs1), other == hash, "{bits} {other:?}");
                assert_eq!(public.verify(Scheme::RsaPss(other), MESSAGE, &pss), other == hash, "{bits} {other:?}");
                assert!(!public.verify(Scheme::RsaPss(other), MESSAGE, &pkcs1));
                assert!(!public.verify(Scheme::RsaPkcs1(other), MESSAGE, &pss));
            }
            assert!(!public.verify(Scheme::RsaPkcs1(hash), b"header.payloae", &pkcs1));
            assert!(!public.verify(Scheme::RsaPss(hash), b"header.payloae", &pss));
        }
        assert!(!public.verify(Scheme::Ed25519, MESSAGE, &[1; 64]));
    }
}

#[test]
fn a_salt_of_another_length_than_the_hash_is_refused() {
    let key = rsa_key(2048);
    for salt in [0, 20, 31, 33, 64] {
        let signature = pss(&key, Hash::Sha256, salt, MESSAGE);
        assert!(!public(&key).verify(Scheme::RsaPss(Hash::Sha256), MESSAGE, &signature), "{salt}");
    }
}

#[test]
fn an_rsa_signature_has_exactly_the_length_of_the_modulus_and_is_below_it() {
    let key = rsa_key(2048);
    let (public, scheme) = (public(&key), Scheme::RsaPkcs1(Hash::Sha256));
    let good = pkcs1(&key, Hash::Sha256, MESSAGE);
    let above = (BigUint::from_bytes_be(&good) + key.n()).to_bytes_be();
    let longer = [&[0][..], &good].concat();
    for bad in [&[][..], &good[1..], &good[..255], &longer, &[good.as_slice(), &[0]].concat(), &above, &[0; 256]] {
        assert!(!public.verify(scheme, MESSAGE, bad));
    }
    assert!(!public.verify(scheme, MESSAGE, &key.n().to_bytes_be()));
    assert!(public.verify(scheme, MESSAGE, &good));
}

#[test]
fn no_other_padding_passes_for_that_of_pkcs1() {
    let key = rsa_key(2048);
    let (public, scheme) = (public(&key), Scheme::RsaPkcs1(Hash::Sha256));
    let digest = Hash::Sha256.digest(&[MESSAGE]);
    let info = b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
    let without_null = b"\x30\x2f\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x04\x20";
    let padded = |first: &[u8], padding: usize, info: &[u8], rest: usize| {
        [first, &vec![0xFF; padding], &[0], info, &digest, &vec![0; rest]].concat()
    };
    let good = padded(&[0, 1], 202, info, 0);
    assert!(public.verify(scheme, MESSAGE, &raw(&key, &good)));
    // Bytes behind the digest (Bleichenbacher, 2006), block type 2 and 0, no NULL, a hole in the padding.
    let mut hole = good.clone();
    hole[100] = 0xFE;
    let variants = [padded(&[0, 1], 8, info, 194), padded(&[0, 2], 202, info, 0), padded(&[0, 0], 202, info, 0), hole];
    for bad in variants.into_iter().chain([padded(&[0, 1], 204, without_null, 0)]) {
        assert_eq!(bad.len(), 256);
        assert!(!public.verify(scheme, MESSAGE, &raw(&key, &bad)));
    }
}

#[test]
fn every_flipped_bit_of_a_pss_signature_s_content_is_refused() {
    let key = rsa_key(2048);
    let public = public(&key);
    let good = pss(&key, Hash::Sha256, 32, MESSAGE);
    let opened = BigUint::from_bytes_be(&good).modpow(key.e(), key.n()).to_bytes_be();
    let opened = [vec![0; 256 - opened.len()], opened].concat();
    assert!(public.verify(Scheme::RsaPss(Hash::Sha256), MESSAGE, &raw(&key, &opened)));
    for at in [0, 1, 100, 190, 191, 192, 222, 223, 224, 254, 255] {
        let mut bad = opened.clone();
        bad[at] ^= if at == 0 { 0x80 } else { 1 };
        // What is above the modulus cannot be signed.
        if BigUint::from_bytes_be(&bad) < *key.n() {
            assert!(!public.verify(Scheme::RsaPss(Hash::Sha256), MESSAGE, &raw(&key, &bad)), "{at}");
        }
    }
}

#[test]
fn rsa_keys_that_are_too_small_too_large_or_of_no_use_are_refused() {
    let n = rsa_key(2048).n().to_bytes_be();
    let mut even = n.clone();
    even[255] &= 0xFE;
    let mut small = n.clone();
    small[0] = 0x7F;
    let large = [&[1][..], &vec![1; 1024]].concat();
    for (n, e, expected) in [
        (&n, &[1, 0, 1][..], Ok(())),
        (&n, &[0, 0, 0, 3], Ok(())),
        (&n, &[0xFF, 0xFF, 0xFF, 0xFF], Ok(())),
        (&n, &[], Err(InvalidKey::RsaExponent)),
        (&n, &[1], Err(InvalidKey::RsaExponent)),
        (&n, &[1, 0, 0], Err(InvalidKey::RsaExponent)),
        (&n, &[1, 0, 0, 0, 1], Err(InvalidKey::RsaExponent)),
        (&n, &[1; 9], Err(InvalidKey::RsaExponent)),
        (&even, &[1, 0, 1], Err(InvalidKey::RsaModulus)),
        (&small, &[1, 0, 1], Err(InvalidKey::RsaSize)),
        (&large, &[1, 0, 1], Err(InvalidKey::RsaSize)),
        (&Vec::new(), &[1, 0, 1], Err(InvalidKey::RsaModulus)),
        (&vec![1; 1024], &[1, 0, 1], Ok(())),
    ] {
        assert_eq!(PublicKey::rsa(n, e).map(|_| ()), expected, "{} {e:?}", n.len());
    }
}

#[test]
fn ecdsa_signatures_of_every_curve_and_hash_hold_and_no_other_key_or_scheme_takes_them() {
    for curve in CURVES {
        let (other, _) = curve_key(curve, 99);
        let other = PublicKey::ec(curve, &other).unwrap();
        for seed in 0..4 {
            let (point, sign) = curve_key(curve, seed);
            let key = PublicKey::ec(curve, &point).unwrap();
            // The signing crate refuses a digest below half the order's length.
            for hash in HASHES.into_iter().filter(|it| (curve, *it) != (Curve::P521, Hash::Sha256)) {
                let (fixed, der) = sign(&hash.digest(&[MESSAGE]));
                let (scheme, der_scheme) = (Scheme::Ecdsa(curve, hash), Scheme::EcdsaDer(curve, hash));
                assert!(key.verify(scheme, MESSAGE, &fixed), "{curve:?} {hash:?} {seed}");
                assert!(key.verify(der_scheme, MESSAGE, &der), "{curve:?} {hash:?} {seed}");
                assert!(!key.verify(scheme, b"header.payloae", &fixed));
                assert!(!key.verify(scheme, MESSAGE, &der));
                assert!(!key.verify(der_scheme, MESSAGE, &fixed));
                assert!(!other.verify(scheme, MESSAGE, &fixed));
                for wrong in CURVES.into_iter().filter(|it| *it != curve) {
                    assert!(!key.verify(Scheme::Ecdsa(wrong, hash), MESSAGE, &fixed));
                }
            }
        }
    }
}

#[test]
fn numbers_of_an_ecdsa_signature_are_above_zero_and_below_the_order() {
    for curve in CURVES {
        let (point, sign) = curve_key(curve, 1);
        let key = PublicKey::ec(curve, &point).unwrap();
        let scheme = Scheme::Ecdsa(curve, Hash::Sha512);
        let (good, _) = sign(&Hash::Sha512.digest(&[MESSAGE]));
        let half = fixed_len(curve) / 2;
        let (r, s) = good.split_at(half);
        let (zero, order) = (vec![0; half], order(curve));
        let most = vec![0xFF; half];
        for (bad_r, bad_s) in [(&zero[..], s), (r, &zero), (&zero, &zero), (&order, s), (r, &order), (&order, &order)]
            .into_iter()
            .chain([(&most[..], s), (r, &most), (s, r), (&zero, &order), (&order, &zero)])
        {
            assert!(!key.verify(scheme, MESSAGE, &[bad_r, bad_s].concat()), "{curve:?}");
        }
        for bad in [&[][..], r, &good[1..], &[&[0], good.as_slice()].concat(), &[good.as_slice(), &[0]].concat()] {
            assert!(!key.verify(scheme, MESSAGE, bad), "{curve:?} {}", bad.len());
        }
        // Both halves of the range: no one asks JWS for a low s.
        let negative = (BigUint::from_bytes_be(&order) - BigUint::from_bytes_be(s)).to_bytes_be();
        let negative = [vec![0; half - negative.len()], negative].concat();
        assert!(key.verify(scheme, MESSAGE, &[r, &negative].concat()), "{curve:?}");
    }
}

#[test]
fn only_der_is_read_as_der() {
    let (point, sign) = curve_key(Curve::P256, 3);
    let key = PublicKey::ec(Curve::P256, &point).unwrap();
    let (fixed, good) = sign(&Hash::Sha256.digest(&[MESSAGE]));
    let verify = |der: &[u8]| key.verify(Scheme::EcdsaDer(Curve::P256, Hash::Sha256), MESSAGE, der);
    assert!(verify(&good));
    for at in 0..good.len() {
        assert!(!verify(&good[..at]), "cut at {at}");
    }
    assert!(!verify(&[good.as_slice(), &[0]].concat()), "bytes behind it");
    let pair = |r: &[u8], s: &[u8]| {
        let number = |it: &[u8]| [&[2, u8::try_from(it.len()).unwrap()], it].concat();
        let body = [number(r), number(s)].concat();
        [&[0x30, u8::try_from(body.len()).unwrap()], body.as_slice()].concat()
    };
    let (r, s) = fixed.split_at(32);
    assert!(!verify(&pair(&[&[0, 0], r].concat(), s)), "needless zeros");
    assert!(!verify(&pair(&[], s)), "no number");
    assert!(!verify(&pair(&[0x80], s)), "a negative number");
    assert!(!verify(&pair(&[&[1], r].concat(), s)), "33 bytes");
    let long_form = [&[0x30, 0x81, good[1]], &good[2..]].concat();
    assert!(!verify(&long_form), "a length in more bytes than it needs");
    let third = [&[0x30, good[1] + 3], &good[2..], &[2, 1, 1]].concat();
    assert!(!verify(&third), "a third number");
}

#[test]
fn points_are_uncompressed_and_on_their_curve() {
    for curve in CURVES {
        let (point, _) = curve_key(curve, 2);
        let half = fixed_len(curve) / 2;
        assert!(PublicKey::ec(curve, &point).is_ok());
        let compressed = [&[2 + (point[2 * half] & 1)], &point[1..=half]].concat();
        let mut moved = point.clone();
        moved[2 * half] ^= 1;
        let mut hybrid = point.clone();
        hybrid[0] = 6;
        let above = [&[4][..], &vec![0xFF; 2 * half]].concat();
        let origin = [&[4][..], &vec![0; 2 * half]].concat();
        let longer = [point.as_slice(), &[0]].concat();
        for bad in [&[][..], &[0], &[4], &point[1..], &compressed, &moved, &hybrid, &above, &origin, &longer] {
            assert_eq!(PublicKey::ec(curve, bad), Err(InvalidKey::Point), "{curve:?}");
        }
        for other in CURVES.into_iter().filter(|it| *it != curve) {
            assert!(PublicKey::ec(other, &point).is_err());
        }
        // One that came by another way than `ec` verifies nothing either.
        let unchecked = PublicKey::Ec { curve, point: moved };
        assert!(!unchecked.verify(Scheme::Ecdsa(curve, Hash::Sha512), MESSAGE, &vec![1; 2 * half]));
    }
}

#[test]
fn equal_and_opposite_multiples_are_added_like_any_others() {
    use p256::elliptic_curve::sec1::ToEncodedPoint as _;
    // The base point as key: multiples of both tables coincide, and are each other's negatives.
    for curve in CURVES {
        let base = match curve {
            Curve::P256 => p256::AffinePoint::GENERATOR.to_encoded_point(false).as_bytes().to_vec(),
            Curve::P384 => p384::AffinePoint::GENERATOR.to_encoded_point(false).as_bytes().to_vec(),
            Curve::P521 => p521::AffinePoint::GENERATOR.to_encoded_point(false).as_bytes().to_vec(),
        };
        let order = BigUint::from_bytes_be(&order(curve));
        let half = fixed_len(curve) / 2;
        let digest = Hash::Sha512.digest(&[MESSAGE]);
        let digest = BigUint::from_bytes_be(&digest[..half.min(64)]);
        let key = PublicKey::ec(curve, &base).unwrap();
        // The secret is 1. With the nonce 1, r is the base point's x and s = digest + r.
        let r = BigUint::from_bytes_be(&base[1..=half]) % &order;
        let s = (&digest + &r) % &order;
        let wide = |it: &BigUint| [vec![0; half - it.to_bytes_be().len()], it.to_bytes_be()].concat();
        assert!(key.verify(Scheme::Ecdsa(curve, Hash::Sha512), MESSAGE, &[wide(&r), wide(&s)].concat()), "{curve:?}");
        // r = -digest: u1 = -u2, so the sum is infinity, which is nobody's signature.
        let r = &order - (&digest % &order);
        let scheme = Scheme::Ecdsa(curve, Hash::Sha512);
        assert!(!key.verify(scheme, MESSAGE, &[wide(&r), wide(&s)].concat()), "{curve:?}");
    }
}

#[test]
fn an_x_coordinate_above_the_order_is_found() {
    // Nobody meets one by chance: a point with such an x, and the key whose signature leads to it.
    macro_rules! check {
        ($curve:expr, $crate_name:ident, $hash:expr) => {{
            use generic::{PrimeField as _, point::DecompressPoint as _, sec1::ToEncodedPoint as _};
            use $crate_name::{AffinePoint, FieldBytes, ProjectivePoint, Scalar, elliptic_curve as generic};
            let half = fixed_len($curve) / 2;
            let wide = |it: &[u8]| [vec![0; half - it.len()].as_slice(), it].concat();
            let order = BigUint::from_bytes_be(&order($curve));
            let found = (1_u64..).find_map(|r| {
                let x = wide(&(&order + r).to_bytes_be());
                let point = AffinePoint::decompress(FieldBytes::from_slice(&x), 0.into());
                Option::<AffinePoint>::from(point).map(|point| (r, point))
            });
            let (r, point) = found.unwrap();
            let digest = FieldBytes::clone_from_slice(&wide(&$hash.digest(&[MESSAGE])));
            // With s = 1 the sum is digest * base + r * key.
            let rest = ProjectivePoint::from(point) - ProjectivePoint::GENERATOR * Scalar::from_repr(digest).unwrap();
            let key = (rest * Scalar::from(r).invert().unwrap()).to_affine().to_encoded_point(false);
            let key = PublicKey::ec($curve, key.as_bytes()).unwrap();
            let signature = |r: u64| [wide(&r.to_be_bytes()), wide(&[1])].concat();
            let scheme = Scheme::Ecdsa($curve, $hash);
            assert!(key.verify(scheme, MESSAGE, &signature(r)), "{:?}", $curve);
            assert!(!key.verify(scheme, MESSAGE, &signature(r + 1)), "{:?}", $curve);
        }};
    }
    check!(Curve::P256, p256, Hash::Sha256);
    check!(Curve::P384, p384, Hash::Sha384);
    check!(Curve::P521, p521, Hash::Sha512);
}

#[test]
fn ed25519_signatures_hold_and_are_strict() {
    let signing = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let key = PublicKey::ed25519(signing.verifying_key().as_bytes()).unwrap();
    let good = signing.sign(MESSAGE).to_bytes();
    assert!(key.verify(Scheme::Ed25519, MESSAGE, &good));
    assert!(!key.verify(Scheme::Ed25519, b"header.payloae", &good));
    for at in 0..64 {
        let mut bad = good;
        bad[at] ^= 1;
        assert!(!key.verify(Scheme::Ed25519, MESSAGE, &bad), "{at}");
    }
    // s + L is congruent, and another text.
    let order = b"\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x14\xde\xf9\xde\xa2\xf7\x9c\xd6\x58\x12\x63\x1a\x5c\xf5\xd3\xed";
    let s: Vec<u8> = good[32..].iter().rev().copied().collect();
    let above = (BigUint::from_bytes_be(&s) + BigUint::from_bytes_be(order)).to_bytes_le();
    let mut malleable = good;
    malleable[32..].copy_from_slice(&above);
    assert!(!key.verify(Scheme::Ed25519, MESSAGE, &malleable));
    for bad in [&[][..], &good[..63], &[good.as_slice(), &[0]].concat()] {
        assert!(!key.verify(Scheme::Ed25519, MESSAGE, bad));
    }
}

#[test]
fn weak_ed25519_keys_and_texts_that_are_no_point_are_refused() {
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut no_point = [0; 32];
    no_point[0] = 2;
    for bad in [&identity[..], &[0; 32], &no_point, &[1; 31], &[1; 33], &[]] {
        assert_eq!(PublicKey::ed25519(bad), Err(InvalidKey::Ed25519), "{bad:?}");
    }
    // With a key of small order, s = 0 and R = A would fit every message.
    let forged = [identity, [0; 32]].concat();
    assert!(!PublicKey::Ed25519(identity).verify(Scheme::Ed25519, MESSAGE, &forged));
}

#[test]
fn the_example_of_rfc_8037_holds() {
    let key = b"\xd7\x5a\x98\x01\x82\xb1\x0a\xb7\xd5\x4b\xfe\xd3\xc9\x64\x07\x3a\x0e\xe1\x72\xf3\xda\xa6\x23\x25\xaf\x02\x1a\x68\xf7\x07\x51\x1a";
    let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    assert!(PublicKey::ed25519(key).unwrap().verify(Scheme::Ed25519, message, &signature));
}
