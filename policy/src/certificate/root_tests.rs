//! What can be a root.

use rcgen::{IsCa, KeyUsagePurpose};

use super::super::test_chains::{Holder, ca_params, leaf_params, pem, tlv};
use super::*;

#[test]
fn a_root_reads_the_same_from_pem_and_der_and_survives_the_snapshot() {
    let root = Holder::root("root");
    let read = CaRoot::from_der(&root.der).unwrap();
    for text in [
        pem(&root.der),
        pem(&root.der).replace('\n', "\r\n"),
        pem(&root.der).trim_end().to_owned(),
        format!("subject: CN = root\n\n{}\n", pem(&root.der)),
    ] {
        assert_eq!(CaRoot::from_pem(&text), Ok(read.clone()), "{text}");
    }
    let bytes = postcard::to_allocvec(&read).unwrap();
    assert_eq!(postcard::from_bytes::<CaRoot>(&bytes).unwrap(), read);
}

#[test]
fn what_is_not_one_block_of_pem_is_no_root() {
    let (one, other) = (pem(&Holder::root("one").der), pem(&Holder::root("other").der));
    for text in [
        String::new(),
        "MIIB".to_owned(),
        one.replace("-----END CERTIFICATE-----", ""),
        one.replace("-----BEGIN CERTIFICATE-----", ""),
        one.replace("CERTIFICATE", "PRIVATE KEY"),
        one.replacen('M', "*", 1),
        format!("{one}{other}"),
        format!("{one}and more"),
        format!("-----BEGIN CERTIFICATE-----{}-----END CERTIFICATE-----", "A".repeat(4 * MAX_DER)),
    ] {
        assert_eq!(CaRoot::from_pem(&text), Err(InvalidRoot::Pem), "{text}");
    }
    let empty = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
    assert_eq!(CaRoot::from_pem(empty), Err(InvalidRoot::Unreadable));
    assert_eq!(CaRoot::from_der(&tlv(0x30, &vec![0; MAX_DER])), Err(InvalidRoot::Unreadable));
}

#[test]
fn only_a_ca_that_may_sign_for_clients_is_a_root() {
    let made = |edit: fn(&mut rcgen::CertificateParams)| {
        let mut params = ca_params("root");
        edit(&mut params);
        CaRoot::from_der(&Holder::root_with(params, &rcgen::PKCS_ECDSA_P256_SHA256).der).map(drop)
    };
    assert_eq!(made(|_| {}), Ok(()));
    // It is the operator who trusts it, so what it does not say is no reason against it.
    assert_eq!(made(|params| params.key_usages = vec![]), Ok(()));
    assert_eq!(made(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]), Err(InvalidRoot::NotACa));
    assert_eq!(made(|params| params.is_ca = IsCa::NoCa), Err(InvalidRoot::NotACa));
    assert_eq!(
        made(|params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth]),
        Err(InvalidRoot::NotACa)
    );
    let leaf = Holder::root("root").issue(leaf_params()).der;
    assert_eq!(CaRoot::from_der(&leaf), Err(InvalidRoot::NotACa));
}

#[test]
fn a_key_that_is_not_supported_makes_no_root() {
    let root = Holder::root("root");
    // P-224, and an algorithm that nobody has.
    let ec = tlv(6, &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1]);
    for algorithm in [[ec.clone(), tlv(6, &[0x2B, 0x81, 4, 0, 0x21])].concat(), tlv(6, &[0x2A, 3, 4]), ec] {
        let info = tlv(0x30, &[tlv(0x30, &algorithm), tlv(3, &[&[0, 4][..], &[1; 56]].concat())].concat());
        let der = root.resign(&root.der, |fields| fields[6] = info);
        assert_eq!(CaRoot::from_der(&der), Err(InvalidRoot::Key));
    }
}

#[test]
fn every_cut_and_every_flip_of_a_root_is_refused_or_reads_as_some_root_without_panicking() {
    let der = Holder::root("root").der;
    for at in 0..der.len() {
        assert!(CaRoot::from_der(&der[..at]).is_err(), "cut at {at}");
        for flip in [1, 0x20, 0x80, 0xFF] {
            let mut flipped = der.clone();
            flipped[at] ^= flip;
            // A root's own signature is not checked: what is put here is trusted.
            let _ = CaRoot::from_der(&flipped);
        }
    }
}
