//! The stage of the random worlds: an API server, a Consul, two sidecars, what others have registered, and disasters.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use fastrand::Rng;
use portcullis_e2e::kubernetes::{ADMINISTRATOR, ApiServer};
use portcullis_e2e::parts::KubernetesParts;
use portcullis_e2e::registry::Registry;
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::{Layout, Sidecar, command};
use portcullis_e2e::synced;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::catalog::{self, CLUSTER, Catalog, Place, differences};
use crate::events;
use crate::reader::{CALM, Reader};

/// How long it may take until the catalog is as planned: a lock may outlive its holder by 20 s, and what somebody wrote
/// just before a write of ours is seen after 30 s.
const PATIENCE: Duration = Duration::from_secs(90);
/// After this long, somebody writes into the catalog once more: a write that is hidden behind one of ours is then seen at
/// once. With `PORTCULLIS_WORLDS_PATIENT` nobody does.
const NUDGE: Duration = Duration::from_secs(3);
/// A round that takes longer shows this many lines of what the sidecars say.
const SLOW: Duration = Duration::from_secs(20);
const SHOWN: usize = 30;
const POLL: Duration = Duration::from_millis(50);
const LOCK: &str = "/v1/kv/portcullis/sync/east/lock";

/// What happens to the processes in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disaster {
    None,
    /// A sidecar is killed while it may be writing, and started again.
    KillOne,
    /// Both are.
    KillBoth,
    /// The leader's session ends while it lives.
    Depose,
    /// A sidecar sleeps, and the leader's session ends meanwhile.
    Sleep,
    /// The API server is killed, and forgets what a watch could begin from.
    ApiServer,
    /// Consul is killed.
    Consul,
    /// All of it.
    Everything,
    /// `consulNodes` is another one from now on.
    Reconfigure,
}

impl Disaster {
    pub(crate) const ALL: [Disaster; 9] = [
        Disaster::None,
        Disaster::KillOne,
        Disaster::KillBoth,
        Disaster::Depose,
        Disaster::Sleep,
        Disaster::ApiServer,
        Disaster::Consul,
        Disaster::Everything,
        Disaster::Reconfigure,
    ];
}

/// Everything that runs.
pub(crate) struct Chaos {
    pub(crate) random: Rng,
    // Before what they talk to, so that they end first.
    sidecars: [Option<Sidecar>; 2],
    reader: Option<Reader>,
    binary: PathBuf,
    layouts: [Layout; 2],
    registry: Registry,
    server: ApiServer,
    consul_nodes: &'static str,
    is_patient: bool,
    /// What others have registered, as Consul told it at once.
    others: BTreeMap<Place, Value>,
    // Kept for its drop.
    _folder: TempDir,
}

impl Chaos {
    /// A world with the calm service in it; `None` after a printed skip.
    pub(crate) async fn start(seed: u64) -> Option<Chaos> {
        let parts = KubernetesParts::for_test()?;
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::start(&parts.registry.consul, folder.path(), None).await.unwrap();
        let server = ApiServer::start(&parts, &folder.path().join("east")).await.unwrap();
        events::begin(&server).await;
        let token = folder.path().join("token");
        fs::write(&token, ADMINISTRATOR).unwrap();
        server.kubeconfig(&folder.path().join("kubeconfig"), &server.url(), &token).unwrap();
        let layouts = ["one", "two"].map(|name| Layout::new(&folder.path().join(name)).unwrap());
        let mut chaos = Chaos {
            random: Rng::with_seed(seed),
            sidecars: [None, None],
            reader: None,
            binary: parts.registry.sidecar,
            layouts,
            registry,
            server,
            consul_nodes: "perNode",
            is_patient: env::var_os("PORTCULLIS_WORLDS_PATIENT").is_some(),
            others: BTreeMap::new(),
            _folder: folder,
        };
        chaos.reconfigure().await;
        Some(chaos)
    }

