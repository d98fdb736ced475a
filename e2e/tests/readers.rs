//! Readers of the catalog while it changes: nobody ever meets a service that is half changed, and Traefik never drops its router.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portcullis_e2e::backend::Backend;
use portcullis_e2e::client::{Client, empty, request};
use portcullis_e2e::parts::{Parts, RegistryParts};
use portcullis_e2e::pods::{Pods, Service};
use portcullis_e2e::registry::Registry;
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::{Layout, Sidecar};
use portcullis_e2e::traefik::{Options, Traefik};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Instances at each moment; so many of them go with each round, and others come.
const INSTANCES: usize = 60;
const TURNOVER: usize = 5;
/// How far the window goes before it turns back.
const STEPS: usize = 10;
/// All readers of one address together look this often.
const PER_SECOND: u32 = 1_000;
const READERS: u32 = 8;

/// The round's instances: a window that moves to and fro over the nodes, all with the round's tags. A round changes what fits
/// into one transaction (127 operations); a service that changes more than that cannot change at once.
fn round(number: usize, node_port: u16) -> Pods {
    let mut pods = Pods::default();
    let first = (number % (2 * STEPS)).abs_diff(STEPS) * TURNOVER;
    for node in 0..STEPS * TURNOVER + INSTANCES {
        pods.nodes.insert(format!("n{node:03}"), format!("127.0.1.{}", node + 1));
    }
    let places = (first..first + INSTANCES).map(|node| (format!("n{node:03}"), true)).collect();
    let service = Service { node_port, pods: places, ..Service::default() }
        .annotated("tags", &format!("round-{number}"))
        .annotated("traefik.enable", "true")
        .annotated("traefik.http.routers.web.rule", "Host(`web.test`)")
        .annotated("traefik.http.routers.web.entryPoints", "web")
        .annotated("traefik.http.routers.web.middlewares", "round")
        .annotated("traefik.http.middlewares.round.headers.customRequestHeaders.X-Round", &number.to_string());
    pods.set("web", service);
    pods
}

fn layout(registry: &Registry, folder: &std::path::Path) -> Layout {
    let layout = Layout::new(folder).unwrap();
    let sections = json!({"consul": {"address": registry.address()}, "sync": {"exposure": "tags"}});
    layout.write_configuration_with(&sections).unwrap();
    layout
}

