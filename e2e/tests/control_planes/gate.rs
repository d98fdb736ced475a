//! At the gate of a real Traefik: changes in Consul count within a second, and none of its faults changes a verdict.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_e2e::client::{Client, Connection, empty, request};
use portcullis_e2e::oracle::keys::elliptic;
use portcullis_e2e::parts::Parts;
use portcullis_e2e::report::say;
use portcullis_e2e::solo::NOTICED;
use portcullis_e2e::traefik::{GUEST_POLICY, GUEST_STATE};
use portcullis_e2e::world::{Backends, Setup, World};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::setup::{Ground, PATIENCE, intention, line, shipped};

/// Changes that are timed.
const CHANGES: usize = 30;
/// Asserted of nearly all of them, on machines that do much else; the promise is one second.
const WITHIN: Duration = Duration::from_secs(3);
/// How long a verdict is watched under a fault.
const WATCHED: Duration = Duration::from_secs(2);

async fn status(connection: &mut Connection) -> u16 {
    let request = request("GET", "db.localhost", "/rows", &[], empty()).unwrap();
    connection.send(request).await.unwrap().status
}

async fn wait_for_status(client: &Client, wanted: u16) -> Duration {
    let (start, mut connection) = (Instant::now(), client.connect("db.localhost").await.unwrap());
    while status(&mut connection).await != wanted {
        assert!(start.elapsed() < PATIENCE, "never {wanted}");
        sleep(Duration::from_millis(2)).await;
    }
    let took = start.elapsed();
    // Behind this, no guest gives a verdict of before: it looks at the snapshot with its next request.
    sleep(NOTICED).await;
    took
}

/// Every answer for a while is this one, once every guest has looked at the snapshot again.
async fn stays(client: &Client, wanted: u16) {
    sleep(NOTICED).await;
    let (start, mut connection) = (Instant::now(), client.connect("db.localhost").await.unwrap());
    let mut n_asked = 0;
    while start.elapsed() < WATCHED {
        assert_eq!(status(&mut connection).await, wanted, "after {n_asked} requests");
        n_asked += 1;
        sleep(Duration::from_millis(5)).await;
    }
    say(&format!("{n_asked} requests, all {wanted}"));
}

