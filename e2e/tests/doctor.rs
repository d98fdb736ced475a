//! `portcullis doctor` beside real Traefik and real Consul: a healthy set-up has no findings, and each fault is found.

use std::fs;
use std::time::Duration;

use portcullis_e2e::parts::{Parts, RegistryParts, root};
use portcullis_e2e::registry::Registry;
use portcullis_e2e::sidecar::command;
use portcullis_e2e::synced::wait_for;
use portcullis_e2e::world::{Backends, Setup, World};
use serde_json::{Value, json};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const MANAGER: &str = "5e3b1f1c-6c1e-4a8f-9d0c-000000000001";

/// A token with the rights of `deploy/consul/policy.hcl`, without the lines that `drop` stands in.
async fn token(registry: &Registry, name: &str, drop: &str) -> String {
    let rules = fs::read_to_string(root().join("deploy/consul/policy.hcl")).unwrap();
    let rules: Vec<&str> = rules.lines().filter(|line| drop.is_empty() || !line.starts_with(drop)).collect();
    registry.put("/v1/acl/policy", &json!({"Name": name, "Rules": rules.join("\n")})).await.unwrap();
    let token = registry.put("/v1/acl/token", &json!({"Policies": [{"Name": name}]})).await.unwrap();
    token["SecretID"].as_str().unwrap().to_owned()
}

/// What it finds: `(check, at)` of each, and its exit code.
fn doctor(world: &World, traefik: &str, configuration: &str) -> (i32, Vec<(String, String)>) {
    let arguments = ["doctor", "--json", "--traefik", traefik, "-c", configuration];
    let output = command(&world.parts().sidecar, &world.layout, &arguments).unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"));
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let found = findings.iter().map(|it| (text(it, "check"), text(it, "at"))).collect();
    (output.status.code().unwrap(), found)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_set_up_has_no_findings_and_each_fault_is_found() {
    let (Some(parts), Some(registry_parts)) = (Parts::for_test(), RegistryParts::for_test()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&registry_parts.consul, folder.path(), Some(MANAGER)).await.unwrap();
    let consul = |token: &str| json!({"address": registry.address(), "token": token});
    let own = token(&registry, "own", "").await;
    let setup = Setup { sidecar: json!({"consul": consul(&own)}), ..Setup::default() };
    let mut world = World::with(&parts, Backends::start().await.unwrap(), setup).await.unwrap();
    let (api, configuration) = (world.traefik.api(), "portcullis.yml");
    wait_for("a healthy set-up", PATIENCE, async || doctor(&world, &api, configuration) == (0, Vec::new())).await;

    // Rights: the same configuration with a token that lacks one.
    let lesser = token(&registry, "lesser", "session_prefix").await;
    world.layout.write_configuration_with(&json!({"consul": consul(&lesser)})).unwrap();
    let (code, found) = doctor(&world, &api, configuration);
    let missing = ("acl".to_owned(), "session_prefix \"\" { policy = \"write\" }".to_owned());
    assert_eq!((code, found), (1, vec![missing]));
    world.layout.write_configuration_with(&json!({"consul": consul("00000000-0000-0000-0000-000000000000")})).unwrap();
    let (_, found) = doctor(&world, &api, configuration);
    assert!(found.iter().any(|(check, _)| check == "consul"), "{found:?}");
    world.layout.write_configuration_with(&json!({"consul": consul(&own)})).unwrap();

    // A way around, TLS options that verify nothing, and a plugin that Traefik does not have.
    let bypass = json!({"http": {
        "routers": {
            "sly": {"rule": "Host(`sly.localhost`)", "entryPoints": ["web"], "service": "sly"},
            "half": {"rule": "Host(`half.localhost`)", "entryPoints": ["web"], "service": "half", "middlewares": ["half"]},
        },
        "middlewares": {"half": {"plugin": {"portcullis": {"destination": "api", "clientCertificate": "verifiedByTraefik", "policy": "{}"}}}},
        "services": {
            "sly": {"loadBalancer": {"servers": [{"url": world.backends.url("api")}]}},
            "half": {"loadBalancer": {"servers": [{"url": "http://127.0.0.1:9"}]}},
        },
    }});
    let file = world.layout.dynamic().join("bypass.yml");
    fs::write(&file, bypass.to_string()).unwrap();
    world.traefik.router("sly@file", PATIENCE).await.unwrap();
    let (code, found) = doctor(&world, &api, configuration);
    let wanted = [("client-certificate", "router half@file"), ("unguarded-router", "router sly@file")];
    assert_eq!((code, found), (1, wanted.map(|(check, at)| (check.to_owned(), at.to_owned())).to_vec()));
    fs::remove_file(file).unwrap();
    let options = world.layout.dynamic().join("own.yml");
    let own_options = fs::read_to_string(&options).unwrap();
    fs::write(&options, own_options.replace("VerifyClientCertIfGiven", "RequestClientCert")).unwrap();
    wait_for("the way around to be gone", PATIENCE, async || {
        let (_, found) = doctor(&world, &api, configuration);
        matches!(&found[..], [(check, at)] if check == "tls-options" && at.contains("mtls@file"))
    })
    .await;
    fs::write(&options, own_options).unwrap();
    // Traefik may have read the half of it, in which its API is.
    wait_for("health again", PATIENCE, async || doctor(&world, &api, configuration) == (0, Vec::new())).await;

    // What the sidecar no longer does.
    world.sidecar = None;
    let policy = world.layout.policy().join("web.yaml");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, text.replace("allow", "deny")).unwrap();
    let manifest = world.layout.manifests().join("api.yaml");
    fs::remove_file(manifest).unwrap();
    let (_, found) = doctor(&world, &api, configuration);
    let checks: Vec<&str> = found.iter().map(|(check, _)| check.as_str()).collect();
    assert_eq!(checks, ["stale", "plan"], "{found:?}");
    let snapshot = fs::read(world.layout.snapshot()).unwrap();
    fs::write(world.layout.snapshot(), &snapshot[..snapshot.len() / 2]).unwrap();
    let (_, found) = doctor(&world, &api, configuration);
    assert!(found.iter().any(|(check, _)| check == "snapshot"), "{found:?}");
    fs::write(world.layout.snapshot(), snapshot).unwrap();

    // Nobody answers where Traefik should; and a configuration that is none.
    let (code, found) = doctor(&world, "http://127.0.0.1:9", configuration);
    assert!(code == 1 && found.iter().any(|(check, _)| check == "traefik"), "{found:?}");
    let nothing = command(&parts.sidecar, &world.layout, &["doctor", "-c", "nothing.yml"]).unwrap();
    assert_eq!(nothing.status.code(), Some(2));
}
