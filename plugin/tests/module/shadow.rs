//! Rules in shadow: the request passes, and what they would have done stands in the access log.

use crate::{
    host::{Guest, Request},
    support::{FILE, call, certificate_of, gate, guest, snapshot},
};
use serde_json::{Value, json};

fn shadow_guest(entries: &[Value]) -> Guest {
    let mut guest = Guest::start(&gate());
    guest.publish(FILE, snapshot(entries, 1));
    guest
}

#[test]
fn a_request_that_a_shadow_would_deny_passes_and_says_so() {
    let mut guest = shadow_guest(&[json!({"Kind": "service-intentions", "Name": "db", "Mode": "shadow", "Sources": [
        {"Name": "web", "Action": "allow"}, {"Name": "bad", "Action": "deny"}]})]);
    let answer = guest.request(call("bad"));
    assert!(answer.forwarded);
    let stamps: Vec<_> = answer.calls.iter().filter(|call| call.starts_with("set ")).collect();
    assert_eq!(
        stamps,
        [
            "set X-Portcullis-Source: bad",
            "set X-Portcullis-Decision: allow",
            "set X-Portcullis-Rule: default",
            "set X-Portcullis-Shadow: service-intentions/db/sources/bad"
        ]
    );
    assert_eq!(guest.request(call("stranger")).request.header("x-portcullis-shadow").as_deref(), Some("default"));
    // Nothing to say where the shadow agrees.
    let answer = guest.request(call("web"));
    assert_eq!((answer.forwarded, answer.request.header("x-portcullis-shadow")), (true, None));
    // Nor does it reach beyond its destination.
    let other = Request::new("GET", "/").with("x-forwarded-tls-client-cert", certificate_of("bad"));
    assert!(!guest.request(other.with("x-portcullis-destination", "other")).forwarded);
}

#[test]
fn a_refusal_that_a_shadow_would_lift_says_so_as_well() {
    let mut guest = shadow_guest(&[json!({"Kind": "service-intentions", "Name": "db", "Sources": [
        {"Name": "web", "Action": "allow", "Mode": "shadow"}, {"Name": "*", "Action": "deny"}]})]);
    let answer = guest.request(call("web"));
    assert_eq!(answer.verdict(), ("deny".to_owned(), "service-intentions/db/sources/*".to_owned(), 403));
    assert_eq!(answer.request.header("x-portcullis-shadow").as_deref(), Some("service-intentions/db/sources/web"));
}

#[test]
fn a_client_cannot_say_it() {
    let answer = guest().request(call("web").with("x-portcullis-shadow", "x").with("x_portcullis_shadow", "x"));
    assert!(answer.forwarded);
    assert!(!answer.request.headers.keys().any(|name| name.contains("shadow")));
}
