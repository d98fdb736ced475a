//! Who the sidecar is to an API server: the service account of its pod, with the roles as they are shipped, and a credential
//! plugin.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use portcullis_e2e::parts::root;
use portcullis_e2e::process::{Process, Start};
use portcullis_e2e::report::say;
use serde_json::{Value, json};

use crate::setup::{PATIENCE, World, slice, wait_for, wait_for_word};

/// The shipped roles, as they are, and a token of the account that they are given to.
async fn account_token(world: &World) -> String {
    let text = fs::read_to_string(root().join("deploy/kubernetes/rbac.yaml")).unwrap();
    for object in text.split("\n---\n") {
        let object: Value = serde_saphyr::from_str(object).unwrap();
        world.server.put(&object).await.unwrap();
    }
    let path = "/api/v1/namespaces/portcullis/serviceaccounts/portcullis/token";
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
    let (status, answer) = world.server.call("POST", path, Some(&request)).await.unwrap();
    assert_eq!(status, 201, "{answer}");
    answer["status"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_pod_the_mounted_account_with_the_shipped_role_suffices() {
    // The files of an account have fixed paths; a mount namespace of its own gives the process its own files there.
    if !Command::new("unshare")
        .args(["-rm", "mount", "-t", "tmpfs", "none", "/run"])
        .status()
        .is_ok_and(|it| it.success())
    {
        say("skipped: no mount namespaces here, so inCluster is not tried");
        return;
    }
    let Some(world) = World::start().await else { return };
    let account = world.folder.path().join("account");
    fs::create_dir(&account).unwrap();
    fs::write(account.join("token"), account_token(&world).await).unwrap();
    fs::write(account.join("namespace"), "portcullis").unwrap();
    fs::copy(world.folder.path().join("east/ca.pem"), account.join("ca.crt")).unwrap();
    let mut whole: Value = serde_json::from_slice(&fs::read(world.layout.configuration()).unwrap()).unwrap();
    whole["clusters"] = json!([{"name": "east", "inCluster": true}]);
    fs::write(world.layout.configuration(), whole.to_string()).unwrap();
    let (_, port) = world.server.url().rsplit_once(':').map(|(host, port)| (host.to_owned(), port.to_owned())).unwrap();
    let script = "mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io/serviceaccount && \
                  mount --bind \"$1\" /run/secrets/kubernetes.io/serviceaccount && exec \"$2\" run -c \"$3\"";
    let sidecar = Process::start(&Start {
        name: "portcullis".to_owned(),
        program: "unshare".into(),
        arguments: vec![
            "-rm".into(),
            "sh".into(),
            "-c".into(),
            script.into(),
            "sh".into(),
            account.clone().into(),
            world.parts.registry.sidecar.clone().into(),
            world.layout.configuration().into(),
        ],
        environment: vec![("KUBERNETES_SERVICE_HOST", "127.0.0.1".to_owned()), ("KUBERNETES_SERVICE_PORT", port)],
        directory: world.layout.root().to_owned(),
        log: world.layout.root().join("portcullis.log"),
    })
    .unwrap();
    say(&format!("in step after {:?}", world.wait_for_instances(6).await));
    world.server.put(&slice("web", &[0], true)).await.unwrap();
    world.wait_for_instances(4).await;
    let log = sidecar.log().unwrap();
    assert!(!log.contains("ERROR") && !log.contains("may not"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_plugin_is_run_again_for_each_new_token_and_its_failure_takes_nothing_out() {
    let Some(mut world) = World::start().await else { return };
    let (token, runs) = (world.folder.path().join("plugin-token"), world.folder.path().join("runs"));
    fs::write(&token, account_token(&world).await).unwrap();
    // A token that is over soon: the client asks for another one before.
    let program = world.folder.path().join("plugin");
    let script = format!(
        "#!/bin/sh\necho run >> {runs}\n[ -f {token} ] || {{ echo secret; echo 'please log in first' >&2; exit 1; }}\n\
         printf '{{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{{\"token\":\"%s\",\
         \"expirationTimestamp\":\"%s\"}}}}' \"$(cat {token})\" \"$(date -u -d '+2 seconds' +%Y-%m-%dT%H:%M:%SZ)\"\n",
        runs = runs.display(),
        token = token.display(),
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let file = world.layout.root().join("kubeconfig");
    let mut kubeconfig: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    kubeconfig["users"][0]["user"] = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": program, "interactiveMode": "Never"}});
    fs::write(&file, kubeconfig.to_string()).unwrap();
    let n_runs = || fs::read_to_string(&runs).unwrap_or_default().lines().count();
    let sidecar = world.in_step_sidecar().await;
    assert_eq!(world.in_step(), (true, String::new()));
    // Each connection that is made again asks for a token that holds.
    let before = n_runs();
    world.server.kill();
    world.server.resume().await.unwrap();
    world.server.put(&slice("web", &[0], true)).await.unwrap();
    world.wait_for_instances(4).await;
    wait_for("another run", PATIENCE, async || n_runs() > before).await;
    say(&format!("{} runs of the plugin, {before} of them before the API server was restarted", n_runs()));

    // It fails: told with what it says, and nothing goes.
    fs::remove_file(&token).unwrap();
    let (written, said) = (world.writes().await, sidecar.log().unwrap().len());
    world.server.kill();
    world.server.resume().await.unwrap();
    let complaint = "the credential plugin failed (exit status: 1): please log in first";
    wait_for("the complaint", PATIENCE, async || sidecar.log().unwrap()[said..].contains(complaint)).await;
    world.server.put(&slice("web", &[0, 1], true)).await.unwrap();
    assert_eq!(world.writes().await, written);
    let log = sidecar.log().unwrap();
    assert!(!log.contains("secret"), "what the plugin printed is in the log");
    fs::write(&token, account_token(&world).await).unwrap();
    world.wait_for_instances(5).await;
    wait_for_word(&sidecar, "no longer: cluster east").await;
    assert!(!sidecar.log().unwrap().contains(fs::read_to_string(&token).unwrap().as_str()), "the token is in the log");
}
