//! Tokens as issuers and forgers make them, against a provider with a key of every kind.

use std::{cell::RefCell, collections::BTreeMap};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ed25519_dalek::Signer as _;
use rsa::traits::PublicKeyParts as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::{
    change::Change,
    crypto::{
        Curve, Hash,
        test_keys::{curve_key, pkcs1, pss, rsa_key},
    },
    headers::HeaderList,
    memory::Memory,
};

const NOW: u64 = 1_900_000_000;
const HEADER: &str = r#"{"alg":"ES256","kid":"es256"}"#;

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa_jwk(bits: usize, id: &str) -> Value {
    let key = rsa_key(bits);
    json!({"kty": "RSA", "kid": id, "n": encode(key.n().to_bytes_be()), "e": encode(key.e().to_bytes_be())})
}

fn curve_jwk(curve: Curve, seed: u64, id: &str) -> Value {
    let (point, _) = curve_key(curve, seed);
    let (x, y) = point[1..].split_at(point.len() / 2);
    let name = match curve {
        Curve::P256 => "P-256",
        Curve::P384 => "P-384",
        Curve::P521 => "P-521",
    };
    json!({"kty": "EC", "crv": name, "kid": id, "x": encode(x), "y": encode(y)})
}

fn ed_key() -> ed25519_dalek::SigningKey {
    ed25519_dalek::SigningKey::from_bytes(&[7; 32])
}

fn jwks() -> Value {
    let ed = json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": encode(ed_key().verifying_key().as_bytes())});
    json!({"keys": [
        rsa_jwk(2048, "rsa"),
        curve_jwk(Curve::P256, 1, "es256"),
        curve_jwk(Curve::P384, 1, "es384"),
        curve_jwk(Curve::P521, 1, "es512"),
        ed,
    ]})
}

fn provider(keys: &Value) -> JwtProvider {
    JwtProvider {
        name: "okta".to_owned(),
        issuer: "https://issuer.example".to_owned(),
        audiences: vec!["api".to_owned()],
        keys: KeySource::Inline(keys.to_string().into_bytes()),
        locations: Vec::new(),
        forwarding: None,
        clock_skew: 30,
        cache_size: 0,
        broken: false,
    }
}

fn compiled(provider: &JwtProvider) -> ProviderRecord {
    let mut problems = Vec::new();
    let record = compile(provider, None, &mut problems);
    assert_eq!(problems, []);
    // As the plugin gets it.
    let stored = postcard::to_allocvec(&record).unwrap();
    assert_eq!(postcard::from_bytes::<ProviderRecord>(&stored).unwrap(), record);
    record
}

/// The signature of this text by the algorithm's key, or by what forgers have.
fn signature(by: &str, signed: &str) -> Vec<u8> {
    let text = signed.as_bytes();
    let on = |curve, hash: Hash| curve_key(curve, 1).1(&hash.digest(&[text]));
    match by {
        "RS256" => pkcs1(&rsa_key(2048), Hash::Sha256, text),
        "RS384" => pkcs1(&rsa_key(2048), Hash::Sha384, text),
        "RS512" => pkcs1(&rsa_key(2048), Hash::Sha512, text),
        "PS256" => pss(&rsa_key(2048), Hash::Sha256, 32, text),
        "PS384" => pss(&rsa_key(2048), Hash::Sha384, 48, text),
        "PS512" => pss(&rsa_key(2048), Hash::Sha512, 64, text),
        "PS256 without salt" => pss(&rsa_key(2048), Hash::Sha256, 0, text),
        "ES256" => on(Curve::P256, Hash::Sha256).0,
        "ES256 as DER" => on(Curve::P256, Hash::Sha256).1,
        "ES384" => on(Curve::P384, Hash::Sha384).0,
        "ES512" => on(Curve::P521, Hash::Sha512).0,
        "EdDSA" => ed_key().sign(text).to_bytes().to_vec(),
        "stranger" => pkcs1(&rsa_key(3072), Hash::Sha256, text),
        "HS256" => hmac(&rsa_key(2048).n().to_bytes_be(), text),
        "none" => Vec::new(),
        other => panic!("nobody signs by `{other}`"),
    }
}

