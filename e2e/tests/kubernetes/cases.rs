//! The cases of the sync contract, through a real API server and a real Consul: what `plan` says of the API server's own
//! objects is what it says of the live cluster, and what Consul then holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use portcullis_e2e::parts::root;
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::{Layout, Sidecar, command};
use serde_json::{Map, Value, json};

use crate::setup::{PATIENCE, World, configure, plan, wait_for};

/// A case: its name, its options, its objects.
struct Case {
    name: String,
    options: Map<String, Value>,
    objects: Vec<Value>,
}

fn cases() -> Vec<Case> {
    let mut files: Vec<_> =
        fs::read_dir(root().join("testdata/sync")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|it| it == "yaml"));
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let file: Value = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        file["cases"].as_array().unwrap().clone()
    };
    let case = |case: Value| Case {
        name: case["name"].as_str().unwrap().to_owned(),
        options: case.get("options").and_then(Value::as_object).cloned().unwrap_or_default(),
        objects: case["manifests"].as_array().unwrap().clone(),
    };
    files.iter().flat_map(read).map(case).collect()
}

/// Lists are taken apart; a namespace is made for each.
fn flat(objects: &[Value]) -> Vec<Value> {
    let open = |object: &Value| match object["items"].as_array() {
        Some(items) => flat(items),
        None => vec![object.clone()],
    };
    objects.iter().flat_map(open).collect()
}

/// What an API server insists on and the cases leave out, since the sync does not ask: each change is without a meaning of its
/// own, and what is compared is what the server then holds.
fn completed(mut object: Value, taken: &mut BTreeSet<u64>) -> Value {
    if object["kind"] == "EndpointSlice" {
        for endpoint in object["endpoints"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            endpoint.retain(|key, value| key != "nodeName" || *value != "");
        }
        return object;
    }
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return object };
    if spec.get("ipFamilies").and_then(Value::as_array).is_some_and(|families| families.len() > 1) {
        spec.insert("ipFamilyPolicy".to_owned(), json!("RequireDualStack"));
    }
    if let Some(addresses) = spec.get_mut("externalIPs").and_then(Value::as_array_mut) {
        addresses.retain(|address| *address != "");
    }
    let kind = spec.get("type").cloned().unwrap_or_default();
    if kind == "ExternalName" {
        spec.insert("externalName".to_owned(), json!("example.com"));
    }
    let Some(ports) = spec.get_mut("ports").and_then(Value::as_array_mut) else { return object };
    let n_ports = ports.len();
    for (index, port) in ports.iter_mut().filter_map(Value::as_object_mut).enumerate() {
        if n_ports > 1 && port.get("name").and_then(Value::as_str).unwrap_or_default().is_empty() {
            port.insert("name".to_owned(), json!(format!("unnamed{index}")));
        }
        let node_port = port.get("nodePort").and_then(Value::as_u64);
        let is_shown = kind == "NodePort" || kind == "LoadBalancer";
        if node_port.is_some_and(|node_port| !is_shown || !taken.insert(node_port)) {
            port.remove("nodePort");
        }
    }
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_that_an_api_server_takes_is_in_consul_as_plan_says() {
    let Some(world) = World::start().await else { return };
    // Begin without the shop.
    for path in [
        "/api/v1/nodes",
        "/api/v1/namespaces/shop/services",
        "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
    ] {
        world.server.call("DELETE", path, None).await.unwrap();
        let items = world.server.get(path).await.unwrap()["items"].as_array().unwrap().clone();
        for item in items {
            let one = format!("{path}/{}", item["metadata"]["name"].as_str().unwrap());
            world.server.call("DELETE", &one, None).await.unwrap();
        }
    }
    let binary = &world.parts.registry.sidecar;
    let mut groups: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    for case in cases() {
        groups.entry(json!(case.options).to_string()).or_default().push(case);
    }
    let (mut taken, mut refused) = (0, BTreeSet::new());
    for (number, group) in groups.into_values().enumerate() {
        let mut options = group[0].options.clone();
        let name = options.remove("clusterName").unwrap_or_else(|| json!(format!("group-{number}")));
        let layout = Layout::new(&world.folder.path().join(format!("group-{number}"))).unwrap();
        let kubeconfig = world.layout.root().join("kubeconfig");
        configure(&layout, &world.registry, &json!([{"name": name, "kubeconfig": kubeconfig, "sync": options}]));
        let sidecar = Sidecar::start(binary, &layout).await.unwrap();
        for case in &group {
            let mut present = Vec::new();
            let (mut complaint, mut node_ports) = (None, BTreeSet::new());
            for object in flat(&case.objects) {
                let object = completed(object, &mut node_ports);
                if let Some(namespace) = object["metadata"]["namespace"].as_str() {
                    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
                    world.server.put(&namespace).await.unwrap();
                }
                let put = world.server.put(&object).await;
                present.push(object);
                complaint = complaint.or(put.err());
            }
            if let Some(error) = &complaint {
                refused.insert(format!("{}: {error:#}", case.name));
            }
            // What the server did take is compared in any case.
            let dump = layout.manifests().join("dump.json");
            fs::write(&dump, world.server.dump().await.unwrap().to_string()).unwrap();
            let mut set =
                vec!["plan".to_owned(), "--json".to_owned(), "--manifests".to_owned(), dump.display().to_string()];
            for (key, value) in options.iter().map(|(key, value)| (key.as_str(), value)).chain([("clusterName", &name)])
            {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                set.extend(["--set".to_owned(), format!("{key}={text}")]);
            }
            let arguments: Vec<&str> = set.iter().map(String::as_str).collect();
            let (planned, live) = (command(binary, &layout, &arguments).unwrap(), plan(binary, &layout, &["--json"]));
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(text(&live.stderr), text(&planned.stderr), "{}", case.name);
            assert_eq!(text(&live.stdout), text(&planned.stdout), "{}", case.name);
            // Errors of single services make `plan` fail, whatever Consul holds: what it prints tells.
            let same = async || {
                let output = plan(binary, &layout, &["--diff"]);
                output.stdout.is_empty() && output.status.code() != Some(2)
            };
            wait_for(&format!("Consul in step: {}", case.name), PATIENCE, same).await;
            taken += usize::from(complaint.is_none());
            for object in present.iter().rev() {
                world.server.delete(object).await.unwrap();
            }
        }
        drop(sidecar);
    }
    say(&format!("{taken} cases taken whole; the API server refuses parts of {}:", refused.len()));
    for line in &refused {
        say(line);
    }
    assert!(refused.len() <= 5, "an API server should take more of them");
}
