//! Chains that hold, and every way in which one does not.

use std::cell::RefCell;

use rcgen::{
    BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, PKCS_RSA_SHA256, PKCS_RSA_SHA384, PKCS_RSA_SHA512, date_time_ymd,
};
use rsa::{
    pkcs1v15,
    sha2::{Sha256, Sha384, Sha512},
    signature::{SignatureEncoding as _, Signer as _},
};

use super::super::test_chains::{
    FROM, Holder, NOW, TO, assemble, ca_params, extension, header, key, leaf_params, parts, tlv,
};
use super::*;
use crate::crypto::test_keys::rsa_key;

fn verify<D: AsRef<[u8]>>(sent: &[D], roots: &[&Holder]) -> Result<(), InvalidChain> {
    verify_at(sent, roots, NOW)
}

fn verify_at<D: AsRef<[u8]>>(sent: &[D], roots: &[&Holder], now: u64) -> Result<(), InvalidChain> {
    let roots: Vec<_> = roots.iter().map(|root| root.as_root()).collect();
    verify_chain(&header(sent), &roots, now, &())
}

fn path_length(name: &str, most: u8) -> rcgen::CertificateParams {
    let mut params = ca_params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(most));
    params
}

// === what holds ===

#[test]
fn a_chain_holds_with_every_algorithm_and_any_mixture_of_them() {
    let algorithms = [
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ED25519,
        &PKCS_RSA_SHA256,
        &PKCS_RSA_SHA384,
        &PKCS_RSA_SHA512,
    ];
    for (at, algorithm) in algorithms.into_iter().enumerate() {
        let root = Holder::root_with(ca_params("root"), algorithm);
        assert_eq!(verify(&[root.leaf()], &[&root]), Ok(()), "{algorithm:?}");
        let below = root.issue_with(ca_params("below"), algorithms[(at + 1) % algorithms.len()]);
        assert_eq!(verify(&[below.leaf(), below.der], &[&root]), Ok(()), "{algorithm:?}");
    }
}

#[test]
fn a_chain_holds_on_p521() {
    use p521::ecdsa::{Signature, SigningKey, signature::hazmat::RandomizedPrehashSigner as _};
    let algorithm = tlv(0x30, &tlv(0x06, &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x04]));
    let key = SigningKey::from_slice(&[1; 66]).unwrap();
    let point = p521::ecdsa::VerifyingKey::from(&key).to_encoded_point(false);
    let curve = [tlv(0x06, &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01]), tlv(0x06, &[0x2B, 0x81, 0x04, 0x00, 0x23])];
    let info = tlv(0x30, &[tlv(0x30, &curve.concat()), tlv(0x03, &[&[0], point.as_bytes()].concat())].concat());
    let root = Holder::root("root");
    let root_der = root.resign(&root.der, |fields| fields[6] = info);
    let signed = tlv(0x30, &{
        let mut fields = parts(&parts(&root.leaf())[0]);
        fields[2].clone_from(&algorithm);
        fields.concat()
    });
    let digest = <rsa::sha2::Sha512 as rsa::sha2::Digest>::digest(&signed);
    let signature: Signature = key.sign_prehash_with_rng(&mut Numbers(1), &digest).unwrap();
    let leaf = assemble(&signed, &algorithm, signature.to_der().as_bytes());
    let roots = [CaRoot::from_der(&root_der).unwrap()];
    assert_eq!(verify_chain(&header(&[&leaf]), &roots, NOW, &()), Ok(()));
    // Below a root of the same name with another key and curve.
    assert_eq!(verify_chain(&header(&[&leaf]), &[root.as_root()], NOW, &()), Err(InvalidChain::Signature));
}

#[test]
fn intermediates_may_come_in_any_order_and_with_what_is_not_needed() {
    let (root, stranger) = (Holder::root("root"), Holder::root("stranger"));
    let one = root.ca("one");
    let two = one.ca("two");
    let leaf = two.leaf();
    for others in [
        vec![&two.der, &one.der],
        vec![&one.der, &two.der],
        vec![&root.der, &one.der, &two.der],
        vec![&stranger.der, &two.der, &one.der, &two.der, &stranger.der],
    ] {
        let sent: Vec<_> = [&leaf].into_iter().chain(others).collect();
        assert_eq!(verify(&sent, &[&root]), Ok(()));
    }
}

