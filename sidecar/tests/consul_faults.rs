//! What a broken Consul can answer, and that nothing is ever removed because of it. The fake holds one node with one
//! instance of ours that nobody wants any more: the first transaction that gets through would take it away.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use portcullis::{
    consul::{ConsulConfig, Follower, Source, Wanted},
    sync::{Group, Registration, SyncOptions},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

/// How long a fault is watched: several attempts fit in.
const WATCHED: Duration = Duration::from_millis(1_500);
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// 500 to every reading call.
    Broken,
    /// The instance is left out, and the answer says that something was.
    Filtered,
    /// No JSON.
    Garbage,
    /// JSON of another shape.
    Shape,
    /// The body breaks off.
    Torn,
    /// No answer at all.
    Silent,
    /// 403 to everything.
    Forbidden,
    /// A balancer's page with status 200.
    Page,
    /// The lock was lost.
    Deposed,
    /// Consul refuses what is about `bad`.
    Refuses,
}

struct Fake {
    fault: Fault,
    transactions: Vec<Value>,
    /// Whether the instance that nobody wants is still there.
    has_old: bool,
}

const REFUSED: &str = "Failed to parse body";
const DEPOSED: &str = r#"{"Results": null, "Errors": [{"OpIndex": 0, "What": "failed session check"}]}"#;

type Shared = Arc<Mutex<Fake>>;

async fn serve(listener: TcpListener, fake: Shared) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, Arc::clone(&fake)));
    }
}

/// Reads one request; method, path and body.
async fn request(stream: &mut TcpStream) -> Option<(String, String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text.split("content-length: ").nth(1).and_then(|it| it.lines().next()?.parse().ok()).unwrap_or(0);
    while bytes.len() < head + length {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    let line = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let mut words = line.split(' ');
    Some((words.next()?.to_owned(), words.next()?.to_owned(), bytes[head..].to_vec()))
}

async fn answer(mut stream: TcpStream, fake: Shared) {
    let Some((method, path, body)) = request(&mut stream).await else { return };
    let fault = fake.lock().unwrap().fault;
    let whole = healthy(&method, &path, &body, &fake, fault);
    if path.contains("index=1&") || path.ends_with("index=1") {
        // A blocking query.
        sleep(Duration::from_millis(300)).await;
    }
    if fault == Fault::Silent && path.starts_with("/v1/catalog") {
        sleep(WATCHED * 2).await;
    }
    let (status, text) = match (fault, method.as_str()) {
        (Fault::Broken, "GET") => (500, "No cluster leader"),
        (Fault::Forbidden, _) => (403, "ACL not found"),
        (Fault::Garbage, "GET") => (200, "{\"Node\": nul"),
        (Fault::Shape, "GET") => (200, "[[1]]"),
        (Fault::Page, _) => (200, "<html>Welcome</html>"),
        _ if whole == REFUSED => (400, REFUSED),
        _ if whole == DEPOSED => (409, DEPOSED),
        _ => (200, whole.as_str()),
    };
    let filtered = fault == Fault::Filtered && method == "GET";
    let headers = if filtered { "X-Consul-Results-Filtered-By-ACLs: true\r\n" } else { "" };
    let length = if fault == Fault::Torn { text.len() + 10 } else { text.len() };
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nX-Consul-Index: 1\r\nconnection: close\r\n{headers}\r\n"
    );
    // The other side may be gone.
    let _ = stream.write_all(format!("{head}{text}").as_bytes()).await;
}

fn healthy(method: &str, path: &str, body: &[u8], fake: &Shared, fault: Fault) -> String {
    let mut fake = fake.lock().unwrap();
    if path.starts_with("/v1/session/create") {
        return json!({"ID": "s"}).to_string();
    }
    if path.starts_with("/v1/session/renew") {
        return json!([{"ID": "s"}]).to_string();
    }
    if path.starts_with("/v1/kv/") {
        return if method == "PUT" { "true".to_owned() } else { "[]".to_owned() };
    }
    if path.starts_with("/v1/txn") {
        let operations: Value = serde_json::from_slice(body).unwrap();
        fake.transactions.push(operations.clone());
        let text = operations.to_string();
        if fault == Fault::Deposed {
            return DEPOSED.to_owned();
        }
        if fault == Fault::Refuses && text.contains("\"bad\"") {
            return REFUSED.to_owned();
        }
        fake.has_old &= !text.contains("delete-cas");
        return json!({"Results": [], "Errors": null}).to_string();
    }
    let old = json!({"ID": "old", "Service": "old", "ModifyIndex": 1, "Address": "192.0.2.1", "Port": 1,
        "Meta": {"external-source": "kubernetes", "external-k8s-cluster": "kubernetes"}});
    let services = if fake.has_old && fault != Fault::Filtered { vec![old] } else { vec![] };
    if path.starts_with("/v1/catalog/node-services") {
        return json!({"Node": {"ID": "", "Node": "k8s-sync", "Address": "127.0.0.1", "ModifyIndex": 1}, "Services": services})
            .to_string();
    }
    "[]".to_owned()
}

