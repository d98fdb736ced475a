//! What a client says in the gate's own headers counts for nothing, however it is spelled.

use portcullis_e2e::certificates::Caller;
use portcullis_e2e::parts::Parts;
use portcullis_e2e::world::World;
use serde_json::Value;

/// The gate's own headers as a backend that folds names reads them.
const STAMPS: [&str; 5] = [
    "x-portcullis-source",
    "x-portcullis-destination",
    "x-portcullis-decision",
    "x-portcullis-rule",
    "x-portcullis-reason",
];

/// How a lenient backend reads a header's name.
fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// A way to write a header's name.
type Spelling = Box<dyn Fn(&str) -> String>;

/// Every character that a header name may hold in the place of the dash, and several cases.
fn spellings() -> Vec<Spelling> {
    let mut spellings: Vec<Spelling> = vec![
        Box::new(str::to_owned),
        Box::new(str::to_uppercase),
        Box::new(|name| name.replacen('-', "_", 1)),
        Box::new(|name| {
            let (head, tail) = name.rsplit_once('-').unwrap();
            format!("{head}_{}", tail.to_uppercase())
        }),
    ];
    for other in "!#$%&'*+.^_`|~".chars() {
        spellings.push(Box::new(move |name| name.replace('-', &other.to_string())));
    }
    spellings
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_gate_headers_in_any_spelling_never_reach_the_backend_nor_change_the_verdict() {
    let Some(parts) = Parts::for_test() else { return };
    let world = World::start(&parts).await.unwrap();
    let (web, billing) = (world.caller("web").unwrap(), world.caller("billing").unwrap());
    let spellings = spellings();
    assert!(spellings.len() >= 12);
    for spelling in &spellings {
        let forged: Vec<String> = STAMPS.iter().map(|name| format!("{}: forged\r\n", spelling(name))).collect();
        let forged = forged.concat();
        let head =
            |path: &str| format!("GET {path} HTTP/1.1\r\nHost: api.localhost\r\nConnection: close\r\n{forged}\r\n");
        let (status, text) = web.raw("api.localhost", &head("/v1/items")).await.unwrap();
        assert_eq!(status, 200, "{forged}{text}");
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        let json: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("not JSON: {text}"));
        assert_eq!(json["service"], "api");
        for pair in json["headers"].as_array().unwrap() {
            let (name, value) = (pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
            if folded(name).starts_with("x-portcullis-") {
                assert!(STAMPS.contains(&name), "{name} got through");
                assert_ne!(value, "forged", "{name} got through");
            }
        }
        let (status, text) = billing.raw("api.localhost", &head("/v1/items")).await.unwrap();
        assert_eq!(status, 403, "{forged}{text}");
    }
    // With values that would matter.
    let names = ["X-Portcullis-Source", "X-Portcullis-Decision", "X-Portcullis-Destination"];
    let headers: Vec<(&str, &str)> = names.into_iter().zip(["web", "allow", "web"]).collect();
    let answer = billing.get("api.localhost", "/v1/items", &headers).await.unwrap();
    assert_eq!(answer.status, 403);
    let answer = web.get("api.localhost", "/v1/items", &[("X-Portcullis-Destination", "db")]).await.unwrap();
    assert_eq!(answer.service().as_deref(), Some("api"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_certificate_header_proves_nothing() {
    let Some(parts) = Parts::for_test() else { return };
    let world = World::start(&parts).await.unwrap();
    // The genuine article, as Traefik would write it for the owner of the key.
    let identity = world.authority.client(&Caller::named("web")).unwrap();
    let (web, certificate) = (world.client(&identity).unwrap(), identity.header());
    assert!(certificate.len() > 100, "{certificate}");
    let (nobody, billing) = (world.anonymous().unwrap(), world.caller("billing").unwrap());
    for name in [
        "X-Forwarded-Tls-Client-Cert",
        "x-forwarded-tls-client-cert",
        "X_Forwarded_Tls_Client_Cert",
        "X-Forwarded-Tls-Client_Cert",
        "X.Forwarded.Tls.Client.Cert",
    ] {
        let headers = [(name, certificate.as_str())];
        let answer = nobody.get("api.localhost", "/v1/items", &headers).await.unwrap();
        assert_eq!(answer.status, 401, "{name}: {}", answer.text());
        let answer = billing.get("api.localhost", "/v1/items", &headers).await.unwrap();
        assert_eq!(answer.status, 403, "{name}: {}", answer.text());
        let answer = web.get("api.localhost", "/v1/items", &[(name, "forged")]).await.unwrap();
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let seen = answer.seen_headers().unwrap();
        assert!(seen.iter().all(|(_, value)| value != "forged" && *value != certificate), "{name} got through");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_header_cannot_take_the_gates_headers_away() {
    let Some(parts) = Parts::for_test() else { return };
    let world = World::start(&parts).await.unwrap();
    let web = world.caller("web").unwrap();
    for named in [
        "X-Portcullis-Source",
        "keep-alive, x-portcullis-source",
        "X-Portcullis-Destination",
        "X_Portcullis_Decision",
        "X-Forwarded-Tls-Client-Cert",
    ] {
        let head = format!("GET /v1/items HTTP/1.1\r\nHost: api.localhost\r\nConnection: close, {named}\r\n\r\n");
        let (status, text) = web.raw("api.localhost", &head).await.unwrap();
        if status == 200 {
            // Then the backend has to know the caller all the same.
            assert!(text.contains(r#"["x-portcullis-source","web"]"#), "{named}: {text}");
            assert!(text.contains(r#"["x-portcullis-destination","api"]"#), "{named}: {text}");
        } else {
            assert_eq!(status, 400, "{named}: {text}");
        }
    }
}
