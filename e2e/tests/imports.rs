//! Services of Consul inside of Kubernetes, on a real API server and a real Consul: they appear with the health that they have, go
//! when they go, and nothing that is somebody else's is ever touched.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use portcullis_e2e::kubernetes::{ADMINISTRATOR, ApiServer, shipped};
use portcullis_e2e::parts::KubernetesParts;
use portcullis_e2e::registry::Registry;
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::{Layout, Sidecar};
use portcullis_e2e::synced::wait_for;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long "nothing happens" is watched.
const WATCHED: Duration = Duration::from_secs(4);
/// Where services appear.
const NAMESPACE: &str = "consul-services";

/// What the role lets the sidecar do.
const VERBS: [&str; 5] = ["list", "watch", "create", "patch", "delete"];

/// A cluster, a Consul, and a sidecar's folder between them.
struct World {
    parts: KubernetesParts,
    registry: Registry,
    server: ApiServer,
    layout: Layout,
    token: PathBuf,
    _folder: TempDir,
}

impl World {
    /// `None` after a printed skip where a part is missing.
    async fn start() -> Option<World> {
        let parts = KubernetesParts::for_test()?;
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::start(&parts.registry.consul, folder.path(), None).await.unwrap();
        let server = ApiServer::start(&parts, &folder.path().join("east")).await.unwrap();
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        server.put(&namespace).await.unwrap();
        let token = folder.path().join("token");
        fs::write(&token, ADMINISTRATOR).unwrap();
        let layout = Layout::new(&folder.path().join("sidecar")).unwrap();
        let world = World { parts, registry, server, layout, token, _folder: folder };
        world.configure(&json!({}));
        Some(world)
    }

    /// With more keys of `toKubernetes`.
    fn configure(&self, more: &Value) {
        let file = self.layout.root().join("kubeconfig");
        self.server.kubeconfig(&file, &self.server.url(), &self.token).unwrap();
        let mut imports = json!({"namespace": NAMESPACE});
        imports.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        // Every type is synced, so that what is made here would go back to Consul if anything did.
        let sync = json!({"syncTypes": ["NodePort", "ClusterIP"]});
        let cluster = json!({"name": "east", "kubeconfig": file, "toKubernetes": imports, "sync": sync});
        let configuration = json!({
            "clusters": [cluster], "policy": {"directory": "./policy"}, "snapshot": {"file": self.layout.snapshot()},
            "gate": {"file": self.layout.gate()}, "consul": {"address": self.registry.address()},
        });
        fs::write(self.layout.configuration(), configuration.to_string()).unwrap();
    }

    fn sidecar(&self) -> Sidecar {
        Sidecar::launch(&self.parts.registry.sidecar, &self.layout).unwrap()
    }

    /// Kills it, and lets its lock go as Consul would after a while.
    async fn kill(&self, sidecar: Sidecar) {
        drop(sidecar);
        for session in self.registry.get("/v1/session/list").await.unwrap().as_array().unwrap() {
            let id = session["ID"].as_str().unwrap();
            self.registry.put(&format!("/v1/session/destroy/{id}"), &json!({})).await.unwrap();
        }
    }

    /// A service on a VM: an instance with a check.
    async fn register(&self, service: &str, address: &str, port: u16, status: &str) {
        self.register_with(service, address, port, status, &json!({})).await;
    }

    async fn register_with(&self, service: &str, address: &str, port: u16, status: &str, meta: &Value) {
        let (node, id) = (format!("vm-{}", address.replace(['.', ':'], "-")), format!("{service}-{port}"));
        let body = json!({
            "Node": node, "Address": "192.0.2.250", "SkipNodeUpdate": true,
            "Service": {"ID": id, "Service": service, "Address": address, "Port": port, "Meta": meta},
            "Check": {"Node": node, "CheckID": format!("c-{id}"), "Name": "works", "Status": status, "ServiceID": id},
        });
        self.registry.put("/v1/catalog/register", &body).await.unwrap();
    }

