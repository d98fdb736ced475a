//! Requests of hostile size: refused or served, in bounded memory and time, and the next one is served as ever.

use crate::{
    host::{Guest, Request},
    support::{Authority, FILE, call, certificate_of, gate, policy, snapshot, to_db},
    tokens::Issuer,
};
use serde_json::json;

/// Much more than any decision takes, and below a second: 224 instructions for each byte of a megabyte, which is what a
/// pattern costs.
const MAX_FUEL: u64 = 300_000_000;
/// What Go's server reads of all headers together.
const MEGABYTE: usize = 1 << 20;

/// A guest whose policy looks at headers, tokens and chains.
fn guest() -> Guest {
    let mut config = gate();
    config["clientCertificate"] = "verify".into();
    let mut entries = policy();
    entries.extend([
        Authority::new().roots(),
        Issuer::new().provider(),
        json!({"Kind": "service-intentions", "Name": "api", "JWT": {"Providers": [{"Name": "okta"}]},
            "Sources": [{"Name": "partner", "Permissions": [{"Action": "allow", "HTTP": {"Header": [
                {"Name": "x-team", "Regex": "(a|b|ab)*c"}]}}]}]}),
    ]);
    let mut guest = Guest::start(&config);
    guest.publish(FILE, snapshot(&entries, 1));
    guest
}

fn partner() -> Request {
    let request = Request::new("GET", "/").with("x-portcullis-destination", "api").with("x-team", "ababc");
    request.with("x-api-key", crate::support::KEY)
}

#[track_caller]
fn expect_refused(guest: &mut Guest, what: &str, request: Request, status: i32) {
    let answer = guest.request(request);
    assert_eq!((answer.forwarded, answer.reply.status), (false, status), "{what}: {:?}", answer.logged());
    assert!(answer.fuel < MAX_FUEL, "{what}: {}", answer.fuel);
    let log = answer.logged().concat().len();
    assert!(log < 3000, "{what}: {log} bytes in the log");
    assert!(guest.request(to_db().with("x-api-key", crate::support::KEY)).forwarded, "after {what}");
}

#[test]
fn a_token_of_a_megabyte_is_refused() {
    let mut guest = guest();
    let dots = ".".repeat(MEGABYTE);
    let long = "A".repeat(MEGABYTE);
    for token in [long.clone(), dots, format!("{}.{}.{}", &long[..9], long, &long[..9])] {
        let request = partner().with("authorization", format!("Bearer {token}"));
        expect_refused(&mut guest, "a long token", request, 401);
    }
    expect_refused(&mut guest, "a long query", Request { uri: format!("/?token={long}"), ..partner() }, 400);
}

#[test]
fn many_values_and_names_are_refused_or_looked_at_in_bounded_time() {
    let mut guest = guest();
    let tokens = (0..500).fold(partner(), |request, n| request.with("authorization", format!("Bearer {n}.e30.AA")));
    expect_refused(&mut guest, "many tokens", tokens, 401);
    let headers = (0..500).fold(partner(), |request, n| request.with(&format!("x-{n}"), "x"));
    expect_refused(&mut guest, "many headers", headers, 401);
    let mut team = partner();
    team.headers.insert("x-team".to_owned(), vec!["ab".repeat(MEGABYTE / 2).into_bytes()]);
    expect_refused(&mut guest, "a long value for a pattern", team, 400);
    let crowd = (0..600).fold(partner(), |request, n| request.with(&format!("x-{n}"), "x"));
    expect_refused(&mut guest, "a crowd", crowd, 400);
    let named = (0..400).map(|n| format!("x-{n}")).collect::<Vec<_>>().join(",");
    expect_refused(&mut guest, "a long connection header", partner().with("connection", named), 401);
    let forged = (0..500).fold(partner(), |request, n| request.with(&format!("x_portcullis_{n}"), "x"));
    expect_refused(&mut guest, "many forged headers", forged, 401);
}

#[test]
fn five_hundred_headers_are_no_reason_to_refuse() {
    let request = (0..500).fold(to_db().with("x-api-key", crate::support::KEY), |request, n| {
        request.with(&format!("x-{n}"), "x".repeat(1000))
    });
    let answer = guest().request(request);
    assert!(answer.forwarded, "{:?}", answer.logged());
}

#[test]
fn chains_keys_and_names_of_hostile_size_are_refused() {
    const CERTIFICATE: &str = "x-forwarded-tls-client-cert";
    let mut guest = guest();
    let chain = vec![certificate_of("web"); 12].join(",");
    expect_refused(&mut guest, "twelve certificates", to_db().with(CERTIFICATE, chain), 401);
    expect_refused(&mut guest, "a long chain", to_db().with(CERTIFICATE, "A".repeat(MEGABYTE)), 401);
    expect_refused(&mut guest, "commas", to_db().with(CERTIFICATE, ",".repeat(16_000)), 401);
    expect_refused(&mut guest, "a long key", to_db().with("x-api-key", "p".repeat(MEGABYTE)), 401);
    let destination = Request::new("GET", "/").with("x-portcullis-destination", "d".repeat(MEGABYTE));
    expect_refused(&mut guest, "a long destination", destination, 403);
    let method = Request { method: "M".repeat(MEGABYTE), ..call("web") };
    expect_refused(&mut guest, "a long method", method, 400);
    let path = Request { uri: format!("/{}", "%2e/".repeat(MEGABYTE / 4)), ..call("web") };
    expect_refused(&mut guest, "a long path", path, 400);
}

#[test]
fn memory_does_not_grow_with_repetition() {
    let mut guest = guest();
    let long = partner().with("authorization", format!("Bearer {}", "A".repeat(MEGABYTE)));
    let mut sizes = Vec::new();
    for _ in 0..20 {
        assert!(!guest.request(long.clone()).forwarded);
        sizes.push(guest.memory_bytes());
    }
    assert!(sizes[19] <= 16 * MEGABYTE, "{sizes:?}");
    assert_eq!(sizes[5], sizes[19], "{sizes:?}");
}
