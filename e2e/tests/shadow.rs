//! Rules in shadow through real Traefik: nobody is denied, and the access log says who would be.

use std::time::Duration;

use portcullis_e2e::certificates::Caller;
use portcullis_e2e::parts::Parts;
use portcullis_e2e::solo::{NOTICED, Setup, Solo, host};
use serde_json::{Value, json};

const AT: &str = "shadow";
/// How long a line of the access log may take to be written.
const PATIENCE: Duration = Duration::from_secs(5);

fn policy(mode: &str) -> Vec<Value> {
    vec![json!({"Kind": "service-intentions", "Name": "api", "Mode": mode, "Sources": [
        {"Name": "web", "Action": "allow"}, {"Name": "bad", "Action": "deny"}]})]
}

/// The access log's line of a path.
async fn line(gateway: &Solo, path: &str) -> Value {
    let began = tokio::time::Instant::now();
    loop {
        let lines = gateway.traefik.access_log().unwrap();
        if let Some(line) = lines.into_iter().find(|line| line["RequestPath"] == path) {
            return line;
        }
        assert!(began.elapsed() < PATIENCE, "no line for {path}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_shadow_would_deny_passes_and_stands_in_the_access_log() {
    let Some(parts) = Parts::for_test() else { return };
    let middlewares = [(AT, json!({"clientCertificate": "verifiedByTraefik"}))];
    let setup = Setup {
        client_authentication: "RequireAndVerifyClientCert",
        middlewares: &middlewares,
        policy: &policy("shadow"),
    };
    let mut gateway = Solo::start(&parts, setup).await.unwrap();
    let rule = "service-intentions/api/sources/bad";
    for (mode, service, status, decided_by, shadow) in [
        ("shadow", "bad", 200, "default", Some(rule)),
        ("shadow", "stranger", 200, "default", Some("default")),
        ("shadow", "web", 200, "default", None),
        ("enforce", "bad", 403, rule, None),
    ] {
        if mode == "enforce" {
            gateway.publish(&policy(mode)).unwrap();
            tokio::time::sleep(NOTICED).await;
        }
        let client = gateway.client(Some(&gateway.authority.client(&Caller::named(service)).unwrap())).unwrap();
        let path = format!("/{mode}/{service}");
        let forged = [("X-Portcullis-Shadow", "forged"), ("X_Portcullis_Shadow", "forged")];
        let answer = client.get(&host(AT), &path, &forged).await.unwrap();
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        let line = line(&gateway, &path).await;
        assert_eq!(line["request_X-Portcullis-Rule"], decided_by, "{line}");
        assert_eq!(line["request_X-Portcullis-Source"], service, "{line}");
        assert_eq!(line.get("request_X-Portcullis-Shadow").and_then(Value::as_str), shadow, "{line}");
        if status == 200 {
            let seen = answer.seen_headers().unwrap();
            assert!(!seen.iter().any(|(_, value)| value == "forged"), "{seen:?}");
        }
    }
}