#[test]
fn in_a_rotation_any_root_may_end_a_chain_and_a_cross_signed_one_leads_to_the_old() {
    let (old, new) = (Holder::root("old"), Holder::root("new"));
    assert_eq!(verify(&[old.leaf()], &[&old, &new]), Ok(()));
    assert_eq!(verify(&[new.leaf()], &[&old, &new]), Ok(()));
    // Who knows the old root only is shown the new one's certificate by the old one.
    let crossed = old.certify(&new.params, &new.key);
    assert_eq!(verify(&[&new.leaf(), &crossed], &[&old]), Ok(()));
    assert_eq!(verify(&[&new.leaf(), &crossed], &[&old, &new]), Ok(()));
    // Two roots of one name, as a CA that makes itself a new key without a new name has.
    let twin = Holder::root("old");
    assert_eq!(verify(&[old.leaf()], &[&twin, &old]), Ok(()));
    assert_eq!(verify(&[twin.leaf()], &[&old, &twin]), Ok(()));
}

#[test]
fn a_leaf_without_a_name_or_without_purposes_holds() {
    let root = Holder::root("root");
    let mut params = leaf_params();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let leaf = root.certify(&params, &key(&PKCS_ED25519));
    assert_eq!(verify(&[&leaf], &[&root]), Ok(()), "the names are critical then");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
    assert_eq!(verify(&[root.issue(params.clone()).der], &[&root]), Ok(()));
    params.extended_key_usages = vec![];
    params.key_usages = vec![];
    params.is_ca = IsCa::NoCa;
    assert_eq!(verify(&[root.issue(params).der], &[&root]), Ok(()));
}

#[test]
fn validity_is_inclusive_for_every_certificate() {
    // Each of the three is the one with the narrow validity in turn.
    for narrow in 0..3 {
        let narrowed = |at: usize, mut params: rcgen::CertificateParams| {
            if at == narrow {
                (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2036, 1, 1));
            } else {
                (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2100, 1, 1));
            }
            params
        };
        let root = Holder::root_with(narrowed(0, ca_params("root")), &PKCS_ECDSA_P256_SHA256);
        let below = root.issue(narrowed(1, ca_params("below")));
        let leaf = below.issue(narrowed(2, leaf_params())).der;
        for (now, expected) in [
            (FROM - 1, Err(InvalidChain::NotInForce)),
            (FROM, Ok(())),
            (TO, Ok(())),
            (TO + 1, Err(InvalidChain::NotInForce)),
        ] {
            assert_eq!(verify_at(&[&leaf, &below.der], &[&root], now), expected, "certificate {narrow} at {now}");
        }
    }
}

// === what does not hold ===

#[test]
fn what_is_not_signed_by_a_known_root_is_refused() {
    let (root, stranger) = (Holder::root("root"), Holder::root("stranger"));
    let impostor = Holder::root("root");
    let below = root.ca("below");
    let leaf = below.leaf();
    let own = Holder::root_with(leaf_params(), &PKCS_ECDSA_P256_SHA256);
    let mut as_root = leaf_params();
    as_root.distinguished_name = root.params.distinguished_name.clone();
    let self_signed = Holder::root_with(as_root, &PKCS_ECDSA_P256_SHA256);
    for (what, sent, roots, why) in [
        ("no root", vec![root.leaf()], vec![], InvalidChain::UnknownIssuer),
        ("another root", vec![stranger.leaf()], vec![&root], InvalidChain::UnknownIssuer),
        (
            "another root, sent along",
            vec![stranger.leaf(), stranger.der.clone()],
            vec![&root],
            InvalidChain::UnknownIssuer,
        ),
        ("a root of the same name", vec![impostor.leaf()], vec![&root], InvalidChain::Signature),
        ("the same, sent along", vec![impostor.leaf(), impostor.der.clone()], vec![&root], InvalidChain::Signature),
        ("no intermediate", vec![leaf.clone()], vec![&root], InvalidChain::UnknownIssuer),
        ("not the leaf first", vec![below.der.clone(), leaf.clone()], vec![&root], InvalidChain::NotForClients),
        ("self-signed", vec![own.der.clone()], vec![&root], InvalidChain::UnknownIssuer),
        ("self-signed, in the root's name", vec![self_signed.der], vec![&root], InvalidChain::Signature),
        ("the root as the leaf", vec![root.der.clone()], vec![&root], InvalidChain::NotForClients),
        ("its own issuer", vec![own.der.clone(), own.der], vec![&root], InvalidChain::NotAnIssuer),
    ] {
        assert_eq!(verify(&sent, &roots), Err(why), "{what}");
    }
}

