//! What a broken Consul can answer about services of others: nothing of it takes a route away, and nothing hostile in the
//! catalog stops the rest.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use portcullis::{
    consul::{Catalog, CatalogConfig, ConsulConfig, Scope, catalog::Watcher},
    input::{self, Input},
    sync::SyncOptions,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};

/// How long a fault is watched: several attempts fit in.
const WATCHED: Duration = Duration::from_millis(1_200);
const PATIENCE: Duration = Duration::from_secs(30);

const FIRST_INDEX: u64 = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// 500 to every call.
    Broken,
    /// The services are left out, and the answer says that something was.
    Filtered,
    /// The same by a Consul that does not say so: not even its own service is there.
    Emptied,
    /// No JSON.
    Garbage,
    /// JSON of another shape.
    Shape,
    /// 403 to everything.
    Forbidden,
    /// 404, as a proxy in between may answer.
    Missing,
    /// The names are there, and the instances of one service cannot be read.
    Half,
}

struct Fake {
    fault: Fault,
    index: u64,
    /// Names with their instances, as the catalog has them.
    services: Vec<(String, Value)>,
    /// The list of all checks, as the next reader gets it.
    checks: Vec<Value>,
    /// What moves is checks: the index of nodes and their instances stays where it began.
    only_checks: bool,
}

impl Fake {
    fn index_of(&self, path: &str) -> u64 {
        if self.only_checks && path.starts_with("/v1/catalog/nodes") { FIRST_INDEX } else { self.index }
    }
}

type Shared = Arc<Mutex<Fake>>;

async fn serve(listener: TcpListener, fake: Shared) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, Arc::clone(&fake)));
    }
}

async fn answer(mut stream: TcpStream, fake: Shared) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let line = String::from_utf8_lossy(&bytes).into_owned();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let index = |fake: &Shared| fake.lock().unwrap().index_of(&path);
    if path.contains(&format!("index={}", index(&fake))) {
        // A blocking query: until something moves.
        let before = index(&fake);
        while index(&fake) == before {
            sleep(Duration::from_millis(10)).await;
        }
    }
    let (status, headers, body) = respond(&path, &fake.lock().unwrap());
    let (index, length) = (index(&fake), body.len());
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nX-Consul-Index: {index}\r\nconnection: close\r\n{headers}\r\n"
    );
    // The other side may be gone.
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

