//! The snapshot's promises: what was put in is found, a flip of any byte is noticed, and hostile bytes do not panic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::cell::Cell;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use portcullis_authoring::{compile, read};
use portcullis_policy::{
    Action, Certified, Mode, Policy, PolicySettings, ReadAt, ReadFailed, Request, Snapshot, SnapshotError, Verdict,
    certificate::{CaRoot, TrustBundle},
    decide,
    model::{ApiKey, Intention, ServiceName, Source, SourceRule},
    peek,
    snapshot::record::Body,
};
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::json;

const TRUST_DOMAIN: &str = "td.consul";

fn policy(n_intentions: usize) -> Policy {
    let intention = |index: usize| Intention {
        destination: ServiceName::in_default(&format!("destination-{index}")),
        sources: vec![Source {
            source: ServiceName::in_default("web"),
            rule: SourceRule::Action(Action::Allow),
            mode: Mode::Enforce,
        }],
        jwt: None,
        mode: Mode::Enforce,
        broken: index == 3,
    };
    Policy {
        settings: PolicySettings { trust_domains: vec![TRUST_DOMAIN.to_owned()], ..PolicySettings::default() },
        intentions: (0..n_intentions).map(intention).collect(),
        api_keys: vec![ApiKey {
            id: "k".to_owned(),
            source: ServiceName::in_default("p"),
            salt: vec![1],
            hash: [7; 32],
        }],
        ..Policy::default()
    }
}

fn ask<R: ReadAt>(snapshot: &Snapshot<R>, destination: &str) -> portcullis_policy::Decision {
    let certificate = Certified::Spiffe("spiffe://td.consul/ns/default/dc/dc1/svc/web");
    decide(snapshot, &Request { destination, certificate, ..Request::default() })
}

/// A policy with a record of every kind, and every kind of criterion.
fn of_every_kind() -> Policy {
    // RFC 8037's example key.
    let jwks = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let jwks = BASE64_STANDARD.encode(jwks);
    let entries = json!([
        {"Kind": "service-intentions", "Name": "db", "JWT": {"Providers": [{"Name": "okta"}]}, "Sources": [
            {"Name": "web", "Permissions": [{"Action": "allow",
                "HTTP": {"PathRegex": "/v[0-9]+", "Methods": ["GET"], "Header": [{"Name": "x-a", "Regex": "a+"}]},
                "JWT": {"Providers": [{"Name": "okta", "VerifyClaims": [{"Path": ["role"], "Value": "ops"}]}]}}]},
            {"Name": "cart", "Peer": "shop", "Action": "allow", "Mode": "shadow"}]},
        {"Kind": "jwt-provider", "Name": "okta", "Issuer": "i", "Forwarding": {"HeaderName": "x-claims"},
            "JSONWebKeySet": {"Local": {"JWKS": jwks}}},
        {"Kind": "identity", "Order": ["certificate", {"JWT": {"Provider": "okta", "Claim": "sub"}}]},
        {"Kind": "identity", "Destination": "db", "Order": ["certificate"]},
        {"Kind": "identity", "EntryPoint": "web", "Order": ["network"]},
        {"Kind": "network", "Name": "lan", "CIDRs": ["10.0.0.0/8", "2001:db8::/32"], "Source": {"Name": "lan"}},
        {"Kind": "rate-limits", "Name": "db", "OnUnavailable": "allow", "Limits": [{"Name": "a",
            "Match": [{"PathRegex": "/r[0-9]+", "Methods": ["GET"], "Header": [{"Name": "x-a", "Present": true}]}],
            "Sources": [{"Name": "cart", "Peer": "shop"}, {"Anonymous": true}], "Exempt": [{"Network": "10.0.0.0/8"}, {"Network": "2001:db8::/32"}],
            "Key": ["source", "destination", "route", "client-address", {"Header": "X-A"}, {"Claim": {"Provider": "okta", "Path": ["a", "b"]}}],
            "Costs": [{"Methods": ["POST"], "Cost": 2}],
            "Tiers": [{"Sources": [{"Name": "web"}], "Claim": {"Provider": "okta", "Path": "plan", "Value": "gold"}, "Quota": {"Requests": 9_007_199_254_740_992_u64, "Window": "month"}},
                {"Sources": [{"Name": "*"}], "Concurrency": {"Requests": 3}}],
            "Rate": {"Requests": 4, "Period": "1h", "Burst": 5}, "Mode": "shadow", "Scope": "global"}]},
        {"Kind": "service-defaults", "Name": "db", "RateLimits": {"InstanceLevel": {"RequestsPerSecond": 5}}},
        {"Kind": "rate-limits", "Name": "*", "Limits": [{"Name": "hourly", "Quota": {"Requests": 1, "Window": "hour"}}, {"Name": "daily", "Quota": {"Requests": 1, "Window": "day"}, "Mode": "off"}]},
        {"Kind": "mesh", "HTTP": {"Incoming": {"RequestNormalization": {"MergeSlashes": true}}}},
    ]);
    let settings = PolicySettings { trust_domains: vec![TRUST_DOMAIN.to_owned()], ..PolicySettings::default() };
    let (mut policy, problems) = read::entries(&[("all".to_owned(), entries)], settings);
    assert_eq!(problems, []);
    policy.api_keys = self::policy(0).api_keys;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    policy.trust_bundles.push(TrustBundle {
        trust_domain: "shop.consul".to_owned(),
        peer: Some("shop".to_owned()),
        partition: "default".to_owned(),
        roots: vec![CaRoot::from_der(root.der()).unwrap()],
    });
    policy
}

