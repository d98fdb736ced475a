//! Project Wycheproof's vectors for every scheme of ours: thousands of signatures, most of them of the kinds that
//! implementations have been seen to get wrong (numbers out of range, lenient DER and paddings, points that coincide on the
//! way, digests of only zeros or ones).

use portcullis_policy::crypto::{Curve, Hash, PublicKey, Scheme};
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify, rsa_pss_verify};

/// How many were looked at, and how many of them held.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    all: usize,
    hold: usize,
}

impl Seen {
    /// `acceptable` says what a vector of that class, which a verifier may judge either way, comes to here.
    fn look(&mut self, held: bool, expected: TestResult, acceptable: bool, what: &str) {
        let expected = match expected {
            TestResult::Valid => true,
            TestResult::Invalid => false,
            TestResult::Acceptable => acceptable,
        };
        assert_eq!(held, expected, "{what}");
        self.all += 1;
        self.hold += usize::from(held);
    }
}

#[test]
fn ecdsa_holds_where_it_should_and_nowhere_else() {
    use ecdsa::TestName as Name;
    let (p256, p384, p521) = (Curve::P256, Curve::P384, Curve::P521);
    let (sha256, sha384, sha512) = (Hash::Sha256, Hash::Sha384, Hash::Sha512);
    let mut seen = Seen::default();
    for (name, curve, scheme) in [
        (Name::EcdsaSecp256r1Sha256, p256, Scheme::EcdsaDer(p256, sha256)),
        (Name::EcdsaSecp256r1Sha512, p256, Scheme::EcdsaDer(p256, sha512)),
        (Name::EcdsaSecp384r1Sha256, p384, Scheme::EcdsaDer(p384, sha256)),
        (Name::EcdsaSecp384r1Sha384, p384, Scheme::EcdsaDer(p384, sha384)),
        (Name::EcdsaSecp384r1Sha512, p384, Scheme::EcdsaDer(p384, sha512)),
        (Name::EcdsaSecp521r1Sha512, p521, Scheme::EcdsaDer(p521, sha512)),
        (Name::EcdsaSecp256r1Sha256P1363, p256, Scheme::Ecdsa(p256, sha256)),
        (Name::EcdsaSecp256r1Sha512P1363, p256, Scheme::Ecdsa(p256, sha512)),
        (Name::EcdsaSecp384r1Sha384P1363, p384, Scheme::Ecdsa(p384, sha384)),
        (Name::EcdsaSecp384r1Sha512P1363, p384, Scheme::Ecdsa(p384, sha512)),
        (Name::EcdsaSecp521r1Sha512P1363, p521, Scheme::Ecdsa(p521, sha512)),
    ] {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let key = PublicKey::ec(curve, &group.key.key).unwrap();
            for test in group.tests {
                let held = key.verify(scheme, &test.msg, &test.sig);
                seen.look(held, test.result, false, &format!("{name:?} {} {}", test.tc_id, test.comment));
            }
        }
    }
    assert!(seen.all > 3000 && seen.hold > 1000, "{seen:?}");
}

#[test]
fn rsa_of_pkcs1_holds_where_it_should_and_nowhere_else() {
    use rsa_pkcs1_verify::TestName as Name;
    let mut seen = Seen::default();
    for (name, hash) in [
        (Name::Rsa2048Sha256, Hash::Sha256),
        (Name::Rsa2048Sha384, Hash::Sha384),
        (Name::Rsa2048Sha512, Hash::Sha512),
        (Name::Rsa3072Sha256, Hash::Sha256),
        (Name::Rsa3072Sha384, Hash::Sha384),
        (Name::Rsa3072Sha512, Hash::Sha512),
        (Name::Rsa4096Sha256, Hash::Sha256),
        (Name::Rsa4096Sha384, Hash::Sha384),
        (Name::Rsa4096Sha512, Hash::Sha512),
        (Name::Rsa8192Sha256, Hash::Sha256),
        (Name::Rsa8192Sha384, Hash::Sha384),
        (Name::Rsa8192Sha512, Hash::Sha512),
    ] {
        for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            let key = PublicKey::rsa(&group.key.n, &group.key.e).unwrap();
            for test in group.tests {
                let held = key.verify(Scheme::RsaPkcs1(hash), &test.msg, &test.sig);
                // Acceptable is a `DigestInfo` without its NULL, which we refuse.
                seen.look(held, test.result, false, &format!("{name:?} {} {}", test.tc_id, test.comment));
            }
        }
    }
    assert!(seen.all > 2000 && seen.hold > 50, "{seen:?}");
}

#[test]
fn rsa_of_pss_holds_where_it_should_and_nowhere_else() {
    use rsa_pss_verify::TestName as Name;
    let mut seen = Seen::default();
    for (name, hash) in [
        (Name::RsaPss2048Sha256Mgf1SaltLen32, Hash::Sha256),
        (Name::RsaPss2048Sha384Mgf1SaltLen48, Hash::Sha384),
        (Name::RsaPss3072Sha256Mgf1SaltLen32, Hash::Sha256),
        (Name::RsaPss4096Sha256Mgf1SaltLen32, Hash::Sha256),
        (Name::RsaPss4096Sha384Mgf1SaltLen48, Hash::Sha384),
        (Name::RsaPss4096Sha512Mgf1SaltLen64, Hash::Sha512),
    ] {
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let key = PublicKey::rsa(&group.key.n, &group.key.e).unwrap();
            for test in group.tests {
                let held = key.verify(Scheme::RsaPss(hash), &test.msg, &test.sig);
                seen.look(held, test.result, false, &format!("{name:?} {} {}", test.tc_id, test.comment));
            }
        }
    }
    assert!(seen.all > 500 && seen.hold > 100, "{seen:?}");
}

#[test]
fn ed25519_holds_where_it_should_and_nowhere_else() {
    let mut seen = Seen::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let key = PublicKey::ed25519(&group.key.pk).unwrap();
        for test in group.tests {
            let held = key.verify(Scheme::Ed25519, &test.msg, &test.sig);
            seen.look(held, test.result, false, &format!("{} {}", test.tc_id, test.comment));
        }
    }
    assert!(seen.all > 100 && seen.hold > 50, "{seen:?}");
}
