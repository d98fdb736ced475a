//! The snapshot file over the life of an instance: absent, there, replaced, broken, unreadable.

use crate::{
    host::{Guest, Request},
    support::{FILE, call, gate, guest, policy, snapshot, warm_guest},
};

const RELOAD_MS: u64 = 200;

fn deny_all(generation: u64) -> Vec<u8> {
    snapshot(&[], generation)
}

fn opens(calls: &[String]) -> usize {
    calls.iter().filter(|call| call.starts_with("open ")).count()
}

#[test]
fn without_a_snapshot_every_request_is_denied_with_the_reason() {
    let mut guest = Guest::start(&gate());
    let answer = guest.request(call("web"));
    answer.expect_calls(&[
        "get_config",
        "get_method",
        "get_uri",
        "get_header_names",
        "get_header_values x-portcullis-destination",
        "get_header_values x-forwarded-tls-client-cert",
        "remove x-forwarded-tls-client-cert",
        "clock",
        "prestat 3",
        "prestat name 3",
        "prestat 4",
        "fdstat 3",
        "open policy.snapshot",
        "log warn no policy from /policy/policy.snapshot: it cannot be opened: entity not found; every request is denied",
        "set X-Portcullis-Source: unverified",
        "set X-Portcullis-Decision: deny",
        "set X-Portcullis-Rule: snapshot",
        "set X-Portcullis-Reason: there is no policy: it cannot be opened: entity not found",
        "reply Content-Type: application/problem+json",
        "reply Cache-Control: no-store",
        "reply Content-Length: 115",
        "reply Retry-After: 1",
        "set_status_code 503",
        "write_body",
        "log info denied: GET /v1/x destination=db source=unverified rule=snapshot \
         reason=\"there is no policy: it cannot be opened: entity not found\"",
    ]);
}

#[test]
fn a_snapshot_that_appears_is_in_force_within_milliseconds() {
    let mut guest = Guest::start(&gate());
    assert_eq!(guest.request(call("web")).reply.status, 503);
    guest.publish(FILE, snapshot(&policy(), 1));
    // Not each of a flood of requests looks.
    let soon = guest.request(call("web"));
    assert_eq!((soon.reply.status, opens(&soon.calls)), (503, 0));
    guest.world().now_ms += 20;
    assert!(guest.request(call("web")).forwarded);
}

#[test]
fn a_new_generation_is_taken_and_the_old_file_closed() {
    let mut guest = warm_guest();
    guest.publish(FILE, deny_all(2));
    guest.world().now_ms += RELOAD_MS;
    let answer = guest.request(call("web"));
    answer.expect_calls(&[
        "get_method",
        "get_uri",
        "get_header_names",
        "get_header_values x-portcullis-destination",
        "get_header_values x-forwarded-tls-client-cert",
        "remove x-forwarded-tls-client-cert",
        "clock",
        "fdstat 3",
        "open policy.snapshot",
        "pread",
        "pread",
        "pread",
        "close",
        "log debug policy generation 2 read from /policy/policy.snapshot",
        "set X-Portcullis-Source: web",
        "set X-Portcullis-Decision: deny",
        "set X-Portcullis-Rule: default",
        "set X-Portcullis-Reason: no intention applies, and the default is deny",
        "reply Content-Type: application/problem+json",
        "reply Cache-Control: no-store",
        "reply Content-Length: 93",
        "set_status_code 403",
        "write_body",
        "log info denied: GET /v1/x destination=db source=web rule=default \
         reason=\"no intention applies, and the default is deny\"",
    ]);
    assert_eq!(guest.world().open.len(), 1);
}

#[test]
fn an_earlier_generation_is_taken_as_well() {
    let mut guest = warm_guest();
    guest.publish(FILE, deny_all(0));
    guest.world().now_ms += RELOAD_MS;
    assert!(!guest.request(call("web")).forwarded);
}

#[test]
fn the_file_is_looked_at_once_in_an_interval() {
    let mut guest = warm_guest();
    guest.publish(FILE, deny_all(2));
    guest.world().now_ms += RELOAD_MS - 1;
    let answer = guest.request(call("web"));
    assert!(answer.forwarded && opens(&answer.calls) == 0);
    guest.world().now_ms += 1;
    assert!(!guest.request(call("web")).forwarded);
    assert_eq!(opens(&guest.request(call("web")).calls), 0);
}

#[test]
fn a_look_at_an_unchanged_file_reads_its_header_and_closes_it() {
    let mut guest = warm_guest();
    guest.world().now_ms += RELOAD_MS;
    let answer = guest.request(call("web"));
    assert_eq!(answer.calls[7..11], ["fdstat 3", "open policy.snapshot", "pread", "close"]);
    assert_eq!(guest.world().open.len(), 1);
}

#[test]
fn a_clock_that_jumps_back_does_not_stop_the_looks() {
    let mut guest = warm_guest();
    guest.publish(FILE, deny_all(2));
    guest.world().now_ms -= 3_600_000;
    assert!(!guest.request(call("web")).forwarded);
}

