//! Bearer tokens: which hold, what the backend sees of them, and what a second check costs.

use crate::{
    host::{Answer, Guest, Request, START_MS, STATE_MOUNT, StateFolder},
    support::{FILE, certificate_of, gate, snapshot},
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const NOW: u64 = START_MS / 1000;

/// An issuer with a key.
pub(crate) struct Issuer(KeyPair);

impl Issuer {
    pub(crate) fn new() -> Self {
        Self(KeyPair::generate_for(&PKCS_ED25519).unwrap())
    }

    /// The text of its key in a JWK.
    fn x(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0.der_bytes())
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(self.0.sign(message.as_bytes()).unwrap()))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "EdDSA"}), claims)
    }

    /// The policy entry that knows it, as `okta`.
    pub(crate) fn provider(&self) -> Value {
        let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": self.x()}]}).to_string();
        json!({"Kind": "jwt-provider", "Name": "okta", "Issuer": "https://okta.test", "Audiences": ["db"],
            "JSONWebKeySet": {"Local": {"JWKS": BASE64_STANDARD.encode(keys)}},
            "Locations": [{"Header": {"Name": "Authorization", "ValuePrefix": "Bearer "}},
                          {"QueryParam": {"Name": "token"}}],
            "Forwarding": {"HeaderName": "X-User"}})
    }

    /// Whoever may call `db` needs a token of this issuer with the role; `free` needs none.
    fn policy(&self) -> Vec<Value> {
        vec![
            self.provider(),
            json!({"Kind": "service-intentions", "Name": "db",
                "JWT": {"Providers": [{"Name": "okta", "VerifyClaims": [{"Path": ["role"], "Value": "admin"}]}]},
                "Sources": [{"Name": "web", "Action": "allow"}]}),
            json!({"Kind": "service-intentions", "Name": "free", "Sources": [{"Name": "web", "Action": "allow"}]}),
        ]
    }

    fn guest(&self) -> Guest {
        self.guest_with(&gate())
    }

    fn guest_with(&self, config: &Value) -> Guest {
        let mut guest = Guest::start(config);
        guest.publish(FILE, snapshot(&self.policy(), 1));
        guest
    }

    /// As [`Self::guest`], after a request to another destination: the snapshot is open, and no token has been seen.
    fn warm_guest(&self) -> Guest {
        let mut guest = self.guest();
        assert!(guest.request(call("free", "/")).forwarded);
        guest
    }
}

