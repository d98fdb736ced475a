//! Which credential speaks for a caller: exactly one, and one that does not hold is never passed over for another.

use crate::{
    host::{Answer, Request, START_MS},
    support::{KEY, TRUST_DOMAIN, certificate, certificate_of, spiffe, to_db, warm_guest},
};

const CERTIFICATE: &str = "x-forwarded-tls-client-cert";

#[track_caller]
fn expect_refused(request: Request, reason: &str) {
    let answer = warm_guest().request(request);
    assert_eq!(answer.verdict(), ("deny".to_owned(), "credential".to_owned(), 401));
    assert_eq!(answer.request.header("x-portcullis-source").as_deref(), Some("unverified"));
    assert_eq!(answer.request.header("x-portcullis-reason").as_deref(), Some(reason));
    assert_eq!(answer.request.header("x-api-key"), None, "a credential must not stay in the request");
}

#[test]
fn an_invalid_certificate_is_not_passed_over_for_a_valid_key() {
    expect_refused(to_db().with(CERTIFICATE, "AAAA").with("x-api-key", KEY), "certificate-unreadable");
    expect_refused(to_db().with(CERTIFICATE, "").with("x-api-key", KEY), "certificate-unreadable");
}

#[test]
fn two_certificate_headers_are_refused() {
    let good = certificate_of("web");
    expect_refused(
        to_db().with(CERTIFICATE, &good).with(CERTIFICATE, &good),
        "the certificate header has not exactly one value",
    );
}

#[test]
fn a_certificate_must_name_exactly_one_workload_of_a_known_domain() {
    let two = certificate(&[spiffe("web"), spiffe("db")]);
    expect_refused(to_db().with(CERTIFICATE, two), "certificate-with-several-uris");
    expect_refused(to_db().with(CERTIFICATE, certificate(&[])), "certificate-without-uri");
    let foreign = spiffe("web").replace(TRUST_DOMAIN, "99999999-2222-3333-4444-555555555555.consul");
    expect_refused(
        to_db().with(CERTIFICATE, certificate(&[foreign])),
        "the trust domain is not known: 99999999-2222-3333-4444-555555555555.consul",
    );
    expect_refused(to_db().with(CERTIFICATE, "A".repeat(17 * 1024)), "the certificate header is too long");
}

#[test]
fn a_remembered_certificate_is_still_judged_by_the_time() {
    let mut guest = warm_guest();
    let request = to_db().with(CERTIFICATE, certificate_of("web"));
    let reason = |answer: Answer| answer.request.header("x-portcullis-reason");
    assert_eq!(reason(guest.request(request.clone())), None);
    guest.world().now_ms = 0;
    let early = "the client certificate is not valid at this time";
    assert_eq!(reason(guest.request(request.clone())).as_deref(), Some(early));
    guest.world().now_ms = START_MS;
    assert_eq!(reason(guest.request(request)), None);
}

#[test]
fn a_certificate_goes_before_a_key_and_the_key_is_removed() {
    let request = to_db().with(CERTIFICATE, certificate_of("web")).with("x-api-key", "pcl_k1_wrong");
    let answer = warm_guest().request(request);
    assert!(answer.forwarded);
    assert_eq!(answer.request.header("x-portcullis-source").as_deref(), Some("web"));
    assert_eq!(answer.request.header("x-api-key"), None);
}

#[test]
fn keys_that_do_not_hold_are_refused() {
    for wrong in ["pcl_k1_wrong", "pcl_k2_s3cret", "", "k1"] {
        expect_refused(to_db().with("x-api-key", wrong), "the API key is not valid");
    }
    expect_refused(to_db().with("x-api-key", b"pcl_k1_\xff"), "the api key is not text");
    expect_refused(to_db().with("x-api-key", "p".repeat(2000)), "the api key is too long");
    expect_refused(
        to_db().with("x-api-key", KEY).with("x-api-key", KEY),
        "the api key header has not exactly one value",
    );
}

#[test]
fn a_key_in_an_alias_of_its_header_is_no_key_and_does_not_pass() {
    let answer = warm_guest().request(to_db().with("x_api_key", KEY));
    assert_eq!(answer.verdict(), ("deny".to_owned(), "default".to_owned(), 401));
    assert_eq!(answer.request.header("x_api_key"), None);
}