#[test]
fn every_single_byte_flip_is_noticed() {
    for policy in [policy(20), of_every_kind()] {
        let (bytes, problems) = compile(&policy, 42, 1000);
        assert_eq!(problems, []);
        assert_eq!(peek(&bytes[..128]), Ok(42));
        Snapshot::open(&bytes).unwrap().verify().unwrap();
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut flipped = bytes.clone();
                flipped[at] ^= flip;
                let noticed = Snapshot::open(&flipped).and_then(|snapshot| snapshot.verify());
                assert!(noticed.is_err(), "byte {at} flipped by {flip:#x}");
            }
        }
    }
}

#[test]
fn every_kind_of_record_is_found_as_it_was_put_in() {
    let policy = of_every_kind();
    let (bytes, _) = compile(&policy, 42, 1000);
    let snapshot = Snapshot::open(&bytes).unwrap();
    let settings = snapshot.settings();
    assert_eq!(settings.trust_domain("shop.consul").unwrap().peer.as_ref().unwrap().name, "shop");
    assert_eq!(settings.identities.as_ref().unwrap().len(), 2);
    assert_eq!(settings.reserved_headers, ["x-claims"]);
    assert!(settings.normalization.merge_slashes);
    assert_eq!((settings.networks_v4.as_slice(), settings.networks_v6.as_slice()), ([8].as_slice(), [32].as_slice()));
    let intentions = snapshot.all_intentions().unwrap();
    let SourceRule::Permissions(permissions) = &policy.intentions[0].sources[0].rule else { panic!("has permissions") };
    assert!(intentions.iter().any(|it| it.body == Body::Permissions(permissions.clone())));
    assert!(intentions.iter().any(|it| it.rule.ends_with("/sources/peer:shop/cart") && it.mode == Mode::Shadow));
    assert!(snapshot.provider("okta").unwrap().is_some() && snapshot.provider("other").unwrap().is_none());
    assert_eq!(snapshot.roots("shop.consul").unwrap().unwrap().as_slice(), policy.trust_bundles[0].roots);
    assert_eq!(snapshot.network("10.0.0.0".parse().unwrap(), 8).unwrap().unwrap().unwrap().name, "lan");
    assert_eq!(snapshot.api_key("k").unwrap().unwrap().hash, Some([7; 32]));
    let limits = |name: &str| snapshot.limits((&ServiceName::in_default(name)).into()).unwrap().map(|it| it.0.clone());
    let [own, level, all] = policy.limits.as_slice() else { panic!("has three entries") };
    assert_eq!(limits("db"), Some([own.limits.as_slice(), &level.limits].concat()));
    assert_eq!(limits("*"), Some(all.limits.clone()));
    assert_eq!(limits("web"), None);
    assert!(settings.limits_by_address);
}