fn message(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

/// Claims that hold.
fn admin() -> Value {
    json!({"iss": "https://okta.test", "aud": "db", "exp": NOW + 600, "sub": "joe", "role": "admin"})
}

/// The same with one claim changed; `null` takes it out.
fn but(name: &str, value: Value) -> Value {
    let mut claims = admin();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

fn call(destination: &str, uri: &str) -> Request {
    Request::new("GET", uri)
        .with("x-portcullis-destination", destination)
        .with("x-forwarded-tls-client-cert", certificate_of("web"))
}

fn with_token(token: &str) -> Request {
    call("db", "/v1/x?y=1").with("authorization", format!("Bearer {token}"))
}

fn challenge(answer: &Answer) -> Option<&str> {
    answer.reply.headers.iter().find(|(name, _)| name == "WWW-Authenticate").map(|(_, value)| value.as_str())
}

#[track_caller]
fn expect_refused(guest: &mut Guest, request: Request, status: i32, challenges: Option<&str>) {
    let answer = guest.request(request);
    let rule = "service-intentions/db/sources/web";
    assert_eq!(answer.verdict(), ("deny".to_owned(), rule.to_owned(), status), "{:?}", answer.logged());
    assert_eq!(challenge(&answer), challenges);
}

const MISSING: Option<&str> = Some("Bearer realm=\"portcullis\"");
const INVALID: Option<&str> = Some("Bearer realm=\"portcullis\", error=\"invalid_token\"");

// === what the backend sees ===

#[test]
fn a_verified_token_is_taken_out_and_its_payload_handed_on() {
    let issuer = Issuer::new();
    let token = issuer.token(&admin());
    let answer = issuer.warm_guest().request(with_token(&token));
    assert!(answer.forwarded, "{:?}", answer.logged());
    let payload = token.split('.').nth(1).unwrap();
    answer.expect_calls(&[
        "get_method",
        "get_uri",
        "get_header_names",
        "get_header_values x-portcullis-destination",
        "get_header_values x-forwarded-tls-client-cert",
        "remove x-forwarded-tls-client-cert",
        "clock",
        // The intention, and the provider: of each its bucket and itself.
        "pread",
        "pread",
        "pread",
        "pread",
        "get_header_values authorization",
        "get_header_values authorization",
        "set X-Portcullis-Source: web",
        "set X-Portcullis-Decision: allow",
        "set X-Portcullis-Rule: service-intentions/db/sources/web",
        "get_header_names",
        "remove authorization",
        &format!("set x-user: {payload}"),
    ]);
    assert_eq!(answer.request.header("authorization"), None);
    assert_eq!(answer.request.uri, "/v1/x?y=1");
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    assert_eq!(claims, admin());
}

#[test]
fn a_payload_longer_than_a_log_field_is_handed_on_whole() {
    let issuer = Issuer::new();
    let token = issuer.token(&but("groups", json!(vec!["a-group-with-a-long-name"; 200])));
    let answer = issuer.guest().request(with_token(&token));
    assert!(answer.forwarded, "{:?}", answer.logged());
    assert_eq!(answer.request.header("x-user").as_deref(), token.split('.').nth(1));
}

#[test]
fn a_payload_header_of_the_client_is_removed_in_every_spelling_with_and_without_a_token() {
    let issuer = Issuer::new();
    let mut guest = issuer.guest();
    let token = issuer.token(&admin());
    for (request, ours) in [(with_token(&token), token.split('.').nth(1)), (call("free", "/"), None)] {
        let forged =
            ["x-user", "x_user", "x.user", "x~user"].iter().fold(request, |request, name| request.with(name, "forged"));
        let answer = guest.request(forged.with("x-users", "kept"));
        assert!(answer.forwarded);
        assert_eq!(answer.request.header("x-user").as_deref(), ours);
        let left: Vec<_> = answer.request.headers.keys().filter(|name| name.contains("user")).collect();
        let expected = if ours.is_some() { vec!["x-user", "x-users"] } else { vec!["x-users"] };
        assert_eq!(left, expected);
    }
}

#[test]
fn a_token_in_the_query_is_taken_out_of_it() {
    let issuer = Issuer::new();
    let mut guest = issuer.guest();
    let token = issuer.token(&admin());
    for (uri, expected) in [
        (format!("/v1/x?token={token}"), "/v1/x"),
        (format!("/v1/x?a=1&token={token}&b=%20"), "/v1/x?a=1&b=%20"),
        (format!("/v1/x?%74oken={token}&a"), "/v1/x?a"),
        (format!("/v1/x?token={token}&a&token={token}"), "/v1/x?a"),
    ] {
        let answer = guest.request(call("db", &uri));
        assert!(answer.forwarded, "{uri}: {:?}", answer.logged());
        assert_eq!(answer.request.uri, expected);
        assert!(answer.calls.contains(&format!("set_uri {expected}")), "{:?}", answer.calls);
    }
}

#[test]
fn a_header_without_a_token_stays() {
    let issuer = Issuer::new();
    let basic = call("db", &format!("/?token={}", issuer.token(&admin()))).with("authorization", "Basic YTpi");
    let answer = issuer.guest().request(basic);
    assert!(answer.forwarded);
    assert_eq!(answer.request.header("authorization").as_deref(), Some("Basic YTpi"));
}

#[test]
fn a_token_for_a_destination_that_asks_for_none_is_the_backends_and_not_ours() {
    let issuer = Issuer::new();
    let answer = issuer.guest().request(call("free", "/?token=x").with("authorization", "Bearer y"));
    assert!(answer.forwarded);
    assert_eq!(answer.request.header("authorization").as_deref(), Some("Bearer y"));
    assert_eq!(answer.request.uri, "/?token=x");
}

// === which tokens hold ===

#[test]
fn without_a_token_one_is_asked_for() {
    let issuer = Issuer::new();
    let mut guest = issuer.guest();
    expect_refused(&mut guest, call("db", "/"), 401, MISSING);
    expect_refused(&mut guest, call("db", "/").with("authorization", "Basic YTpi"), 401, MISSING);
    expect_refused(&mut guest, call("db", "/").with("authorization", "bearer x"), 401, MISSING);
}

#[test]
fn a_token_without_the_claim_is_refused_and_no_other_asked_for() {
    let issuer = Issuer::new();
    let mut guest = issuer.guest();
    for role in [json!("user"), json!(["user"]), json!({"admin": "admin"}), json!(null), json!("Admin")] {
        let request = with_token(&issuer.token(&but("role", role)));
        expect_refused(&mut guest, request, 403, None);
    }
    assert!(guest.request(with_token(&issuer.token(&but("role", json!(["user", "admin"]))))).forwarded);
}

#[test]
fn tokens_that_do_not_hold_are_refused_and_no_claim_of_theirs_passes() {
    let issuer = Issuer::new();
    let mut guest = issuer.guest();
    let good = issuer.token(&admin());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let other = message(&json!({"alg": "EdDSA"}), &but("sub", json!("ann")));
    let bad = [
        ("of another key", Issuer::new().token(&admin())),
        ("expired", issuer.token(&but("exp", json!(NOW - 31)))),
        ("not valid yet", issuer.token(&but("nbf", json!(NOW + 31)))),
        ("of another issuer", issuer.token(&but("iss", json!("https://evil.test")))),
        ("of no issuer", issuer.token(&but("iss", Value::Null))),
        ("for others", issuer.token(&but("aud", json!("web")))),
        ("for nobody", issuer.token(&but("aud", Value::Null))),
        ("with the signature of another", format!("{other}.{signature}")),
        ("without a signature", format!("{signed}.")),
        ("in two parts", signed.to_owned()),
        ("in four parts", format!("{good}.AAAA")),
        ("padded", format!("{header}.{payload}=.{signature}")),
        ("with a key of its own", issuer.sign(&json!({"alg": "EdDSA", "crit": ["x"], "x": 1}), &admin())),
        ("empty", String::new()),
    ];
    for (what, token) in bad {
        let answer = guest.request(with_token(&token));
        assert_eq!((answer.forwarded, answer.reply.status), (false, 401), "{what}: {:?}", answer.logged());
        assert_eq!(challenge(&answer), INVALID, "{what}");
        let log = answer.logged().join("\n");
        assert!(token.len() < 20 || !log.contains(&token[..20]), "{what}: a token in the log");
        assert_eq!(answer.request.header("x-user"), None);
    }
    // A good token beside a bad one does not help.
    let both = with_token(&good).with("authorization", format!("Bearer {signed}."));
    expect_refused(&mut guest, both, 401, INVALID);
    assert!(guest.request(with_token(&good)).forwarded);
}

#[test]
fn an_algorithm_that_the_key_is_not_for_is_refused_whatever_was_computed_with_it() {
    let issuer = Issuer::new();
    let mut guest = issuer.guest();
    // The public key as a shared secret, as bytes and as it stands in the set.
    for secret in [issuer.0.der_bytes().to_vec(), issuer.x().into_bytes()] {
        let message = message(&json!({"alg": "HS256", "typ": "JWT"}), &admin());
        let mac = BASE64_URL_SAFE_NO_PAD.encode(hmac_sha256(&secret, message.as_bytes()));
        expect_refused(&mut guest, with_token(&format!("{message}.{mac}")), 401, INVALID);
    }
    for algorithm in ["none", "None", "", "ES256", "RS256", "eddsa"] {
        let header = json!({"alg": algorithm});
        expect_refused(&mut guest, with_token(&issuer.sign(&header, &admin())), 401, INVALID);
        let unsigned = format!("{}.", message(&header, &admin()));
        expect_refused(&mut guest, with_token(&unsigned), 401, INVALID);
    }
    expect_refused(&mut guest, with_token(&issuer.sign(&json!({}), &admin())), 401, INVALID);
    let own_key = json!({"alg": "EdDSA", "jwk": {"kty": "OKP", "crv": "Ed25519", "x": Issuer::new().x()}});
    expect_refused(&mut guest, with_token(&Issuer::new().sign(&own_key, &admin())), 401, INVALID);
}

/// RFC 2104.
fn hmac_sha256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let mut key = [0; 64];
    if secret.len() > key.len() {
        key[..32].copy_from_slice(&Sha256::digest(secret));
    } else {
        key[..secret.len()].copy_from_slice(secret);
    }
    let inner = Sha256::new().chain_update(key.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(key.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().to_vec()
}

// === what is remembered ===

#[test]
fn a_token_that_was_verified_is_not_verified_again_and_still_judged_each_time() {
    let issuer = Issuer::new();
    let mut guest = issuer.warm_guest();
    let request = with_token(&issuer.token(&admin()));
    let (first, second) = (guest.request(request.clone()), guest.request(request.clone()));
    assert!(first.forwarded && second.forwarded);
    // A signature of this kind costs millions of instructions, everything else together tens of thousands.
    assert!(second.fuel * 10 < first.fuel, "{} and then {}", first.fuel, second.fuel);
    assert!(guest.request(with_token(&issuer.token(&but("sub", json!("ann"))))).fuel * 2 > first.fuel);

    guest.world().now_ms += 631_000;
    expect_refused(&mut guest, request.clone(), 401, INVALID);
    guest.world().now_ms = START_MS;
    guest.publish(FILE, snapshot(&Issuer::new().policy(), 2));
    guest.world().now_ms += 1000;
    expect_refused(&mut guest, request, 401, INVALID);
}

#[test]
fn a_token_that_does_not_hold_is_verified_each_time() {
    let issuer = Issuer::new();
    let mut guest = issuer.warm_guest();
    let request = with_token(&Issuer::new().token(&admin()));
    let (first, second) = (guest.request(request.clone()), guest.request(request));
    assert!(!first.forwarded && !second.forwarded);
    assert!(second.fuel * 2 > first.fuel, "{} and then {}", first.fuel, second.fuel);
}

#[test]
fn what_one_instance_verified_another_reads_from_the_state_folder() {
    let (issuer, folder) = (Issuer::new(), StateFolder::default());
    let mut config = gate();
    config["state"] = STATE_MOUNT.into();
    let guest = || {
        let mut guest = issuer.guest_with(&config);
        guest.mount_state(&folder);
        assert!(guest.request(call("free", "/")).forwarded);
        guest
    };
    let request = with_token(&issuer.token(&admin()));
    let uses = |answer: &Answer| {
        let count = |what: &str| answer.calls.iter().filter(|made| made.starts_with(what)).count();
        (count("pread state"), count("pwrite state"))
    };
    let first = guest().request(request.clone());
    assert_eq!((first.forwarded, uses(&first)), (true, (2, 1)), "asked, verified, written");
    let second = guest().request(request);
    assert_eq!((second.forwarded, uses(&second)), (true, (1, 0)), "taken from the folder");
    assert!(second.fuel * 5 < first.fuel, "{} and then {}", first.fuel, second.fuel);
    let forged = guest().request(with_token(&Issuer::new().token(&admin())));
    assert_eq!((forged.reply.status, uses(&forged)), (401, (1, 0)), "asked, and not written");
}