fn respond(path: &str, fake: &Fake) -> (u16, &'static str, String) {
    let filtered = "X-Consul-Results-Filtered-By-ACLs: true\r\n";
    let name = path.strip_prefix("/v1/health/service/").map(|rest| rest.split('?').next().unwrap_or_default());
    match (fake.fault, name) {
        (Fault::Broken, _) => (500, "", "No cluster leader".to_owned()),
        (Fault::Forbidden, _) => (403, "", "ACL not found".to_owned()),
        (Fault::Missing, _) => (404, "", "not here".to_owned()),
        (Fault::Garbage, _) => (200, "", "{\"consul\": nul".to_owned()),
        (Fault::Shape, _) => (200, "", "[[1]]".to_owned()),
        (Fault::Filtered, _) if path.starts_with("/v1/catalog/services") => {
            (200, filtered, r#"{"consul": []}"#.to_owned())
        }
        (Fault::Emptied, _) if path.starts_with("/v1/catalog/services") => (200, "", "{}".to_owned()),
        (Fault::Half, Some("web")) => (500, "", "rpc error".to_owned()),
        (_, Some(name)) => {
            let found: Vec<_> = fake.services.iter().filter(|(it, _)| it == name).map(|(_, entry)| entry).collect();
            (200, "", json!(found).to_string())
        }
        _ if path.starts_with("/v1/catalog/services") => {
            let tags = |(name, entry): &(String, Value)| (name.clone(), entry["Service"]["Tags"].clone());
            let mut names: serde_json::Map<_, _> = fake.services.iter().map(tags).collect();
            names.insert("consul".to_owned(), json!([]));
            (200, "", Value::Object(names).to_string())
        }
        _ if path.starts_with("/v1/health/state/any?filter") => (200, "", "[]".to_owned()),
        _ if path.starts_with("/v1/health/state/any") => (200, "", json!(fake.checks).to_string()),
        _ => (200, "", "[]".to_owned()),
    }
}

fn entry(name: &str, service: &Value) -> (String, Value) {
    let mut whole = json!({"ID": name, "Service": name, "Port": 80, "Address": "192.0.2.1", "Meta": null,
        "Tags": [format!("portcullis.http.routers.{}.rule=Host(`a`)", name.len())]});
    whole.as_object_mut().unwrap().extend(service.as_object().unwrap().clone());
    (name.to_owned(), json!({"Node": {"Node": "vm", "Address": "192.0.2.9"}, "Service": whole, "Checks": []}))
}

struct Stage {
    fake: Shared,
    said: mpsc::Receiver<Input>,
}

impl Stage {
    async fn start(services: Vec<(String, Value)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let consul =
            ConsulConfig { address: Some(listener.local_addr().unwrap().to_string()), ..ConsulConfig::default() };
        let fake = Arc::new(Mutex::new(Fake {
            fault: Fault::None,
            index: FIRST_INDEX,
            services,
            checks: Vec::new(),
            only_checks: false,
        }));
        tokio::spawn(serve(listener, Arc::clone(&fake)));
        let ours = vec![Scope::new(&SyncOptions::default())];
        let watcher = Watcher::new(&consul, &CatalogConfig::default(), ours).unwrap();
        let (inputs, said) = mpsc::channel(input::WAITING);
        tokio::spawn(watcher.follow(inputs));
        Self { fake, said }
    }

    fn change(&self, change: impl FnOnce(&mut Fake)) {
        let mut fake = self.fake.lock().unwrap();
        change(&mut fake);
        fake.index += 1;
    }

    async fn next(&mut self) -> Catalog {
        match timeout(PATIENCE, self.said.recv()).await.unwrap().unwrap() {
            Input::Catalog(said) => said,
            other => panic!("{other:?}"),
        }
    }

    /// Names of what is told as a whole, each as often as it has instances, and unusable names.
    async fn whole(&mut self) -> (Vec<String>, Vec<String>) {
        match self.next().await {
            Catalog::Whole { registrations, unusable } => {
                (registrations.into_iter().map(|it| it.service.service).collect(), unusable)
            }
            Catalog::Broken(line) => panic!("{line}"),
        }
    }
}

#[tokio::test]
async fn no_broken_answer_is_taken_for_services_that_are_gone() {
    for fault in [
        Fault::Broken,
        Fault::Filtered,
        Fault::Emptied,
        Fault::Garbage,
        Fault::Shape,
        Fault::Forbidden,
        Fault::Missing,
        Fault::Half,
    ] {
        let mut stage = Stage::start(vec![entry("web", &json!({})), entry("plain", &json!({"Tags": ["x"]}))]).await;
        assert_eq!(stage.whole().await.0, ["web"]);
        stage.change(|fake| fake.fault = fault);
        let Catalog::Broken(line) = stage.next().await else { panic!("{fault:?}") };
        assert!(line.contains("; "), "{fault:?}: {line} says not what to do");
        // A standing fault is told once.
        assert!(timeout(WATCHED, stage.next()).await.is_err(), "{fault:?}");
        stage.change(|fake| fake.fault = Fault::None);
        assert_eq!(stage.whole().await.0, ["web"], "{fault:?}");
    }
}

#[tokio::test]
async fn an_index_that_goes_backwards_and_a_change_that_nobody_needs_are_seen() {
    let mut stage = Stage::start(vec![entry("web", &json!({}))]).await;
    assert_eq!(stage.whole().await.0, ["web"]);
    // As after a snapshot that was restored.
    stage.change(|fake| {
        fake.index = 1;
        fake.services.push(entry("api", &json!({})));
    });
    assert_eq!(stage.whole().await.0, ["api", "web"]);
    stage.change(|fake| fake.services.push(entry("plain", &json!({"Tags": []}))));
    assert!(timeout(WATCHED * 2, stage.next()).await.is_err(), "what has no routing tags is nothing new");
}

#[tokio::test]
async fn ours_proxies_and_names_that_no_rule_holds_are_left_out_and_stop_nothing() {
    let ours = json!({"Meta": {"external-source": "kubernetes", "external-k8s-cluster": "kubernetes"}});
    let other = json!({"Meta": {"external-source": "kubernetes", "external-k8s-cluster": "west"}});
    let mut stage = Stage::start(vec![
        entry("web", &json!({})),
        entry("ours", &ours),
        entry("west", &other),
        entry("proxy", &json!({"Kind": "connect-proxy"})),
        entry("portless", &json!({"Port": -1})),
        entry("../kv/secret", &json!({})),
        entry("..", &json!({})),
        entry("a b", &json!({})),
    ])
    .await;
    let (mut names, mut unusable) = stage.whole().await;
    names.sort();
    unusable.sort();
    assert_eq!(names, ["web", "west"]);
    assert_eq!(unusable, ["..", "../kv/secret", "a b"]);
}

#[tokio::test]
async fn a_check_that_was_something_else_between_two_questions_is_seen_for_what_it_is() {
    let check = |status: &str| json!({"Node": "vm", "CheckID": "c", "ServiceID": "web", "ServiceName": "web", "Status": status});
    let with = |status: &str| {
        let (name, mut whole) = entry("web", &json!({}));
        whole["Checks"] = json!([check(status)]);
        vec![(name, whole)]
    };
    let mut stage = Stage::start(with("passing")).await;
    stage.change(|fake| (fake.only_checks, fake.checks) = (true, vec![check("passing")]));
    let status = |said: Catalog| match said {
        Catalog::Whole { registrations, .. } => registrations[0].check.status.clone(),
        Catalog::Broken(line) => panic!("{line}"),
    };
    assert_eq!(status(stage.next().await), "passing");
    // The list is of a moment when it was critical, the instance of one when it was not.
    stage.change(|fake| fake.checks = vec![check("critical")]);
    assert!(timeout(WATCHED * 2, stage.next()).await.is_err());
    stage.change(|fake| fake.services = with("critical"));
    assert_eq!(status(stage.next().await), "critical");
}