fn hmac(secret: &[u8], text: &[u8]) -> Vec<u8> {
    let mut key = Hash::Sha256.digest(&[secret]);
    key.resize(64, 0);
    let with = |pad: u8| key.iter().map(|byte| byte ^ pad).collect::<Vec<_>>();
    Hash::Sha256.digest(&[&with(0x5C), &Hash::Sha256.digest(&[&with(0x36), text])])
}

fn token(header: &str, payload: &str, by: &str) -> String {
    let signed = format!("{}.{}", encode(header), encode(payload));
    let signature = signature(by, &signed);
    format!("{signed}.{}", encode(signature))
}

/// A good token with these claims beside the registered ones, on the quickest curve.
fn good(claims: &str) -> String {
    token(HEADER, &format!(r#"{{"iss":"https://issuer.example","aud":"api"{claims}}}"#), "ES256")
}

fn check_bearer(record: &ProviderRecord, token: &str) -> Checked {
    check_request(record, &[("Authorization", &format!("Bearer {token}"))], "/", NOW, &())
}

fn check_request(
    record: &ProviderRecord,
    headers: &[(&str, &str)],
    uri: &str,
    now: u64,
    memory: &dyn Memory,
) -> Checked {
    let headers = HeaderList::new(headers.iter().copied());
    check(record, &TokenRequest { headers: &headers, uri, now }, memory)
}

fn changes(checked: Checked) -> Vec<Change> {
    match checked {
        Checked::Valid(verified) => verified.changes,
        other => panic!("{other:?}"),
    }
}

fn is_valid(checked: &Checked) -> bool {
    matches!(checked, Checked::Valid(_))
}

// === tokens as data ===

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    good: Good,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Good {
    header: String,
    payload: String,
    sign: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    what: String,
    header: Option<String>,
    payload: Option<String>,
    sign: Option<String>,
    then: Option<String>,
    outcome: String,
}

fn after(token: &str, then: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    match then {
        "strip signature" => format!("{signed}."),
        "two parts" => signed.to_owned(),
        "four parts" => format!("{token}.{signature}"),
        "five parts" => format!("{token}.{signature}.{signature}"),
        "empty" => String::new(),
        "dots" => "..".to_owned(),
        "pad" => format!("{token}=="),
        "space before" => format!(" {token}"),
        "line end" => format!("{token}\n"),
        "standard alphabet" => {
            assert!(signature.contains(['-', '_']), "the case is none with this signature");
            format!("{signed}.{}", signature.replace('-', "+").replace('_', "/"))
        }
        "unused bits" => {
            // 64 bytes end in a digit of which only two bits count.
            let (rest, last) = signature.split_at(signature.len() - 1);
            let next = char::from(last.as_bytes()[0] + 1);
            format!("{signed}.{rest}{next}")
        }
        "flip signature" => {
            let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
            bytes[20] ^= 1;
            format!("{signed}.{}", encode(bytes))
        }
        "other payload" => {
            let payload =
                String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap().replace("joe", "jim");
            format!("{header}.{}.{signature}", encode(payload))
        }
        "cut signature" => {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
            format!("{signed}.{}", encode(&bytes[..bytes.len() - 1]))
        }
        "too long" => format!("{signed}.{}", "A".repeat(16 * 1024)),
        "comma joined" => format!("{token},Bearer {token}"),
        "zero signature" => {
            format!("{signed}.{}", encode(vec![0; BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap().len()]))
        }
        other => panic!("nothing is done by `{other}`"),
    }
}

#[test]
fn every_token_of_the_data_has_the_outcome_that_it_names() {
    let file: File = serde_saphyr::from_str(include_str!("../../../testdata/jwt/tokens.yaml")).unwrap();
    let record = compiled(&provider(&jwks()));
    assert!(file.cases.len() > 90);
    let mut outcomes = BTreeMap::new();
    for case in file.cases {
        let header = case.header.as_ref().unwrap_or(&file.good.header);
        let payload = case.payload.as_ref().unwrap_or(&file.good.payload);
        let mut token = token(header, payload, case.sign.as_ref().unwrap_or(&file.good.sign));
        if let Some(then) = &case.then {
            token = after(&token, then);
        }
        let outcome = match check_bearer(&record, &token) {
            Checked::Valid(_) => "valid".to_owned(),
            Checked::Missing => "missing".to_owned(),
            Checked::Invalid(why) => format!("{why:?}"),
        };
        assert_eq!(outcome, case.outcome, "{}", case.what);
        *outcomes.entry(outcome).or_insert(0) += 1;
    }
    assert!(outcomes.len() > 9, "the cases reach too few outcomes: {outcomes:?}");
}

// === RFC vectors ===

#[test]
fn the_tokens_of_rfc_7515_hold_against_their_keys() {
    // Appendix A.2 (RS256), A.3 (ES256): the payload is no object with our issuer, so the signature alone is asked.
    let rs = json!({"keys": [{"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}]});
    let es = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]});
    let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    for (set, header, signature) in [
        (
            rs,
            "eyJhbGciOiJSUzI1NiJ9",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            es,
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ] {
        let mut record = compiled(&JwtProvider { issuer: "joe".to_owned(), audiences: vec![], ..provider(&set) });
        let bearer = format!("Bearer {header}.{payload}.{signature}");
        let at = |record: &ProviderRecord, now| check_request(record, &[("authorization", &bearer)], "/", now, &());
        let Checked::Valid(verified) = at(&record, 1_300_819_379) else { panic!("{header}") };
        assert_eq!(verified.claims.get(&["http://example.com/is_root".to_owned()]), Some(&json!(true)));
        assert_eq!(at(&record, NOW), Checked::Invalid(Rejected::Expired));
        record.issuer = "jim".to_owned();
        assert_eq!(at(&record, 1_300_819_379), Checked::Invalid(Rejected::Issuer));
    }
}

// === providers ===

#[test]
fn without_keys_or_issuer_or_when_broken_no_token_passes() {
    let token = good("");
    let mut problems = Vec::new();
    let base = provider(&jwks());
    let file = JwtProvider { keys: KeySource::File("/jwks.json".to_owned()), ..base.clone() };
    let set = jwks().to_string().into_bytes();
    for provider in [
        JwtProvider { keys: KeySource::Inline(b"{\"keys\":[]}".to_vec()), ..base.clone() },
        JwtProvider { keys: KeySource::Inline(b"nonsense".to_vec()), ..base.clone() },
        JwtProvider { issuer: String::new(), ..base.clone() },
        JwtProvider { broken: true, ..base.clone() },
        file.clone(),
    ] {
        let record = compile(&provider, None, &mut problems);
        assert_eq!(check_bearer(&record, &token), Checked::Invalid(Rejected::Provider));
    }
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(is_valid(&check_bearer(&compile(&file, Some(&set), &mut Vec::new()), &token)));
    let broken = JwtProvider { broken: true, ..file };
    let record = compile(&broken, Some(&set), &mut Vec::new());
    assert_eq!(check_bearer(&record, &token), Checked::Invalid(Rejected::Provider));
}

#[test]
fn audiences_are_compared_without_a_trailing_slash_on_either_side() {
    let mut record = compiled(&provider(&jwks()));
    record.audiences = vec!["https://api.example/".to_owned(), "other".to_owned()];
    let with = |aud: &str| {
        let payload = format!(r#"{{"iss":"https://issuer.example","aud":"{aud}"}}"#);
        check_bearer(&record, &token(HEADER, &payload, "ES256"))
    };
    assert!(is_valid(&with("https://api.example")));
    assert!(is_valid(&with("https://api.example/")));
    assert!(is_valid(&with("other/")));
    assert_eq!(with("api"), Checked::Invalid(Rejected::Audience));
}

#[test]
fn a_kid_that_several_keys_share_is_tried_with_each() {
    let set = json!({"keys": [curve_jwk(Curve::P256, 2, "es256"), curve_jwk(Curve::P256, 1, "es256")]});
    assert!(is_valid(&check_bearer(&compiled(&provider(&set)), &good(""))));
    let set = json!({"keys": [curve_jwk(Curve::P256, 2, "es256"), curve_jwk(Curve::P256, 1, "other")]});
    let record = compiled(&provider(&set));
    assert_eq!(check_bearer(&record, &good("")), Checked::Invalid(Rejected::Signature));
}

#[test]
fn a_token_is_tried_with_sixteen_keys_and_no_more() {
    let set = |n: u64| {
        let others = (0..n).map(|_| curve_jwk(Curve::P256, 2, "es256"));
        json!({"keys": others.chain([curve_jwk(Curve::P256, 1, "es256")]).collect::<Vec<_>>()})
    };
    assert!(is_valid(&check_bearer(&compiled(&provider(&set(15))), &good(""))));
    let record = compiled(&provider(&set(16)));
    assert_eq!(check_bearer(&record, &good("")), Checked::Invalid(Rejected::Signature));
}

#[test]
fn a_key_with_an_alg_is_for_that_one_only() {
    let mut key = rsa_jwk(2048, "rsa");
    key["alg"] = json!("PS256");
    let record = compiled(&provider(&json!({"keys": [key]})));
    let payload = r#"{"iss":"https://issuer.example","aud":"api"}"#;
    let signed =
        |name: &str| check_bearer(&record, &token(&format!(r#"{{"alg":"{name}","kid":"rsa"}}"#), payload, name));
    assert!(is_valid(&signed("PS256")));
    assert_eq!(signed("RS256"), Checked::Invalid(Rejected::Key));
    assert_eq!(signed("PS512"), Checked::Invalid(Rejected::Key));
}

// === what is remembered ===

/// Remembers for ever, and counts.
#[derive(Default)]
struct Counter {
    known: RefCell<BTreeMap<[u8; 32], u64>>,
    hits: RefCell<usize>,
}

impl Memory for Counter {
    fn remembers(&self, digest: &[u8; 32], now: u64) -> bool {
        let known = self.known.borrow().get(digest).is_some_and(|until| now < *until);
        *self.hits.borrow_mut() += usize::from(known);
        known
    }

    fn remember(&self, digest: &[u8; 32], until: u64) {
        self.known.borrow_mut().insert(*digest, until);
    }
}

fn bearer(record: &ProviderRecord, token: &str, now: u64, memory: &dyn Memory) -> Checked {
    check_request(record, &[("authorization", &format!("Bearer {token}"))], "/", now, memory)
}

#[test]
fn a_signature_is_verified_once_and_remembered_until_the_token_is_over() {
    let (record, memory) = (compiled(&provider(&jwks())), Counter::default());
    let token = good(r#","exp":1900000100"#);
    assert!(is_valid(&bearer(&record, &token, NOW, &memory)));
    assert_eq!((memory.known.borrow().len(), *memory.hits.borrow()), (1, 0));
    assert_eq!(memory.known.borrow().values().next(), Some(&1_900_000_130));
    assert!(is_valid(&bearer(&record, &token, NOW + 129, &memory)));
    assert_eq!((memory.known.borrow().len(), *memory.hits.borrow()), (1, 1));
    // Everything but the signature is looked at anew.
    assert_eq!(bearer(&record, &token, NOW + 130, &memory), Checked::Invalid(Rejected::Expired));
    let mut other = record.clone();
    other.audiences = vec!["other".to_owned()];
    assert_eq!(bearer(&other, &token, NOW, &memory), Checked::Invalid(Rejected::Audience));
    other.issuer = "other".to_owned();
    assert_eq!(bearer(&other, &token, NOW, &memory), Checked::Invalid(Rejected::Issuer));
}

#[test]
fn a_remembered_token_costs_no_verification() {
    /// Claims to know every token: what passes with it has passed without its signature.
    struct Gullible;
    impl Memory for Gullible {
        fn remembers(&self, _: &[u8; 32], _: u64) -> bool {
            true
        }
        fn remember(&self, _: &[u8; 32], _: u64) {
            panic!("it is known already");
        }
    }
    let record = compiled(&provider(&jwks()));
    let forged = after(&good(""), "zero signature");
    assert!(is_valid(&bearer(&record, &forged, NOW, &Gullible)));
    // What costs nothing is still looked at, and a key must be there for it.
    let unknown = token(r#"{"alg":"ES256","kid":"x"}"#, r#"{"iss":"https://issuer.example","aud":"api"}"#, "ES256");
    assert_eq!(bearer(&record, &unknown, NOW, &Gullible), Checked::Invalid(Rejected::Key));
}

#[test]
fn a_token_that_failed_is_never_remembered() {
    let (record, memory) = (compiled(&provider(&jwks())), Counter::default());
    let token = good("");
    for then in ["zero signature", "flip signature", "cut signature", "strip signature", "four parts"] {
        assert!(!is_valid(&bearer(&record, &after(&token, then), NOW, &memory)), "{then}");
    }
    assert!(!is_valid(&bearer(&record, &good(r#","exp":1"#), NOW, &memory)));
    assert!(memory.known.borrow().is_empty());
    assert!(is_valid(&bearer(&record, &token, NOW, &memory)));
    // Another signature of the same content is another token.
    assert!(!is_valid(&bearer(&record, &after(&token, "flip signature"), NOW, &memory)));
    assert_eq!((memory.known.borrow().len(), *memory.hits.borrow()), (1, 0));
}

#[test]
fn with_another_key_set_nothing_is_remembered() {
    let memory = Counter::default();
    let (token, old) = (good(""), compiled(&provider(&jwks())));
    assert!(is_valid(&bearer(&old, &token, NOW, &memory)));
    // Rotation: the key is gone; then the same id stands for another key.
    let gone = json!({"keys": [rsa_jwk(2048, "rsa")]});
    let replaced = json!({"keys": [curve_jwk(Curve::P256, 2, "es256")]});
    assert_eq!(bearer(&compiled(&provider(&gone)), &token, NOW, &memory), Checked::Invalid(Rejected::Key));
    assert_eq!(bearer(&compiled(&provider(&replaced)), &token, NOW, &memory), Checked::Invalid(Rejected::Signature));
    // The old key beside a new one: it holds, by its signature.
    let both = json!({"keys": [curve_jwk(Curve::P256, 2, "new"), curve_jwk(Curve::P256, 1, "es256")]});
    assert!(is_valid(&bearer(&compiled(&provider(&both)), &token, NOW, &memory)));
    assert_eq!(*memory.hits.borrow(), 0);
    assert!(is_valid(&bearer(&old, &token, NOW, &memory)));
    assert_eq!(*memory.hits.borrow(), 1);
}

#[test]
fn a_token_without_an_end_is_remembered_for_an_hour_and_none_for_more_than_a_day() {
    let record = compiled(&provider(&jwks()));
    for (claims, until) in [("", NOW + 3600), (r#","exp":1e300"#, NOW + 86_400), (r#","exp":1900000010.9"#, NOW + 40)] {
        let memory = Counter::default();
        assert!(is_valid(&bearer(&record, &good(claims), NOW, &memory)));
        assert_eq!(memory.known.borrow().values().next(), Some(&until), "{claims}");
    }
}

// === places, hiding and forwarding ===

fn header(name: &str, prefix: &str, forward: bool) -> Location {
    Location::Header { name: name.to_owned(), prefix: prefix.to_owned(), forward }
}

#[test]
fn without_locations_a_token_is_a_bearer_or_in_the_query() {
    let (record, token) = (compiled(&provider(&jwks())), good(""));
    let bearer = format!("Bearer {token}");
    let query = format!("/a?x=1&access_token={token}&y=2");
    assert_eq!(
        changes(check_request(&record, &[("authorization", &bearer)], "/a", NOW, &())),
        [Change::RemoveHeader("authorization".to_owned())]
    );
    assert_eq!(
        changes(check_request(&record, &[("authorization", "Basic x")], &query, NOW, &())),
        [Change::RemoveQuery("access_token".to_owned())]
    );
    for (headers, uri) in [
        (&[][..], "/"),
        (&[("authorization", "Basic dTpw")], "/?token=x"),
        (&[("authorization", &format!("bearer {token}"))], "/"),
        (&[("authorization", &token)], "/"),
        (&[("x-authorization", &bearer)], "/#access_token=x"),
        (&[("cookie", &format!("access_token={token}"))], "/"),
    ] {
        assert_eq!(check_request(&record, headers, uri, NOW, &()), Checked::Missing, "{uri}");
    }
}

#[test]
fn each_location_is_looked_at_and_no_other() {
    let token = good("");
    let with = |location| compiled(&JwtProvider { locations: vec![location], ..provider(&jwks()) });
    let custom = with(header("x-token", "", true));
    assert_eq!(changes(check_request(&custom, &[("X-Token", &token)], "/", NOW, &())), []);
    let hidden = with(header("x-token", "v1:", false));
    let prefixed = format!("v1:{token}");
    let hidden = changes(check_request(&hidden, &[("X-Token", &prefixed)], "/", NOW, &()));
    assert_eq!(hidden, [Change::RemoveHeader("x-token".to_owned())]);
    let query = with(Location::Query("t".to_owned()));
    let query = changes(check_request(&query, &[], &format!("/?t={token}"), NOW, &()));
    assert_eq!(query, [Change::RemoveQuery("t".to_owned())]);
    let cookie = with(Location::Cookie("session".to_owned()));
    for value in [format!("a=b; session={token}; c=d"), format!("session=\"{token}\"")] {
        assert_eq!(changes(check_request(&cookie, &[("cookie", &value)], "/", NOW, &())), []);
    }
    for record in [&custom, &cookie] {
        let bearer = format!("Bearer {token}");
        assert_eq!(check_request(record, &[("authorization", &bearer)], "/", NOW, &()), Checked::Missing);
    }
}

#[test]
fn of_several_tokens_every_one_must_hold() {
    let record = compiled(&provider(&jwks()));
    let (one, other) = (good(r#","sub":"joe","role":["a","b"]"#), good(r#","sub":"joe","role":["b"]"#));
    let bad = after(&one, "flip signature");
    let bearer = |token: &str| format!("Bearer {token}");
    let twice = |a: &str, b: &str| {
        check_request(&record, &[("authorization", &bearer(a))], &format!("/?access_token={b}"), NOW, &())
    };
    let Checked::Valid(both) = twice(&one, &other) else { panic!("both hold") };
    assert!(both.claims.holds(&["role".to_owned()], "b"));
    assert!(!both.claims.holds(&["role".to_owned()], "a"), "a half of each token may not be combined");
    assert!(both.claims.holds(&["sub".to_owned()], "joe"));
    assert!(is_valid(&twice(&one, &one)));
    for (a, b) in [(&one, &bad), (&bad, &one)] {
        assert_eq!(twice(a, b), Checked::Invalid(Rejected::Signature));
    }
    // Two lines of one header are no token, whatever each holds: other proxies join them.
    let lines = [("authorization", bearer(&one)), ("authorization", bearer(&one))];
    let lines: Vec<_> = lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(check_request(&record, &lines, "/", NOW, &()), Checked::Invalid(Rejected::Malformed));
    let many: Vec<_> = (0..5).map(|n| format!("access_token={n}")).collect();
    let uri = format!("/?{}", many.join("&"));
    assert_eq!(check_request(&record, &[], &uri, NOW, &()), Checked::Invalid(Rejected::TooMany));
}

#[test]
fn the_payload_is_forwarded_as_it_was_signed_and_padded_where_asked() {
    let token = good(r#","sub":"jo""#);
    let payload = token.split('.').nth(1).unwrap();
    assert_ne!(payload.len() % 4, 0, "the case is none without padding");
    for padded in [false, true] {
        let forwarding = Some(Forwarding { header: "x-claims".to_owned(), padded });
        let record = compiled(&JwtProvider { forwarding, ..provider(&jwks()) });
        assert_eq!(record.stripped_header(), Some("x-claims"));
        let changes = changes(check_bearer(&record, &token));
        let value = if padded { format!("{payload}{}", "=".repeat(4 - payload.len() % 4)) } else { payload.to_owned() };
        let set = Change::SetHeader { name: "x-claims".to_owned(), value };
        assert_eq!(changes, [Change::RemoveHeader("authorization".to_owned()), set]);
    }
    assert_eq!(compiled(&provider(&jwks())).stripped_header(), None);
}

#[test]
fn reasons_are_told_in_words() {
    for (why, words) in
        [(Rejected::Expired, "the token has expired"), (Rejected::Key, "no key of the provider fits the token")]
    {
        assert_eq!(why.to_string(), words);
    }
}
