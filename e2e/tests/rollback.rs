//! Going back to an older policy on a running gateway, and forward again.

use std::fs;
use std::time::Duration;

use portcullis_e2e::client::Client;
use portcullis_e2e::parts::Parts;
use portcullis_e2e::sidecar::command;
use portcullis_e2e::synced::wait_for;
use portcullis_e2e::world::World;
use serde_json::Value;

/// How long anything may take on a busy machine; the sidecar looks at a pin every ten seconds.
const PATIENCE: Duration = Duration::from_secs(40);
/// More than the interval at which a guest looks at the snapshot (200 ms).
const NOTICED: Duration = Duration::from_millis(500);

const CLOSED: &str = "Kind: service-intentions\nName: api\nSources: [{Name: web, Action: deny}]\n";

async fn ask(web: &Client) -> u16 {
    web.get("api.localhost", "/v1/items", &[]).await.unwrap().status
}

fn run(world: &World, arguments: &[&str]) -> (i32, String, String) {
    let configuration = world.layout.configuration();
    let mut all = arguments.to_vec();
    all.extend(["-c", configuration.to_str().unwrap()]);
    let output = command(&world.parts().sidecar, &world.layout, &all).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_was_wrong_is_taken_back_held_back_and_let_go() {
    let Some(parts) = Parts::for_test() else { return };
    let world = World::start(&parts).await.unwrap();
    let web = world.caller("web").unwrap();
    assert_eq!(ask(&web).await, 200);
    let (code, _, said) = run(&world, &["rollback"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no older generation is kept"), "{said}");

    let policy = world.layout.policy().join("api.yaml");
    let good = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, CLOSED).unwrap();
    wait_for("the wrong policy", PATIENCE, async || ask(&web).await == 403).await;
    tokio::time::sleep(NOTICED).await;
    let (code, listed, _) = run(&world, &["snapshots", "--json"]);
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    assert_eq!((code, listed.len(), &listed[0]["inForce"]), (0, 2, &Value::Bool(true)));

    let (code, _, said) = run(&world, &["rollback"]);
    assert_eq!(code, 0, "{said}");
    tokio::time::sleep(NOTICED).await;
    for _ in 0..10 {
        assert_eq!(ask(&web).await, 200, "the older policy is in force");
    }
    // A new policy is held back, and the sidecar says so.
    fs::write(&policy, CLOSED.replace("web", "nobody")).unwrap();
    let log = || fs::read_to_string(world.layout.root().join("portcullis.log")).unwrap();
    wait_for("the sidecar to say so", PATIENCE, async || log().contains("is another one and is not published")).await;
    tokio::time::sleep(NOTICED).await;
    assert_eq!(ask(&web).await, 200);
    assert_eq!(run(&world, &["rollback", "12"]).0, 1);
    assert_eq!(run(&world, &["rollback", "twelve"]).0, 2);

    let (code, _, said) = run(&world, &["rollback", "--unpin"]);
    assert_eq!(code, 0, "{said}");
    wait_for("the policy as it is now", PATIENCE, async || ask(&web).await == 403).await;
    assert_eq!(run(&world, &["rollback", "--unpin"]).0, 1);
    fs::write(&policy, good).unwrap();
    wait_for("the good policy", PATIENCE, async || ask(&web).await == 200).await;
}