    async fn deregister(&self, service: &str, address: &str, port: u16) {
        let node = format!("vm-{}", address.replace(['.', ':'], "-"));
        let body = json!({"Node": node, "ServiceID": format!("{service}-{port}")});
        self.registry.put("/v1/catalog/deregister", &body).await.unwrap();
    }

    async fn objects(&self, kind: &str) -> Vec<Value> {
        let path = match kind {
            "services" => format!("/api/v1/namespaces/{NAMESPACE}/services"),
            kind => format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/{kind}"),
        };
        self.server.get(&path).await.unwrap()["items"].as_array().cloned().unwrap_or_default()
    }

    async fn service(&self, name: &str) -> Option<Value> {
        self.objects("services").await.into_iter().find(|it| it["metadata"]["name"] == name)
    }

    /// `address:port readiness` of all endpoints of a service, sorted.
    async fn endpoints(&self, service: &str) -> Vec<String> {
        let mut all = Vec::new();
        for slice in self.objects("endpointslices").await {
            if slice["metadata"]["labels"]["kubernetes.io/service-name"] != service {
                continue;
            }
            for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
                let (address, port) = (endpoint["addresses"][0].as_str().unwrap(), &slice["ports"][0]["port"]);
                all.push(format!("{address}:{port} {}", endpoint["conditions"]["ready"]));
            }
        }
        all.sort();
        all
    }

    async fn wait_for_endpoints(&self, service: &str, wanted: &[&str]) -> Duration {
        wait_for(&format!("{service} at {wanted:?}"), PATIENCE, async || self.endpoints(service).await == wanted).await
    }

    /// Every object with its version.
    async fn versions(&self) -> Vec<(String, String)> {
        let mut all = self.objects("services").await;
        all.extend(self.objects("endpointslices").await);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        all.iter().map(|it| (text(&it["metadata"]["name"]), text(&it["metadata"]["resourceVersion"]))).collect()
    }

    /// Nothing is written for a while.
    async fn rests(&self, why: &str) {
        let before = self.versions().await;
        sleep(WATCHED).await;
        assert_eq!(self.versions().await, before, "{why}");
    }
}

