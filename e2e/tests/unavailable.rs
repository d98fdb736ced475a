//! What happens when units cannot be counted: the state folder is missing, read-only or full.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_e2e::limits::stand::{Setup, Stand, everybody, guard, host};
use portcullis_e2e::parts::Parts;
use portcullis_e2e::report::say;
use serde_json::json;

/// A folder that is a file system of its own, this large.
struct Small(tempfile::TempDir);

impl Small {
    /// None where nothing may be mounted.
    fn new(options: &str) -> Option<Small> {
        let folder = tempfile::tempdir().ok()?;
        mount(&["-t", "tmpfs", "-o", options, "none"], folder.path()).then_some(Small(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // What stays mounted is found by whoever looks for it; nothing else can be done.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn mount(arguments: &[&str], place: &Path) -> bool {
    let mut command = Command::new("mount");
    command.args(arguments).arg(place).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Writes until nothing fits any more.
fn fill(folder: &Path) {
    let mut size = 1 << 16;
    let mut number = 0;
    while size > 0 {
        number += 1;
        if fs::write(folder.join(format!("filler-{number}")), vec![1; size]).is_err() {
            size /= 2;
        }
    }
}

async fn status(stand: &Stand, name: &str) -> u16 {
    let web = stand.caller("web").unwrap();
    let headers: Vec<(&str, &str)> = web.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    stand.client().get(&host(name), "/v1/small", &headers).await.unwrap().status
}

/// What the state folder has become, and how it is put right again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Missing,
    ReadOnly,
    Full,
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_cannot_be_counted_are_refused_or_let_through_as_the_policy_says() {
    let Some(parts) = Parts::for_test() else { return };
    for trouble in [Trouble::Missing, Trouble::ReadOnly, Trouble::Full] {
        let Some(small) = Small::new("size=1m,mode=0700") else {
            say("    SKIPPED: nothing may be mounted here");
            return;
        };
        let state = small.path().join("state");
        fs::create_dir(&state).unwrap();
        let limit = json!([{"Name": "calls", "Key": [], "Rate": {"Requests": 1000, "Period": "1s", "Burst": 1000}}]);
        let mut policy = vec![everybody("deny"), json!({"Kind": "rate-limits", "Name": "deny", "Limits": limit})];
        policy.extend([
            everybody("allow"),
            json!({"Kind": "rate-limits", "Name": "allow", "OnUnavailable": "allow", "Limits": limit}),
        ]);
        let hosts = ["deny", "allow"].map(|name| (name.to_owned(), vec![guard(name)]));
        let setup = Setup { policy, hosts: hosts.to_vec(), state: Some(state.clone()), ..Setup::default() };

        let mut stand = Stand::start(&parts, setup).await.unwrap();
        match trouble {
            Trouble::Missing => fs::remove_dir_all(&state).unwrap(),
            Trouble::ReadOnly => assert!(mount(&["-o", "remount,ro"], small.path())),
            Trouble::Full => fill(small.path()),
        }
        let mut seen = Vec::new();
        for name in ["deny", "allow"] {
            for _ in 0..5 {
                seen.push((name, status(&stand, name).await));
            }
        }
        let lines = stand.traefik.log().unwrap();
        let alarms: Vec<String> = lines.iter().map(ToString::to_string).filter(|line| line.contains("limit")).collect();
        say(&format!("    {trouble:?}: {seen:?}; {} alarm lines: {:?}", alarms.len(), alarms.first()));
        for (name, status) in seen {
            assert_eq!(status, if name == "deny" { 503 } else { 200 }, "{trouble:?}: {name}");
        }
        assert!(!alarms.is_empty(), "{trouble:?}: nobody is told: {lines:?}");
        // Instances share nothing that is left, so each says it once.
        assert!(alarms.len() <= 10, "{trouble:?}: {alarms:?}");

        // Mended, it counts again.
        match trouble {
            // An instance that first looked when the folder was not there never sees it (its list of mounts is made then,
            // and one in use is never taken away): as with any mount that is replaced, Traefik has to be restarted.
            Trouble::Missing => {
                fs::create_dir(&state).unwrap();
                stand.crash().await.unwrap();
                stand.traefik.router("deny@file", Duration::from_secs(20)).await.unwrap();
            }
            Trouble::ReadOnly => assert!(mount(&["-o", "remount,rw"], small.path())),
            Trouble::Full => {
                for entry in fs::read_dir(small.path()).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_file() {
                        fs::remove_file(path).unwrap();
                    }
                }
            }
        }
        let deadline = Instant::now() + Duration::from_secs(15);
        while status(&stand, "deny").await != 200 {
            assert!(Instant::now() < deadline, "{trouble:?}: it does not recover");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(state.join("limits").is_dir(), "{trouble:?}");
    }
}