#[test]
fn an_issuer_must_be_one() {
    let root = Holder::root("root");
    let constrained = |edit: &dyn Fn(&mut rcgen::CertificateParams)| {
        let mut params = ca_params("below");
        edit(&mut params);
        let below = root.issue(params);
        verify(&[below.leaf(), below.der], &[&root])
    };
    assert_eq!(constrained(&|_| {}), Ok(()));
    for (what, edit, why) in [
        (
            "not a CA",
            (|params| params.is_ca = IsCa::ExplicitNoCa) as fn(&mut rcgen::CertificateParams),
            InvalidChain::NotAnIssuer,
        ),
        ("nothing about CAs", |params| params.is_ca = IsCa::NoCa, InvalidChain::NotAnIssuer),
        ("no key usage", |params| params.key_usages = vec![], InvalidChain::NotAnIssuer),
        (
            "a key that may not sign certificates",
            |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign],
            InvalidChain::NotAnIssuer,
        ),
        (
            "for servers only",
            |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
            InvalidChain::NotAnIssuer,
        ),
        ("expired", |params| params.not_after = date_time_ymd(2026, 6, 1), InvalidChain::NotInForce),
        ("of the future", |params| params.not_before = date_time_ymd(2027, 1, 1), InvalidChain::NotInForce),
        (
            "constraints on names",
            |params| {
                params.name_constraints = Some(rcgen::NameConstraints {
                    permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("consul".to_owned())],
                    excluded_subtrees: vec![],
                });
            },
            InvalidChain::Restricted,
        ),
    ] {
        assert_eq!(constrained(&edit), Err(why), "{what}");
    }
    // A leaf as an issuer: what anybody with a certificate could try.
    let web = root.issue(leaf_params());
    assert_eq!(verify(&[web.leaf(), web.der], &[&root]), Err(InvalidChain::NotAnIssuer));
}

#[test]
fn a_leaf_must_be_a_client_s_and_nothing_more() {
    let root = Holder::root("root");
    let leaf = |edit: fn(&mut rcgen::CertificateParams)| {
        let mut params = leaf_params();
        edit(&mut params);
        verify(&[root.issue(params).der], &[&root])
    };
    for (what, edit, why) in [
        (
            "a CA",
            (|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)) as fn(&mut rcgen::CertificateParams),
            InvalidChain::NotForClients,
        ),
        (
            "for servers only",
            |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
            InvalidChain::NotForClients,
        ),
        (
            "a key that may sign certificates",
            |params| params.key_usages.push(KeyUsagePurpose::KeyCertSign),
            InvalidChain::NotForClients,
        ),
        (
            "a key that may not sign handshakes",
            |params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
            InvalidChain::NotForClients,
        ),
        ("expired", |params| params.not_after = date_time_ymd(2026, 6, 1), InvalidChain::NotInForce),
        ("of the future", |params| params.not_before = date_time_ymd(2027, 1, 1), InvalidChain::NotInForce),
    ] {
        assert_eq!(leaf(edit), Err(why), "{what}");
    }
}

#[test]
fn no_more_cas_stand_below_one_than_it_allows() {
    let check = |root_allows: Option<u8>, one_allows: Option<u8>, n_below: usize| {
        let params =
            |name: &str, most: Option<u8>| most.map_or_else(|| ca_params(name), |most| path_length(name, most));
        let root = Holder::root_with(params("root", root_allows), &PKCS_ECDSA_P256_SHA256);
        let mut last = root.issue(params("one", one_allows));
        let mut others = vec![last.der.clone()];
        for n in 0..n_below {
            last = last.ca(&format!("below {n}"));
            others.push(last.der.clone());
        }
        others.insert(0, last.leaf());
        verify(&others, &[&root])
    };
    let too_long = Err(InvalidChain::PathLength);
    assert_eq!(check(None, None, 3), Ok(()));
    assert_eq!(check(Some(1), None, 0), Ok(()));
    assert_eq!(check(Some(0), None, 0), too_long);
    assert_eq!(check(Some(1), None, 1), too_long);
    assert_eq!(check(None, Some(0), 0), Ok(()));
    assert_eq!(check(None, Some(0), 1), too_long);
    assert_eq!(check(Some(3), Some(2), 2), Ok(()));
    assert_eq!(check(Some(3), Some(1), 2), too_long);
    // The root itself may sign leaves whatever it allows.
    let root = Holder::root_with(path_length("root", 0), &PKCS_ECDSA_P256_SHA256);
    assert_eq!(verify(&[root.leaf()], &[&root]), Ok(()));
}

