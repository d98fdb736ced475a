//! The whole policy in the configuration: no file, no sidecar, the same verdicts.

use crate::{
    host::Guest,
    support::{KEY, TRUST_DOMAIN, call, policy, to_db},
};
use serde_json::{Value, json};

fn config(policy: &Value) -> Value {
    json!({"policy": policy, "clientCertificate": "verifiedByTraefik", "apiKeyHeader": "X-Api-Key"})
}

fn inline() -> Value {
    json!({"trustDomains": [TRUST_DOMAIN], "entries": policy()})
}

#[test]
fn an_inline_policy_decides_without_any_file() {
    let mut guest = Guest::start(&config(&inline()));
    assert!(guest.request(call("web")).forwarded);
    let answer = guest.request(call("web"));
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
    assert!(guest.request(to_db().with("x-api-key", KEY)).forwarded);
    assert!(!guest.request(call("bad")).forwarded);
    assert!(!guest.request(call("stranger")).forwarded);
}

#[test]
fn the_policy_may_be_a_text() {
    let mut guest = Guest::start(&config(&Value::String(inline().to_string())));
    assert!(guest.request(call("web")).forwarded);
    assert!(!guest.request(call("stranger")).forwarded);
}

#[test]
fn lists_in_the_form_that_the_file_provider_leaks_are_understood() {
    let entries = json!([{"Kind": "service-intentions", "Name": "db", "Sources": [
        {"Name": "web", "Permissions": [{"Action": "allow", "HTTP": {"PathPrefix": "/v1", "Methods": "║24║GET║HEAD"}}]}]}]);
    let mut guest = Guest::start(&config(&json!({"trustDomains": format!("║24║{TRUST_DOMAIN}"), "entries": entries})));
    let answer = guest.request(call("web"));
    assert!(answer.forwarded, "{:?}", answer.calls);
}

#[test]
fn a_broken_rule_denies_its_own_scope_and_says_so() {
    let mut entries = policy();
    entries[0]["Sources"][0]["Action"] = json!("Allow");
    let mut guest =
        Guest::start(&config(&json!({"default": "allow", "trustDomains": [TRUST_DOMAIN], "entries": entries})));
    let answer = guest.request(call("web"));
    assert!(!answer.forwarded);
    assert!(answer.logged()[0].starts_with("warn error: policy.entries[0]"), "{:?}", answer.logged());
    assert!(guest.request(to_db().with("x-api-key", KEY)).forwarded);
}

#[test]
fn a_policy_whose_reach_is_not_known_denies_everything() {
    for entries in
        [json!([{"Kind": "service-intention", "Name": "db"}]), json!([{"Name": "db"}]), json!({}), json!("x")]
    {
        let mut guest = Guest::start(&config(&json!({"default": "allow", "entries": entries.clone()})));
        let answer = guest.request(call("web"));
        assert_eq!(answer.verdict(), ("deny".to_owned(), "configuration".to_owned(), 503), "{entries}");
    }
}

#[test]
fn a_kind_that_needs_a_snapshot_is_refused_by_its_place() {
    for kind in ["jwt-provider", "JWTProvider", "identity", "network", "ca-roots", "peer-trust-bundle"] {
        let entries = json!([{"Kind": "service-intentions", "Name": "db"}, {"Kind": kind, "Name": "x"}]);
        let mut guest = Guest::start(&config(&json!({"default": "allow", "entries": entries})));
        let answer = guest.request(call("web"));
        assert_eq!(answer.verdict(), ("deny".to_owned(), "configuration".to_owned(), 503), "{kind}");
        let line = answer.logged()[0];
        let begin = "warn every request is denied: the inline policy cannot be used: fatal: policy.entries[1]";
        assert!(line.starts_with(begin) && line.contains("an inline policy cannot hold this kind"), "{line}");
    }
}

#[test]
fn a_regex_in_an_inline_policy_denies_its_source_and_says_so() {
    let entries = json!([{"Kind": "service-intentions", "Name": "db", "Sources": [
        {"Name": "web", "Permissions": [{"Action": "deny", "HTTP": {"PathRegex": "/v2/.*"}}, {"Action": "allow"}]}]}]);
    let mut guest =
        Guest::start(&config(&json!({"default": "allow", "trustDomains": [TRUST_DOMAIN], "entries": entries})));
    let answer = guest.request(call("web"));
    assert_eq!(answer.verdict().2, 403, "{:?}", answer.calls);
    assert!(answer.logged()[0].starts_with("warn error: policy.entries[0]"), "{:?}", answer.logged());
    assert!(guest.request(call("other")).forwarded);
}
