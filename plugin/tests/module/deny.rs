//! What a request that may not pass is told, and what the log says.

use crate::{
    host::Request,
    support::{call, certificate_of, gate, guest_with, to_db, warm_guest},
};
use serde_json::{Value, json};

#[test]
fn a_source_without_an_intention_is_refused_with_every_trace_of_it() {
    let answer = warm_guest().request(call("stranger"));
    assert!(!answer.forwarded);
    answer.expect_calls(&[
        "get_method",
        "get_uri",
        "get_header_names",
        "get_header_values x-portcullis-destination",
        "get_header_values x-forwarded-tls-client-cert",
        "remove x-forwarded-tls-client-cert",
        "clock",
        "pread",
        "set X-Portcullis-Source: stranger",
        "set X-Portcullis-Decision: deny",
        "set X-Portcullis-Rule: default",
        "set X-Portcullis-Reason: no intention applies, and the default is deny",
        "reply Content-Type: application/problem+json",
        "reply Cache-Control: no-store",
        "reply Content-Length: 93",
        "set_status_code 403",
        "write_body",
        "log info denied: GET /v1/x destination=db source=stranger rule=default \
         reason=\"no intention applies, and the default is deny\"",
    ]);
    assert_eq!(
        serde_json::from_str::<Value>(&answer.reply.body).unwrap(),
        json!({"type": "about:blank", "title": "Forbidden", "status": 403, "detail": "access is denied by policy"})
    );
}

#[test]
fn a_denied_source_is_refused_by_its_intention() {
    let answer = warm_guest().request(call("bad"));
    assert_eq!(answer.verdict(), ("deny".to_owned(), "service-intentions/db/sources/bad".to_owned(), 403));
}

#[test]
fn a_caller_without_a_credential_is_told_how_to_authenticate() {
    let answer = warm_guest().request(to_db());
    assert_eq!(answer.verdict(), ("deny".to_owned(), "default".to_owned(), 401));
    assert_eq!(answer.request.header("x-portcullis-source").as_deref(), Some("anonymous"));
    let challenge = "ApiKey realm=\"portcullis\", ClientCertificate realm=\"portcullis\"".to_owned();
    assert!(answer.reply.headers.contains(&("WWW-Authenticate".to_owned(), challenge)));
}

#[test]
fn where_no_credential_is_accepted_none_is_asked_for() {
    let mut guest = guest_with(&json!({"snapshot": "/policy/policy.snapshot"}));
    // The certificate is not looked at: nobody said that Traefik verifies it.
    let answer = guest.request(call("web"));
    assert_eq!(answer.verdict(), ("deny".to_owned(), "default".to_owned(), 403));
    assert!(answer.reply.headers.iter().all(|(name, _)| name != "WWW-Authenticate"));
}

#[test]
fn the_answer_to_head_has_no_body() {
    let answer = warm_guest().request(Request { method: "HEAD".to_owned(), ..call("stranger") });
    assert_eq!((answer.reply.status, answer.reply.body.as_str()), (403, ""));
    assert!(!answer.calls.contains(&"write_body".to_owned()));
    assert!(answer.reply.headers.contains(&("Content-Type".to_owned(), "application/problem+json".to_owned())));
}

#[test]
fn the_rule_is_revealed_only_on_demand() {
    let mut config = gate();
    config["revealRule"] = json!("true");
    let answer = guest_with(&config).request(call("bad"));
    let body: Value = serde_json::from_str(&answer.reply.body).unwrap();
    assert_eq!(body["detail"], "the intention denies this source (rule service-intentions/db/sources/bad)");
}

#[test]
fn the_level_of_the_log_line_is_a_setting() {
    for (setting, expected) in [("off", None), ("debug", Some("debug denied:")), ("warn", Some("warn denied:"))] {
        let mut config = gate();
        config["logDenied"] = json!(setting);
        let mut guest = guest_with(&config);
        guest.request(call("web"));
        let answer = guest.request(call("bad"));
        match expected {
            None => assert_eq!(answer.logged(), Vec::<&str>::new()),
            Some(start) => assert!(answer.logged()[0].starts_with(start), "{:?}", answer.logged()),
        }
    }
}

#[test]
fn the_log_line_holds_no_query_and_cannot_be_forged() {
    let path = format!("/a{}\u{85}\"rule=default?token=secret", "x".repeat(1000));
    let request = Request::new("GET", &path).with("x-portcullis-destination", "db");
    let answer = warm_guest().request(request);
    let [line] = answer.logged()[..] else { panic!("{:?}", answer.logged()) };
    assert!(line.starts_with("info denied: GET /axxx"), "{line}");
    assert!(!line.contains("secret") && line.len() < 800 && line.contains("... destination=db"), "{line}");
}

#[test]
fn a_destination_that_is_not_exactly_one_name_is_refused() {
    let mut guest = warm_guest();
    let plain = || Request::new("GET", "/").with("x-forwarded-tls-client-cert", certificate_of("web"));
    let header = "x-portcullis-destination";
    for request in [
        plain(),
        plain().with(header, ""),
        plain().with(header, "db").with(header, "db"),
        plain().with(header, "d b"),
        plain().with(header, b"d\xffb"),
        plain().with(header, "d".repeat(256)),
        plain().with(header, "*"),
    ] {
        let answer = guest.request(request);
        assert_eq!(answer.verdict(), ("deny".to_owned(), "destination".to_owned(), 403));
    }
}

#[test]
fn a_request_out_of_all_bounds_is_refused() {
    let mut guest = warm_guest();
    let crowded = (0..520).fold(call("web"), |request, n| request.with(&format!("x-{n}"), "1"));
    let long = Request { uri: format!("/{}", "a".repeat(70_000)), ..call("web") };
    let strange = Request { method: "M".repeat(33), ..call("web") };
    for request in [crowded, long, strange] {
        let answer = guest.request(request);
        assert_eq!(answer.verdict(), ("deny".to_owned(), "request".to_owned(), 400));
    }
}