/// Waits until the catalog is that of the round.
async fn wait_for(registry: &Registry, number: usize) {
    let (start, tag) = (Instant::now(), json!(format!("round-{number}")));
    loop {
        let found = registry.get("/v1/catalog/service/web").await.unwrap();
        let of_round = |it: &&Value| it["ServiceTags"].as_array().is_some_and(|tags| tags.contains(&tag));
        if found.as_array().unwrap().iter().filter(of_round).count() == INSTANCES {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "waited for {tag}: {found}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Reads one address again and again; how often, and how many rounds it has seen, each of them whole.
async fn read(
    registry: &Registry,
    path: &'static str,
    before: &'static str,
    stopped: watch::Receiver<bool>,
) -> (usize, usize) {
    let (reads, mut readers) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for _ in 0..READERS {
        let (mut connection, stopped, reads) = (registry.connect().await.unwrap(), stopped.clone(), Arc::clone(&reads));
        readers.spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) * READERS / PER_SECOND);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut seen = BTreeSet::new();
            while !*stopped.borrow() {
                ticks.tick().await;
                let request = request("GET", "localhost", path, &[], empty()).unwrap();
                let text = connection.send(request).await.unwrap().text();
                // Without reading it as JSON, which would take longer than Consul does.
                let tags: Vec<_> = text.split(before).skip(1).filter_map(|it| it.split(']').next()).collect();
                assert_eq!(tags.len(), INSTANCES, "an instance lacks, or is one too many: {text}");
                let tags: BTreeSet<_> = tags.into_iter().map(str::to_owned).collect();
                assert_eq!(tags.len(), 1, "half done: {tags:?}");
                seen.extend(tags);
                reads.fetch_add(1, Ordering::Relaxed);
            }
            seen
        });
    }
    let seen: BTreeSet<_> = readers.join_all().await.into_iter().flatten().collect();
    (reads.load(Ordering::Relaxed), seen.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_instances_that_change_come_and_go_at_once_are_never_seen_half_done() {
    const ROUNDS: usize = 40;
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Arc::new(Registry::start(&parts.consul, folder.path(), None).await.unwrap());
    let layout = layout(&registry, &folder.path().join("sidecar"));
    round(0, 30080).write(&layout).unwrap();
    let _sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    wait_for(&registry, 0).await;
    let (stop, stopped) = watch::channel(false);
    let mut readers = JoinSet::new();
    for (path, before) in [("/v1/health/service/web", "\"Tags\":"), ("/v1/catalog/service/web", "\"ServiceTags\":")] {
        let (registry, stopped) = (Arc::clone(&registry), stopped.clone());
        readers.spawn(async move { (path, read(&registry, path, before, stopped).await) });
    }
    let start = Instant::now();
    for number in 1..=ROUNDS {
        round(number, 30080).write(&layout).unwrap();
        wait_for(&registry, number).await;
    }
    stop.send(true).unwrap();
    for (path, (reads, seen)) in readers.join_all().await {
        let per_second = reads as u128 * 1_000 / start.elapsed().as_millis();
        say(&format!("{path}: {reads} reads, {per_second} a second, saw {seen} of {} rounds, each whole", ROUNDS + 1));
        assert!(seen > ROUNDS / 2, "the readers were too slow to say anything");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traefik_keeps_the_router_of_a_service_whose_tags_and_instances_change() {
    const ROUNDS: usize = 15;
    let (Some(parts), Some(registry_parts)) = (Parts::for_test(), RegistryParts::for_test()) else { return };
    let folder = tempfile::Builder::new().prefix("portcullis-").tempdir().unwrap();
    let registry = Registry::start(&registry_parts.consul, folder.path(), None).await.unwrap();
    let layout = layout(&registry, &folder.path().join("sidecar"));
    // On every address of this machine: each node is one of them.
    let backend = Backend::start_at(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), "web", "all").await.unwrap();
    let node_port = backend.address().port();
    round(0, node_port).write(&layout).unwrap();
    let _sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    wait_for(&registry, 0).await;

    let options = Options {
        binary: parts.traefik.clone(),
        folder: folder.path().join("traefik"),
        dynamic: folder.path().join("dynamic"),
        plugins: Vec::new(),
        access_log: false,
        trusts_local_front: false,
        environment: Vec::new(),
    };
    std::fs::create_dir_all(&options.dynamic).unwrap();
    // As often as it can: each look is a chance to meet half a change.
    let catalog = json!({"endpoint": {"address": registry.address()}, "refreshInterval": "50ms"});
    let providers = json!({"consulCatalog": catalog});
    let traefik = Traefik::start_with(options, &providers).await.unwrap();
    let client = Client::plain(traefik.plain());
    let seen = |answer: &portcullis_e2e::client::Answer| {
        let headers = answer.seen_headers().unwrap_or_default();
        headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-round")).map(|(_, value)| value.clone())
    };
    let wait_until_routed = |number: usize| {
        let (client, wanted) = (client.clone(), Some(number.to_string()));
        async move {
            let start = Instant::now();
            while client.get("web.test", "/", &[]).await.is_ok_and(|answer| seen(&answer) != wanted) {
                assert!(start.elapsed() < PATIENCE, "Traefik does not follow to round {number}");
                sleep(Duration::from_millis(20)).await;
            }
        }
    };
    wait_until_routed(0).await;

    let (stop, stopped) = watch::channel(false);
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let (client, stopped) = (client.clone(), stopped.clone());
        callers.spawn(async move {
            let mut connection = client.connect("web.test").await.unwrap();
            let (mut asked, mut refused) = (0_usize, Vec::new());
            while !*stopped.borrow() {
                let answer = connection.send(request("GET", "web.test", "/", &[], empty()).unwrap()).await.unwrap();
                asked += 1;
                if answer.status != 200 {
                    refused.push(answer.status);
                }
            }
            (asked, refused)
        });
    }
    for number in 1..=ROUNDS {
        round(number, node_port).write(&layout).unwrap();
        wait_until_routed(number).await;
    }
    stop.send(true).unwrap();
    let answers = callers.join_all().await;
    let asked: usize = answers.iter().map(|(asked, _)| asked).sum();
    let refused: Vec<u16> = answers.into_iter().flat_map(|(_, refused)| refused).collect();
    say(&format!("{} of {asked} requests were refused during {ROUNDS} changes", refused.len()));
    assert_eq!(refused, Vec::<u16>::new());
}
