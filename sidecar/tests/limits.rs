//! `portcullis limits` beside a guest that charges, and `portcullis run` with its clock and its metrics.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use portcullis_limiter::{
    Charge, Limiter, Rule,
    charge::tag,
    clock::{self, Beat},
    disk::Disk,
};

const POLICY: &str = "Kind: rate-limits\nName: api\nLimits:\n  - {Name: per-caller, Key: [source], Rate: {Requests: 6, Period: 1m, Burst: 5}}\n";
const NAME: &str = "rate-limits/api/per-caller";

fn portcullis(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis")).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn now_ns() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// A guest that was asked so often by a caller; how often it admitted.
fn ask(state: &Path, caller: &str, key: u64, times: usize) -> usize {
    let mut limiter = Limiter::new(Disk::new(state));
    let rule = Rule::Rate { interval_ns: 10_000_000_000, burst: 5 };
    let charge = Charge { key, tag: tag(NAME), label: caller.to_owned(), rule, cost: 1, enforced: true, global: false };
    let charges = std::slice::from_ref(&charge);
    (0..times).filter(|_| limiter.charge(charges, steady_ns(state)).unwrap().admitted).count()
}

fn steady_ns(state: &Path) -> u64 {
    clock::steady(now_ns(), &fs::read(state.join("limits/clock")).unwrap_or_default()).steady_ns
}

#[test]
fn top_shows_who_is_nearest_to_the_limit_first_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (state, policy) = (directory.path().join("state"), directory.path().join("policy"));
    fs::create_dir(&state).unwrap();
    fs::create_dir(&policy).unwrap();
    fs::write(policy.join("api.yaml"), POLICY).unwrap();
    assert_eq!(ask(&state, "web", 1, 2), 2);
    assert_eq!(ask(&state, "batch\u{1b}[2J", 2, 9), 5);
    let before = tree(&state);
    let place = ["--state", state.to_str().unwrap(), "--policy", policy.to_str().unwrap()];
    let run = |arguments: &[&str]| portcullis(&[arguments, &place].concat());

    let table = stdout(&run(&["limits", "top", "--once"]));
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["LIMIT", "KEY", "ALLOWED", "LEFT", "ADMITTED/S", "FULL", "IN"]);
    assert_eq!(lines[1][..7], [NAME, "batch\\u{1b}[2J", "6/min,", "burst", "5", "0", "0.0"]);
    assert_eq!(lines[2][..7], [NAME, "web", "6/min,", "burst", "5", "3", "0.0"]);

    let json: serde_json::Value = serde_json::from_str(&stdout(&run(&["limits", "top", "--once", "--json"]))).unwrap();
    assert_eq!((json["keys"].as_u64(), json["rows"][1]["label"].as_str()), (Some(2), Some("web")));
    assert_eq!((json["rows"][1]["limit"].as_str(), json["rows"][1]["remaining"].as_u64()), (Some(NAME), Some(3)));
    let few = stdout(&run(&["limits", "top", "--once", "--rows", "1"]));
    assert!(few.ends_with("… and 1 more\n"), "{few}");
    assert!(stdout(&run(&["limits", "top", "--once", "--limit", "nothing"])).contains("every bucket is full"));

    let shown = stdout(&run(&["limits", "show", "web"]));
    assert!(shown.contains("key      web\n") && shown.contains("left     3\n"), "{shown}");
    assert!(stdout(&run(&["limits", "show", "0000000000000001"])).contains("key      web\n"));
    assert_eq!(run(&["limits", "show", "nobody"]).status.code(), Some(1));
    assert_eq!(portcullis(&["limits", "top", "--once", "--state", "nowhere"]).status.code(), Some(2));
    assert_eq!(tree(&state), before);
}

/// All files with what is in them.
fn tree(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(tree(&path));
        } else {
            files.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn top_counts_what_is_admitted_in_an_interval() {
    let state = tempfile::tempdir().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["limits", "top", "--once", "--json", "--interval", "3", "--state", state.path().to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    sleep(Duration::from_millis(1500));
    assert_eq!(ask(state.path(), "web", 1, 9), 5);
    let json: serde_json::Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    let rate = json["rows"][0]["admittedPerSecond"].as_f64().unwrap();
    assert!((1.0..=1.7).contains(&rate), "{json}");
    // Without a policy there is only the tag.
    assert_eq!(json["rows"][0]["limit"].as_str(), Some(format!("tag {:08x}", tag(NAME)).as_str()));
}

#[test]
fn run_keeps_the_clock_and_answers_with_numbers_until_it_is_told_to_stop() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for name in ["kubernetes", "policy", "state"] {
        fs::create_dir(path(name)).unwrap();
    }
    fs::write(path("policy/api.yaml"), POLICY).unwrap();
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "manifests: kubernetes\npolicy: {{directory: policy}}\nsnapshot: {{file: run/policy.snapshot}}\n\
         gate: {{file: run/gate.yml}}\nlimits: {{state: state}}\nmetrics: {{listen: '{free}'}}\n"
    );
    fs::write(path("portcullis.yaml"), config).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["run", "-c", path("portcullis.yaml").to_str().unwrap()])
        .stderr(fs::File::create(path("log")).unwrap())
        .spawn()
        .unwrap();
    let wait_for = |what: &str, holds: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(10), "{what}: {}", fs::read_to_string(path("log")).unwrap());
            sleep(Duration::from_millis(20));
        }
    };
    let beat = || Beat::decode(&fs::read(path("state/limits/clock")).ok()?);
    let metrics = || get(free, "/metrics").unwrap_or_default();
    wait_for("a beat", &|| beat().is_some());
    wait_for("metrics", &|| metrics().contains("portcullis_clock_written 1\n"));
    // A look, so that what follows is news.
    sleep(Duration::from_millis(1500));
    assert_eq!(ask(&path("state"), "web", 1, 9), 5);
    wait_for("units", &|| {
        metrics().contains(&format!("portcullis_limit_admitted_units_total{{limit=\"{NAME}\"}} 5\n"))
    });
    assert!(metrics().contains(&format!("portcullis_limit_keys{{limit=\"{NAME}\"}} 1\n")));
    assert!(metrics().contains("portcullis_limit_buckets 1\n"));
    assert!(get(free, "/healthz").unwrap().ends_with("ok\n"));

    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(beat().is_some_and(|beat| beat == beat.closed()));
}

fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}
