//! `clientCertificate: verify`: the gateway has asked for a certificate and judged nothing.

use crate::{
    host::{Answer, Guest, Request, START_MS},
    support::{Authority, FILE, KEY, certificate_of, gate, policy, snapshot, to_db},
};
use serde_json::Value;

/// A gate with these roots.
fn guest(roots: &[&Authority]) -> Guest {
    let mut config = gate();
    config["clientCertificate"] = "verify".into();
    let mut guest = Guest::start(&config);
    guest.publish(FILE, snapshot(&trusting(roots), 1));
    guest
}

fn trusting(roots: &[&Authority]) -> Vec<Value> {
    let roots = roots.iter().map(|it| it.roots()).reduce(|mut all, mut next| {
        let next = next["Roots"].as_array_mut().unwrap().pop().unwrap();
        all["Roots"].as_array_mut().unwrap().push(next);
        all
    });
    policy().into_iter().chain(roots).collect()
}

fn with(chain: &[String]) -> Request {
    to_db().with("x-forwarded-tls-client-cert", chain.join(","))
}

fn reason(answer: &Answer) -> String {
    answer.request.header("x-portcullis-reason").unwrap_or_default()
}

#[track_caller]
fn expect_refused(guest: &mut Guest, chain: &[String], why: &str) {
    // A key that holds does not help.
    let answer = guest.request(with(chain).with("x-api-key", KEY));
    assert_eq!(answer.verdict(), ("deny".to_owned(), "credential".to_owned(), 401));
    assert_eq!(answer.request.header("x-portcullis-source").as_deref(), Some("unverified"));
    assert_eq!(reason(&answer), why);
}

const NO_ROOT: &str = "the client certificate's chain does not end at a known root";
const SIGNATURE: &str = "a signature in the client's chain does not hold";
const NOT_AN_ISSUER: &str = "an issuer in the client's chain may not issue such certificates";
const NOT_IN_FORCE: &str = "a certificate of the client's chain is not in force";

#[test]
fn a_certificate_below_a_root_of_the_policy_passes() {
    let root = Authority::new();
    let web = root.certify("web");
    let answer = guest(&[&root]).request(with(std::slice::from_ref(&web)));
    assert!(answer.forwarded, "{}", reason(&answer));
    assert_eq!(answer.request.header("x-portcullis-source").as_deref(), Some("web"));
    assert_eq!(answer.request.header("x-forwarded-tls-client-cert"), None);
    // Verified is who calls, not what they may.
    assert_eq!(guest(&[&root]).request(with(&[root.certify("stranger")])).reply.status, 403);
    // With the root itself at the end, as some clients send it, and while roots are rotated.
    assert!(guest(&[&root]).request(with(&[web.clone(), root.encoded()])).forwarded);
    assert!(guest(&[&Authority::new(), &root]).request(with(&[web])).forwarded);
}

#[test]
fn a_chain_by_way_of_intermediates_passes_in_any_order() {
    let root = Authority::new();
    let (one, cross) = (root.delegate(2036), root.delegate(2036));
    let two = one.delegate(2036);
    let web = two.certify("web");
    let mut guest = guest(&[&root]);
    for rest in [[&one, &two, &cross], [&two, &one, &root], [&cross, &one, &two]] {
        let chain: Vec<_> = std::iter::once(web.clone()).chain(rest.iter().map(|it| it.encoded())).collect();
        let answer = guest.request(with(&chain));
        assert!(answer.forwarded, "{}", reason(&answer));
    }
    // Its issuer has the name of this one, and another key.
    expect_refused(&mut guest, &[web.clone(), one.encoded()], SIGNATURE);
    expect_refused(&mut guest, &[web], NO_ROOT);
}

#[test]
fn a_chain_that_ends_elsewhere_is_refused_whatever_it_carries() {
    let (root, foreign) = (Authority::new(), Authority::new());
    let mut guest = guest(&[&root]);
    // All roots here have one name: only the signature tells them apart.
    expect_refused(&mut guest, &[foreign.certify("web")], SIGNATURE);
    expect_refused(&mut guest, &[foreign.certify("web"), foreign.encoded()], SIGNATURE);
    expect_refused(&mut guest, &[foreign.certify("web"), root.encoded()], SIGNATURE);
    let below = foreign.delegate(2036);
    expect_refused(&mut guest, &[below.certify("web"), below.encoded(), root.encoded()], SIGNATURE);
    // Signed by itself, with the right name in it.
    let own = guest.request(with(&[certificate_of("web"), root.encoded()]));
    assert_eq!(own.verdict(), ("deny".to_owned(), "credential".to_owned(), 401), "{}", reason(&own));
    // A certificate that holds, behind one that does not, is nobody's, and a caller is no authority. (Its name is that of
    // the authorities here.)
    expect_refused(&mut guest, &[foreign.certify("web"), root.certify("web")], NOT_AN_ISSUER);
    assert!(guest.request(with(&[root.certify("web")])).forwarded);
}

#[test]
fn a_link_of_the_chain_that_is_over_is_refused() {
    let root = Authority::new();
    let (over, good) = (root.delegate(2026), root.delegate(2036));
    let mut guest = guest(&[&root]);
    expect_refused(&mut guest, &[over.certify("web"), over.encoded()], NOT_IN_FORCE);
    let chain = [good.certify("web"), good.encoded()];
    assert!(guest.request(with(&chain)).forwarded);
    // What was verified is not verified beyond its end: that of the intermediate.
    guest.world().now_ms = START_MS + 15 * 365 * 86_400_000;
    expect_refused(&mut guest, &chain, NOT_IN_FORCE);
}

#[test]
fn without_roots_nobody_passes_by_certificate() {
    let root = Authority::new();
    let web = root.certify("web");
    let mut none = guest(&[]);
    expect_refused(&mut none, std::slice::from_ref(&web), NO_ROOT);
    expect_refused(&mut none, &[web.clone(), root.encoded()], NO_ROOT);
    assert!(none.request(to_db().with("x-api-key", KEY)).forwarded);
    // And with a new generation that has them, everybody does.
    none.publish(FILE, snapshot(&trusting(&[&root]), 2));
    none.world().now_ms += 1000;
    assert!(none.request(with(&[web])).forwarded);
}

#[test]
fn what_cannot_be_read_behind_a_good_certificate_is_refused() {
    let root = Authority::new();
    let web = root.certify("web");
    let mut guest = guest(&[&root]);
    for rest in ["", "AAAA", "%", "MAA="] {
        let answer = guest.request(with(&[web.clone(), rest.to_owned()]));
        assert_eq!(answer.verdict().2, 401, "{rest}");
    }
    assert!(guest.request(with(&[web])).forwarded);
}

#[test]
fn a_chain_that_was_verified_is_not_verified_again() {
    let root = Authority::new();
    let mut guest = guest(&[&root]);
    assert!(guest.request(to_db().with("x-api-key", KEY)).forwarded);
    let request = with(&[root.certify("web")]);
    let (first, second) = (guest.request(request.clone()), guest.request(request));
    assert!(first.forwarded && second.forwarded);
    assert!(second.fuel * 5 < first.fuel, "{} and then {}", first.fuel, second.fuel);
    let forged = with(&[Authority::new().certify("web")]);
    let (first, second) = (guest.request(forged.clone()), guest.request(forged));
    assert!(!first.forwarded && second.fuel * 2 > first.fuel, "{} and then {}", first.fuel, second.fuel);
}