#[test]
fn a_ca_that_renews_itself_counts_as_one() {
    let root = Holder::root_with(path_length("root", 0), &PKCS_ECDSA_P256_SHA256);
    // The same name with a new key, signed by the old one: self-issued.
    let renewed = root.ca("root");
    assert_eq!(verify(&[renewed.leaf(), renewed.der], &[&root]), Ok(()));
}

#[test]
fn names_are_equal_byte_by_byte() {
    let root = Holder::root("root");
    for name in ["Root", "root ", "roo", ""] {
        let namesake = Holder { params: ca_params(name), key: key(&PKCS_ECDSA_P256_SHA256), der: vec![] };
        assert_eq!(verify(&[namesake.leaf()], &[&root]), Err(InvalidChain::UnknownIssuer), "{name:?}");
    }
}

#[test]
fn an_algorithm_that_does_not_fit_or_is_said_twice_differently_is_refused() {
    const ED25519: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70];
    const SHA1_RSA: &[u8] = &[0x30, 0x0D, 6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 5, 5, 0];
    const ECDSA_SHA384: &[u8] = &[0x30, 0x0A, 6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 3];
    const ECDSA_SHA256_NULL: &[u8] = &[0x30, 0x0C, 6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2, 5, 0];
    let root = Holder::root("root");
    let leaf = root.leaf();
    let named = |inner: &[u8], outer: &[u8]| {
        let der = root.resign(&leaf, |fields| fields[2] = inner.to_vec());
        let [signed, _, signature] = parts(&der).try_into().unwrap();
        let der = tlv(0x30, &[&signed[..], outer, &signature].concat());
        verify(&[der], &[&root])
    };
    let right = parts(&leaf)[1].clone();
    assert_eq!(named(&right, &right), Ok(()));
    assert_eq!(named(&right, ED25519), Err(InvalidChain::Unreadable), "inside and outside differ");
    assert_eq!(named(ECDSA_SHA384, &right), Err(InvalidChain::Unreadable), "inside and outside differ");
    for algorithm in [ED25519, SHA1_RSA, ECDSA_SHA256_NULL] {
        assert_eq!(named(algorithm, algorithm), Err(InvalidChain::Algorithm), "{algorithm:x?}");
    }
    assert_eq!(named(ECDSA_SHA384, ECDSA_SHA384), Err(InvalidChain::Signature), "made over another hash");
}

/// A leaf below an RSA root, signed by its key in any way.
fn signed_by_rsa(algorithm: &[u8], sign: impl Fn(&[u8]) -> Vec<u8>) -> Result<(), InvalidChain> {
    let root = Holder::root_with(ca_params("root"), &PKCS_RSA_SHA256);
    let mut fields = parts(&parts(&root.leaf())[0]);
    fields[2] = algorithm.to_vec();
    let signed = tlv(0x30, &fields.concat());
    verify(&[assemble(&signed, algorithm, &sign(&signed))], &[&root])
}

#[test]
fn rsa_pss_holds_with_one_hash_throughout_and_a_salt_of_its_length() {
    const PSS: [u8; 11] = [6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 0x0A];
    fn sign<D>(message: &[u8]) -> Vec<u8>
    where
        D: 'static + rsa::sha2::Digest + rsa::sha2::digest::DynDigest + Send + Sync,
    {
        let digest = D::digest(message);
        let padding = rsa::pss::Pss::new_with_salt::<D>(<D as rsa::sha2::Digest>::output_size());
        rsa_key(2048).sign_with_rng(&mut Numbers(1), padding, &digest).unwrap()
    }
    let identifier = |hash: u8, mgf_hash: u8, salt: u8| {
        let hash_id = |id: u8| tlv(0x30, &[&tlv(6, &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, id])[..], &[5, 0]].concat());
        let mgf = [&tlv(6, &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 8])[..], &hash_id(mgf_hash)].concat();
        let parameters = [tlv(0xA0, &hash_id(hash)), tlv(0xA1, &tlv(0x30, &mgf)), tlv(0xA2, &tlv(2, &[salt]))].concat();
        tlv(0x30, &[&PSS[..], &tlv(0x30, &parameters)].concat())
    };
    assert_eq!(signed_by_rsa(&identifier(1, 1, 32), sign::<Sha256>), Ok(()));
    assert_eq!(signed_by_rsa(&identifier(2, 2, 48), sign::<Sha384>), Ok(()));
    assert_eq!(signed_by_rsa(&identifier(3, 3, 64), sign::<Sha512>), Ok(()));
    assert_eq!(signed_by_rsa(&identifier(2, 2, 48), sign::<Sha256>), Err(InvalidChain::Signature));
    for other in [identifier(1, 2, 32), identifier(1, 1, 20), tlv(0x30, &PSS), tlv(0x30, &[&PSS[..], &[5, 0]].concat())]
    {
        assert_eq!(signed_by_rsa(&other, sign::<Sha256>), Err(InvalidChain::Algorithm));
    }
}

