//! API servers that are away, forget, refuse or lie: nothing that lives is taken out, and everything mends itself.

use std::fs;
use std::time::Duration;

use portcullis_e2e::certificates::Authority;
use portcullis_e2e::kubernetes::ADMINISTRATOR;
use portcullis_e2e::kubernetes::proxy::{Manner, Proxy};
use portcullis_e2e::report::say;
use serde_json::json;
use tokio::time::sleep;

use crate::setup::{PATIENCE, WATCHED, World, passing, service, slice, wait_for, wait_for_word};

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_takes_nothing_with_it_and_what_it_forgot_is_read_again() {
    let Some(mut world) = World::start().await else { return };
    let sidecar = world.in_step_sidecar().await;
    let before = world.writes().await;
    world.server.kill();
    wait_for_word(&sidecar, "check that the API server runs").await;
    sleep(WATCHED).await;
    assert_eq!(world.writes().await, before);
    world.server.resume().await.unwrap();
    world.server.delete(&service("db", 30001)).await.unwrap();
    world.server.put(&slice("web", &[0, 1], true)).await.unwrap();
    let took = world.wait_for_instances(2).await;
    say(&format!("in step {took:?} after the API server was back"));
    wait_for("in step", PATIENCE, async || world.in_step().0).await;

    // The same while it watches, and once more with a sidecar that starts without an API server.
    world.server.put(&service("db", 30001)).await.unwrap();
    world.wait_for_instances(5).await;
    let before = world.writes().await;
    drop(sidecar);
    world.server.kill();
    let sidecar = world.launch();
    wait_for_word(&sidecar, "check that the API server runs").await;
    sleep(WATCHED).await;
    assert_eq!(world.writes().await, before);
    world.server.resume().await.unwrap();
    world.server.put(&slice("web", &[0, 1, 2], true)).await.unwrap();
    world.wait_for_instances(6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_has_forgotten_is_listed_again() {
    let Some(mut world) = World::start().await else { return };
    let proxy = Proxy::start(&world.server).await.unwrap();
    world.configure(&proxy.url(), &json!({}));
    let sidecar = world.in_step_sidecar().await;
    // While the sidecar is cut off, things happen, and the server forgets what was before them: etcd by a compaction, the
    // server's own memory by a restart.
    proxy.behave(Manner::Closed);
    world.server.delete(&service("db", 30001)).await.unwrap();
    world.server.put(&slice("web", &[0, 1], true)).await.unwrap();
    world.server.compact().await.unwrap();
    world.server.kill();
    world.server.resume().await.unwrap();
    world.server.compact().await.unwrap();
    assert_eq!(world.services().await.len(), 6);
    proxy.behave(Manner::Honest);
    say(&format!("in step {:?} after a gap", world.wait_for_instances(2).await));
    wait_for_word(&sidecar, "410").await;
    wait_for("in step", PATIENCE, async || world.in_step().0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_liar_between_says_takes_nothing_out() {
    let Some(world) = World::start().await else { return };
    let proxy = Proxy::start(&world.server).await.unwrap();
    world.configure(&proxy.url(), &json!({}));
    let sidecar = world.in_step_sidecar().await;
    let before = world.writes().await;
    for (manner, word) in [
        (Manner::Garbage, "an answer that cannot be read"),
        (Manner::Torn, "cannot be read"),
        (Manner::Closed, "tried again"),
        (Manner::Silent, "no answer in time"),
    ] {
        let said = sidecar.log().unwrap().len();
        proxy.behave(manner);
        // The first watch that is cut is started again from where it was; a lie is met when that fails.
        world.server.compact().await.unwrap();
        wait_for(word, PATIENCE, async || sidecar.log().unwrap()[said..].contains(word)).await;
        sleep(WATCHED / 2).await;
        assert_eq!(world.writes().await, before, "{manner:?}");
        proxy.behave(Manner::Honest);
        world.server.put(&slice("web", &[0, 1, 2], false)).await.unwrap();
        let mended = async || passing(&world.registry, "web").await == 0;
        say(&format!("after {manner:?}: in step again within {:?}", wait_for("the end", PATIENCE, mended).await));
        world.server.put(&slice("web", &[0, 1, 2], true)).await.unwrap();
        wait_for("all pass", PATIENCE, async || passing(&world.registry, "web").await == 3).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_list_is_doubted_and_then_held_by_the_brake() {
    let Some(world) = World::start().await else { return };
    let proxy = Proxy::start(&world.server).await.unwrap();
    world.configure(&proxy.url(), &json!({}));
    // More than the brake lets go unasked.
    for number in 3..7 {
        world.server.put(&crate::setup::node(number)).await.unwrap();
    }
    world.server.put(&slice("web", &[0, 1, 2, 3, 4, 5, 6], true)).await.unwrap();
    world.server.put(&slice("db", &[0, 1, 2, 3, 4, 5, 6], true)).await.unwrap();
    let sidecar = world.sidecar().await;
    world.wait_for_instances(14).await;
    let before = world.writes().await;

    // For a moment: a doubt and nothing else.
    proxy.behave(Manner::Empty);
    wait_for_word(&sidecar, "the list is empty, and there were").await;
    proxy.behave(Manner::Honest);
    world.server.put(&slice("web", &[0, 1, 2, 3, 4, 5], true)).await.unwrap();
    world.wait_for_instances(13).await;
    assert!(!sidecar.log().unwrap().contains("allow-removal"));

    // For good: believed by the second look, and then nothing is removed without a person.
    let now = world.writes().await;
    proxy.behave(Manner::Empty);
    wait_for_word(&sidecar, "allow-removal").await;
    sleep(WATCHED).await;
    assert_eq!(world.writes().await, now);
    assert!(before.len() == 14 && now.len() == 13);
    proxy.behave(Manner::Honest);
    world.server.put(&slice("web", &[0, 1, 2, 3, 4, 5, 6], true)).await.unwrap();
    world.wait_for_instances(14).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_told_and_its_file_read_again() {
    let Some(mut world) = World::start().await else { return };
    let sidecar = world.in_step_sidecar().await;
    let before = world.writes().await;
    fs::write(&world.token, "expired").unwrap();
    world.server.kill();
    world.server.resume().await.unwrap();
    wait_for_word(&sidecar, "does not accept the credentials (401").await;
    world.server.put(&slice("web", &[0, 1], true)).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.writes().await, before);
    fs::write(&world.token, ADMINISTRATOR).unwrap();
    say(&format!("in step {:?} after the token was exchanged", world.wait_for_instances(5).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_certificate_is_not_verified_is_given_no_token() {
    let Some(world) = World::start().await else { return };
    let file = world.layout.root().join("kubeconfig");
    let honest = fs::read_to_string(&file).unwrap();
    let stranger = world.folder.path().join("stranger.pem");
    fs::write(&stranger, Authority::new("stranger").unwrap().pem()).unwrap();
    let ours = world.folder.path().join("east/ca.pem");
    let wrong = honest.replace(ours.to_str().unwrap(), stranger.to_str().unwrap());
    let careless = honest.replace("\"certificate-authority\"", "\"insecure-skip-tls-verify\":true,\"x\"");
    for (kubeconfig, word) in [
        (wrong.as_str(), "check certificate-authority"),
        (careless.as_str(), "insecure-skip-tls-verify is not supported"),
        ("{", "check kubeconfig, context and inCluster"),
    ] {
        assert_ne!(kubeconfig, honest);
        fs::write(&file, kubeconfig).unwrap();
        let (holds, said) = world.in_step();
        assert!(!holds && said.contains("cluster east") && said.contains(word), "{said}");
    }
    fs::write(&file, honest).unwrap();
    let (_, said) = world.in_step();
    assert!(said.contains("+ web "), "{said}");
}
