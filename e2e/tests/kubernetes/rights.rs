//! The shipped roles suffice, and of each right that is missing the sidecar says which.

use std::fs;

use portcullis_e2e::kubernetes::shipped;
use portcullis_e2e::report::say;
use serde_json::json;

use crate::setup::{World, service, slice, wait_for_word};

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_role_suffices_and_a_missing_right_is_named() {
    let Some(world) = World::start().await else { return };
    fs::write(&world.token, "sidecar").unwrap();
    let objects = shipped("rbac.yaml", "sidecar").unwrap();
    for object in &objects {
        world.server.put(object).await.unwrap();
    }
    let sidecar = world.in_step_sidecar().await;
    assert!(!sidecar.log().unwrap().contains("may not"), "{}", sidecar.log().unwrap());
    assert_eq!(world.in_step(), (true, String::new()));
    drop(sidecar);

    let before = world.writes().await;
    let role = objects.iter().find(|it| it["kind"] == "ClusterRole").unwrap();
    for (rule, resource) in ["services", "endpointslices", "nodes"].into_iter().enumerate() {
        assert_eq!(role["rules"][rule]["resources"], json!([resource]));
        // Without the right to watch there is no streamed list; without that to list there is, and nothing is missing.
        for (left, missing) in [("list", "watch"), ("get", "list")] {
            let mut less = role.clone();
            less["rules"][rule]["verbs"] = json!([left]);
            world.server.put(&less).await.unwrap();
            let sidecar = world.launch();
            let took =
                wait_for_word(&sidecar, &format!("cluster east: {resource}: may not {missing} {resource}: ")).await;
            say(&format!("{missing} {resource} is missing: said after {took:?}"));
            assert!(sidecar.log().unwrap().contains("deploy/kubernetes/rbac.yaml"));
            assert_eq!(world.writes().await, before);
        }
        world.server.put(role).await.unwrap();
    }
    let (holds, said) = {
        let mut less = role.clone();
        less["rules"][2]["verbs"] = json!(["watch"]);
        world.server.put(&less).await.unwrap();
        world.in_step()
    };
    assert!(!holds && said.contains("cluster east: may not list nodes"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaced_mode_needs_rights_there_and_sees_nothing_else() {
    let Some(world) = World::start().await else { return };
    fs::write(&world.token, "sidecar").unwrap();
    let objects = shipped("rbac-namespaced.yaml", "sidecar").unwrap();
    for object in &objects {
        world.server.put(object).await.unwrap();
    }
    // Elsewhere there is a service too, which nobody has given us a right to.
    let mut elsewhere = service("elsewhere", 32000);
    elsewhere["metadata"]["namespace"] = "default".into();
    world.server.put(&elsewhere).await.unwrap();
    let mut its_slice = slice("elsewhere", &[0], true);
    its_slice["metadata"]["namespace"] = "default".into();
    world.server.put(&its_slice).await.unwrap();

    world.configure(&world.server.url(), &json!({"namespaces": ["shop"]}));
    let sidecar = world.in_step_sidecar().await;
    assert_eq!(world.in_step(), (true, String::new()));
    world.server.put(&slice("web", &[0], true)).await.unwrap();
    world.wait_for_instances(4).await;
    assert!(!sidecar.log().unwrap().contains("may not"), "{}", sidecar.log().unwrap());
    drop(sidecar);

    world.configure(&world.server.url(), &json!({"namespaces": ["shop", "default"]}));
    let sidecar = world.launch();
    wait_for_word(&sidecar, "cluster east: services in default: may not list services: ").await;
    drop(sidecar);

    // Without any right on the whole cluster: other types than NodePort.
    let nodes = objects.iter().find(|it| it["kind"] == "ClusterRoleBinding").unwrap();
    world.server.delete(nodes).await.unwrap();
    world.configure(&world.server.url(), &json!({"namespaces": ["shop"]}));
    let sidecar = world.launch();
    wait_for_word(&sidecar, "cluster east: nodes: may not list nodes: ").await;
    drop(sidecar);
    let ports = json!({"namespaces": ["shop"], "nodes": "none", "sync": {"syncTypes": ["ClusterIP"]}});
    world.configure(&world.server.url(), &ports);
    let mut inner = service("inner", 0);
    inner["spec"] = json!({"type": "ClusterIP", "ports": [{"name": "", "port": 80}]});
    world.server.put(&inner).await.unwrap();
    world.server.put(&slice("inner", &[0], true)).await.unwrap();
    let _sidecar = world.sidecar().await;
    crate::setup::wait_for("the pod", crate::setup::PATIENCE, async || {
        world.services().await.iter().any(|it| it["Service"] == "inner" && it["Address"] == "10.0.0.1")
    })
    .await;
}
