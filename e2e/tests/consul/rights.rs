//! What each option needs of a Consul with ACLs: the shipped policies suffice, and with one right less an error names it.

use std::fs;

use portcullis_e2e::parts::{RegistryParts, root};
use portcullis_e2e::registry::Registry;
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::{Layout, Sidecar};
use serde_json::{Value, json};

use crate::secured::{MANAGEMENT, end_sessions, rules, token};
use crate::setup::{PATIENCE, SHOP, TAKEOVER, layout, wait_for};

/// An option, and what it takes.
struct Feature {
    name: &'static str,
    /// Sections of the configuration; `consul` is added to.
    sections: Value,
    /// Beside `policy.hcl`.
    more: Option<&'static str>,
    /// A path of the API that answers with something once the option has done its work, and that something.
    done: (&'static str, &'static str),
    /// A rule of the policies, what stands in its place, and what the log says then.
    less: &'static [(&'static str, &'static str, &'static str)],
}

const NODES: &str = "node_prefix \"k8s-sync\" { policy = \"write\" }";
const SESSIONS: &str = "session_prefix \"\" { policy = \"write\" }";

fn features() -> [Feature; 4] {
    [
        Feature {
            name: "perNode",
            sections: json!({"sync": {"consulNodes": "perNode"}}),
            more: None,
            done: ("/v1/catalog/service/db", "k8s-sync-kubernetes-n2"),
            less: &[(
                NODES,
                "node \"k8s-sync\" { policy = \"write\" }",
                "lacks permission 'node:write' on \"k8s-sync-kubernetes-n0\"",
            )],
        },
        Feature {
            name: "deadManSeconds",
            sections: json!({"consul": {"deadManSeconds": 10}}),
            more: None,
            done: ("/v1/health/node/k8s-sync", "portcullis-alive-kubernetes"),
            less: &[(
                SESSIONS,
                "session \"server\" { policy = \"write\" }",
                "lacks permission 'session:write' on \"k8s-sync\"",
            )],
        },
        Feature {
            name: "gate.kv",
            sections: json!({"gate": {"kv": {}}}),
            more: Some("policy-gate-kv.hcl"),
            done: ("/v1/kv/traefik/?keys", "traefik/http/middlewares"),
            less: &[
                ("key_prefix \"traefik/\" { policy = \"write\" }", "", "lacks permission 'key:"),
                (
                    "key_prefix \"traefik/\" { policy = \"write\" }",
                    "key_prefix \"traefik/\" { policy = \"read\" }",
                    "lacks permission 'key:write' on \"traefik",
                ),
                ("key_prefix \"portcullis/sync/gate/\" { policy = \"write\" }", "", "lacks permission 'key:"),
            ],
        },
        Feature {
            name: "external",
            sections: json!({"external": {"directory": "../external", "name": "vms"}}),
            more: Some("policy-external.hcl"),
            done: ("/v1/catalog/service/billing", "external-vms-vm-7"),
            less: &[
                (
                    "node_prefix \"external-vms-\" { policy = \"write\" }",
                    "",
                    "lacks permission 'node:write' on \"external-vms-vm-7\"",
                ),
                ("key_prefix \"portcullis/sync/external/vms/\" { policy = \"write\" }", "", "lacks permission 'key:"),
            ],
        },
    ]
}

/// A sidecar's folder with the sections of a feature.
fn arrange(folder: &std::path::Path, name: &str, registry: &Registry, secret: &str, feature: &Feature) -> Layout {
    let file = folder.join("token");
    fs::write(&file, secret).unwrap();
    let layout = layout(folder, name, registry, &json!({"tokenFile": file}));
    let mut all: Value = serde_json::from_slice(&fs::read(layout.configuration()).unwrap()).unwrap();
    for (section, more) in feature.sections.as_object().unwrap() {
        let mut whole = all.get(section).cloned().unwrap_or_else(|| json!({}));
        whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all[section] = whole;
    }
    fs::write(layout.configuration(), all.to_string()).unwrap();
    layout
}

#[tokio::test(flavor = "multi_thread")]
async fn each_option_works_with_the_shipped_policies_and_names_the_right_that_lacks() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), Some(MANAGEMENT)).await.unwrap();
    let version = registry.version().await.unwrap();
    SHOP.write(&Layout::new(&folder.path().join("first")).unwrap());
    fs::create_dir_all(folder.path().join("external")).unwrap();
    let vm =
        json!({"nodes": [{"name": "vm-7", "address": "192.0.2.7", "services": [{"name": "billing", "port": 80}]}]});
    fs::write(folder.path().join("external/vms.json"), vm.to_string()).unwrap();
    for feature in features() {
        if feature.name == "deadManSeconds" && version < (1, 21) {
            continue;
        }
        let mut all = rules("policy.hcl");
        all.extend(feature.more.into_iter().flat_map(rules));
        let (_, secret) = token(&registry, &format!("{}-all", feature.name.replace('.', "-")), &all).await;
        let layout = arrange(folder.path(), &format!("{}-all", feature.name), &registry, &secret, &feature);
        let sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
        let (path, wanted) = feature.done;
        let done = async || registry.get(path).await.is_ok_and(|found| found.to_string().contains(wanted));
        wait_for(feature.name, PATIENCE, done).await;
        assert!(!sidecar.log().unwrap().contains("ERROR"), "{}: {}", feature.name, sidecar.log().unwrap());
        drop(sidecar);
        for (number, (rule, instead, said)) in feature.less.iter().enumerate() {
            clear(&registry).await;
            assert!(all.iter().any(|it| it == rule), "{}: no rule {rule}", feature.name);
            let less: Vec<String> =
                all.iter().map(|it| if it == rule { (*instead).to_owned() } else { it.clone() }).collect();
            let name = format!("{}-{number}", feature.name.replace('.', "-"));
            let (_, secret) = token(&registry, &name, &less).await;
            let layout = arrange(folder.path(), &name, &registry, &secret, &feature);
            let sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
            let log = || sidecar.log().unwrap();
            wait_for(&format!("{}: the error without {rule}", feature.name), TAKEOVER, async || log().contains(said))
                .await;
            let line = log().lines().find(|line| line.contains(said)).unwrap_or_default().to_owned();
            say(&format!("{} without {rule}: {line}", feature.name));
            assert!(line.contains("ERROR"), "{line}");
            assert!(!done().await, "{}: done without {rule}", feature.name);
        }
        clear(&registry).await;
    }
}

/// As if nothing had ever run.
async fn clear(registry: &Registry) {
    end_sessions(registry).await;
    registry.delete("/v1/kv/traefik?recurse").await.unwrap();
    for node in registry.get("/v1/catalog/nodes").await.unwrap().as_array().unwrap() {
        if node["Node"] != "server" {
            registry.put("/v1/catalog/deregister", &json!({"Node": node["Node"]})).await.unwrap();
        }
    }
}

#[test]
fn the_guide_names_the_rules_of_the_other_policies() {
    let guide = fs::read_to_string(root().join("docs/guide/catalog.md")).unwrap();
    for file in ["policy-gate-kv.hcl", "policy-external.hcl"] {
        assert!(guide.contains(file), "the guide does not name {file}");
    }
}