async fn wait_for_word(sidecar: &Sidecar, word: &str) -> Duration {
    wait_for(word, PATIENCE, async || sidecar.log().unwrap().contains(word)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_consul_lives_in_kubernetes_as_long_and_as_well_as_in_consul() {
    let Some(mut world) = World::start().await else { return };
    let _sidecar = world.sidecar();
    world.register("db", "192.0.2.1", 5432, "passing").await;
    world.register("db", "192.0.2.2", 5432, "passing").await;
    world.register("db", "2001:db8::1", 5433, "passing").await;
    let all = ["192.0.2.1:5432 true", "192.0.2.2:5432 true", "2001:db8::1:5433 true"];
    say(&format!("three endpoints after {:?}", world.wait_for_endpoints("db", &all).await));
    let service = world.service("db").await.unwrap();
    assert_eq!(service["spec"]["ports"][0]["port"], 5432);
    assert_eq!(service["metadata"]["annotations"]["consul.hashicorp.com/service-sync"], "false");
    assert!(service["spec"]["selector"].is_null());
    world.rests("idle").await;
    // What was made here is registered nowhere, though ClusterIP is synced.
    let names = world.registry.get("/v1/catalog/services").await.unwrap();
    let tags = world.registry.get("/v1/catalog/service/db").await.unwrap();
    assert!(tags.as_array().unwrap().iter().all(|it| it["Node"] != "k8s-sync"), "{names}");

    world.register("db", "192.0.2.2", 5432, "critical").await;
    let less = ["192.0.2.1:5432 true", "192.0.2.2:5432 false", "2001:db8::1:5433 true"];
    say(&format!("not ready {:?} after the check failed", world.wait_for_endpoints("db", &less).await));
    world.register("db", "192.0.2.2", 5432, "warning").await;
    world.wait_for_endpoints("db", &all).await;

    // Consul is away: nothing is removed, and then it goes on.
    world.registry.kill();
    world.rests("Consul is away").await;
    world.registry.resume().await.unwrap();
    world.deregister("db", "2001:db8::1", 5433).await;
    let took = world.wait_for_endpoints("db", &all[..2]).await;
    say(&format!("in step {took:?} after Consul was back"));

    world.deregister("db", "192.0.2.1", 5432).await;
    world.deregister("db", "192.0.2.2", 5432).await;
    let took = wait_for("db gone", PATIENCE, async || {
        world.service("db").await.is_none() && world.endpoints("db").await.is_empty()
    });
    say(&format!("gone {:?} after it went", took.await));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_somebody_elses_is_not_touched_and_what_is_ours_is_mended() {
    let Some(world) = World::start().await else { return };
    let theirs = |name: &str, selector: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NAMESPACE},
               "spec": {"ports": [{"port": 80}], "selector": {"app": selector}}})
    };
    world.server.put(&theirs("web", "web")).await.unwrap();
    for (service, address) in
        [("web", "192.0.2.1"), ("db", "192.0.2.2"), ("bad_name", "192.0.2.3"), ("loop", "192.0.2.4")]
    {
        world.register(service, address, 80, "passing").await;
    }
    // What came from this cluster does not go back, and from others only if that is asked for.
    let mark = |cluster: &str| json!({"external-source": "kubernetes", "external-k8s-cluster": cluster});
    world.register_with("own", "192.0.2.5", 80, "passing", &mark("east")).await;
    world.register_with("west", "192.0.2.6", 80, "passing", &mark("west")).await;
    world.register_with("k8s", "192.0.2.7", 80, "passing", &json!({"external-source": "kubernetes"})).await;
    let before = world.service("web").await.unwrap();
    let sidecar = world.sidecar();
    world.wait_for_endpoints("db", &["192.0.2.2:80 true"]).await;
    world.wait_for_endpoints("loop", &["192.0.2.4:80 true"]).await;
    wait_for_word(&sidecar, "a Service that is not ours has the name").await;
    wait_for_word(&sidecar, "\"bad_name\" cannot be the names of Kubernetes Services").await;
    let events = format!("/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events");
    wait_for("an Event", PATIENCE, async || {
        let found = world.server.get(&events).await.unwrap();
        found["items"].as_array().unwrap().iter().any(|it| it["regarding"]["name"] == "web")
    })
    .await;
    assert_eq!(world.service("web").await.unwrap(), before);
    assert!(world.endpoints("web").await.is_empty(), "endpoints beside a Service of others");
    for name in ["own", "west", "k8s", "bad_name", "consul"] {
        assert!(world.service(name).await.is_none(), "{name}");
    }

    // Drift: a selector, endpoints that are taken out, an object that is removed.
    let patched = |mut object: Value, path: &str, value: Value| {
        *object.pointer_mut(path).unwrap() = value;
        object["apiVersion"] = object.get("apiVersion").cloned().unwrap_or_else(|| "v1".into());
        object
    };
    let db = || async { world.service("db").await.unwrap() };
    let mut selecting = db().await;
    selecting["spec"]["selector"] = json!({"app": "evil"});
    (selecting["apiVersion"], selecting["kind"]) = ("v1".into(), "Service".into());
    world.server.put(&selecting).await.unwrap();
    let took = wait_for("no selector", PATIENCE, async || db().await["spec"]["selector"].is_null()).await;
    say(&format!("a selector was taken out after {took:?}"));
    let slice =
        world.objects("endpointslices").await.into_iter().find(|it| it["metadata"]["name"] == "db.ipv4.80").unwrap();
    let mut other = patched(slice, "/endpoints/0/addresses/0", "203.0.113.9".into());
    (other["apiVersion"], other["kind"]) = ("discovery.k8s.io/v1".into(), "EndpointSlice".into());
    world.server.put(&other).await.unwrap();
    world.wait_for_endpoints("db", &["192.0.2.2:80 true"]).await;
    world.server.delete(&other).await.unwrap();
    world.wait_for_endpoints("db", &["192.0.2.2:80 true"]).await;
    world.server.delete(&selecting).await.unwrap();
    wait_for("db again", PATIENCE, async || world.service("db").await.is_some()).await;

    // Whose name is free again gets it, and whoever takes one over keeps it without endpoints of ours.
    world.server.delete(&theirs("web", "web")).await.unwrap();
    world.wait_for_endpoints("web", &["192.0.2.1:80 true"]).await;
    wait_for_word(&sidecar, "no longer: cluster east: to Kubernetes: consul-services/web").await;
    let mut taken = theirs("web", "own");
    taken["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "helm"});
    world.server.put(&taken).await.unwrap();
    wait_for("no endpoints beside it", PATIENCE, async || world.endpoints("web").await.is_empty()).await;
    assert_eq!(world.service("web").await.unwrap()["spec"]["selector"], json!({"app": "own"}));

    // A sidecar that was killed begins again and writes nothing.
    let before = world.versions().await;
    world.kill(sidecar).await;
    let sidecar = world.sidecar();
    wait_for_word(&sidecar, "a Service that is not ours has the name").await;
    world.rests("restarted").await;
    assert_eq!(world.versions().await, before);
    world.kill(sidecar).await;

    // Another kind, and those of other clusters.
    world.configure(&json!({"kind": "externalName", "otherClusters": true, "services": ["db", "west"]}));
    let sidecar = world.sidecar();
    wait_for("names", PATIENCE, async || {
        let name = |it: Option<Value>| it.map(|it| it["spec"]["externalName"].clone());
        name(world.service("db").await) == Some("db.service.consul".into())
            && name(world.service("west").await) == Some("west.service.consul".into())
            && world.endpoints("db").await.is_empty()
            && world.service("loop").await.is_none()
    })
    .await;
    world.kill(sidecar).await;

    // And back; then everything of ours goes because it is asked for.
    world.configure(&json!({}));
    let sidecar = world.sidecar();
    world.wait_for_endpoints("db", &["192.0.2.2:80 true"]).await;
    world.kill(sidecar).await;
    world.configure(&json!({"remove": true}));
    let _sidecar = world.sidecar();
    wait_for("only theirs", PATIENCE, async || {
        let services = world.objects("services").await;
        let is_web = services.iter().all(|it| it["metadata"]["name"] == "web");
        services.len() == 1 && is_web && world.objects("endpointslices").await.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_role_suffices_a_missing_right_is_named_and_a_mass_removal_waits() {
    let Some(world) = World::start().await else { return };
    fs::write(&world.token, "sidecar").unwrap();
    let mut roles = shipped("rbac.yaml", "sidecar").unwrap();
    roles.extend(shipped("rbac-imports.yaml", "sidecar").unwrap());
    for object in &roles {
        world.server.put(object).await.unwrap();
    }
    for number in 0..8 {
        world.register(&format!("s{number}"), &format!("192.0.2.{number}"), 80, "passing").await;
    }
    let sidecar = world.sidecar();
    let count = async || world.objects("services").await.len();
    wait_for("eight services", PATIENCE, async || {
        count().await == 8 && world.objects("endpointslices").await.len() == 8
    })
    .await;
    world.register("s0", "192.0.2.0", 80, "critical").await;
    world.wait_for_endpoints("s0", &["192.0.2.0:80 false"]).await;
    world.deregister("s0", "192.0.2.0", 80).await;
    wait_for("seven services", PATIENCE, async || count().await == 7).await;
    assert!(!sidecar.log().unwrap().contains("may not"), "{}", sidecar.log().unwrap());
    world.kill(sidecar).await;

    // Most of them are gone while nobody looked: that waits for a person.
    for number in 1..6 {
        world.deregister(&format!("s{number}"), &format!("192.0.2.{number}"), 80).await;
    }
    let sidecar = world.sidecar();
    wait_for_word(&sidecar, "consul kv put portcullis/sync/east/allow-import-removal 5").await;
    world.rests("held").await;
    world.registry.put("/v1/kv/portcullis/sync/east/allow-import-removal", &json!(5)).await.unwrap();
    wait_for("two services", PATIENCE, async || count().await == 2).await;
    let used = world.registry.get("/v1/kv/portcullis/sync/east/allow-import-removal?raw").await.unwrap();
    assert_eq!(used, json!(0), "it holds once");
    world.kill(sidecar).await;

    let sidecar = world.sidecar();
    let role = roles.iter().find(|it| it["metadata"]["name"] == "portcullis-imports" && it["kind"] == "Role").unwrap();
    for (rule, resource) in ["services", "endpointslices"].into_iter().enumerate() {
        assert_eq!(
            (&role["rules"][rule]["resources"], &role["rules"][rule]["verbs"]),
            (&json!([resource]), &json!(VERBS))
        );
        for verb in ["create", "patch", "delete"] {
            world.allow(role, rule, Some(verb)).await;
            match verb {
                "create" => world.register("s0", "192.0.2.0", 80, "passing").await,
                "patch" => world.drift("s0").await,
                _ => world.deregister("s0", "192.0.2.0", 80).await,
            }
            let took = wait_for_word(&sidecar, &format!("may not {verb} {resource}: {resource}")).await;
            say(&format!("{verb} {resource} is missing: said after {took:?}"));
            assert!(sidecar.log().unwrap().contains("rbac-imports.yaml"));
            world.allow(role, rule, None).await;
            wait_for("done", PATIENCE, async || match verb {
                "delete" => world.service("s0").await.is_none() && world.endpoints("s0").await.is_empty(),
                _ => {
                    world.endpoints("s0").await == ["192.0.2.0:80 true"]
                        && world.service("s0").await.is_some_and(|it| it["spec"]["selector"].is_null())
                }
            })
            .await;
        }
    }
}

impl World {
    /// Gives the role, without one of its verbs, and waits until the API server goes by it.
    async fn allow(&self, role: &Value, rule: usize, without: Option<&str>) {
        let mut less = role.clone();
        less["rules"][rule]["verbs"] = VERBS.iter().filter(|it| Some(**it) != without).copied().collect();
        self.server.put(&less).await.unwrap();
        let is_allowed = async |verb: &str| {
            let rule = &role["rules"][rule];
            let attributes = json!({"namespace": NAMESPACE, "verb": verb, "group": rule["apiGroups"][0], "resource": rule["resources"][0]});
            let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                                "spec": {"user": "sidecar", "resourceAttributes": attributes}});
            let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
            self.server.call("POST", path, Some(&review)).await.unwrap().1["status"]["allowed"] == true
        };
        wait_for("the role", PATIENCE, async || {
            let mut holds = true;
            for verb in VERBS {
                holds &= is_allowed(verb).await == (Some(verb) != without);
            }
            holds
        })
        .await;
    }

    /// Changes both objects of a service.
    async fn drift(&self, name: &str) {
        let mut service = self.service(name).await.unwrap();
        (service["apiVersion"], service["kind"]) = ("v1".into(), "Service".into());
        service["spec"]["selector"] = json!({"app": "evil"});
        self.server.put(&service).await.unwrap();
        let slices = self.objects("endpointslices").await;
        let mut slice = slices.into_iter().find(|it| it["metadata"]["name"] == format!("{name}.ipv4.80")).unwrap();
        (slice["apiVersion"], slice["kind"]) = ("discovery.k8s.io/v1".into(), "EndpointSlice".into());
        slice["endpoints"] = json!([]);
        self.server.put(&slice).await.unwrap();
    }
}
