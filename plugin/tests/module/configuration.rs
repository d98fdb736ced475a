//! Configurations as Traefik's providers deliver them, good and bad.

use crate::{
    host::Guest,
    support::{FILE, call, gate, guest_with, policy, snapshot},
};
use serde_json::json;

#[test]
fn a_bad_configuration_denies_every_request_and_says_why() {
    let mut guest = guest_with(&json!({"snapshot": "/policy/policy.snapshot", "clientCertificate": "maybe"}));
    let answer = guest.request(call("web").with("x_portcullis_source", "admin"));
    answer.expect_calls(&[
        "get_config",
        "log warn every request is denied: `clientCertificate` must be `off`, `verifiedByTraefik` or `verify`",
        "get_method",
        "get_uri",
        "get_header_names",
        "remove x-portcullis-destination",
        "remove x_portcullis_source",
        "get_header_names",
        "set X-Portcullis-Source: unverified",
        "set X-Portcullis-Decision: deny",
        "set X-Portcullis-Rule: configuration",
        "set X-Portcullis-Reason: `clientCertificate` must be `off`, `verifiedByTraefik` or `verify`",
        "reply Content-Type: application/problem+json",
        "reply Cache-Control: no-store",
        "reply Content-Length: 115",
        "reply Retry-After: 1",
        "set_status_code 503",
        "write_body",
        "log warn denied: GET /v1/x destination=- source=unverified rule=configuration \
         reason=\"`clientCertificate` must be `off`, `verifiedByTraefik` or `verify`\"",
    ]);
    // The configuration is read once; its fault is repeated only in the line of each request.
    let again = guest.request(call("web"));
    assert_eq!((again.reply.status, again.logged().len()), (503, 1));
    assert!(!again.calls.contains(&"get_config".to_owned()));
}

#[test]
fn unknown_keys_are_one_warning_and_change_nothing() {
    let mut config = gate();
    config["mode"] = json!("shadow");
    let mut guest = guest_with(&config);
    let answer = guest.request(call("web"));
    assert!(answer.forwarded);
    assert!(answer.logged().contains(&"warn unknown settings are ignored: mode"));
    assert!(!guest.request(call("bad")).forwarded);
    assert_eq!(guest.request(call("web")).logged(), Vec::<&str>::new());
}

#[test]
fn a_configuration_from_tags_has_strings_only() {
    let mut guest =
        Guest::start(&json!({"snapshot": "/policy/policy.snapshot", "clientcertificate": "verifiedByTraefik",
        "reloadmilliseconds": "1000", "revealrule": "false", "destination": ""}));
    guest.publish(FILE, snapshot(&policy(), 1));
    assert!(guest.request(call("web")).forwarded);
    guest.publish(FILE, snapshot(&[], 2));
    guest.world().now_ms += 999;
    assert!(guest.request(call("web")).forwarded);
    guest.world().now_ms += 1;
    assert!(!guest.request(call("web")).forwarded);
}

#[test]
fn a_header_crowd_larger_than_the_bindings_buffer_is_read_whole() {
    let mut guest = guest_with(&gate());
    let crowded = (0..200).fold(call("web"), |request, n| request.with(&format!("x-padding-number-{n}"), "1"));
    let answer = guest.request(crowded.with("zz_x_portcullis", "1").with("x_portcullis_zz", "1"));
    assert!(answer.forwarded);
    assert_eq!(answer.request.header("x_portcullis_zz"), None);
    assert_eq!(answer.request.header("zz_x_portcullis").as_deref(), Some("1"));
}
