//! Limits that cannot be counted: refused or let pass as the limit says, reported once, never in silence.

use crate::{
    host::{Guest, StateFolder},
    limits::{limited, limited_by, rate},
    support::call,
};
use serde_json::json;

const REFUSED: &str = "such requests are refused (503)";
const PASSED: &str = "such requests pass uncounted";

fn folder(edit: fn(&StateFolder)) -> Option<StateFolder> {
    let folder = StateFolder::default();
    edit(&folder);
    Some(folder)
}

/// Every way in which a folder cannot be used, and what is said about it.
fn broken() -> Vec<(Option<StateFolder>, &'static str)> {
    vec![
        (None, "no `state` folder is set"),
        (folder(|it| it.lock().read_only = true), "mount it without `:ro`"),
        (folder(|it| it.lock().room = Some(0)), "there is no room"),
        (folder(|it| it.lock().room = Some(17)), "there is no room"),
        (folder(|it| it.put("limits", Vec::new())), "the state directory "),
    ]
}

fn guest(folder: Option<&StateFolder>, on_unavailable: &str) -> Guest {
    let entry = json!({"Kind": "rate-limits", "Name": "db", "Limits": [rate()], "OnUnavailable": on_unavailable});
    limited_by(entry, folder, &[])
}

fn warnings<'a>(logged: &[&'a str]) -> Vec<&'a str> {
    logged.iter().copied().filter(|line| line.starts_with("warn")).collect()
}

#[test]
fn where_units_cannot_be_counted_requests_are_refused_unless_the_limit_says_otherwise() {
    for (folder, why) in broken() {
        for (on_unavailable, verdict, becomes) in [
            ("deny", ("deny", "rate-limits/db/per-caller", 503), REFUSED),
            ("allow", ("allow", "service-intentions/db/sources/web", 200), PASSED),
        ] {
            let mut guest = guest(folder.as_ref(), on_unavailable);
            for n in 0..8 {
                let answer = guest.request(call("web"));
                let (decision, rule, status) = answer.verdict();
                assert_eq!((decision.as_str(), rule.as_str(), status), verdict, "{why}");
                assert!(answer.reply.headers.iter().all(|(name, _)| !name.starts_with("RateLimit")), "{why}");
                let warnings = warnings(&answer.logged());
                if n == 0 {
                    assert!(
                        matches!(warnings[..], [line] if line.contains(why) && line.ends_with(becomes)),
                        "{warnings:?}"
                    );
                } else {
                    assert_eq!(answer.logged(), Vec::<&str>::new(), "{why}");
                }
            }
        }
    }
}

#[test]
fn a_folder_that_was_not_mounted_is_said_to_be_missing() {
    // Named in the configuration, and not there.
    let mut guest = limited(&json!([rate()]), None, &[("state", "/state")]);
    let answer = guest.request(call("web"));
    assert_eq!(answer.verdict(), ("deny".to_owned(), "rate-limits/db/per-caller".to_owned(), 503));
    assert!(
        answer.logged().iter().any(|line| line.contains("the state directory is not there")),
        "{:?}",
        answer.logged()
    );
}

#[test]
fn a_disk_that_fills_up_and_empties_never_admits_more_than_the_bucket() {
    let folder = StateFolder::default();
    let mut guest = limited(&json!([rate()]), Some(&folder), &[]);
    let mut admitted = 0;
    for room in [None, Some(17), Some(0), None, Some(63), None, None, None, None, None, None] {
        folder.lock().room = room;
        let answer = guest.request(call("web"));
        assert!(room.is_none() || !answer.forwarded, "{room:?}");
        admitted += usize::from(answer.forwarded);
    }
    assert!((4..=5).contains(&admitted), "{admitted}");
    // Torn and foreign bytes are skipped by those who come later as well.
    let mut new = limited(&json!([rate()]), Some(&folder), &[]);
    assert_eq!((0..10).filter(|_| new.request(call("web")).forwarded).count(), 5 - admitted);
}

#[test]
fn reads_that_fail_refuse_and_what_was_counted_stands() {
    let folder = StateFolder::default();
    let mut guest = limited(&json!([rate()]), Some(&folder), &[]);
    assert!(guest.request(call("web")).forwarded);
    folder.lock().reads_fail = true;
    assert_eq!(guest.request(call("web")).verdict().2, 503);
    folder.lock().reads_fail = false;
    assert_eq!((0..10).filter(|_| guest.request(call("web")).forwarded).count(), 4);
}

#[test]
fn foreign_bytes_in_a_log_are_no_units() {
    let folder = StateFolder::default();
    let mut guest = limited(&json!([rate()]), Some(&folder), &[]);
    assert!(guest.request(call("web")).forwarded);
    let log = folder.logs()[0].clone();
    let good = folder.bytes(&log);
    for foreign in [&b"x"[..], &[0; 64], &[0xff; 100], &good] {
        folder.put(&log, [&folder.bytes(&log), foreign].concat());
    }
    // Of the copies of a charge that lie elsewhere, none is more than a charge.
    let rest = (0..10).filter(|_| guest.request(call("web")).forwarded).count();
    assert!(rest <= 4, "{rest}");
}