fn registration(name: &str) -> Registration {
    let meta = json!({"external-source": "kubernetes", "external-k8s-cluster": "kubernetes"});
    serde_json::from_value(json!({
        "Node": "k8s-sync", "Address": "127.0.0.1", "SkipNodeUpdate": true,
        "Service": {"ID": name, "Service": name, "Address": "192.0.2.1", "Port": 30080, "Meta": meta},
        "Check": {"CheckID": format!("ns/{name}"), "Name": "n", "Type": "t", "Status": "passing", "Output": "",
                  "ServiceID": name, "Node": "k8s-sync"},
    }))
    .unwrap()
}

struct World {
    fake: Shared,
    follower: Follower,
}

async fn start(fault: Fault, names: &[&str]) -> World {
    let world = idle(fault).await;
    let registrations = names.iter().map(|name| registration(name)).collect();
    world.follower.want(Wanted { registrations, source_is_empty: false });
    world
}

/// With a follower that was told nothing yet.
async fn idle(fault: Fault) -> World {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let fake = Arc::new(Mutex::new(Fake { fault, transactions: Vec::new(), has_old: true }));
    tokio::spawn(serve(listener, Arc::clone(&fake)));
    let config = ConsulConfig { address: Some(address.to_string()), ..ConsulConfig::default() };
    let follower = Follower::start(&config, &SyncOptions::default()).unwrap();
    World { fake, follower }
}

impl World {
    fn transactions(&self) -> Vec<Value> {
        self.fake.lock().unwrap().transactions.clone()
    }

    async fn wait_for(&self, what: &str, holds: impl Fn(&Fake) -> bool) {
        let start = Instant::now();
        while !holds(&self.fake.lock().unwrap()) {
            assert!(start.elapsed() < PATIENCE, "waited for {what}: {:?}", self.transactions());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn nothing_is_written_while_the_catalog_cannot_be_read_whole_and_everything_once_it_can() {
    let faults = [
        Fault::Broken,
        Fault::Filtered,
        Fault::Garbage,
        Fault::Shape,
        Fault::Torn,
        Fault::Silent,
        Fault::Forbidden,
        Fault::Page,
    ];
    let mut running = tokio::task::JoinSet::new();
    for fault in faults {
        running.spawn(async move {
            let world = start(fault, &["new"]).await;
            sleep(WATCHED).await;
            assert_eq!(world.transactions(), Vec::<Value>::new(), "{fault:?}");
            world.fake.lock().unwrap().fault = Fault::None;
            world.wait_for(&format!("the end of {fault:?}"), |fake| !fake.has_old).await;
            assert!(world.transactions()[0].to_string().contains("check-session"), "every transaction is fenced");
            world.follower.stop().await;
        });
    }
    running.join_all().await;
}

#[tokio::test]
async fn a_deposed_leader_writes_nothing_and_asks_for_the_lock_again() {
    let world = start(Fault::Deposed, &["new"]).await;
    world.wait_for("a second attempt", |fake| fake.transactions.len() >= 2).await;
    assert!(world.fake.lock().unwrap().has_old);
    world.fake.lock().unwrap().fault = Fault::None;
    world.wait_for("the lock", |fake| !fake.has_old).await;
    world.follower.stop().await;
}

#[tokio::test]
async fn what_consul_does_not_take_holds_up_nobody_else_and_is_not_asked_again() {
    let world = start(Fault::Refuses, &["bad", "good"]).await;
    world.wait_for("the others", |fake| !fake.has_old).await;
    sleep(WATCHED).await;
    let bad = world.transactions().iter().filter(|it| it.to_string().contains("\"bad\"")).count();
    assert_eq!(bad, 2, "once with the others and once alone");
    world.follower.stop().await;
}

#[tokio::test]
async fn while_the_source_is_broken_additions_go_on_and_removals_wait() {
    let world = idle(Fault::None).await;
    let group = |name: &str| Some(Group::given(vec![registration(name)]));
    let broken = Source { is_broken: true, ..Source::default() };
    world.follower.change([("new".into(), group("new"))], broken);
    let wrote = |fake: &Fake, name: &str| fake.transactions.iter().any(|it| it.to_string().contains(name));
    world.wait_for("the addition", |fake| wrote(fake, "\"new\"")).await;
    world.follower.change([("newer".into(), group("newer"))], broken);
    world.wait_for("the next addition", |fake| wrote(fake, "\"newer\"")).await;
    sleep(WATCHED).await;
    assert!(world.fake.lock().unwrap().has_old);
    assert_eq!(world.follower.status().get().held, 1);
    world.follower.change([], Source::default());
    world.wait_for("the removal", |fake| !fake.has_old).await;
    world.follower.stop().await;
}
