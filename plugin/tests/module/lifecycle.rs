//! The instance as the host handles it: started, used, trapped, used again.

use crate::{
    host::{Guest, module},
    support::{FILE, call, gate, guest, policy, snapshot, warm_guest},
};

#[test]
fn the_module_exports_what_the_host_calls_and_nothing_else() {
    let mut exports: Vec<_> = module().exports().map(|export| export.name().to_owned()).collect();
    // A standard library built from source brings wasi-libc's own start file.
    exports.retain(|name| name != "_initialize");
    exports.sort();
    // Without `_start` nothing would be registered, and the binding lets every request pass then.
    assert_eq!(exports, ["_start", "handle_request", "handle_response", "memory"]);
}

#[test]
fn the_start_function_asks_the_host_for_nothing() {
    let mut guest = Guest::start_with("not even json");
    assert_eq!(guest.world().calls, Vec::<String>::new());
}

#[test]
fn a_started_instance_denies_before_it_has_seen_any_policy() {
    for config in ["", "{}", "null", "[]", "{\"snapshot\":\"/policy/policy.snapshot\"}"] {
        let mut guest = Guest::start_with(config);
        let answer = guest.request(call("web"));
        assert_eq!((answer.forwarded, answer.reply.status), (false, 503), "{config}");
    }
}

#[test]
fn a_response_is_left_alone() {
    let mut guest = warm_guest();
    assert_eq!(guest.response(false).unwrap(), Vec::<String>::new());
}

#[test]
fn a_response_that_broke_off_is_aborted_and_the_instance_goes_on() {
    let mut guest = warm_guest();
    assert!(guest.response(true).is_err());
    let answer = guest.request(call("web"));
    assert!(answer.forwarded);
    assert!(!answer.calls.contains(&"get_config".to_owned()), "the instance kept what it knew");
}

#[test]
fn an_instance_that_trapped_starts_afresh_and_still_denies() {
    let mut guest = warm_guest();
    guest.world().clock_traps = true;
    assert!(guest.try_request(call("web")).is_err());
    guest.world().clock_traps = false;
    let answer = guest.request(call("web"));
    assert!(answer.forwarded);
    assert!(answer.calls.contains(&"get_config".to_owned()));
    assert!(!guest.request(call("bad")).forwarded);
}

#[test]
fn instances_share_nothing() {
    let mut one = guest();
    assert!(one.request(call("web")).forwarded);
    let mut other = Guest::start(&gate());
    assert_eq!(other.request(call("web")).reply.status, 503);
    other.publish(FILE, snapshot(&policy(), 7));
    other.world().now_ms += 20;
    assert!(other.request(call("web")).forwarded);
}
