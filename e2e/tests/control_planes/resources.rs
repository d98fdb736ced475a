//! Kubernetes' resources as policy, from a real API server.

use std::fs;

use portcullis_e2e::kubernetes::{ApiServer, USERS};
use portcullis_e2e::parts::{KubernetesParts, root};
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::Sidecar;
use portcullis_e2e::synced::wait_for;
use portcullis_policy::{Snapshot, Verdict};
use serde_json::{Value, json};

use crate::setup::{Ground, PATIENCE, line, verdict};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A definition that takes whatever consul-k8s' own would take.
fn definition(kind: &str, plural: &str) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.consul.hashicorp.com")},
        "spec": {"group": "consul.hashicorp.com", "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": schema}]},
    })
}

fn resource(name: &str, destination: &str, source: &str, action: &str) -> Value {
    json!({"apiVersion": "consul.hashicorp.com/v1alpha1", "kind": "ServiceIntentions", "metadata": {"name": name, "namespace": "default"},
        "spec": {"destination": {"name": destination}, "sources": [{"name": source, "action": action}]}})
}

const INTENTIONS: &str = "/apis/consul.hashicorp.com/v1alpha1/namespaces/default/serviceintentions";

async fn post(server: &ApiServer, path: &str, object: &Value) {
    wait_for(&format!("{path} to take {}", object["metadata"]["name"]), PATIENCE, async || {
        let (status, answer) = server.call("POST", path, Some(object)).await.unwrap();
        // A new definition takes a moment.
        assert!(matches!(status, 201 | 404 | 503), "{status}: {answer}");
        status == 201
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_are_policy_before_consuls_entries_and_one_that_is_written_twice_denies() {
    let (Some(ground), Some(parts)) = (Ground::start().await, KubernetesParts::for_test()) else { return };
    let mut server = ApiServer::start(&parts, &ground.folder.path().join("east")).await.unwrap();
    ground.intend("db", "web", "deny").await;
    ground.intend("api", "web", "allow").await;
    let token = ground.folder.path().join("kube-token");
    fs::write(&token, USERS[0]).unwrap();
    for object in portcullis_e2e::kubernetes::shipped("rbac.yaml", USERS[0]).unwrap() {
        server.put(&object).await.unwrap();
    }
    let kubeconfig = ground.folder.path().join("kubeconfig");
    server.kubeconfig(&kubeconfig, &server.url(), &token).unwrap();
    let clusters = json!([{"name": "east", "kubeconfig": kubeconfig, "policy": true}]);
    let layout = ground.layout("one", &json!({"policy": ground.policy(), "clusters": clusters}));
    let sidecar = Sidecar::start(&ground.sidecar, &layout).await.unwrap();
    let snapshot = layout.snapshot();
    let seen = |source: &str, destination: &str| verdict(&snapshot, source, destination);
    // No definition is installed: that is told, and Consul's entries count.
    line(&sidecar, "cluster east: serviceintentions: cannot list serviceintentions: the API server answers 404").await;
    assert_eq!((seen("web", "db"), seen("web", "api")), (Some(Verdict::Deny), Some(Verdict::Allow)));

    for (kind, plural) in [("ServiceIntentions", "serviceintentions"), ("JWTProvider", "jwtproviders")] {
        post(&server, DEFINITIONS, &definition(kind, plural)).await;
    }
    let own: Value =
        serde_saphyr::from_str(&fs::read_to_string(root().join("deploy/crds/ratelimits.portcullis.io.yaml")).unwrap())
            .unwrap();
    post(&server, DEFINITIONS, &own).await;
    post(&server, INTENTIONS, &resource("db", "db", "web", "allow")).await;
    let took = wait_for("the resource", PATIENCE, async || seen("web", "db") == Some(Verdict::Allow)).await;
    say(&format!("definitions that were installed and a resource count after {took:?}"));
    line(&sidecar, "service-intentions/db: consul says otherwise than cluster east, whose entry counts; that hides a deny of `web`").await;

    // From here on the watch stands.
    let other = |action: &str| {
        let mut other = resource("more", "more", "web", action);
        other["metadata"]["annotations"] = json!({"any": "thing"});
        other
    };
    post(&server, INTENTIONS, &other("allow")).await;
    let took = wait_for("the second", PATIENCE, async || seen("web", "more") == Some(Verdict::Allow)).await;
    say(&format!("a new resource counts after {took:?}"));

    // A second object about the same destination.
    post(&server, INTENTIONS, &resource("db-too", "db", "other", "allow")).await;
    wait_for("the contradiction", PATIENCE, async || seen("web", "db") == Some(Verdict::Deny)).await;
    line(&sidecar, "are about the same; the whole destination is denied").await;
    assert_eq!((seen("other", "db"), seen("web", "more")), (Some(Verdict::Deny), Some(Verdict::Allow)));
    server.call("DELETE", &format!("{INTENTIONS}/db-too"), None).await.unwrap();
    wait_for("its end", PATIENCE, async || seen("web", "db") == Some(Verdict::Allow)).await;

    // Limits of ours.
    let limits = json!({"apiVersion": "portcullis.io/v1alpha1", "kind": "RateLimits", "metadata": {"name": "db"},
        "spec": {"destination": {"name": "db"}, "limits": [{"name": "all", "rate": {"requests": 5}}]}});
    post(&server, "/apis/portcullis.io/v1alpha1/namespaces/default/ratelimits", &limits).await;
    wait_for("the limit", PATIENCE, async || {
        let snapshot = Snapshot::open(fs::read(&snapshot).unwrap()).unwrap();
        let name = portcullis_policy::candidates::Name::parse("default/default/db").unwrap();
        snapshot.limits(name).unwrap().is_some()
    })
    .await;

    // The API server dies and returns: nothing changes meanwhile.
    server.kill();
    line(&sidecar, "check that the API server runs at the kubeconfig's address").await;
    assert_eq!((seen("web", "db"), seen("web", "more")), (Some(Verdict::Allow), Some(Verdict::Allow)));
    server.resume().await.unwrap();
    server.call("DELETE", &format!("{INTENTIONS}/db"), None).await.unwrap();
    wait_for("Consul's word again", PATIENCE, async || seen("web", "db") == Some(Verdict::Deny)).await;
}
