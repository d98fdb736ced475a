//! Input variables for Terraform from a real catalog: whole, in the shape that modules know, and the same while nothing changes.

use std::time::Duration;

use portcullis_e2e::parts::RegistryParts;
use portcullis_e2e::pods::{Pods, Service};
use portcullis_e2e::registry::Registry;
use portcullis_e2e::sidecar::{Layout, Sidecar, command};
use portcullis_e2e::synced;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_is_exported_as_input_of_terraform_modules_and_a_restart_of_pods_changes_no_byte() {
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let layout = Layout::new(&folder.path().join("sidecar")).unwrap();
    layout.write_configuration_with(&json!({"consul": {"address": registry.address()}})).unwrap();
    let mut pods = Pods::new([("n1", "192.0.2.1"), ("n2", "192.0.2.2")]);
    let mut web = Service::on(30080, ["n1", "n2"]).annotated("tags", "red,blue");
    web.pods[1].1 = false;
    pods.set("web", web);
    pods.write(&layout).unwrap();
    // Of others, with a name that is more than one segment of a path.
    let vm = json!({"Node": "vm-1", "Address": "198.51.100.1", "Service": {"ID": "old/1", "Service": "old/app", "Port": 8080}});
    registry.put("/v1/catalog/register", &vm).await.unwrap();
    let _sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();

    let export = |more: &[&str]| {
        let configuration = layout.configuration();
        let arguments: Vec<_> =
            ["export", "terraform", "-c", configuration.to_str().unwrap()].iter().chain(more).copied().collect();
        let output = command(&parts.sidecar, &layout, &arguments).unwrap();
        let (text, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{said}");
        let value: Value = serde_json::from_str(&text).unwrap();
        (text, value)
    };
    let start = Instant::now();
    while export(&[]).1["catalog_services"]["web"].is_null() {
        assert!(start.elapsed() < PATIENCE, "waited for the catalog");
        sleep(Duration::from_millis(50)).await;
    }
    // A server that has begun describes its own node some time later.
    synced::wait_for("Consul's own node", PATIENCE, async || {
        let server = registry.get("/v1/catalog/node/server").await.unwrap();
        !server["Node"]["TaggedAddresses"]["lan"].is_null()
            && !server["Node"]["Meta"]["consul-network-segment"].is_null()
    })
    .await;
    let (text, found) = export(&[]);
    assert_eq!(found["catalog_services"], json!({"consul": [], "old/app": [], "web": ["blue", "k8s", "red"]}));
    let services = found["services"].as_object().unwrap();
    let (key, web) = services.iter().find(|(_, it)| it["name"] == "web").unwrap();
    assert_eq!(services.values().filter(|it| it["name"] == "web").count(), 1, "only what passes");
    assert_eq!(*key, format!("{}.k8s-sync.dc1", web["id"].as_str().unwrap()));
    assert_eq!(
        (&web["address"], &web["port"], &web["status"]),
        (&json!("192.0.2.1"), &json!(30080), &json!("passing"))
    );
    assert_eq!(web["meta"]["external-k8s-node-name"], "n1");
    assert_eq!(services["old/1.vm-1.dc1"]["address"], "198.51.100.1", "the node's, where it has none of its own");

    let (_, all) = export(&["--service", "web", "--filter", "\"red\" in Service.Tags", "--services-only"]);
    let statuses: Vec<_> = all["services"].as_object().unwrap().values().map(|it| it["status"].clone()).collect();
    assert_eq!((statuses.len(), all.get("catalog_services")), (2, None), "{statuses:?}");

    pods.restart();
    pods.write(&layout).unwrap();
    pods.set("other", Service::on(30090, ["n1"]));
    pods.write(&layout).unwrap();
    let start = Instant::now();
    while export(&[]).1["catalog_services"]["other"].is_null() {
        assert!(start.elapsed() < PATIENCE, "waited for the other service");
        sleep(Duration::from_millis(50)).await;
    }
    pods.services.remove("other");
    pods.write(&layout).unwrap();
    let start = Instant::now();
    while export(&[]).0 != text {
        assert!(start.elapsed() < PATIENCE, "{}\n{text}", export(&[]).0);
        sleep(Duration::from_millis(50)).await;
    }
}
