//! Where the fuzzer starts: the shared test cases in the shape of each target's input, and some certificates.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a seed that cannot be made ends the run")]

#[path = "../../testdata/files.rs"]
mod files;

use std::{fs, path::PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use portcullis_authoring::{cases::CaseFile, compile};
use serde_json::Value;

/// The seeds of a target.
pub(crate) fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "api_key" => keys(),
        "certificate" => certificates(),
        "chain" => chains(),
        "config_entries" => {
            case_files().iter().map(|file| Value::from(file.policy.clone()).to_string().into()).collect()
        }
        "jwk_set" => key_sets(),
        "limits_log" => logs(),
        "path" => cases(|file| file.requests.iter().map(|case| [b"\0", case.path.as_bytes()].concat()).collect()),
        "regex" => patterns(),
        "snapshot" => snapshots(),
        "spiffe" => cases(|file| file.requests.iter().filter_map(|case| Some(case.source.clone()?.into())).collect()),
        "token" => tokens(),
        other => panic!("{other} has no seeds"),
    }
}

fn case_files() -> Vec<CaseFile> {
    let read = |(name, path)| {
        serde_saphyr::from_str(&fs::read_to_string::<PathBuf>(path).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    files::all().into_iter().map(read).collect()
}

/// Seeds from each file, each once.
fn cases(of: impl Fn(&CaseFile) -> Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = case_files().iter().flat_map(of).collect();
    seeds.sort();
    seeds.dedup();
    seeds
}

/// A slot of each kind, in each mode; and a checkpoint with something in it.
fn logs() -> Vec<Vec<u8>> {
    let slot = |kind: u8, class: u8, words: [u64; 6]| {
        let mut bytes = vec![kind, 3, class, 0, 1, 0, 0, 0];
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes
    };
    let t = 1_800_000_000_000_000_000;
    let mut slots = Vec::new();
    for class in 0..3 {
        for kind in 1..=7 {
            slots.extend(slot(kind, class, [1 + u64::from(class) * 1024, t, 5, 1000, 2, t + 9]));
        }
    }
    let checkpoint = [
        slot(8, 0, [0, t, 0, 3, 0, 0]),
        slot(9, 0, [1, t + 5, 1000, 5, 3, 0]),
        slot(6, 0, [1, 0x6b_6579, 0, 0, 0, 0]),
        slot(9, 2, [2049, t + 5000, 5 | 1 << 32, 1000, 1 << 32, 0]),
        slot(10, 0, [0, t, 0, 3, 0, 0]),
    ];
    let checkpoint = [checkpoint.concat(), slots.clone()].concat();
    let mut seeds: Vec<_> = (0..3).map(|mode| [&[mode], slots.as_slice()].concat()).collect();
    seeds.push([&[2], checkpoint.as_slice()].concat());
    seeds
}

fn keys() -> Vec<Vec<u8>> {
    let hash =
        "sha256:00112233445566778899aabbccddeeff:54be22eba84a7883d5cd6f148720b8bac9c2341a8b48d34db1b4b4b27ebaa844";
    vec![b"pcl_k1_s3cret".to_vec(), hash.into()]
}

fn certificates() -> Vec<Vec<u8>> {
    let names = ["spiffe://td.consul/ns/default/dc/dc1/svc/web", "https://web.example", "spiffe://td.consul"];
    let mut seeds = Vec::new();
    for name in names {
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = vec![
            rcgen::SanType::DnsName("web.example".try_into().unwrap()),
            rcgen::SanType::URI(name.try_into().unwrap()),
        ];
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        seeds.push([&[1], certificate.der().as_ref()].concat());
        seeds.push(format!("\0{}", BASE64_STANDARD.encode(certificate.der())).into());
    }
    seeds
}

/// Whole files to be mended, and edits.
fn snapshots() -> Vec<Vec<u8>> {
    let files = case_files();
    let whole = files.iter().map(|file| compile(&file.policy("seed").0, 1, 0).0);
    whole.map(|bytes| [&[1], bytes.as_slice()].concat()).chain([vec![2, 200, 0, 1], vec![3, 33, 1, 255]]).collect()
}

fn chains() -> Vec<Vec<u8>> {
    let chain = portcullis_fuzz::chain::good();
    let text: Vec<_> = chain.iter().map(|der| BASE64_STANDARD.encode(der)).collect();
    let framed = chain.iter().flat_map(|der| {
        let len = u16::try_from(der.len()).unwrap().to_le_bytes();
        [len.as_slice(), der].concat()
    });
    let root = |der: &[u8]| [&[3], der].concat();
    let pem = format!("\x03-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", text[1]);
    vec![
        format!("\0{}", text.join(",")).into(),
        std::iter::once(1).chain(framed).collect(),
        vec![2, 0, 40, 0, 1],
        vec![2, 1, 0, 1, 255],
        root(chain[1]),
        root(chain[0]),
        pem.into(),
    ]
}

fn key_sets() -> Vec<Vec<u8>> {
    // From RFC 7517 and RFC 7518: shapes, not secrets. The exponents and points are read before anything is verified.
    let ec = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k1","use":"sig","alg":"ES256",
        "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;
    let rsa = format!(r#"{{"keys":[{{"kty":"RSA","kid":"k1","alg":"RS256","e":"AQAB","n":"{}"}}]}}"#, "v".repeat(342));
    vec![portcullis_fuzz::jwt::key_set(), ec.into(), rsa.into(), br#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#.to_vec()]
}

/// Every text in the shared cases that is a pattern, and some of what RE2 has beside.
fn patterns() -> Vec<Vec<u8>> {
    fn collect(value: &Value, seeds: &mut Vec<Vec<u8>>) {
        match value {
            Value::Array(list) => list.iter().for_each(|value| collect(value, seeds)),
            Value::Object(map) => {
                for (key, value) in map {
                    match value.as_str().filter(|_| key.to_ascii_lowercase().ends_with("regex")) {
                        Some(pattern) => seeds.push(format!("{pattern}\n/v1/x").into()),
                        None => collect(value, seeds),
                    }
                }
            }
            _ => {}
        }
    }
    let mut seeds = vec![
        b"/v1/(a|b)*c?\n/v1/abac".to_vec(),
        b"(?i)[a-z0-9_]{1,8}\\.html\nIndex.html".to_vec(),
        b"\\d+\\w*\\s?[[:alpha:]]\\pL\n1a b".to_vec(),
        b"a|b|\\Qc.d\\E\nc.d".to_vec(),
    ];
    for file in case_files() {
        file.policy.iter().for_each(|entry| collect(entry, &mut seeds));
    }
    seeds
}

fn tokens() -> Vec<Vec<u8>> {
    let good = portcullis_fuzz::jwt::good_token();
    let mut seeds = vec![[b"\0", good.as_bytes()].concat(), vec![3, 5, 0, 1]];
    for (header, payload) in [
        (
            r#"{"alg":"EdDSA","kid":"k1"}"#,
            r#"{"iss":"https://issuer.example","aud":["api"],"exp":1800000600,"sub":"joe"}"#,
        ),
        (r#"{"alg":"none"}"#, r#"{"iss":"https://issuer.example","aud":"api","nbf":1700000000}"#),
        (
            r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#,
            r#"{"iss":"https://issuer.example","aud":"api","exp":1.8e9}"#,
        ),
    ] {
        seeds.push(format!("\x01{header}\n{payload}").into());
        seeds.push(format!("\x02{header}\n{payload}").into());
    }
    seeds
}
