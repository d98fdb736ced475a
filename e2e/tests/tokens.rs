//! Bearer tokens through real Traefik: which pass, what the service sees of them, and keys that change.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use portcullis_e2e::certificates::Caller;
use portcullis_e2e::client::{Answer, Client};
use portcullis_e2e::oracle::keys::{Key, elliptic};
use portcullis_e2e::parts::Parts;
use portcullis_e2e::solo::{NOTICED, Setup, Solo, host};
use serde_json::{Value, json};

const ISSUER: &str = "https://login.test";
/// A slot of the file of verified signatures, in bytes (docs/reference/state.md).
const SLOT: usize = 48;

fn keys() -> Vec<Key> {
    let mut random = fastrand::Rng::new();
    elliptic(&mut random).into_iter().filter(|key| ["p256-1", "p256-2", "ed25519"].contains(&key.id.as_str())).collect()
}

/// `web` may read with a token of these keys, and write with one that says so.
fn policy(keys: &[&Key]) -> Vec<Value> {
    let set = json!({"keys": keys.iter().map(|key| key.jwk(true)).collect::<Vec<_>>()}).to_string();
    let role = json!({"Name": "login", "VerifyClaims": [{"Path": ["roles"], "Value": "writer"}]});
    vec![
        json!({"Kind": "jwt-provider", "Name": "login", "Issuer": ISSUER, "Audiences": ["api"],
            "JSONWebKeySet": {"Local": {"JWKS": STANDARD.encode(set)}},
            "Locations": [{"Header": {"Name": "Authorization", "ValuePrefix": "Bearer "}},
                          {"QueryParam": {"Name": "access_token"}}],
            "Forwarding": {"HeaderName": "X-Login"}}),
        json!({"Kind": "service-intentions", "Name": "api", "JWT": {"Providers": [{"Name": "login"}]},
            "Sources": [{"Name": "web", "Permissions": [
                {"Action": "allow", "HTTP": {"PathPrefix": "/", "Methods": ["PUT"]}, "JWT": {"Providers": [role]}},
                {"Action": "allow", "HTTP": {"PathPrefix": "/", "Methods": ["GET"]}}]}]}),
    ]
}

/// A token of `joe` that ends in so many seconds.
fn token(key: &Key, roles: &[&str], seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let end = now.checked_add_signed(seconds).unwrap();
    // Long enough that its payload is longer than a log line's field.
    let claims = json!({"iss": ISSUER, "aud": "api", "sub": "joe", "roles": roles, "exp": end, "pad": "x".repeat(600)});
    key.token(&json!({"alg": key.algorithms[0], "kid": key.id}), claims.to_string().as_bytes())
}

async fn ask(client: &Client, at: &str, method: &str, path: &str, token: Option<&str>) -> Answer {
    let value = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<_> = value.iter().map(|value| ("Authorization", value.as_str())).collect();
    client.send(method, &host(at), path, &headers).await.unwrap()
}

fn challenge(answer: &Answer) -> Option<&str> {
    answer.headers.get("www-authenticate").map(|value| value.to_str().unwrap())
}

const INVALID: Option<&str> = Some("Bearer realm=\"portcullis\", error=\"invalid_token\"");

/// Two middlewares, so that no instance of one is ever an instance of the other.
const MIDDLEWARES: [&str; 2] = ["one", "other"];

