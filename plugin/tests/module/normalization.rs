//! The mesh's request normalization, done to the request and not only thought of.

use crate::{
    host::{Guest, Request},
    support::{FILE, call, certificate_of, gate, snapshot},
};
use serde_json::{Value, json};

/// A guest with these settings in which `web` may call what is below `/v1/`.
fn guest(normalization: &Value) -> Guest {
    let mut guest = Guest::start(&gate());
    let entries = [
        json!({"Kind": "mesh", "HTTP": {"Incoming": {"RequestNormalization": normalization}}}),
        json!({"Kind": "service-intentions", "Name": "db", "Sources": [
            {"Name": "web", "Permissions": [{"Action": "allow", "HTTP": {"PathPrefix": "/v1/"}}]}]}),
    ];
    guest.publish(FILE, snapshot(&entries, 1));
    guest
}

fn web(uri: &str) -> Request {
    Request::new("GET", uri)
        .with("x-portcullis-destination", "db")
        .with("x-forwarded-tls-client-cert", certificate_of("web"))
}

#[test]
fn the_backend_gets_the_path_that_was_decided_on() {
    let mut guest = guest(&json!({}));
    let answer = guest.request(web("/%76%31/%7euser?q=%76"));
    assert!(answer.forwarded, "{:?}", answer.logged());
    assert_eq!(answer.request.uri, "/v1/~user?q=%76");
    assert_eq!(answer.calls.last().map(String::as_str), Some("set_uri /v1/~user?q=%76"));
    // What needs no change gets no call, and what is refused is not changed.
    let answer = guest.request(web("/v1/a%20b?q=%76"));
    assert!(answer.forwarded && !answer.calls.iter().any(|call| call.starts_with("set_uri")));
    let answer = guest.request(web("/%76%32/x"));
    assert!(!answer.forwarded && !answer.calls.iter().any(|call| call.starts_with("set_uri")));
}

#[test]
fn merged_slashes_and_decoded_ones_are_forwarded_as_they_were_read() {
    let mut guest = guest(&json!({"MergeSlashes": true, "PathWithEscapedSlashesAction": "UNESCAPE_AND_FORWARD"}));
    for (uri, forwarded) in [("//v1//x?a=//", "/v1/x?a=//"), ("/v1%2Fx", "/v1/x"), ("/v1/%2fx", "/v1/x")] {
        let answer = guest.request(web(uri));
        assert!(answer.forwarded, "{uri}: {:?}", answer.logged());
        assert_eq!(answer.request.uri, forwarded, "{uri}");
    }
}

#[test]
fn headers_with_underscores_are_dropped_before_anything_is_decided() {
    let mut guest = guest(&json!({"HeadersWithUnderscoresAction": "DROP_HEADER"}));
    assert!(guest.request(web("/v1/x")).forwarded);
    let answer = guest.request(web("/v1/x").with("x_team", "red").with("x-team", "blue").with("_", "1"));
    assert!(answer.forwarded);
    answer.expect_calls(&[
        "get_method",
        "get_uri",
        "get_header_names",
        "get_header_values x-portcullis-destination",
        "get_header_values x-forwarded-tls-client-cert",
        "remove x-forwarded-tls-client-cert",
        "clock",
        "remove _",
        "remove x_team",
        "set X-Portcullis-Source: web",
        "set X-Portcullis-Decision: allow",
        "set X-Portcullis-Rule: service-intentions/db/sources/web/permissions/0",
    ]);
    assert_eq!(answer.request.header("x-team").as_deref(), Some("blue"));
}

#[test]
fn headers_with_underscores_are_refused_where_the_mesh_refuses_them() {
    let mut guest = guest(&json!({"HeadersWithUnderscoresAction": "REJECT_REQUEST"}));
    let answer = guest.request(web("/v1/x").with("x_team", "red"));
    assert_eq!(answer.verdict(), ("deny".to_owned(), "request".to_owned(), 400));
    assert!(guest.request(web("/v1/x")).forwarded);
}

#[test]
fn escaped_slashes_are_redirected_or_refused() {
    let mut guest = guest(&json!({"PathWithEscapedSlashesAction": "UNESCAPE_AND_REDIRECT"}));
    for (uri, location) in
        [("/v1%2Fx?a=%2F", "/v1/x?a=%2F"), ("/v1%2fx", "/v1/x"), ("/evil.example%2f", "/evil.example/")]
    {
        let answer = guest.request(web(uri));
        assert_eq!(answer.verdict(), ("deny".to_owned(), "request".to_owned(), 307), "{uri}");
        let locations: Vec<_> = answer.reply.headers.iter().filter(|(name, _)| name == "Location").collect();
        assert_eq!(locations, [&("Location".to_owned(), location.to_owned())]);
        assert!(!answer.calls.iter().any(|call| call.starts_with("set_uri")));
    }
    // Nobody is sent to another host.
    for uri in
        ["/%2Fevil.example/", "/%2f%2Fevil.example", "/%5Cevil.example%2Fx", "/\\evil.example%2Fx", "/v1%2F..%2Fx"]
    {
        let answer = guest.request(web(uri));
        assert_eq!(answer.verdict(), ("deny".to_owned(), "request".to_owned(), 400), "{uri}: {:?}", answer.reply);
    }
}

#[test]
fn settings_of_a_new_generation_are_in_force_with_it() {
    let mut guest = guest(&json!({"HeadersWithUnderscoresAction": "REJECT_REQUEST"}));
    assert!(!guest.request(web("/v1/x").with("x_team", "red")).forwarded);
    guest.publish(FILE, snapshot(&crate::support::policy(), 2));
    guest.world().now_ms += 1000;
    assert!(guest.request(call("web").with("x_team", "red")).forwarded);
}