    /// Things happen, with a disaster among them; then it is quiet, and everything has to be right.
    pub(crate) async fn round(&mut self, round: usize, disaster: Disaster) {
        let start = Instant::now();
        self.happen().await;
        self.strike(disaster).await;
        self.happen().await;
        let calm = self.must_settle(&format!("round {round}, {disaster:?}")).await;
        let (ours, others) = (calm.ours.len(), calm.others.len());
        let n_looks = match &mut self.reader {
            Some(reader) => reader.must_be_calm().await,
            None => 0,
        };
        say(&format!(
            "round {round}: {disaster:?}, {}: {ours} instances, {others} of others, {n_looks} looks, {:.1?}",
            self.consul_nodes,
            start.elapsed()
        ));
        if start.elapsed() > SLOW {
            for sidecar in self.sidecars.iter().flatten() {
                let log = sidecar.log().unwrap();
                let lines: Vec<&str> = log.lines().collect();
                say(&format!("slow, a sidecar said:\n{}", lines[lines.len().saturating_sub(SHOWN)..].join("\n")));
            }
        }
    }

    /// A sidecar that starts afresh finds nothing to write, and `plan --diff` nothing to do.
    pub(crate) async fn end(mut self) {
        let before = catalog::read(&self.registry).await.unwrap();
        self.sidecars = [None, None];
        self.end_session().await;
        self.launch(0).await;
        let configuration = self.layouts[0].configuration();
        let arguments = ["plan", "--diff", "-c", configuration.to_str().unwrap()];
        let output = command(&self.binary, &self.layouts[0], &arguments).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "of {:?}", self.others.keys());
        self.must_look_and_write_nothing(&before, "the end").await;
    }

    async fn happen(&mut self) {
        for _ in 0..self.random.usize(1..8) {
            if self.random.usize(0..4) == 0 {
                self.of_catalog().await;
            } else {
                events::of_cluster(&self.server, &mut self.random).await;
            }
        }
    }

    /// Somebody else writes into the catalog: what is theirs, or what is ours.
    async fn of_catalog(&mut self) {
        let found = catalog::read(&self.registry).await.unwrap();
        let number = self.random.usize(0..4);
        let name = if self.random.bool() { events::SERVICES[number].to_owned() } else { format!("theirs-{number}") };
        let own = |(_, value): &(&Place, &Value)| value["name"] != CALM;
        let ours: Vec<(&Place, &Value)> = found.ours.iter().filter(own).collect();
        let drifting = (!ours.is_empty()).then(|| ours[self.random.usize(0..ours.len())]);
        match (self.random.usize(0..8), drifting) {
            // Theirs, on our node with our tag, or with another cluster's mark, or elsewhere.
            (0, _) => self.register("k8s-sync", &format!("foreign-{number}"), &name, &json!({})).await,
            (1, _) => {
                let west = json!({"external-source": "kubernetes", "external-k8s-cluster": "west"});
                self.register("k8s-sync", &format!("western-{number}"), &name, &west).await;
            }
            (2, _) => self.register("elsewhere", &format!("foreign-{number}"), &name, &json!({})).await,
            (3, _) => {
                let place = self.others.keys().nth(number).cloned();
                if let Some((node, id)) = place {
                    self.deregister(&node, &id).await;
                    self.others.remove(&(node, id));
                }
            }
            // Ours: taken out, changed, without its check, or an ID of ours that somebody takes for himself.
            (4, Some(((node, id), _))) => self.deregister(node, id).await,
            (5, Some(((node, id), value))) => {
                let changed = json!({"ID": id, "Service": value["name"], "Address": value["address"], "Port": 1, "Meta": value["meta"]});
                self.change(node, &changed).await;
            }
            (6, Some(((node, _), value))) => {
                let check = json!({"Node": node, "CheckID": value["check"][0]});
                self.registry.put("/v1/catalog/deregister", &check).await.unwrap();
            }
            (7, Some(((node, id), value))) => {
                let taken =
                    json!({"ID": id, "Service": value["name"], "Address": "198.51.100.1", "Port": 1, "Tags": ["k8s"]});
                if self.change(node, &taken).await {
                    self.remember((node.clone(), id.clone())).await;
                }
            }
            _ => {}
        }
    }

    /// Writes an instance on a node, unless the node is gone: a new one of that name would not be the sidecar's.
    async fn change(&self, node: &str, service: &Value) -> bool {
        let set = json!([{"Service": {"Verb": "set", "Node": node, "Service": service}}]);
        self.registry.put("/v1/txn", &set).await.is_ok()
    }

    async fn put_service(&self, node: &str, service: &Value) {
        let address = if node == "elsewhere" { "198.51.100.77" } else { "127.0.0.1" };
        let body = json!({"Node": node, "Address": address, "SkipNodeUpdate": true, "Service": service});
        self.registry.put("/v1/catalog/register", &body).await.unwrap();
    }

    /// Registers something of others.
    async fn register(&mut self, node: &str, id: &str, name: &str, meta: &Value) {
        let tag = format!("theirs-{}", self.random.u8(..));
        let service = json!({"ID": id, "Service": name, "Address": "198.51.100.1", "Port": 1, "Tags": ["k8s", tag], "Meta": meta});
        self.put_service(node, &service).await;
        self.remember((node.to_owned(), id.to_owned())).await;
    }

    /// Remembers how Consul tells something of others that was just written.
    async fn remember(&mut self, place: Place) {
        let found = catalog::read(&self.registry).await.unwrap();
        match found.others.get(&place) {
            Some(theirs) => drop(self.others.insert(place, theirs.clone())),
            // Between the last look at an empty node of ours and its removal are milliseconds that Consul lets nobody close.
            None => assert!(place.0 != "k8s-sync" && !found.ours.contains_key(&place), "{place:?} was taken away"),
        }
    }

    async fn deregister(&self, node: &str, id: &str) {
        self.registry.put("/v1/catalog/deregister", &json!({"Node": node, "ServiceID": id})).await.unwrap();
    }

    async fn strike(&mut self, disaster: Disaster) {
        match disaster {
            Disaster::None => {}
            Disaster::KillOne => {
                let index = usize::from(self.random.bool());
                self.pause().await;
                self.sidecars[index] = None;
                self.events().await;
                if !self.is_patient || self.random.bool() {
                    self.end_session().await;
                }
                self.launch(index).await;
            }
            Disaster::KillBoth => {
                self.pause().await;
                self.sidecars = [None, None];
                self.events().await;
                self.end_session().await;
                self.launch(0).await;
                self.launch(1).await;
            }
            Disaster::Depose => {
                self.pause().await;
                self.end_session().await;
            }
            Disaster::Sleep => {
                let index = usize::from(self.random.bool());
                self.pause().await;
                self.signal(index, "STOP");
                self.end_session().await;
                self.events().await;
                sleep(Duration::from_millis(self.random.u64(0..1_500))).await;
                self.signal(index, "CONT");
            }
            Disaster::ApiServer => self.restart_api_server().await,
            Disaster::Consul => {
                self.pause().await;
                self.registry.kill();
                self.events().await;
                self.registry.resume().await.unwrap();
            }
            Disaster::Everything => {
                self.pause().await;
                self.sidecars[1] = None;
                self.registry.kill();
                self.restart_api_server().await;
                self.launch(1).await;
                self.registry.resume().await.unwrap();
                if !self.is_patient {
                    self.end_session().await;
                }
            }
            Disaster::Reconfigure => self.reconfigure().await,
        }
    }

    /// The moment matters: into an empty queue, into a transaction, behind it.
    async fn pause(&mut self) {
        sleep(Duration::from_millis(self.random.u64(0..60))).await;
    }

    async fn events(&mut self) {
        for _ in 0..self.random.usize(0..4) {
            events::of_cluster(&self.server, &mut self.random).await;
        }
    }

    async fn restart_api_server(&mut self) {
        self.server.kill();
        self.server.resume().await.unwrap();
        self.events().await;
        self.server.compact().await.unwrap();
    }

    fn signal(&self, index: usize, name: &str) {
        let Some(sidecar) = &self.sidecars[index] else { return };
        let status = Command::new("kill").args([format!("-{name}"), sidecar.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// As if whoever holds the lock had died long ago.
    async fn end_session(&self) {
        let Ok(lock) = self.registry.get(LOCK).await else { return };
        if let Some(session) = lock[0]["Session"].as_str() {
            self.registry.put(&format!("/v1/session/destroy/{session}"), &Value::Null).await.unwrap();
        }
    }

    async fn launch(&mut self, index: usize) {
        self.sidecars[index] = Some(Sidecar::start(&self.binary, &self.layouts[index]).await.unwrap());
    }

    async fn reconfigure(&mut self) {
        self.consul_nodes = if self.consul_nodes == "perNode" { "synthetic" } else { "perNode" };
        self.reader = None;
        self.sidecars = [None, None];
        self.end_session().await;
        for index in 0..2 {
            let layout = &self.layouts[index];
            let kubeconfig = layout.root().parent().unwrap().join("kubeconfig");
            let configuration = json!({
                "clusters": [{"name": CLUSTER, "kubeconfig": kubeconfig, "sync": {"consulNodes": self.consul_nodes}}],
                "policy": {"directory": "./policy"}, "snapshot": {"file": layout.snapshot()}, "gate": {"file": layout.gate()},
                // The brake has tests of its own.
                "consul": {"address": self.registry.address(), "maxRemovalPercent": 100},
            });
            fs::write(layout.configuration(), configuration.to_string()).unwrap();
            self.launch(index).await;
        }
        self.must_settle("another configuration").await;
        self.reader = Some(Reader::start(self.registry.address().parse().unwrap()));
    }

    /// Waits until the catalog is as planned; then others are as they left it, and a whole look writes nothing.
    async fn must_settle(&mut self, when: &str) -> Catalog {
        let (mut planned, nodes) =
            catalog::planned(&self.binary, &self.layouts[0], &self.server, self.consul_nodes).await;
        // Where somebody else has the ID, it is his.
        planned.retain(|place, _| !self.others.contains_key(place));
        let is_needed = |name: &String| nodes.contains_key(name) || self.others.keys().any(|(on, _)| on == name);
        let (start, mut is_nudged) = (Instant::now(), self.is_patient);
        let found = loop {
            let found = catalog::read(&self.registry).await.unwrap();
            let mut differences = differences(&found.ours, &planned);
            let left = found.nodes.keys().filter(|name| *name != "k8s-sync" && !is_needed(name));
            differences.extend(left.map(|name| format!("node {name} with nothing on it")));
            if differences.is_empty() {
                break found;
            }
            assert!(start.elapsed() < PATIENCE, "{when}: not as planned: {}", differences.join("\n"));
            sleep(POLL).await;
            if start.elapsed() > NUDGE && !is_nudged {
                is_nudged = true;
                self.nudge().await;
            }
        };
        self.must_leave_others(&found, when);
        for (name, address) in planned.keys().map(|(name, _)| (name, &nodes[name])) {
            assert_eq!(found.nodes.get(name), Some(address), "{when}: the address of {name}");
        }
        let calm = found.clone();
        self.must_look_and_write_nothing(&found, when).await;
        calm
    }

    fn must_leave_others(&self, found: &Catalog, when: &str) {
        let gone = differences(&found.others, &self.others);
        assert!(gone.is_empty(), "{when}: others were touched: {}", gone.join("\n"));
    }

    /// An instance with our mark that nothing wants.
    async fn nudge(&self) {
        let meta = json!({"external-source": "kubernetes", "external-k8s-cluster": CLUSTER});
        let orphan = json!({"ID": "orphan", "Service": "orphan", "Address": "192.0.2.1", "Port": 1, "Meta": meta});
        self.put_service("k8s-sync", &orphan).await;
    }

    /// Once an instance with our mark that nothing wants is gone, everything was looked at.
    async fn must_look_and_write_nothing(&self, before: &Catalog, when: &str) {
        self.nudge().await;
        let is_gone = async || {
            let found = self.registry.get("/v1/catalog/service/orphan").await.unwrap();
            found.as_array().is_some_and(Vec::is_empty)
        };
        synced::wait_for(&format!("a whole look ({when})"), PATIENCE, is_gone).await;
        let after = catalog::read(&self.registry).await.unwrap();
        assert_eq!(after.written, before.written, "{when}: a look that found nothing wrote");
        assert_eq!(after.ours, before.ours, "{when}");
        self.must_leave_others(&after, when);
    }
}