async fn start(parts: &Parts, policy: &[Value]) -> Solo {
    let middlewares = MIDDLEWARES.map(|name| (name, json!({"clientCertificate": "verifiedByTraefik"})));
    let setup = Setup { client_authentication: "RequireAndVerifyClientCert", middlewares: &middlewares, policy };
    Solo::start(parts, setup).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_verified_taken_out_and_their_payload_handed_on() {
    let Some(parts) = Parts::for_test() else { return };
    let keys = keys();
    let [es256, _, eddsa] = &keys[..] else { panic!("{keys:?}") };
    let gateway = start(&parts, &policy(&[es256, eddsa])).await;
    let web = gateway.client(Some(&gateway.authority.client(&Caller::named("web")).unwrap())).unwrap();
    for key in [es256, eddsa] {
        let good = token(key, &["writer"], 60);
        let payload = good.split('.').nth(1).unwrap();
        let forged = [
            ("Authorization", format!("Bearer {good}")),
            ("X-Login", "forged".to_owned()),
            ("X_Login", "forged".to_owned()),
        ];
        let forged: Vec<_> = forged.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = web.get(&host("one"), "/v1/items?a=1", &forged).await.unwrap();
        assert_eq!(answer.status, 200, "{}: {}", key.id, answer.text());
        let seen = answer.seen_headers().unwrap();
        let logins: Vec<_> = seen.iter().filter(|(name, _)| name.contains("login")).collect();
        assert_eq!(logins, [&("x-login".to_owned(), payload.to_owned())]);
        assert!(!answer.text().contains(good.split('.').nth(2).unwrap()), "the service saw the token");
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        assert_eq!(claims["sub"], "joe");

        // Nor can a caller have the payload dropped behind us.
        let dropping = [("Authorization", forged[0].1), ("Connection", "X-Login")];
        let seen = web.get(&host("one"), "/v1/items", &dropping).await.unwrap().seen_headers().unwrap();
        assert!(seen.contains(&("x-login".to_owned(), payload.to_owned())), "{seen:?}");

        let in_query = web.get(&host("one"), &format!("/v1/items?a=1&access_token={good}&b=2"), &[]).await.unwrap();
        assert_eq!(in_query.status, 200);
        assert!(in_query.text().contains("/v1/items?a=1&b=2"), "{}", in_query.text());
        assert_eq!(ask(&web, "one", "PUT", "/v1/items", Some(&good)).await.status, 200);
    }
    let stranger = &self::keys()[0];
    let forged = token(es256, &["reader"], 60).replace('.', "x.");
    let (missing, insufficient) = (None, Some(token(es256, &["reader"], 60)));
    for (what, method, token, status, wanted) in [
        ("none", "GET", missing, 401, Some("Bearer realm=\"portcullis\"")),
        ("one without the role", "PUT", insufficient.clone(), 403, None),
        ("one without the role, to read", "GET", insufficient, 200, None),
        ("of another key with the same name", "GET", Some(token(stranger, &["writer"], 60)), 401, INVALID),
        ("an expired one", "GET", Some(token(eddsa, &["writer"], -60)), 401, INVALID),
        ("a broken one", "GET", Some(forged), 401, INVALID),
        ("an unsigned one", "GET", Some(unsigned()), 401, INVALID),
    ] {
        for _ in 0..2 {
            let answer = ask(&web, "one", method, "/v1/items", token.as_deref()).await;
            assert_eq!((answer.status, challenge(&answer)), (status, wanted), "{what}");
        }
    }
    // A token does not say who calls.
    let other = gateway.client(Some(&gateway.authority.client(&Caller::named("other")).unwrap())).unwrap();
    assert_eq!(ask(&other, "one", "GET", "/", Some(&token(eddsa, &["writer"], 60))).await.status, 403);
}

fn unsigned() -> String {
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", encode(json!({"alg": "none"})), encode(json!({"iss": ISSUER, "aud": "api"})))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_tokens_is_shared_and_ends_with_their_keys_without_a_reload() {
    let Some(parts) = Parts::for_test() else { return };
    let keys = keys();
    let [old, new, _] = &keys[..] else { panic!("{keys:?}") };
    let mut gateway = start(&parts, &policy(&[old])).await;
    let web = gateway.client(Some(&gateway.authority.client(&Caller::named("web")).unwrap())).unwrap();
    let (by_old, by_new) = (token(old, &["writer"], 600), token(new, &["writer"], 600));
    let mut verdicts = Vec::new();
    let reloads = gateway.traefik.reloads().await.unwrap();
    let file = gateway.verified();
    assert!(!file.exists(), "nobody has asked yet");
    assert_eq!(ask(&web, "one", "GET", "/", Some(&by_old)).await.status, 200);
    let written = fs::read(&file).unwrap();
    assert_eq!(written.chunks(SLOT).filter(|slot| slot.iter().any(|byte| *byte != 0)).count(), 1);
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(ask(&web, "other", "GET", "/", Some(&by_old)).await.status, 200);
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), time, "the second did not have to verify it");

    for (keys, expected) in [(vec![old, new], (200, 200)), (vec![new], (401, 200)), (vec![old], (200, 401))] {
        gateway.publish(&policy(&keys)).unwrap();
        tokio::time::sleep(NOTICED).await;
        for at in MIDDLEWARES {
            for _ in 0..3 {
                let old = ask(&web, at, "GET", "/", Some(&by_old)).await.status;
                let new = ask(&web, at, "GET", "/", Some(&by_new)).await.status;
                verdicts.push(((old, new), expected));
            }
        }
    }
    assert!(verdicts.iter().all(|(made, expected)| made == expected), "{verdicts:?}");
    assert_eq!(gateway.traefik.reloads().await.unwrap(), reloads);
}
