//! `portcullis run` on a directory: follows changes, keeps the last good policy, and stops when told.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use portcullis_policy::{Certified, Request, Snapshot, Verdict, decide};

/// A running sidecar on a directory of its own.
struct Sidecar {
    child: Child,
    directory: tempfile::TempDir,
}

const ALLOW: &str = "Kind: service-intentions\nName: db\nSources: [{Name: web, Action: allow}]\n";

impl Sidecar {
    fn start(policy: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["kubernetes", "policy"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        fs::write(directory.path().join("policy/db.yaml"), policy).unwrap();
        let config = "manifests: kubernetes\npolicy: {directory: policy, trustDomains: [td.consul]}\nsnapshot: {file: run/policy.snapshot}\ngate: {file: run/gate.yml}\n";
        fs::write(directory.path().join("portcullis.yaml"), config).unwrap();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["run", "-c"])
            .arg(directory.path().join("portcullis.yaml"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// What the snapshot in force says about web calling db; `None` while there is none.
    fn verdict(&self) -> Option<Verdict> {
        verdict(&self.path("run/policy.snapshot"))
    }

    fn wait_for(&self, what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(10), "waited for {what}; log:\n{}", self.log());
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // The child may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn verdict(path: &Path) -> Option<Verdict> {
    let snapshot = Snapshot::open(fs::read(path).ok()?).ok()?;
    let certificate = Certified::Spiffe("spiffe://td.consul/ns/default/dc/d/svc/web");
    Some(decide(&snapshot, &Request { destination: "db", certificate, ..Request::default() }).verdict)
}

#[test]
fn follows_edits_and_keeps_the_last_good_policy_while_a_file_is_broken() {
    let sidecar = Sidecar::start(ALLOW);
    sidecar.wait_for("the first snapshot", || sidecar.verdict() == Some(Verdict::Allow));

    fs::write(sidecar.path("policy/db.yaml"), ALLOW.replace("allow", "deny")).unwrap();
    sidecar.wait_for("the edit", || sidecar.verdict() == Some(Verdict::Deny));

    fs::write(sidecar.path("policy/db.yaml"), "Kind: [").unwrap();
    sidecar.wait_for("the complaint", || sidecar.log().contains("the last good policy stays in force"));
    assert_eq!(sidecar.verdict(), Some(Verdict::Deny));

    fs::write(sidecar.path("policy/db.yaml"), ALLOW).unwrap();
    sidecar.wait_for("the mend", || sidecar.verdict() == Some(Verdict::Allow));

    fs::remove_file(sidecar.path("policy/db.yaml")).unwrap();
    sidecar.wait_for("the removal", || sidecar.verdict() == Some(Verdict::Deny));
}

#[test]
fn follows_a_directory_that_is_replaced_as_a_whole() {
    let sidecar = Sidecar::start(ALLOW);
    sidecar.wait_for("the first snapshot", || sidecar.verdict() == Some(Verdict::Allow));
    for verdict in [Verdict::Deny, Verdict::Allow] {
        fs::rename(sidecar.path("policy"), sidecar.path(&format!("old-{}", verdict.as_str()))).unwrap();
        fs::create_dir(sidecar.path("policy")).unwrap();
        fs::write(sidecar.path("policy/db.yaml"), ALLOW.replace("allow", verdict.as_str())).unwrap();
        let start = Instant::now();
        sidecar.wait_for("the replacement", || sidecar.verdict() == Some(verdict));
        assert!(start.elapsed() < Duration::from_secs(5), "found by the periodic pass only");
    }
}

#[test]
fn writes_nothing_while_nothing_changes() {
    let sidecar = Sidecar::start(ALLOW);
    sidecar.wait_for("the first snapshot", || sidecar.verdict().is_some() && sidecar.path("run/gate.yml").exists());
    let written = |name: &str| fs::metadata(sidecar.path(name)).unwrap().modified().unwrap();
    let before = (written("run/policy.snapshot"), written("run/gate.yml"));
    // A touched file is an event without a change.
    for _ in 0..5 {
        fs::write(sidecar.path("policy/db.yaml"), ALLOW).unwrap();
        sleep(Duration::from_millis(100));
    }
    assert_eq!((written("run/policy.snapshot"), written("run/gate.yml")), before);
}

#[test]
fn a_policy_that_is_fatal_at_the_start_publishes_nothing() {
    let sidecar = Sidecar::start("Kind: service-intention\nName: db\n");
    sidecar.wait_for("the complaint", || sidecar.log().contains("unknown Kind"));
    assert_eq!(sidecar.verdict(), None);
    fs::write(sidecar.path("policy/db.yaml"), ALLOW).unwrap();
    sidecar.wait_for("the mend", || sidecar.verdict() == Some(Verdict::Allow));
}
