//! Configuration: every lenient form, every default, every refusal.

use super::*;
use serde_json::json;

fn settings(config: &Value) -> Settings {
    let (settings, warnings) = read(config.to_string().as_bytes()).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    settings
}

fn refusal(config: &Value) -> String {
    read(config.to_string().as_bytes()).unwrap_err().to_string()
}

#[test]
fn what_is_not_said_has_a_safe_default() {
    let expected = Settings {
        policy: PolicyFrom::Snapshot("/policy/policy.snapshot".to_owned()),
        destination: DestinationFrom::Header("x-portcullis-destination".to_owned()),
        client_certificate: ClientCertificate::Off,
        forward_certificate: false,
        api_key_header: None,
        reload_ms: 200,
        log_denied: Some(Level::Info),
        reveal_rule: false,
        state: None,
        entry_point: String::new(),
        rate_limit_headers: RateLimitHeaders::Standard,
    };
    assert_eq!(settings(&json!({"snapshot": "/policy/policy.snapshot"})), expected);
    assert_eq!(settings(&json!({"SNAPSHOT": "/policy/policy.snapshot", "apiKeyHeader": "", "policy": null})), expected);
}

#[test]
fn every_scalar_may_come_as_a_text_or_as_itself() {
    let texts = json!({"snapshot": "/p", "destination": "web", "clientCertificate": "verifiedByTraefik",
        "apiKeyHeader": "X-Api-Key", "reloadMilliseconds": "50", "logDenied": "off", "revealRule": "true", "forwardCertificate": "true", "state": "/state", "rateLimitHeaders": "legacy"});
    let own = json!({"snapshot": "/p", "destination": "web", "clientCertificate": "verifiedByTraefik",
        "apikeyheader": "x-api-key", "reloadMilliseconds": 50, "logDenied": false, "revealRule": true, "forwardCertificate": true, "State": "/state/", "ratelimitheaders": "legacy"});
    let expected = Settings {
        policy: PolicyFrom::Snapshot("/p".to_owned()),
        destination: DestinationFrom::Fixed("web".to_owned()),
        client_certificate: ClientCertificate::VerifiedByTraefik,
        forward_certificate: true,
        api_key_header: Some("x-api-key".to_owned()),
        reload_ms: 50,
        log_denied: None,
        reveal_rule: true,
        state: Some("/state".to_owned()),
        entry_point: String::new(),
        rate_limit_headers: RateLimitHeaders::Legacy,
    };
    assert_eq!(settings(&texts), expected);
    assert_eq!(settings(&own), expected);
}

#[test]
fn what_cannot_be_understood_is_refused_with_the_key() {
    for (config, key) in [
        (json!({"snapshot": "/p", "revealRule": "yes"}), "`revealRule`"),
        (json!({"snapshot": "/p", "reloadMilliseconds": "soon"}), "`reloadMilliseconds`"),
        (json!({"snapshot": "/p", "reloadMilliseconds": 3_600_001}), "`reloadMilliseconds`"),
        (json!({"snapshot": "/p", "clientCertificate": "on"}), "`clientCertificate`"),
        (json!({"snapshot": "/p", "logDenied": "loud"}), "`logDenied`"),
        (json!({"snapshot": "/p", "apiKeyHeader": "X Key"}), "`apiKeyHeader`"),
        (json!({"snapshot": "/p", "destination": "a b"}), "`destination`"),
        (json!({"snapshot": {}}), "`snapshot`"),
        (json!({"snapshot": "/p", "state": "state"}), "`state`"),
        (json!({"snapshot": "/p", "state": ["/state"]}), "`state`"),
        (json!({"snapshot": "/p", "Snapshot": "/q"}), "`snapshot` is set twice"),
        (json!({}), "set one of `snapshot` and `policy`"),
        (json!({"snapshot": "/p", "policy": {}}), "set one of `snapshot` and `policy`"),
        (json!([]), "not a json object"),
    ] {
        assert!(refusal(&config).contains(key), "{config}: {}", refusal(&config));
    }
    assert_eq!(read(b"").unwrap_err(), Misconfigured::NotAnObject);
    assert_eq!(read(&vec![b' '; MAX_CONFIG_BYTES + 1]).unwrap_err(), Misconfigured::TooLarge);
}

#[test]
fn a_header_cannot_carry_two_meanings() {
    for config in [
        json!({"snapshot": "/p", "apiKeyHeader": "X_Portcullis.Destination"}),
        json!({"snapshot": "/p", "apiKeyHeader": "X-Portcullis-Key"}),
        json!({"snapshot": "/p", "apiKeyHeader": "x-forwarded-tls-client-cert"}),
        json!({"snapshot": "/p", "apiKeyHeader": "X-To", "destinationHeader": "x_to"}),
        json!({"snapshot": "/p", "destinationHeader": "X-Portcullis-Rule"}),
        json!({"snapshot": "/p", "destinationHeader": "X_Portcullis_Destination"}),
        json!({"snapshot": "/p", "destinationHeader": "Host"}),
    ] {
        assert!(refusal(&config).contains("another meaning"), "{config}");
    }
}

#[test]
fn unknown_keys_are_one_warning() {
    let (_, warnings) = read(br#"{"snapshot":"/p","mode":"shadow","modes":1}"#).unwrap();
    assert_eq!(warnings, ["unknown settings are ignored: mode, modes"]);
}
