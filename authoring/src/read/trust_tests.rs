//! Roots as Consul returns them and as people write them.

use serde_json::{Value, json};

use super::*;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};

const TRUST_DOMAIN: &str = "11111111-2222-3333-4444-555555555555.consul";

/// A self-signed certificate as PEM; a CA's unless it is `leaf`'s.
fn certificate(name: &str) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    if name != "leaf" {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    }
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let text = BASE64_STANDARD.encode(certificate.der());
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn read(value: &Value) -> (Option<TrustBundle>, Vec<String>) {
    let entry = Node::new(value, "roots.json: ".to_owned());
    let object = entry.try_object().unwrap();
    let mut problems = Vec::new();
    let bundle = match value["Kind"].as_str() {
        Some("ca-roots") => read_ca_roots(&object, &entry, &mut problems),
        _ => read_peer(&object, &entry, &mut problems),
    };
    (bundle, problems.iter().map(ToString::to_string).collect())
}

/// The answer of `/v1/connect/ca/roots`, with the kind.
fn ca_roots(roots: &[&str]) -> Value {
    let root = |(index, pem): (usize, &&str)| {
        json!({"ID": format!("{index}"), "Name": "Consul CA Primary Cert", "SerialNumber": 8, "SigningKeyID": "ab:cd",
            "ExternalTrustDomain": "11111111-2222-3333-4444-555555555555", "NotBefore": "2026-01-01T00:00:00Z",
            "NotAfter": "2036-01-01T00:00:00Z", "RootCert": pem, "IntermediateCerts": null, "Active": index == 0,
            "PrivateKeyType": "ec", "PrivateKeyBits": 256, "CreateIndex": 8, "ModifyIndex": 8})
    };
    json!({"Kind": "ca-roots", "ActiveRootID": "0", "TrustDomain": TRUST_DOMAIN,
        "Roots": roots.iter().enumerate().map(root).collect::<Vec<_>>()})
}

fn peer(edit: impl FnOnce(&mut Value)) -> (Option<TrustBundle>, Vec<String>) {
    let mut entry = json!({"Kind": "peer-trust-bundle", "Name": "east", "TrustDomain": TRUST_DOMAIN,
        "ExportedPartition": "blue", "RootPEMs": [certificate("root")]});
    edit(&mut entry);
    read(&entry)
}

#[test]
fn consul_s_answer_is_read_as_it_is_with_every_root_of_a_rotation() {
    let (old, new) = (certificate("old"), certificate("new"));
    let mut answer = ca_roots(&[&new, &old, &new]);
    answer["TrustDomain"] = TRUST_DOMAIN.to_uppercase().into();
    let expected = TrustBundle {
        trust_domain: TRUST_DOMAIN.to_owned(),
        peer: None,
        partition: "default".to_owned(),
        roots: vec![CaRoot::from_pem(&new).unwrap(), CaRoot::from_pem(&old).unwrap()],
    };
    assert_eq!(read(&answer), (Some(expected), vec![]));
}

#[test]
fn an_intermediate_of_the_answer_is_not_trusted() {
    let (root, other) = (certificate("root"), certificate("other"));
    let mut answer = ca_roots(&[&root]);
    answer["Roots"][0]["IntermediateCerts"] = json!([other]);
    let (bundle, problems) = read(&answer);
    assert_eq!((bundle.unwrap().roots, problems), (vec![CaRoot::from_pem(&root).unwrap()], vec![]));
}

#[test]
fn a_root_that_cannot_be_read_is_left_out_and_the_others_stay() {
    let root = certificate("root");
    let good = root.clone();
    let leaf = certificate("leaf");
    for (bad, why) in [
        (json!({"RootCert": "nonsense"}), "this is not one certificate in PEM"),
        (json!({"RootCert": leaf}), "not that of a CA for clients"),
        (json!({"RootCert": format!("{good}{good}")}), "this is not one certificate in PEM"),
        (json!({"RootCert": 5}), "this is not text"),
        (json!({"ID": "x"}), "the root has no RootCert; it is not trusted"),
        (json!("x"), "the root has no RootCert; it is not trusted"),
    ] {
        let mut answer = ca_roots(&[&good]);
        answer["Roots"].as_array_mut().unwrap().push(bad.clone());
        let (bundle, problems) = read(&answer);
        assert_eq!(bundle.unwrap().roots, [CaRoot::from_pem(&root).unwrap()], "{bad}");
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("error: roots.json: Roots[1]"), "{problems:?}");
        assert!(problems[0].contains(why), "{problems:?}");
    }
}

