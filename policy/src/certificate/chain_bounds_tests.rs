//! Chains that are long, circular or seen before.

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
fn a_long_chain_is_refused_before_it_is_read() {
    let root = Holder::root("root");
    let mut sent = vec![root.leaf()];
    sent.resize(MAX_CERTIFICATES, root.der.clone());
    assert_eq!(verify(&sent, &[&root]), Ok(()));
    sent.push(root.der.clone());
    assert_eq!(verify(&sent, &[&root]), Err(InvalidChain::TooLong));
    assert_eq!(verify_chain(&vec![b','; MAX_HEADER_LEN], &[], NOW, &()), Err(InvalidChain::TooLong));
    assert_eq!(verify_chain(&vec![b'A'; MAX_HEADER_LEN + 1], &[], NOW, &()), Err(InvalidChain::TooLong));
}

#[test]
fn a_chain_is_as_long_as_certificates_may_be_sent() {
    let root = Holder::root("root");
    let mut last = root.ca("0");
    let mut others = vec![last.der.clone()];
    for n in 1..MAX_CERTIFICATES - 1 {
        last = last.ca(&n.to_string());
        others.push(last.der.clone());
    }
    others.insert(0, last.leaf());
    assert_eq!(others.len(), MAX_CERTIFICATES);
    assert_eq!(verify(&others, &[&root]), Ok(()));
}

#[test]
fn certificates_that_sign_each_other_end_the_search() {
    let (one, other) = (Holder::root("one"), Holder::root("other"));
    let (one_by_other, other_by_one) = (other.certify(&one.params, &one.key), one.certify(&other.params, &other.key));
    let sent = [one.leaf(), one_by_other, other_by_one];
    assert_eq!(verify(&sent, &[&Holder::root("root")]), Err(InvalidChain::UnknownIssuer));
}

#[test]
fn a_search_ends_after_a_few_signatures() {
    // Seven of one name, each of which signs all others: more ways than can be gone.
    let names: Vec<_> = (0..MAX_CERTIFICATES - 1).map(|_| Holder::root("many")).collect();
    let shared = key(&PKCS_ECDSA_P256_SHA256);
    let maze = Holder { params: ca_params("many"), key: shared, der: vec![] };
    let mut sent = vec![maze.leaf()];
    for _ in &names {
        sent.push(maze.certify(&maze.params, &maze.key));
    }
    assert_eq!(verify(&sent, &[&Holder::root("root")]), Err(InvalidChain::TooManySignatures));
    // So many roots of one name that the right one is not reached is a refusal too.
    let root = names.last().unwrap();
    let roots: Vec<_> = names.iter().chain([&maze]).filter(|it| !it.der.is_empty()).collect();
    assert_eq!(verify(&[root.leaf()], &roots), Ok(()));
    let more: Vec<_> = (0..MAX_SIGNATURES).map(|_| Holder::root("many")).collect();
    let roots: Vec<_> = more.iter().chain([root]).collect();
    assert_eq!(verify(&[root.leaf()], &roots), Err(InvalidChain::TooManySignatures));
}

// === memory ===

/// Remembers what it is told, and writes down what it is asked.
#[derive(Default)]
struct Notes {
    kept: RefCell<Vec<([u8; 32], u64)>>,
}

impl Memory for Notes {
    fn remembers(&self, digest: &[u8; 32], now: u64) -> bool {
        self.kept.borrow().iter().any(|(kept, until)| kept == digest && now < *until)
    }

    fn remember(&self, digest: &[u8; 32], until: u64) {
        self.kept.borrow_mut().push((*digest, until));
    }
}

#[test]
fn a_chain_that_holds_is_remembered_until_the_first_of_its_certificates_ends() {
    // The leaf, the intermediate and the root in turn end first.
    for first in 0..3 {
        let ends = |at: usize, mut params: rcgen::CertificateParams| {
            params.not_after = date_time_ymd(if at == first { 2036 } else { 2040 }, 1, 1);
            params
        };
        let root = Holder::root_with(ends(0, ca_params("root")), &PKCS_ECDSA_P256_SHA256);
        let below = root.issue(ends(1, ca_params("below")));
        let header = header(&[below.issue(ends(2, leaf_params())).der, below.der]);
        let notes = Notes::default();
        let roots = [root.as_root()];
        assert_eq!(verify_chain(&header, &roots, NOW, &notes), Ok(()));
        assert_eq!(notes.kept.borrow().iter().map(|(_, until)| *until).collect::<Vec<_>>(), [TO]);
        assert_eq!(verify_chain(&header, &roots, NOW, &notes), Ok(()));
        assert_eq!(notes.kept.borrow().len(), 1, "it was not verified again");
    }
}

#[test]
fn what_is_remembered_is_this_header_with_these_roots_and_nothing_else() {
    let (root, other) = (Holder::root("root"), Holder::root("root"));
    let (leaf, another) = (root.leaf(), root.leaf());
    let notes = Notes::default();
    let check = |sent: &[&Vec<u8>], roots: &[&Holder]| {
        let roots: Vec<_> = roots.iter().map(|root| root.as_root()).collect();
        verify_chain(&header(sent), &roots, NOW, &notes)
    };
    assert_eq!(check(&[&leaf], &[&root]), Ok(()));
    assert_eq!(notes.kept.borrow().len(), 1);
    assert_eq!(check(&[&leaf], &[&other]), Err(InvalidChain::Signature), "the root was taken away");
    assert_eq!(check(&[&leaf], &[]), Err(InvalidChain::UnknownIssuer));
    assert_eq!(notes.kept.borrow().len(), 1, "a failure is not remembered");
    let all = [
        check(&[&leaf], &[&root, &other]),
        check(&[&leaf], &[&other, &root]),
        check(&[&another], &[&root]),
        check(&[&leaf, &root.der], &[&root]),
    ];
    assert_eq!(all, [Ok(()); 4]);
    let kept = notes.kept.borrow();
    let mut digests: Vec<_> = kept.iter().map(|(digest, _)| digest).collect();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 5);
}