#[test]
fn rsa_with_or_without_null_parameters_is_the_same_and_other_parameters_are_not() {
    const SHA256_RSA: [u8; 11] = [6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 0x0B];
    let sign = |message: &[u8]| pkcs1v15::SigningKey::<Sha256>::new(rsa_key(2048)).sign(message).to_vec();
    assert_eq!(signed_by_rsa(&tlv(0x30, &[&SHA256_RSA[..], &[5, 0]].concat()), sign), Ok(()));
    assert_eq!(signed_by_rsa(&tlv(0x30, &SHA256_RSA), sign), Ok(()));
    let other = tlv(0x30, &[&SHA256_RSA[..], &[2, 1, 0]].concat());
    assert_eq!(signed_by_rsa(&other, sign), Err(InvalidChain::Algorithm));
}

/// Not random, which is all that a test wants.
struct Numbers(u8);

impl rsa::rand_core::RngCore for Numbers {
    fn next_u32(&mut self) -> u32 {
        rsa::rand_core::impls::next_u32_via_fill(self)
    }
    fn next_u64(&mut self) -> u64 {
        rsa::rand_core::impls::next_u64_via_fill(self)
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(29).wrapping_add(17);
            *byte = self.0;
        }
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl rsa::rand_core::CryptoRng for Numbers {}

// === extensions ===

#[test]
fn what_is_critical_and_unknown_is_refused_wherever_it_stands() {
    const UNKNOWN: &[u8] = &[0x2A, 0x03, 0x04];
    const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1D, 0x1E];
    let root = Holder::root("root");
    let below = root.ca("below");
    let leaf = below.leaf();
    for (oid, is_critical, expected) in [
        (UNKNOWN, false, Ok(())),
        (UNKNOWN, true, Err(InvalidChain::Restricted)),
        (NAME_CONSTRAINTS, true, Err(InvalidChain::Restricted)),
        (NAME_CONSTRAINTS, false, Err(InvalidChain::Restricted)),
    ] {
        let added = |extensions: &mut Vec<Vec<u8>>| extensions.push(extension(oid, is_critical, &[0x30, 0]));
        let odd_leaf = below.resign_extensions(&leaf, added);
        assert_eq!(verify(&[&odd_leaf, &below.der], &[&root]), expected, "leaf, {oid:x?}, {is_critical}");
        let odd_below = root.resign_extensions(&below.der, added);
        assert_eq!(verify(&[&leaf, &odd_below], &[&root]), expected, "intermediate, {oid:x?}, {is_critical}");
        let odd_root = root.resign_extensions(&root.der, added);
        let expected = expected.map_err(|_| super::super::InvalidRoot::Restricted);
        assert_eq!(CaRoot::from_der(&odd_root).map(drop), expected, "root, {oid:x?}, {is_critical}");
    }
}

