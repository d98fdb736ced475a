//! The demo keeps its promises: every line answers as printed, and nothing is left behind, however it ends.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_e2e::parts::Parts;
use portcullis_e2e::report::say;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long the demo may take to end everything.
const PATIENCE: Duration = Duration::from_secs(10);

/// The demo with a folder of its own for its temporary files.
fn demo(folder: &TempDir, parts: &Parts, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command
        .args(arguments)
        .env("TMPDIR", folder.path())
        .env("TRAEFIK", &parts.traefik)
        .env("PORTCULLIS_WASM", &parts.plugin)
        .env("PORTCULLIS_BIN", &parts.sidecar)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// Processes whose command line names the folder: Traefik and the sidecar are started with paths in it.
fn processes_in(folder: &Path) -> Vec<String> {
    let name = folder.to_str().unwrap();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(name))
        .collect()
}

/// Starts the demo and waits until it has printed its last line.
fn running(folder: &TempDir, parts: &Parts) -> Child {
    let mut child = demo(folder, parts, &[]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("Ctrl-C ends everything")), "it ended early");
    assert_eq!(processes_in(folder.path()).len(), 2, "{:?}", processes_in(folder.path()));
    child
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn nobody_is_left(folder: &TempDir) {
    let deadline = Instant::now() + PATIENCE;
    while !processes_in(folder.path()).is_empty() {
        assert!(Instant::now() < deadline, "left: {:?}", processes_in(folder.path()));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_printed_line_answers_as_printed() {
    let Some(parts) = Parts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let output = demo(&folder, &parts, &["--check"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.matches("\n  ok ").count() >= 10 && !text.contains("FAIL"), "{text}");
    assert!(!text.contains('\x1b'), "colours are for terminals");
    say(&format!("demo --check took {:.1?}", started.elapsed()));
    nobody_is_left(&folder);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "it left files behind");
}

#[test]
fn a_signal_ends_everything_and_removes_the_folder() {
    let Some(parts) = Parts::for_test() else { return };
    for end in [Signal::INT, Signal::TERM, Signal::HUP] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = running(&folder, &parts);
        signal(&child, end);
        let mut rest = String::new();
        child.stdout.as_mut().unwrap().read_to_string(&mut rest).unwrap();
        assert!(child.wait().unwrap().success(), "{rest}");
        nobody_is_left(&folder);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "it left files behind");
    }
}

#[test]
fn a_killed_demo_leaves_no_process_behind() {
    let Some(parts) = Parts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut child = running(&folder, &parts);
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    nobody_is_left(&folder);
}

#[test]
fn a_part_that_is_named_and_not_there_is_said_and_is_no_success() {
    let Some(parts) = Parts::for_test() else { return };
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no-such-portcullis");
    let output =
        demo(&folder, &parts, &["--check"]).env("PORTCULLIS_BIN", &missing).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("no-such-portcullis"), "{text}");
}
