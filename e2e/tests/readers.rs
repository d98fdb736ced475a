//! Readers of the catalog while it changes: nobody ever meets a service that is half changed, and Traefik never drops its router.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use portcullis_e2e::backend::Backend;
use portcullis_e2e::client::{Client, empty, request};
use portcullis_e2e::keen::{Outcome, Reader};
use portcullis_e2e::parts::{Parts, RegistryParts};
use portcullis_e2e::pods::{Pods, Service};
use portcullis_e2e::registry::Registry;
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::{Layout, Sidecar};
use portcullis_e2e::traefik::{Options, Traefik};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Instances at each moment; so many of them go with each round, and others come.
const INSTANCES: usize = 60;
const TURNOVER: usize = 5;
/// How far the window goes before it turns back.
const STEPS: usize = 10;
/// All readers together look at least this often while something changes.
const PER_SECOND: u128 = 1_000;
/// Readers of the names with their tags; how often each looks if it can, and for how many answers it asks at once.
const READERS: usize = 2;
const PACE: Duration = Duration::from_micros(700);
const AT_ONCE: usize = 8;
/// The same of the readers of all instances, whose answers are a hundred times as large.
const PACE_OF_ALL: Duration = Duration::from_millis(5);
/// Instances of one service whose tags fit into one transaction: Consul takes 128 operations, and one is the fence.
const MOST_AT_ONCE: usize = 127;

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
    wait_for_so_many(registry, number, INSTANCES).await;
}

/// The same for a service of another size.
async fn wait_for_so_many(registry: &Registry, number: usize, instances: usize) {
    let (start, tag) = (Instant::now(), json!(format!("round-{number}")));
    loop {
        let found = registry.get("/v1/catalog/service/web").await.unwrap();
        let of_round = |it: &&Value| it["ServiceTags"].as_array().is_some_and(|tags| tags.contains(&tag));
        if found.as_array().unwrap().iter().filter(of_round).count() == instances {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "waited for {tag}: {found}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// How many times a text stands in an answer, whose objects would take longer to build than Consul takes to write them.
fn count(answer: &[u8], text: &str) -> usize {
    let first = text.as_bytes()[0];
    let at = |index: usize| answer[index..].starts_with(text.as_bytes());
    answer.iter().enumerate().filter(|(index, byte)| **byte == first && at(*index)).count()
}

/// The one round that all tags of an answer are of, of which there must be so many lists.
fn whole(answer: &[u8], before: &str, lists: usize) -> Result<String> {
    let text = String::from_utf8_lossy(answer);
    let tags: Vec<&str> = text.split(before).skip(1).filter_map(|it| it.split(']').next()).collect();
    ensure!(tags.len() == lists, "{} instances instead of {lists}: {text}", tags.len());
    ensure!(tags.iter().all(|it| *it == tags[0]), "half done: {text}");
    Ok(tags[0].to_owned())
}

/// Starts all readers: of the names with the tags of all their instances, as small an answer as there is, and of all instances.
fn readers(registry: &Registry) -> Vec<(&'static str, Reader)> {
    let address = registry.address().parse().unwrap();
    let names = |answer: &[u8]| {
        let rounds = count(answer, "\"round-");
        ensure!(rounds == 1, "the tags of {rounds} rounds: {}", String::from_utf8_lossy(answer));
        Ok(())
    };
    let mut readers = Vec::new();
    let paths = [("/v1/health/service/web", "\"Tags\":"), ("/v1/catalog/service/web", "\"ServiceTags\":")];
    for _ in 0..READERS {
        let reader = Reader::start(address, "/v1/catalog/services?stale", (PACE, AT_ONCE), names);
        readers.push(("/v1/catalog/services", reader.unwrap()));
    }
    for (path, before) in paths {
        let judge = move |answer: &[u8]| whole(answer, before, INSTANCES).map(drop);
        readers.push((path, Reader::start(address, path, (PACE_OF_ALL, 1), judge).unwrap()));
    }
    readers
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_instances_that_change_come_and_go_at_once_are_never_seen_half_done_by_a_1_khz_reader() {
    const ROUNDS: usize = 40;
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let layout = layout(&registry, &folder.path().join("sidecar"));
    round(0, 30080).write(&layout).unwrap();
    let _sidecar = Sidecar::start(&parts.sidecar, &layout).await.unwrap();
    wait_for(&registry, 0).await;
    let readers = readers(&registry);
    let reads = || readers.iter().map(|(_, reader)| reader.reads()).sum::<usize>();
    // Only while something changes: the time from the change to its being seen.
    let (mut changing, mut seen) = (Duration::ZERO, 0);
    for number in 1..=ROUNDS {
        let (start, before) = (Instant::now(), reads());
        round(number, 30080).write(&layout).unwrap();
        wait_for(&registry, number).await;
        changing += start.elapsed();
        seen += reads() - before;
    }
    let total = seen as u128 * 1_000 / changing.as_millis();
    for (path, reader) in readers {
        // Where its judge has found something, this is what.
        let outcome = reader.finish().unwrap();
        let Outcome { reads, changes, longest } = outcome;
        say(&format!(
            "{path}: {reads} reads, {changes} of them unlike the one before, each whole; at most {longest:?} between two"
        ));
        assert!(changes > ROUNDS / 2, "the reader was too slow to say anything");
    }
    say(&format!("{total} reads a second while {ROUNDS} changes were under way for {changing:?}"));
    assert!(total >= PER_SECOND, "too few looks to call it 1 kHz: {total} a second");
}

/// What is said of larger services in the guide: 127 instances change at once, and with more of them no instance is missing
/// meanwhile, whatever its tags.
#[tokio::test(flavor = "multi_thread")]
async fn the_tags_of_127_instances_change_at_once_and_of_more_in_parts_without_a_gap() {
    const ROUNDS: usize = 8;
    let Some(parts) = RegistryParts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&parts.consul, folder.path(), None).await.unwrap();
    let layout = layout(&registry, &folder.path().join("sidecar"));
    let sidecar = Sidecar::launch(&parts.sidecar, &layout).unwrap();
    let address = registry.address().parse().unwrap();
    for instances in [MOST_AT_ONCE, MOST_AT_ONCE + 1, 2 * MOST_AT_ONCE] {
        let of_round = |number: usize| {
            let mut pods = Pods::default();
            for node in 0..instances {
                pods.nodes.insert(format!("n{node:03}"), format!("127.0.1.{}", node + 1));
            }
            let places = pods.nodes.keys().map(|name| (name.clone(), true)).collect();
            let service = Service { node_port: 30080, pods: places, ..Service::default() };
            pods.set("web", service.annotated("tags", &format!("round-{number}")));
            pods.write(&layout).unwrap();
        };
        of_round(0);
        wait_for_so_many(&registry, 0, instances).await;
        let torn = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&torn);
        let judge = move |answer: &[u8]| {
            ensure!(count(answer, "\"ServiceTags\":") == instances, "an instance lacks, or is one too many");
            if whole(answer, "\"ServiceTags\":", instances).is_err() {
                ensure!(instances > MOST_AT_ONCE, "half done: {}", String::from_utf8_lossy(answer));
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        let reader = Reader::start(address, "/v1/catalog/service/web", (Duration::ZERO, 1), judge).unwrap();
        for number in 1..=ROUNDS {
            of_round(number);
            wait_for_so_many(&registry, number, instances).await;
        }
        let outcome = reader.finish().unwrap();
        let torn = torn.load(Ordering::Relaxed);
        say(&format!("{instances} instances, {ROUNDS} changes: {} reads saw {torn} states between", outcome.reads));
    }
    drop(sidecar);
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