#[test]
fn every_truncation_is_noticed() {
    let (bytes, _) = compile(&policy(20), 42, 1000);
    for len in 0..bytes.len() {
        assert!(Snapshot::open(&bytes[..len].to_vec()).and_then(|snapshot| snapshot.verify()).is_err(), "cut at {len}");
    }
}

#[test]
fn parts_of_two_generations_do_not_mix() {
    let (old, new) = (compile(&policy(20), 1, 0).0, compile(&policy(20), 2, 0).0);
    assert_eq!(old.len(), new.len());
    for cut in [128, 640, old.len() / 2] {
        let mixed = [&new[..cut], &old[cut..]].concat();
        assert!(Snapshot::open(&mixed).and_then(|snapshot| snapshot.verify()).is_err(), "cut at {cut}");
    }
}

#[test]
fn another_format_is_named_as_such() {
    let (mut bytes, _) = compile(&policy(1), 1, 0);
    bytes[8] = 9;
    assert_eq!(Snapshot::open(&bytes).unwrap_err(), SnapshotError::Format { found: 9 });
    assert_eq!(Snapshot::open(&b"hello".repeat(100)).unwrap_err(), SnapshotError::NotASnapshot);
}

#[test]
fn all_of_many_intentions_are_found_and_nothing_else_is() {
    let (bytes, _) = compile(&policy(20_000), 1, 0);
    let snapshot = Snapshot::open(&bytes).unwrap();
    for index in (0..20_000).filter(|index| *index != 3) {
        assert_eq!(ask(&snapshot, &format!("destination-{index}")).verdict, Verdict::Allow, "{index}");
        assert_eq!(ask(&snapshot, &format!("missing-{index}")).rule, "default", "{index}");
    }
    assert_eq!(ask(&snapshot, "destination-3").rule, "service-intentions/destination-3");
}

/// Counts reads, to show that their number does not grow with the policy.
struct Counting {
    bytes: Vec<u8>,
    reads: Cell<usize>,
}

impl ReadAt for Counting {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadFailed> {
        self.reads.set(self.reads.get() + 1);
        self.bytes.read_at(offset, buf)
    }
}

#[test]
fn a_cold_decision_costs_the_same_reads_for_ten_and_for_a_hundred_thousand_intentions() {
    let reads = |n_intentions| {
        let mut policy = policy(n_intentions);
        policy.intentions.iter_mut().for_each(|it| it.broken = false);
        let (bytes, _) = compile(&policy, 1, 0);
        let reader = Counting { bytes, reads: Cell::new(0) };
        let snapshot = Snapshot::open(&reader).unwrap();
        assert_eq!(ask(&snapshot, "destination-7").verdict, Verdict::Allow);
        reader.reads.get()
    };
    // Header, settings, page, record; a full page costs one more.
    assert!(reads(10) <= 5 && reads(100_000) <= 5, "{} and {}", reads(10), reads(100_000));
}

#[test]
fn a_corrupt_snapshot_denies_with_503() {
    let (mut bytes, _) = compile(&policy(1), 1, 0);
    bytes[140] ^= 1;
    let decision = ask(&Snapshot::open(&bytes).unwrap(), "destination-0");
    assert_eq!((decision.verdict, decision.status, decision.rule.as_str()), (Verdict::Deny, 503, "snapshot"));
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic_and_never_allow(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        destination in "destination-[0-9]",
    ) {
        let denying = Policy {
            intentions: policy(10).intentions.into_iter().map(|mut it| {
                it.sources[0].rule = SourceRule::Action(Action::Deny);
                it
            }).collect(),
            ..policy(0)
        };
        let (mut bytes, _) = compile(&denying, 1, 0);
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(snapshot) = Snapshot::open(&bytes) {
            prop_assert_eq!(ask(&snapshot, &destination).verdict, Verdict::Deny);
        }
    }
}