#[test]
fn extensions_that_are_malformed_or_there_twice_are_refused() {
    const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1D, 0x13];
    const KEY_USAGE: &[u8] = &[0x55, 0x1D, 0x0F];
    let root = Holder::root("root");
    let leaf = root.leaf();
    let mut bare = leaf_params();
    (bare.is_ca, bare.key_usages) = (IsCa::NoCa, vec![]);
    let bare = root.issue(bare).der;
    assert_eq!(verify(&[&bare], &[&root]), Ok(()));
    for (what, der) in [
        ("one twice", root.resign_extensions(&leaf, |list| list.push(list[0].clone()))),
        ("two lists", root.resign(&leaf, |fields| fields.push(fields[7].clone()))),
        ("a field behind them", root.resign(&leaf, |fields| fields.push(vec![5, 0]))),
        ("a unique identifier", root.resign(&leaf, |fields| fields.insert(7, vec![0x81, 2, 0, 1]))),
        ("version 1", root.resign(&leaf, |fields| drop(fields.remove(0)))),
        ("version 2", root.resign(&leaf, |fields| fields[0] = vec![0xA0, 3, 2, 1, 1])),
        (
            "many",
            root.resign_extensions(&leaf, |list| list.extend((0..40).map(|n| extension(&[0x2A, 3, n], false, &[])))),
        ),
        (
            "truth that is not DER",
            root.resign_extensions(&bare, |list| list.push(extension(BASIC_CONSTRAINTS, true, &[0x30, 3, 1, 1, 1]))),
        ),
        (
            "a path length without a CA",
            root.resign_extensions(&bare, |list| list.push(extension(BASIC_CONSTRAINTS, true, &[0x30, 3, 2, 1, 0]))),
        ),
        (
            "something behind an extension's value",
            root.resign_extensions(&bare, |list| list.push(extension(BASIC_CONSTRAINTS, true, &[0x30, 0, 5, 0]))),
        ),
        (
            "a key usage that is none",
            root.resign_extensions(&bare, |list| list.push(extension(KEY_USAGE, true, &[0x30, 0]))),
        ),
        ("an extension without a value", root.resign_extensions(&bare, |list| list.push(tlv(0x30, &[6, 1, 0x2A])))),
    ] {
        assert_eq!(verify(&[der], &[&root]), Err(InvalidChain::Unreadable), "{what}");
    }
    let nothing_allowed = root.resign_extensions(&bare, |list| list.push(extension(KEY_USAGE, true, &[3, 1, 0])));
    assert_eq!(verify(&[nothing_allowed], &[&root]), Err(InvalidChain::NotForClients));
}

// === hostile bytes ===

#[test]
fn a_flip_anywhere_in_any_certificate_is_refused() {
    let root = Holder::root_with(ca_params("root"), &PKCS_ED25519);
    let below = root.issue_with(ca_params("below"), &PKCS_ED25519);
    let (sent, roots) = ([below.leaf(), below.der], [root.as_root()]);
    assert_eq!(verify_chain(&header(&sent), &roots, NOW, &()), Ok(()));
    for certificate in 0..sent.len() {
        for at in 0..sent[certificate].len() {
            let mut bent = sent.clone();
            bent[certificate][at] ^= 1 << (at % 8);
            assert!(verify_chain(&header(&bent), &roots, NOW, &()).is_err(), "{at} of certificate {certificate}");
        }
    }
}

#[test]
fn a_certificate_that_is_cut_or_goes_on_is_refused() {
    let root = Holder::root("root");
    let below = root.ca("below");
    let sent = [below.leaf(), below.der];
    for certificate in 0..sent.len() {
        for len in 0..sent[certificate].len() {
            let mut cut = sent.clone();
            cut[certificate].truncate(len);
            assert_eq!(verify(&cut, &[&root]), Err(InvalidChain::Unreadable), "{certificate} cut at {len}");
        }
        let mut longer = sent.clone();
        longer[certificate].push(0);
        assert_eq!(verify(&longer, &[&root]), Err(InvalidChain::Unreadable));
    }
}

#[test]
fn a_header_that_is_no_list_of_certificates_is_refused() {
    let root = Holder::root("root");
    let good = header(&[root.leaf()]);
    let roots = [root.as_root()];
    assert_eq!(verify_chain(&good, &roots, NOW, &()), Ok(()));
    for bad in [&b""[..], b",", b"AAAA", b"-----BEGIN CERTIFICATE-----", b"%2B", b"\xff\xfe"] {
        assert_eq!(verify_chain(bad, &roots, NOW, &()), Err(InvalidChain::Unreadable));
        let behind = [&good[..], b",", bad].concat();
        assert_eq!(verify_chain(&behind, &roots, NOW, &()), Err(InvalidChain::Unreadable));
    }
    for bent in [[&good[..], b" "].concat(), [b" ", &good[..]].concat(), [&good[..], b"\n"].concat()] {
        assert_eq!(verify_chain(&bent, &roots, NOW, &()), Err(InvalidChain::Unreadable));
    }
}
