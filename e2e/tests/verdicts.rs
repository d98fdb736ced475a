//! What passes and what does not, by real Traefik with the real plugin on the real sidecar's snapshot.

use std::time::Duration;

use portcullis_e2e::certificates::{Caller, spiffe, spiffe_in};
use portcullis_e2e::client::Client;
use portcullis_e2e::parts::Parts;
use portcullis_e2e::world::World;
use serde_json::Value;

fn value_of<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
}

/// The access log's record of the only request to this path; it may be written after the answer has arrived.
async fn record_of(world: &World, path: &str) -> Value {
    for _ in 0..200 {
        let records = world.traefik.access_log().unwrap_or_default();
        let mut found: Vec<Value> = records.into_iter().filter(|record| record["RequestPath"] == path).collect();
        assert!(found.len() < 2, "{path} is recorded twice: {found:?}");
        if let Some(record) = found.pop() {
            return record;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no record of {path} in the access log");
}

fn log_lines_with(world: &World, text: &str) -> Vec<String> {
    world.traefik.log().unwrap().iter().map(ToString::to_string).filter(|line| line.contains(text)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_identity_path_and_method_reach_the_right_service_on_its_node_port() {
    let Some(parts) = Parts::for_test() else { return };
    let world = World::start(&parts).await.unwrap();
    let web = world.caller("web").unwrap();
    let cases = [
        (&web, "GET", "api.localhost", "/v1/items?page=2", "api", "web"),
        (&web, "POST", "api.localhost", "/v1/orders", "api", "web"),
        (&web, "GET", "web.localhost", "/", "web", "web"),
        (&world.caller("api").unwrap(), "DELETE", "db.localhost", "/rows/1", "db", "api"),
        (&world.caller("somebody").unwrap(), "PUT", "web.localhost", "/any/thing", "web", "somebody"),
    ];
    for (client, method, host, path, service, source) in cases {
        let before = world.backends.get(service).requests();
        let answer = client.send(method, host, path, &[]).await.unwrap();
        assert_eq!(answer.status, 200, "{method} {host}{path}: {}", answer.text());
        assert_eq!(answer.json().unwrap()["instance"], format!("{service}-1"));
        assert_eq!(answer.json().unwrap()["path"], path);
        assert_eq!(answer.json().unwrap()["method"], method);
        assert_eq!(world.backends.get(service).requests(), before + 1);
        let headers = answer.seen_headers().unwrap();
        assert_eq!(value_of(&headers, "x-portcullis-source"), [source]);
        assert_eq!(value_of(&headers, "x-portcullis-destination"), [service]);
        assert_eq!(value_of(&headers, "x-portcullis-decision"), ["allow"]);
        let rule = value_of(&headers, "x-portcullis-rule");
        assert!(rule[0].starts_with(&format!("service-intentions/{service}/")), "{rule:?}");
    }
    let record = record_of(&world, "/v1/orders").await;
    assert_eq!(record["DownstreamStatus"], 200);
    assert_eq!(record["request_X-Portcullis-Source"], "web");
    assert_eq!(record["request_X-Portcullis-Decision"], "allow");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_stands_for_its_source_and_stays_at_the_gateway() {
    let Some(parts) = Parts::for_test() else { return };
    let world = World::start(&parts).await.unwrap();
    let client = world.anonymous().unwrap();
    let good = world.api_key.clone();
    let ask = async |key: &str, path: &str| client.get("api.localhost", path, &[("X-Api-Key", key)]).await.unwrap();

    let answer = ask(&good, "/v1/reports/today").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let headers = answer.seen_headers().unwrap();
    assert_eq!(value_of(&headers, "x-portcullis-source"), ["partner"]);
    assert!(value_of(&headers, "x-api-key").is_empty(), "the key reached the backend");
    assert_eq!(ask(&good, "/v1/items").await.status, 403);

    let mut wrong_end = good.clone();
    let last = wrong_end.pop().unwrap();
    wrong_end.push(if last == '0' { '1' } else { '0' });
    let other_id = good.replace("pcl_partner_", "pcl_other_");
    for bad in [wrong_end.as_str(), &other_id, &good[..good.len() - 1], "pcl_partner_", "partner", ""] {
        let answer = ask(bad, "/v1/reports/today").await;
        assert_eq!(answer.status, 401, "{bad:?}");
        assert!(answer.headers.contains_key("www-authenticate"), "{bad:?}");
    }
}

struct Refusal<'a> {
    client: &'a Client,
    headers: Vec<(&'a str, &'a str)>,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    status: u16,
    source: &'a str,
    destination: &'a str,
    rule: &'a str,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_request_is_refused_and_exactly_one_log_line_says_why() {
    let Some(parts) = Parts::for_test() else { return };
    let world = World::start(&parts).await.unwrap();
    let (web, billing, nobody) =
        (world.caller("web").unwrap(), world.caller("billing").unwrap(), world.anonymous().unwrap());
    let base = Refusal {
        client: &web,
        headers: vec![],
        method: "GET",
        host: "api.localhost",
        path: "",
        status: 403,
        source: "web",
        destination: "api",
        rule: "default",
    };
    let denied_by_permission = "service-intentions/api/sources/web/permissions/0";
    let cases = [
        Refusal { client: &billing, path: "/v1/wrong-source", source: "billing", ..copy(&base) },
        Refusal { path: "/v2/wrong-path", ..copy(&base) },
        Refusal { path: "/v1/admin/denied-path", rule: denied_by_permission, ..copy(&base) },
        Refusal { method: "DELETE", path: "/v1/wrong-method", ..copy(&base) },
        Refusal { host: "db.localhost", path: "/v1/wrong-destination", destination: "db", ..copy(&base) },
        Refusal { client: &nobody, path: "/v1/no-identity", status: 401, source: "anonymous", ..copy(&base) },
        Refusal {
            client: &nobody,
            headers: vec![("X-Api-Key", "pcl_partner_00")],
            path: "/v1/reports/wrong-key",
            status: 401,
            source: "unverified",
            rule: "credential",
            ..copy(&base)
        },
    ];
    for case in &cases {
        let before: u64 = ["web", "api", "db"].iter().map(|name| world.backends.get(name).requests()).sum();
        let answer = case.client.send(case.method, case.host, case.path, &case.headers).await.unwrap();
        assert_eq!(answer.status, case.status, "{}: {}", case.path, answer.text());
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert!(!answer.text().contains("service-intentions"), "the rule is nobody's business: {}", answer.text());
        let after: u64 = ["web", "api", "db"].iter().map(|name| world.backends.get(name).requests()).sum();
        assert_eq!(before, after, "{} reached a backend", case.path);

        let lines = log_lines_with(&world, case.path);
        assert_eq!(lines.len(), 1, "{}: {lines:#?}", case.path);
        for part in [format!("source={}", case.source), format!("destination={}", case.destination)] {
            assert!(lines[0].contains(&part), "{part} is not in {}", lines[0]);
        }
        assert!(lines[0].contains(&format!("rule={}", case.rule)), "{} is not in {}", case.rule, lines[0]);
        assert!(lines[0].contains("reason="), "{}", lines[0]);

        let record = record_of(&world, case.path).await;
        assert_eq!(record["DownstreamStatus"], case.status);
        assert_eq!(record["request_X-Portcullis-Source"], case.source, "{}", case.path);
        assert_eq!(record["request_X-Portcullis-Destination"], case.destination, "{}", case.path);
        assert_eq!(record["request_X-Portcullis-Decision"], "deny", "{}", case.path);
        let rule = record["request_X-Portcullis-Rule"].as_str().unwrap();
        assert!(rule.starts_with(case.rule), "{}: {rule}", case.path);
    }
    assert_eq!(web.get("nowhere.localhost", "/", &[]).await.unwrap().status, 404);
}

fn copy<'a>(refusal: &Refusal<'a>) -> Refusal<'a> {
    Refusal { headers: refusal.headers.clone(), ..*refusal }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_does_not_prove_one_known_identity_is_no_credential() {
    let Some(parts) = Parts::for_test() else { return };
    let world = World::start(&parts).await.unwrap();
    let good = world.caller("web").unwrap();
    assert_eq!(good.get("api.localhost", "/v1/items", &[]).await.unwrap().status, 200);

    let callers = [
        ("two URIs", Caller::with_uris([spiffe("web"), spiffe("api")])),
        ("the same URI twice", Caller::with_uris([spiffe("web"), spiffe("web")])),
        ("a second URI of another scheme", Caller::with_uris([spiffe("web"), "https://web".to_owned()])),
        ("no URI", Caller::default()),
        ("another trust domain", Caller::with_uris([spiffe_in("99999999-2222-3333-4444-555555555555.consul", "web")])),
        ("no SPIFFE URI", Caller::with_uris(["https://web.example".to_owned()])),
        ("another shape", Caller::with_uris([format!("{}/more", spiffe("web"))])),
        ("another scheme", Caller::with_uris([spiffe("web").replace("spiffe://", "https://")])),
    ];
    for (what, caller) in callers {
        let client = world.client(&world.authority.client(&caller).unwrap()).unwrap();
        let answer = client.get("api.localhost", "/v1/items", &[]).await.unwrap();
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        // A certificate that does not hold is not passed over for a key that does.
        let key = [("X-Api-Key", world.api_key.as_str())];
        assert_eq!(client.get("api.localhost", "/v1/reports/x", &key).await.unwrap().status, 401, "{what}, with a key");
    }
    // A proper identity of somebody else, however close its name.
    for other in [format!("{}?x", spiffe("web")), spiffe("web%2e"), spiffe("Web"), spiffe("webb")] {
        let client = world.client(&world.authority.client(&Caller::with_uris([other.clone()])).unwrap()).unwrap();
        let status = client.get("api.localhost", "/v1/items", &[]).await.unwrap().status;
        assert!(matches!(status, 401 | 403), "{other}: {status}");
    }
    // These do not get through the handshake.
    let expired = world.authority.client(&Caller { expired: true, ..Caller::named("web") }).unwrap();
    let foreign = world.stranger.client(&Caller::named("web")).unwrap();
    for (what, identity) in [("expired", expired), ("another authority's", foreign)] {
        let answer = world.client(&identity).unwrap().get("api.localhost", "/v1/items", &[]).await;
        assert!(answer.is_err(), "{what}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_a_backend_may_read_otherwise_are_never_allowed() {
    let Some(parts) = Parts::for_test() else { return };
    let world = World::start(&parts).await.unwrap();
    let web = world.caller("web").unwrap();
    for path in [
        "/v1/%61dmin/users",
        "/v1/./admin/users",
        "/v1/x/../admin/users",
        "/v1/x/%2e%2e/admin/users",
        "//v1/admin/users",
        "/v1//admin/users",
        "/v1/items%2F..%2Fadmin",
        "/v1/items%5C..%5Cadmin",
        "/v1/items%00",
        "/v1/items;a=b",
        "/v1/items%3Ba=b",
        "/v1/items%253F",
        "/v1/items%FF",
    ] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: api.localhost\r\nConnection: close\r\n\r\n");
        let (status, text) = web.raw("api.localhost", &head).await.unwrap();
        assert!(matches!(status, 400 | 403), "{path} answered {status}: {text}");
    }
}
