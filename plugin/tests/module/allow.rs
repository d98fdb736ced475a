//! What a request that may pass costs, call by call.

use crate::{
    host::Request,
    support::{KEY, call, certificate_of, guest, guest_with, to_db, warm_guest},
};
use serde_json::json;

#[test]
fn the_first_request_of_an_instance_reads_configuration_and_snapshot() {
    let answer = guest().request(call("web"));
    assert!(answer.forwarded);
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
        "pread",
        "pread",
        "log debug policy generation 1 read from /policy/policy.snapshot",
        "pread",
        "pread",
        "set X-Portcullis-Source: web",
        "set X-Portcullis-Decision: allow",
        "set X-Portcullis-Rule: service-intentions/db/sources/web",
    ]);
}

#[test]
fn a_later_request_makes_ten_host_calls_and_reads_no_file() {
    let answer = warm_guest().request(call("web"));
    assert!(answer.forwarded);
    answer.expect_calls(&[
        "get_method",
        "get_uri",
        "get_header_names",
        "get_header_values x-portcullis-destination",
        "get_header_values x-forwarded-tls-client-cert",
        "remove x-forwarded-tls-client-cert",
        "clock",
        "set X-Portcullis-Source: web",
        "set X-Portcullis-Decision: allow",
        "set X-Portcullis-Rule: service-intentions/db/sources/web",
    ]);
}

#[test]
fn the_backend_gets_the_certificate_only_when_that_is_wanted() {
    const HEADER: &str = "x-forwarded-tls-client-cert";
    assert_eq!(warm_guest().request(call("web")).request.header(HEADER), None);
    let mut guest =
        guest_with(&json!({"snapshot": "/policy/policy.snapshot", "clientCertificate": "verifiedByTraefik",
        "forwardCertificate": true}));
    assert!(guest.request(call("web")).request.header(HEADER).is_some());
}

#[test]
fn an_allowed_caller_with_a_key_passes_and_the_key_does_not() {
    let answer = warm_guest().request(to_db().with("x-api-key", KEY));
    assert!(answer.forwarded);
    assert_eq!(answer.request.header("x-api-key"), None);
    assert_eq!(answer.request.header("x-portcullis-source").as_deref(), Some("partner"));
    assert_eq!(
        answer.calls[3..6],
        ["get_header_values x-api-key", "remove x-api-key", "get_header_values x-portcullis-destination"]
    );
}

#[test]
fn the_method_and_the_path_are_decided_on() {
    let mut guest = warm_guest();
    let as_reader = |method: &str, uri: &str| {
        Request::new(method, uri)
            .with("x-portcullis-destination", "db")
            .with("x-forwarded-tls-client-cert", certificate_of("reader"))
    };
    assert!(guest.request(as_reader("GET", "/v1/users?x=1")).forwarded);
    for (method, uri, status) in [
        ("POST", "/v1/users", 403),
        ("GET", "/v2/users", 403),
        ("GET", "/v1/%2e%2e/admin", 400),
        ("GET", "/v1/a%2Fb", 400),
    ] {
        assert_eq!(guest.request(as_reader(method, uri)).reply.status, status, "{method} {uri}");
    }
}

#[test]
fn a_fixed_destination_needs_no_header_and_is_stamped() {
    let mut guest = guest_with(&json!({"snapshot": "/policy/policy.snapshot", "destination": "db",
        "clientCertificate": "verifiedByTraefik"}));
    let request = Request::new("GET", "/").with("x-forwarded-tls-client-cert", certificate_of("web"));
    let answer = guest.request(request);
    assert!(answer.forwarded);
    assert_eq!(answer.request.header("x-portcullis-destination").as_deref(), Some("db"));
}

#[test]
fn requests_leave_the_memory_as_it_is() {
    let mut guest = warm_guest();
    let callers: Vec<_> = (0..20).map(|n| call(&format!("web{n}"))).chain([call("web")]).collect();
    let round = |guest: &mut crate::host::Guest| callers.iter().for_each(|caller| drop(guest.request(caller.clone())));
    for _ in 0..20 {
        round(&mut guest);
    }
    let before = guest.memory_bytes();
    assert!(before <= 1 << 20, "an instance takes {before} bytes");
    for _ in 0..100 {
        round(&mut guest);
    }
    assert_eq!(guest.memory_bytes(), before);
}
