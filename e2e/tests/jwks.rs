//! Keys of an issuer that is asked over https, through real Traefik and the real sidecar: they come, they change, and nothing that
//! befalls the issuer changes a verdict.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portcullis_e2e::client::Client;
use portcullis_e2e::issuer::{Answers, Issuer};
use portcullis_e2e::oracle::keys::{Key, elliptic};
use portcullis_e2e::parts::Parts;
use portcullis_e2e::ports;
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::Sidecar;
use portcullis_e2e::synced::wait_for;
use portcullis_e2e::world::{Backends, Setup, World};
use serde_json::{Value, json};

const NAME: &str = "https://login.test";
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a change of keys may take: the provider's `CacheDuration` of a second, and the looks at the snapshot.
const PROMISED: Duration = Duration::from_secs(5);
/// More than the interval at which a guest looks at the snapshot (200 ms).
const NOTICED: Duration = Duration::from_millis(500);
/// The line of the log that says that fetching fails.
const ALARM: &str = "the keys of a JWT provider cannot be fetched";
const END_OF_ALARM: &str = "the keys of a JWT provider can be fetched again";

fn keys() -> [Key; 3] {
    let mut random = fastrand::Rng::new();
    let mut keys = elliptic(&mut random);
    keys.retain(|key| ["p256-1", "p256-2", "ed25519"].contains(&key.id.as_str()));
    keys.try_into().ok().unwrap()
}

fn set(keys: &[&Key]) -> String {
    json!({"keys": keys.iter().map(|key| key.jwk(true)).collect::<Vec<_>>()}).to_string()
}

fn token(key: &Key) -> String {
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 600;
    let claims = json!({"iss": NAME, "sub": "joe", "exp": end});
    key.token(&json!({"alg": key.algorithms[0], "kid": key.id}), claims.to_string().as_bytes())
}

fn policy(issuer: &Issuer) -> Vec<(PathBuf, String)> {
    let back_off = json!({"BaseInterval": "100ms", "MaxInterval": "200ms"});
    let provider = json!({"Kind": "jwt-provider", "Name": "login", "Issuer": NAME, "JSONWebKeySet": {"Remote": {
        "URI": issuer.uri(), "CacheDuration": "1s", "RequestTimeoutMs": 1000,
        "RetryPolicy": {"NumRetries": 1, "RetryPolicyBackOff": back_off},
        "JWKSCluster": {"TLSCertificates": {"TrustedCA": {"InlineString": issuer.authority()}}},
    }}});
    let intentions = json!({"Kind": "service-intentions", "Name": "api", "JWT": {"Providers": [{"Name": "login"}]},
        "Sources": [{"Name": "web", "Action": "allow"}]});
    vec![("policy/login.yaml".into(), provider.to_string()), ("policy/api.yaml".into(), intentions.to_string())]
}

/// The status that `web` gets with this token.
async fn ask(web: &Client, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    web.get("api.localhost", "/v1/items", &[("Authorization", &bearer)]).await.unwrap().status
}

/// Waits until the sidecar has asked at least three times more: the first may have begun before.
async fn asked_again(issuer: &Issuer) {
    let before = issuer.asked();
    wait_for("the sidecar to ask", PATIENCE, async || issuer.asked() >= before + 3).await;
}

