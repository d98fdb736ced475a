//! Headers that a caller sends in the gate's name.

use crate::{
    host::Request,
    support::{call, guest_with, to_db, warm_guest},
};
use serde_json::json;

/// Spellings that some backend reads as one of ours.
const ALIASES: [&str; 10] = [
    "x-portcullis-source",
    "x_portcullis_source",
    "x.portcullis.source",
    "x-portcullis_source",
    "x!portcullis!rule",
    "x~portcullis-decision",
    "x_portcullis_destination",
    "x-portcullis.destination",
    "x-portcullis-reason",
    "x-portcullis-anything",
];

#[test]
fn forged_decision_headers_are_removed_in_every_spelling() {
    let forged = ALIASES.iter().fold(call("web"), |request, name| request.with(name, "admin"));
    let answer = warm_guest().request(forged);
    assert!(answer.forwarded);
    answer.expect_calls(&[
        "get_method",
        "get_uri",
        "get_header_names",
        "remove x!portcullis!rule",
        "remove x-portcullis-anything",
        "remove x-portcullis-reason",
        "remove x-portcullis-source",
        "remove x-portcullis.destination",
        "remove x-portcullis_source",
        "remove x.portcullis.source",
        "remove x_portcullis_destination",
        "remove x_portcullis_source",
        "remove x~portcullis-decision",
        "get_header_names",
        "get_header_values x-portcullis-destination",
        "get_header_values x-forwarded-tls-client-cert",
        "remove x-forwarded-tls-client-cert",
        "clock",
        "set X-Portcullis-Source: web",
        "set X-Portcullis-Decision: allow",
        "set X-Portcullis-Rule: service-intentions/db/sources/web",
    ]);
    let ours: Vec<_> = answer.request.headers.keys().filter(|name| name.contains("portcullis")).collect();
    assert_eq!(ours, ["x-portcullis-decision", "x-portcullis-destination", "x-portcullis-rule", "x-portcullis-source"]);
}

#[test]
fn a_forged_header_that_cannot_be_removed_is_refused() {
    let mut guest = warm_guest();
    guest.world().removal_fails = true;
    let answer = guest.request(call("web").with("x_portcullis_source", "admin"));
    assert_eq!(answer.verdict(), ("deny".to_owned(), "request".to_owned(), 400));
}

#[test]
fn a_denied_request_shows_no_forged_header_to_the_access_log() {
    let answer = warm_guest().request(call("bad").with("x-portcullis-source", "web").with("x_portcullis_rule", "x"));
    assert_eq!(answer.request.header("x-portcullis-source").as_deref(), Some("bad"));
    assert_eq!(answer.request.header("x_portcullis_rule"), None);
}

#[test]
fn with_a_fixed_destination_the_header_is_a_forgery_too() {
    let mut guest = guest_with(&json!({"snapshot": "/policy/policy.snapshot", "destination": "api",
        "clientCertificate": "verifiedByTraefik"}));
    let answer = guest.request(call("web"));
    assert_eq!(answer.verdict(), ("deny".to_owned(), "default".to_owned(), 403));
    assert_eq!(answer.request.header("x-portcullis-destination").as_deref(), Some("api"));
}

#[test]
fn another_destination_header_is_trusted_in_its_exact_spelling_only() {
    let config = json!({"snapshot": "/policy/policy.snapshot", "destinationHeader": "X-Gate-To",
        "clientCertificate": "verifiedByTraefik"});
    let mut guest = guest_with(&config);
    let certificate = call("web").header("x-forwarded-tls-client-cert").unwrap();
    let request = || Request::new("GET", "/").with("x-forwarded-tls-client-cert", &certificate);
    let answer = guest
        .request(request().with("x-gate-to", "db").with("x_gate_to", "api").with("x-portcullis-destination", "api"));
    assert!(answer.forwarded);
    assert_eq!(answer.request.header("x_gate_to"), None);
    assert_eq!(answer.request.header("x-portcullis-destination").as_deref(), Some("db"));
    let answer = guest.request(request().with("x_gate_to", "db"));
    assert_eq!(answer.verdict(), ("deny".to_owned(), "destination".to_owned(), 403));
}

#[test]
fn an_alias_of_the_certificate_header_is_no_certificate_and_does_not_pass() {
    let certificate = call("web").header("x-forwarded-tls-client-cert").unwrap();
    let answer = warm_guest().request(to_db().with("x_forwarded_tls_client_cert", certificate));
    assert_eq!(answer.verdict(), ("deny".to_owned(), "default".to_owned(), 401));
    assert_eq!(answer.request.header("x_forwarded_tls_client_cert"), None);
}

#[test]
fn a_connection_header_may_not_make_the_proxy_drop_what_the_gate_says() {
    let mut guest = warm_guest();
    for value in [
        "X-Portcullis-Source",
        "keep-alive, x-portcullis-source",
        "close,\tX_Portcullis_Rule ,x",
        "X-Portcullis-Destination",
        "x-forwarded-tls-client-cert",
        "X_Forwarded_Tls_Client_Cert",
    ] {
        let answer = guest.request(call("web").with("connection", "close").with("connection", value));
        assert_eq!(answer.verdict(), ("deny".to_owned(), "request".to_owned(), 400), "{value}");
    }
    for value in ["keep-alive", "Upgrade", "close, X-Foo", "X-Portcullis"] {
        assert!(guest.request(call("web").with("connection", value)).forwarded, "{value}");
    }
}