#[test]
fn the_last_good_policy_stays_in_force_when_the_file_goes_bad() {
    let corrupt = {
        let mut bytes = snapshot(&policy(), 2);
        bytes[20] ^= 1;
        bytes
    };
    for bad in [corrupt, Vec::new(), b"not a snapshot".to_vec(), snapshot(&policy(), 3)[..400].to_vec()] {
        let mut guest = warm_guest();
        guest.publish(FILE, bad);
        guest.world().now_ms += RELOAD_MS;
        let answer = guest.request(call("web"));
        assert!(answer.forwarded);
        let [line] = answer.logged()[..] else { panic!("{:?}", answer.logged()) };
        assert!(line.starts_with("warn no policy from /policy/policy.snapshot: "), "{line}");
        assert!(line.ends_with("; generation 1 stays in force"), "{line}");
        // The same failure is said once.
        guest.world().now_ms += RELOAD_MS;
        let again = guest.request(call("web"));
        assert!(again.forwarded && opens(&again.calls) == 1);
        assert_eq!(again.logged(), Vec::<&str>::new());
        assert_eq!(guest.world().open.len(), 1);
        // And a good file is taken at the next look.
        guest.publish(FILE, deny_all(4));
        guest.world().now_ms += RELOAD_MS;
        assert!(!guest.request(call("web")).forwarded);
    }
}

#[test]
fn the_last_good_policy_stays_in_force_when_the_file_is_gone() {
    let mut guest = warm_guest();
    guest.world().files.clear();
    guest.world().now_ms += RELOAD_MS;
    assert!(guest.request(call("web")).forwarded);
    assert!(!guest.request(call("bad")).forwarded);
}

#[test]
fn an_instance_that_slept_does_not_fall_back_to_what_it_knew() {
    // Meanwhile others may have seen a generation that allows less.
    let mut guest = warm_guest();
    guest.publish(FILE, b"garbage".to_vec());
    guest.world().now_ms += 60_000;
    let answer = guest.request(call("web"));
    assert_eq!(answer.verdict(), ("deny".to_owned(), "snapshot".to_owned(), 503));
    assert!(answer.logged()[0].ends_with("; every request is denied"), "{:?}", answer.logged());
    assert_eq!(guest.world().open.len(), 0);
    guest.publish(FILE, snapshot(&policy(), 2));
    guest.world().now_ms += 20;
    assert!(guest.request(call("web")).forwarded);
}

#[test]
fn an_instance_that_slept_goes_on_when_the_file_is_as_it_was() {
    let mut guest = warm_guest();
    guest.world().now_ms += 86_400_000;
    assert!(guest.request(call("web")).forwarded);
}

#[test]
fn no_flipped_byte_lets_a_stranger_pass() {
    let good = snapshot(&policy(), 1);
    let (stranger, friend) = (call("stranger"), call("web"));
    let mut refused = 0;
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        let mut guest = Guest::start(&gate());
        guest.publish(FILE, bytes);
        assert!(!guest.request(stranger.clone()).forwarded, "byte {at}");
        let answer = guest.request(friend.clone());
        refused += u32::from(!answer.forwarded);
        assert!(answer.forwarded || answer.reply.status == 503, "byte {at}: {:?}", answer.verdict());
    }
    assert!(refused > 300, "only {refused} flips were noticed at all");
}

#[test]
fn short_reads_are_completed() {
    let mut guest = guest();
    guest.world().read_limit = 7;
    assert!(guest.request(call("web")).forwarded);
}

#[test]
fn a_failed_read_denies_and_the_file_is_opened_anew_soon_after() {
    let mut guest = warm_guest();
    guest.world().reads_fail = true;
    // What was read is remembered; what was not cannot be read.
    assert!(guest.request(call("web")).forwarded);
    let answer = guest.request(call("reader"));
    assert_eq!(answer.verdict(), ("deny".to_owned(), "snapshot".to_owned(), 503));
    guest.world().reads_fail = false;
    guest.world().now_ms += 20;
    let answer = guest.request(call("web"));
    assert!(answer.forwarded);
    assert!(answer.calls.contains(&"open policy.snapshot".to_owned()));
    assert_eq!(guest.world().open.len(), 1);
}

#[test]
fn a_snapshot_of_many_destinations_costs_no_more_reads() {
    let many: Vec<_> = (0..2000)
        .map(|n| {
            serde_json::json!({"Kind": "service-intentions", "Name": format!("s{n}"),
            "Sources": [{"Name": "web", "Action": "allow"}]})
        })
        .collect();
    let mut guest = Guest::start(&gate());
    guest.publish(FILE, snapshot(&many, 1));
    let to = |service: &str| {
        Request {
            headers: call("web").headers.into_iter().filter(|(name, _)| name != "x-portcullis-destination").collect(),
            ..call("web")
        }
        .with("x-portcullis-destination", service)
    };
    let answer = guest.request(to("s1999"));
    assert!(answer.forwarded);
    let reads = answer.calls.iter().filter(|call| *call == "pread").count();
    assert!(reads <= 2 + 2 * 3, "{reads} reads");
}