#[test]
fn a_domain_without_a_usable_root_is_known_and_trusts_nobody() {
    for roots in [json!([]), json!(null), json!({}), json!("x"), json!([{"RootCert": ""}])] {
        let mut answer = ca_roots(&[]);
        answer["Roots"] = roots.clone();
        let (bundle, problems) = read(&answer);
        assert_eq!(bundle.unwrap().roots, [], "{roots}");
        assert!(problems.iter().any(|it| it.contains("every certificate of this trust domain is refused")), "{roots}");
    }
}

#[test]
fn roots_are_bounded() {
    let pems: Vec<_> = (0..=MAX_ROOTS).map(|n| certificate(&n.to_string())).collect();
    let (bundle, problems) = read(&ca_roots(&pems.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!((bundle.unwrap().roots.len(), problems.len()), (MAX_ROOTS, 1));
    assert!(problems[0].contains("too many roots"), "{problems:?}");
}

#[test]
fn without_a_trust_domain_there_is_no_bundle() {
    for domain in [json!(null), json!(""), json!(5), json!("a/b"), json!("a b"), json!("ä"), json!("a".repeat(256))] {
        let mut answer = ca_roots(&[&certificate("root")]);
        answer["TrustDomain"] = domain.clone();
        let (bundle, problems) = read(&answer);
        assert_eq!(bundle, None, "{domain}");
        assert!(problems[0].starts_with("error: roots.json: there is no TrustDomain"), "{problems:?}");
        let (bundle, problems) = peer(|entry| entry["TrustDomain"] = domain.clone());
        assert_eq!((bundle, problems.len()), (None, 1), "{domain}");
    }
}

#[test]
fn a_peer_s_bundle_is_read_in_every_spelling() {
    let (bundle, problems) = peer(|_| {});
    assert_eq!(problems, [""; 0]);
    let bundle = bundle.unwrap();
    assert_eq!(
        (bundle.peer.as_deref(), bundle.partition.as_str(), bundle.roots.len(), bundle.trust_domain.as_str()),
        (Some("east"), "blue", 1, TRUST_DOMAIN)
    );
    let (snake, problems) =
        read(&json!({"kind": "peer-trust-bundle", "peer_name": "east", "trust_domain": TRUST_DOMAIN,
        "exported_partition": "blue", "root_pems": [certificate("root")]}));
    assert_eq!(problems, [""; 0]);
    assert_eq!((snake.as_ref().unwrap().peer.clone(), snake.unwrap().partition), (bundle.peer, bundle.partition));
    for absent in [json!(null), json!("")] {
        assert_eq!(peer(|entry| entry["ExportedPartition"] = absent).0.unwrap().partition, "default");
    }
}

#[test]
fn a_peer_that_is_not_named_or_has_no_usable_partition_is_left_out() {
    type Edit = fn(&mut Value);
    for (edit, why) in [
        ((|entry| entry["Name"] = json!("")) as Edit, "the trust bundle has no Name"),
        (|entry| entry["Name"] = json!(["east"]), "the trust bundle has no Name"),
        (|entry| entry["ExportedPartition"] = json!(5), "this must be a name"),
    ] {
        let (bundle, problems) = peer(edit);
        assert_eq!(bundle, None);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("error: ") && problems[0].contains(why), "{problems:?}");
    }
    let (bundle, problems) = peer(|entry| entry["Rootpems2"] = json!(["x"]));
    assert_eq!(problems, ["warning: roots.json: Rootpems2: this field is not known"]);
    assert!(bundle.is_some());
}
