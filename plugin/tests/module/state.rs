//! What instances share on the state mount, and what happens when they cannot.

use crate::{
    host::{Answer, Guest, Request, STATE_MOUNT, StateFolder},
    support::{Authority, FILE, gate, policy, snapshot, to_db},
};
use serde_json::Value;

const VERIFIED: &str = "verified";

/// A gate that verifies chains itself, with this authority's root in its policy.
fn guest(authority: &Authority, folder: Option<&StateFolder>) -> Guest {
    let mut config = gate();
    config["state"] = STATE_MOUNT.into();
    config["clientCertificate"] = "verify".into();
    let mut guest = Guest::start(&config);
    if let Some(folder) = folder {
        guest.mount_state(folder);
    }
    guest.publish(FILE, snapshot(&trusting(authority), 1));
    guest
}

fn trusting(authority: &Authority) -> Vec<Value> {
    policy().into_iter().chain([authority.roots()]).collect()
}

fn call(header: &str) -> Request {
    to_db().with("x-forwarded-tls-client-cert", header)
}

/// Reads and writes of the state folder's file.
fn uses(answer: &Answer) -> (usize, usize) {
    let count = |what: &str| answer.calls.iter().filter(|made| made.starts_with(what)).count();
    (count("pread state"), count("pwrite state"))
}

#[test]
fn what_one_instance_verified_the_next_takes_from_the_folder() {
    let (authority, folder) = (Authority::new(), StateFolder::default());
    let web = call(&authority.certify("web"));
    let mut one = guest(&authority, Some(&folder));
    let answer = one.request(web.clone());
    assert_eq!((answer.forwarded, uses(&answer)), (true, (2, 1)), "asked, verified, written");
    let answer = one.request(web.clone());
    assert_eq!((answer.forwarded, uses(&answer)), (true, (0, 0)), "it knows that itself");
    let answer = guest(&authority, Some(&folder)).request(web);
    assert_eq!((answer.forwarded, uses(&answer)), (true, (1, 0)), "taken from the folder");
    let bytes = folder.bytes(VERIFIED);
    assert_eq!(bytes.len() % 48, 0);
    assert!(bytes.len() <= 786_432);
}

#[test]
fn a_chain_that_does_not_hold_is_refused_every_time_and_never_written() {
    let (authority, stranger, folder) = (Authority::new(), Authority::new(), StateFolder::default());
    let forged = call(&stranger.certify("web"));
    let mut one = guest(&authority, Some(&folder));
    for _ in 0..2 {
        let answer = one.request(forged.clone());
        assert_eq!(answer.verdict(), ("deny".to_owned(), "credential".to_owned(), 401));
        assert_eq!(answer.request.header("x-portcullis-source").as_deref(), Some("unverified"));
        assert_eq!(uses(&answer).1, 0);
    }
    assert!(folder.bytes(VERIFIED).is_empty());
    assert!(one.request(call(&authority.certify("web"))).forwarded);
}

#[test]
fn a_root_that_is_withdrawn_takes_what_was_verified_with_it() {
    let (old, new, folder) = (Authority::new(), Authority::new(), StateFolder::default());
    let web = call(&old.certify("web"));
    let mut one = guest(&old, Some(&folder));
    assert!(one.request(web.clone()).forwarded);
    one.publish(FILE, snapshot(&trusting(&new), 2));
    one.world().now_ms += 1000;
    assert_eq!(one.request(web.clone()).verdict().2, 401);
    assert_eq!(guest(&new, Some(&folder)).request(web).verdict().2, 401);
}

#[test]
fn foreign_bytes_in_the_file_cost_a_verification() {
    let (authority, folder) = (Authority::new(), StateFolder::default());
    let (web, forged) = (call(&authority.certify("web")), call(&Authority::new().certify("web")));
    assert!(guest(&authority, Some(&folder)).request(web.clone()).forwarded);
    let good = folder.bytes(VERIFIED);
    let cut = good[..good.len() - 7].to_vec();
    let flipped: Vec<_> = good.iter().map(|byte| byte ^ 1).collect();
    for foreign in [vec![], vec![0; 1 << 20], vec![0xFF; 1 << 20], cut, flipped] {
        folder.overwrite(VERIFIED, foreign);
        assert!(!guest(&authority, Some(&folder)).request(forged.clone()).forwarded);
        let answer = guest(&authority, Some(&folder)).request(web.clone());
        assert_eq!((answer.forwarded, uses(&answer)), (true, (2, 1)));
        let answer = guest(&authority, Some(&folder)).request(web.clone());
        assert_eq!((answer.forwarded, uses(&answer)), (true, (1, 0)), "mended");
    }
}

#[test]
fn a_folder_that_cannot_be_used_denies_nobody_and_is_one_line_in_the_log() {
    let authority = Authority::new();
    let (web, forged) = (call(&authority.certify("web")), call(&Authority::new().certify("web")));
    let folder = |edit: fn(&StateFolder)| {
        let folder = StateFolder::default();
        edit(&folder);
        Some(folder)
    };
    for (folder, why) in [
        (None, "cannot be read: entity not found"),
        (folder(|it| it.lock().read_only = true), "cannot be read: read-only filesystem"),
        (folder(|it| it.lock().reads_fail = true), "cannot be read: "),
        (folder(|it| it.lock().room = Some(0)), "cannot be written: no storage space"),
        (folder(|it| it.lock().room = Some(17)), "cannot be written: write zero"),
    ] {
        let mut guest = guest(&authority, folder.as_ref());
        let first = guest.request(web.clone());
        assert!(first.forwarded);
        let lines: Vec<_> = first.logged().into_iter().filter(|line| line.starts_with("warn")).collect();
        assert!(matches!(lines[..], [line] if line.contains(why)), "{why}: {lines:?}");
        for _ in 0..2 {
            let answer = guest.request(web.clone());
            assert_eq!((answer.forwarded, answer.logged().len(), uses(&answer)), (true, 0, (0, 0)), "{why}");
        }
        assert!(!guest.request(forged.clone()).forwarded);
        guest.world().now_ms += 60_000;
        let later = guest.request(call(&authority.certify("web")));
        assert!(later.forwarded);
        assert!(!later.logged().iter().any(|line| line.starts_with("warn")), "{:?}", later.logged());
    }
}

#[test]
fn without_anything_to_verify_the_folder_is_not_touched() {
    let folder = StateFolder::default();
    let mut config = gate();
    config["state"] = STATE_MOUNT.into();
    let mut guest = Guest::start(&config);
    guest.mount_state(&folder);
    guest.publish(FILE, snapshot(&policy(), 1));
    let answer = guest.request(crate::support::call("web"));
    assert_eq!((answer.forwarded, uses(&answer)), (true, (0, 0)));
    assert!(folder.lock().files.is_empty());
}
