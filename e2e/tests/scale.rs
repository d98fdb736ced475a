//! Many services behind the gate: one plugin instance for all of them, so that memory and reloads cost what they cost
//! without a plugin.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portcullis_e2e::parts::Parts;
use portcullis_e2e::process::Usage;
use portcullis_e2e::report::{mebibytes, say};
use portcullis_e2e::traefik::{Options, Traefik};
use portcullis_e2e::world::{Backends, Setup, World};
use serde_json::{Value, json};

const SERVICES: usize = 500;
const RELOADS: usize = 20;
/// The promise: memory behind the gate over memory of the same routers without the plugin.
const MOST: f64 = 1.15;
const PATIENCE: Duration = Duration::from_secs(60);

/// A service as `testdata/demo` has them, on the node port of the sample service `web`.
fn manifest(name: &str) -> String {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "annotations": {
            "traefik.enable": "true",
            format!("traefik.http.routers.{name}.rule"): format!("Host(`{name}.localhost`)"),
        }},
        "spec": {"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{name}-1"), "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.1.1.1"], "nodeName": "worker-1", "conditions": {"ready": true}}],
    });
    format!("{service}\n---\n{slice}\n")
}

/// What one gateway has used, and after how many configurations.
struct Spent {
    after_each: Vec<u64>,
    cpu: Duration,
    took: Duration,
}

/// Changes a router that has to do with nothing, and waits for Traefik to take the new configuration, many times.
async fn reload(traefik: &Traefik, dynamic: &Path) -> Spent {
    let before: Usage = traefik.usage().unwrap();
    let started = Instant::now();
    let mut after_each = Vec::new();
    for number in 0..RELOADS {
        let counter = traefik.reloads().await.unwrap();
        let router = json!({"rule": format!("Host(`unrelated-{number}.localhost`)"), "entryPoints": ["web"],
            "service": "noop@internal"});
        let text = json!({"http": {"routers": {"unrelated": router}}}).to_string();
        let beside = dynamic.join("unrelated.new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, dynamic.join("unrelated.yml")).unwrap();
        traefik.reloaded(counter, PATIENCE).await.unwrap();
        after_each.push(traefik.usage().unwrap().resident_bytes);
    }
    Spent { after_each, cpu: traefik.usage().unwrap().cpu.saturating_sub(before.cpu), took: started.elapsed() }
}

impl Spent {
    /// The median over the second half: Go's collector makes single readings jump.
    fn settled(&self) -> u64 {
        let mut half = self.after_each[RELOADS / 2..].to_vec();
        half.sort_unstable();
        half[half.len() / 2]
    }

    fn say(&self, what: &str) {
        say(&format!(
            "    {what}: {} after the first reload, {} settled, {} at most; {RELOADS} reloads took {:.1?} and {:.1?} of processor time",
            mebibytes(self.after_each[0]),
            mebibytes(self.settled()),
            mebibytes(self.after_each.iter().copied().max().unwrap_or(0)),
            self.took,
            self.cpu,
        ));
    }
}

/// The router below the gate that comes last, as Traefik calls it.
fn last_leaf(gate: &str) -> String {
    let gate: Value = serde_saphyr::from_str(gate).unwrap();
    let routers = gate["http"]["routers"].as_object().unwrap();
    let leaves: Vec<&String> =
        routers.iter().filter(|(_, router)| router["parentRefs"] == json!(["gate"])).map(|(name, _)| name).collect();
    assert_eq!(leaves.len(), SERVICES + portcullis_e2e::world::SERVICES.len());
    format!("{}@file", leaves.iter().max().unwrap())
}

/// The gate file without the plugin: the same roots, the same gate, the same leaves.
fn without_plugin(gate: &str) -> String {
    let mut gate: Value = serde_saphyr::from_str(gate).unwrap();
    let mut taken = Vec::new();
    let middlewares = gate["http"]["middlewares"].as_object_mut().unwrap();
    middlewares.retain(|name, middleware| {
        let keep = middleware.get("plugin").is_none();
        if !keep {
            taken.push(name.clone());
        }
        keep
    });
    assert_eq!(taken.len(), 1, "one middleware for the whole gateway, not {taken:?}");
    let used = gate["http"]["routers"]["gate"]["middlewares"].as_array_mut().unwrap();
    let all = used.len();
    used.retain(|name| !taken.iter().any(|taken| name == taken.as_str()));
    assert_eq!(used.len() + 1, all, "the gate uses the plugin");
    gate.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_services_behind_the_gate_take_the_memory_of_the_same_routers_without_it() {
    let Some(parts) = Parts::for_test() else { return };
    let names: Vec<String> = (0..SERVICES).map(|number| format!("s{number:03}")).collect();
    let files = names.iter().map(|name| (PathBuf::from(format!("kubernetes/{name}.yaml")), manifest(name))).collect();
    let setup = Setup { files, access_log: false, ..Setup::default() };
    let mut world = World::with(&parts, Backends::start().await.unwrap(), setup).await.unwrap();
    let gate = fs::read_to_string(world.layout.gate()).unwrap();
    let leaf = last_leaf(&gate);
    world.traefik.router(&leaf, PATIENCE).await.unwrap();
    // The gate stands before them: no intention names them.
    let web = world.caller("web").unwrap();
    assert_eq!(web.get("web.localhost", "/", &[]).await.unwrap().status, 200);

    // One after the other, so that neither takes the other's time.
    let gated = reload(&world.traefik, &world.layout.dynamic()).await;
    assert_eq!(web.get("web.localhost", "/", &[]).await.unwrap().status, 200);
    assert_eq!(web.get("api.localhost", "/v2", &[]).await.unwrap().status, 403);

    let dynamic = world.folder().join("ungated");
    fs::create_dir_all(&dynamic).unwrap();
    fs::copy(world.layout.dynamic().join("own.yml"), dynamic.join("own.yml")).unwrap();
    fs::write(dynamic.join("gate.yml"), without_plugin(&gate)).unwrap();
    let mut ungated = Traefik::start(Options {
        folder: world.folder().join("ungated-traefik"),
        dynamic: dynamic.clone(),
        plugins: Vec::new(),
        ..world.traefik.options().clone()
    })
    .await
    .unwrap();
    ungated.router(&leaf, PATIENCE).await.unwrap();
    let plain = reload(&ungated, &dynamic).await;

    say(&format!("{SERVICES} services, the same root, gate and leaf routers:"));
    gated.say("with Portcullis   ");
    plain.say("without the plugin");
    #[allow(clippy::cast_precision_loss)] // bytes far below 2^52
    let ratio = gated.settled() as f64 / plain.settled() as f64;
    say(&format!("    ratio of the settled memory: {ratio:.3} (at most {MOST})"));
    assert!(ratio <= MOST, "{ratio}");
}