/// Writes the opposite of what counts at the gate, where it is not to arrive; the status that it would lead to.
async fn undelivered(ground: &Ground, client: &Client) -> u16 {
    sleep(Duration::from_millis(500)).await;
    let kept = client.get("db.localhost", "/rows", &[]).await.unwrap().status;
    let (action, other) = if kept == 200 { ("deny", 403) } else { ("allow", 200) };
    let mut entry = intention("db", "web", action);
    // Another entry than the one that stands there, so that it is written.
    entry["Meta"] = json!({"written": "anew"});
    ground.write(&entry).await;
    stays(client, kept).await;
    other
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_in_consul_count_at_once_and_its_faults_change_no_verdict() {
    let (Some(parts), Some(mut ground)) = (Parts::for_test(), Ground::start().await) else { return };
    ground.intend("db", "web", "allow").await;
    let state = ground.folder.path().join("state");
    std::fs::create_dir_all(&state).unwrap();
    let gate = json!({
        "file": "./run/traefik/gate.yml", "snapshot": format!("{GUEST_POLICY}/policy.snapshot"), "entryPoints": ["websecure"],
        "tls": {"options": "mtls@file"}, "clientCertificate": "verifiedByTraefik", "pluginSettings": {"state": GUEST_STATE},
    });
    let sections = json!({"policy": ground.policy(), "gate": gate});
    let setup = Setup { sidecar: sections, state: Some(state), ..Setup::default() };
    let world = World::with(&parts, Backends::start().await.unwrap(), setup).await.unwrap();
    let (web, sidecar) = (world.caller("web").unwrap(), world.sidecar.as_ref().unwrap());
    wait_for_status(&web, 200).await;
    let reloads = world.traefik.reloads().await.unwrap();

    let mut times = Vec::new();
    for number in 0..CHANGES {
        let (action, wanted) = if number % 2 == 0 { ("deny", 403) } else { ("allow", 200) };
        ground.intend("db", "web", action).await;
        times.push(wait_for_status(&web, wanted).await);
    }
    times.sort();
    let at = |share: usize| times[(CHANGES - 1) * share / 100];
    let (p50, p99) = (at(50), at(99));
    say(&format!(
        "{CHANGES} changes from Consul to the gate: p50 {p50:?}, p99 {p99:?}, longest {:?}",
        times[CHANGES - 1]
    ));
    assert!(p99 < WITHIN, "{times:?}");
    assert_eq!(world.traefik.reloads().await.unwrap(), reloads, "Traefik was reloaded");

    // The token is revoked: told once, and the next one mends it. A question that waits is answered to the old one still.
    let accessor = ground.grant("shipped", &shipped()).await;
    ground.intend("db", "web", "deny").await;
    wait_for_status(&web, 403).await;
    ground.registry.delete(&format!("/v1/acl/token/{accessor}")).await.unwrap();
    ground.intend("db", "web", "allow").await;
    line(sidecar, "consul: service-intentions: /v1/config/service-intentions: 403").await;
    let lost = undelivered(&ground, &web).await;
    ground.grant("shipped", &shipped()).await;
    wait_for_status(&web, lost).await;

    // A token that may see less: what is hidden is not taken for gone.
    let rules: Vec<String> = shipped().into_iter().filter(|rule| !rule.starts_with("service_prefix")).collect();
    ground.grant("blind", &rules).await;
    // Questions that wait are the last ones of the token before.
    for action in ["deny", "allow", "deny", "allow"] {
        ground.intend("db", "web", action).await;
        sleep(Duration::from_millis(300)).await;
    }
    line(sidecar, "consul: service-intentions: /v1/config/service-intentions: Consul has left out").await;
    let lost = undelivered(&ground, &web).await;
    ground.grant("shipped", &shipped()).await;
    wait_for_status(&web, lost).await;
    ground.intend("db", "web", "deny").await;
    wait_for_status(&web, 403).await;
    ground.intend("db", "web", "allow").await;
    wait_for_status(&web, 200).await;

    // Killed, and back.
    ground.registry.kill();
    stays(&web, 200).await;
    ground.registry.resume().await.unwrap();
    ground.intend("db", "web", "deny").await;
    say(&format!("after Consul's restart a change counts after {:?}", wait_for_status(&web, 403).await));
    assert_eq!(world.traefik.reloads().await.unwrap(), reloads, "Traefik was reloaded");

    // A token of a provider that stands in Consul.
    let mut random = fastrand::Rng::new();
    let key = elliptic(&mut random).into_iter().find(|key| key.id == "p256-1").unwrap();
    let set = json!({"keys": [key.jwk(true)]}).to_string();
    let provider = json!({"Kind": "jwt-provider", "Name": "login", "Issuer": "https://login.test",
        "JSONWebKeySet": {"Local": {"JWKS": STANDARD.encode(set)}}});
    ground.write(&provider).await;
    let mut entry = intention("db", "web", "allow");
    entry["JWT"] = json!({"Providers": [{"Name": "login"}]});
    ground.write(&entry).await;
    wait_for_status(&web, 401).await;
    let header = json!({"alg": key.algorithms[0], "kid": key.id});
    let claims = json!({"iss": "https://login.test", "sub": "joe", "exp": 4_000_000_000_u64});
    let token = format!("Bearer {}", key.token(&header, claims.to_string().as_bytes()));
    sleep(NOTICED).await;
    let answer = web.get("db.localhost", "/rows", &[("Authorization", &token)]).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    ground.intend("db", "web", "allow").await;
    wait_for_status(&web, 200).await;

    // Limits from a key: counted, and gone with it.
    let limits = json!({"Kind": "rate-limits", "Name": "db", "Limits": [{"Name": "all", "Rate": {"Requests": 1, "Period": "1h"}}]});
    ground.registry.put("/v1/kv/portcullis/policy/limits", &limits).await.unwrap();
    wait_for_status(&web, 429).await;
    // A key that nobody can read takes nothing away.
    ground
        .registry
        .put("/v1/kv/portcullis/policy/more", &json!({"Kind": "service-intentions", "Name": "db"}))
        .await
        .unwrap();
    line(sidecar, "a key holds rate-limits").await;
    stays(&web, 429).await;
    ground.registry.delete("/v1/kv/portcullis/policy/more").await.unwrap();
    line(
        sidecar,
        "no longer: consul: keys portcullis/policy/: /v1/kv/portcullis/policy/: consul: portcullis/policy/more",
    )
    .await;
    ground.registry.delete("/v1/kv/portcullis/policy/limits").await.unwrap();
    wait_for_status(&web, 200).await;
}