fn count(world: &World, text: &str) -> usize {
    fs::read_to_string(world.layout.root().join("portcullis.log")).unwrap().matches(text).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_issuer_are_followed_and_its_faults_change_no_verdict() {
    let Some(parts) = Parts::for_test() else { return };
    let [first, second, third] = keys();
    let issuer = Issuer::start(Answers::With(set(&[&first]))).await.unwrap();
    let metrics = ports::free().unwrap();
    let sidecar = json!({"metrics": {"listen": metrics.to_string()}});
    let setup = Setup { files: policy(&issuer), sidecar, ..Setup::default() };
    let mut world = World::with(&parts, Backends::start().await.unwrap(), setup).await.unwrap();
    let web = world.caller("web").unwrap();
    let [by_first, by_second, by_third] = [&first, &second, &third].map(token);

    wait_for("the first key", PATIENCE, async || ask(&web, &by_first).await == 200).await;
    assert_eq!(web.get("api.localhost", "/v1/items", &[]).await.unwrap().status, 401);
    assert_eq!(ask(&web, &by_second).await, 401);

    // A rotation: the issuer shows both, then only the new one.
    issuer.answer(Answers::With(set(&[&first, &second])));
    let took = wait_for("the second key", PROMISED, async || {
        assert_eq!(ask(&web, &by_first).await, 200, "the first key is still there");
        ask(&web, &by_second).await == 200
    })
    .await;
    say(&format!("a new key is accepted after {took:?}"));
    // Every instance of the guest looks for itself.
    tokio::time::sleep(NOTICED).await;
    issuer.answer(Answers::With(set(&[&second])));
    wait_for("the first key's end", PROMISED, async || {
        assert_eq!(ask(&web, &by_second).await, 200);
        ask(&web, &by_first).await == 401
    })
    .await;

    tokio::time::sleep(NOTICED).await;

    // Everything that can befall an issuer, one after another.
    let reloads = world.traefik.reloads().await.unwrap();
    let published = fs::read(world.layout.snapshot()).unwrap();
    for fault in [
        Answers::Down,
        Answers::With("garbage".to_owned()),
        Answers::With("{\"keys\": []}".to_owned()),
        Answers::Huge,
        Answers::Slowly,
        Answers::AsAStranger(set(&[&third])),
    ] {
        issuer.answer(fault.clone());
        asked_again(&issuer).await;
        for (token, wanted) in [(&by_first, 401), (&by_second, 200), (&by_third, 401)] {
            assert_eq!(ask(&web, token).await, wanted, "{fault:?}");
        }
    }
    assert_eq!(fs::read(world.layout.snapshot()).unwrap(), published, "nothing was published");
    assert_eq!((count(&world, ALARM), count(&world, END_OF_ALARM)), (1, 0));

    // The sidecar is killed and started anew, and the issuer is still down.
    issuer.answer(Answers::Down);
    world.sidecar = None;
    world.sidecar = Some(Sidecar::launch(&parts.sidecar, &world.layout).unwrap());
    wait_for("a snapshot of the new sidecar", PATIENCE, async || {
        assert_eq!(ask(&web, &by_second).await, 200);
        fs::read(world.layout.snapshot()).unwrap() != published
    })
    .await;
    tokio::time::sleep(NOTICED).await;
    assert_eq!((ask(&web, &by_second).await, ask(&web, &by_first).await), (200, 401));
    wait_for("the alarm", PATIENCE, async || count(&world, ALARM) == 2).await;

    // It recovers by itself.
    issuer.answer(Answers::With(set(&[&second, &third])));
    wait_for("the third key", PATIENCE, async || {
        assert_eq!(ask(&web, &by_second).await, 200);
        ask(&web, &by_third).await == 200
    })
    .await;
    wait_for("the end of the alarm", PATIENCE, async || count(&world, END_OF_ALARM) == 1).await;
    assert_eq!((count(&world, ALARM), count(&world, END_OF_ALARM)), (2, 1));
    assert_eq!(world.traefik.reloads().await.unwrap(), reloads);
    let numbers = Client::plain(metrics).get("localhost", "/metrics", &[]).await.unwrap().text();
    assert!(numbers.contains("portcullis_jwks_up{provider=\"login\"} 1\n"), "{numbers}");
    let log = fs::read_to_string(world.layout.root().join("portcullis.log")).unwrap();
    assert!(!log.contains(&by_second) && !log.contains("jwks.json"), "{log}");
}

/// Nothing of the kind that a person could have meant is fetched over a way that nobody vouches for.
#[tokio::test(flavor = "multi_thread")]
async fn keys_over_plain_http_are_not_fetched_and_their_tokens_refused() {
    let Some(parts) = Parts::for_test() else { return };
    let [key, ..] = keys();
    let issuer = Issuer::start(Answers::With(set(&[&key]))).await.unwrap();
    let mut files = policy(&issuer);
    let mut provider: Value = serde_json::from_str(&files[0].1).unwrap();
    provider["JSONWebKeySet"]["Remote"]["URI"] = json!(issuer.uri().replace("https", "http"));
    files[0].1 = provider.to_string();
    let setup = Setup { files, ..Setup::default() };
    let world = World::with(&parts, Backends::start().await.unwrap(), setup).await.unwrap();
    let web = world.caller("web").unwrap();
    wait_for("the problem", PATIENCE, async || count(&world, "the URI is not https") == 1).await;
    assert_eq!((ask(&web, &token(&key)).await, issuer.asked()), (401, 0));
}
