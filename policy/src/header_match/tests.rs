//! Criteria on headers, by the tables of consul-policy §3.

#![cfg(feature = "regex-build")]
use super::*;
use crate::headers::HeaderList;

const PSEUDO: Pseudo<'_> =
    Pseudo { path: Some("/a/b?x=1"), authority: "Shop.example:8443", method: "GET", scheme: "https" };

fn criterion(name: &str, test: HeaderTest) -> HeaderMatch {
    HeaderMatch { name: name.to_owned(), test, ignore_case: false, invert: false }
}

fn regex(re2: &str) -> HeaderTest {
    HeaderTest::Regex(Pattern::compile(re2).expect(re2))
}

/// The answer, and the answer to the inverted criterion.
fn ask_both(matcher: &HeaderMatch, headers: &HeaderList, pseudo: &Pseudo<'_>) -> (Held, Held) {
    let inverted = HeaderMatch { invert: !matcher.invert, ..matcher.clone() };
    (matcher.holds(headers, pseudo), inverted.holds(headers, pseudo))
}

/// What a test on `x-role` says of these values.
#[track_caller]
fn check(test: &HeaderTest, values: &[&str], held: Held) {
    let headers = HeaderList::new(values.iter().map(|value| ("X-Role", *value)));
    let (plain, inverted) = ask_both(&criterion("x-role", test.clone()), &headers, &PSEUDO);
    assert_eq!(plain, held, "{test:?} of {values:?}");
    assert_eq!(inverted, held.not(), "inverted {test:?} of {values:?}");
}

fn exact(text: &str) -> HeaderTest {
    HeaderTest::Exact(text.to_owned())
}

fn prefix(text: &str) -> HeaderTest {
    HeaderTest::Prefix(text.to_owned())
}

fn suffix(text: &str) -> HeaderTest {
    HeaderTest::Suffix(text.to_owned())
}

fn part(text: &str) -> HeaderTest {
    HeaderTest::Contains(text.to_owned())
}

#[test]
fn one_value_is_compared_byte_by_byte() {
    for (test, holds, others) in [
        (exact("admin"), "admin", ["Admin", "admins"]),
        (prefix("adm"), "admin", ["Admin", "xadmin"]),
        (suffix("min"), "admin", ["adMIN", "minx"]),
        (part("dm"), "admin", ["aDMin", "d-m"]),
        (regex("a.*n"), "admin", ["admins", "Admin"]),
        (regex("(?i)k"), "\u{212a}", ["kk", ""]),
        (exact(""), " ", ["b", "a"]),
    ] {
        check(&test, &[holds], Held::Yes);
        for other in others {
            check(&test, &[other], Held::No);
        }
    }
    for test in [prefix(""), suffix(""), part("")] {
        check(&test, &["a"], Held::Yes);
        check(&test, &[""], Held::Yes);
    }
}

#[test]
fn several_values_are_one_text_unless_one_of_them_alone_says_otherwise() {
    let values = ["user", "admin"];
    for test in [prefix(""), part(""), regex("[a-z,]+"), HeaderTest::Present] {
        check(&test, &values, Held::Yes);
    }
    for test in [part("user, admin"), exact("user, admin"), exact("guest"), prefix("ad,"), regex("[0-9]+")] {
        check(&test, &values, Held::No);
    }
    // To Consul's proxies all of these hold.
    for test in
        [exact("user,admin"), prefix("user,"), suffix("r,admin"), part("r,a"), part("admin"), regex("[a-z]+,admin")]
    {
        check(&test, &values, Held::Doubt);
    }
    // To them none of these does (CVE-2026-26308).
    for test in [exact("admin"), prefix("admin"), suffix("user"), regex("admin")] {
        check(&test, &values, Held::Doubt);
    }
}

#[test]
fn several_values_with_empty_ones_are_doubtful_where_that_matters() {
    for (test, values, held) in [
        // Envoy makes `a` of it for `accept`, and `,a` for others.
        (exact("a"), &["", "a"][..], Held::Doubt),
        (exact(",a"), &["", "a"], Held::Doubt),
        (prefix("a"), &["", "a"], Held::Doubt),
        (suffix("a"), &["", "a"], Held::Doubt),
        (suffix("a"), &["a", ""], Held::Doubt),
        (part("a"), &["", "a"], Held::Doubt),
        (exact("b"), &["", "a"], Held::No),
        (exact(""), &["", ""], Held::Doubt),
        (regex(",?a"), &["", "a"], Held::Doubt),
        (regex(",?a?"), &["", "a"], Held::Yes),
        (HeaderTest::Present, &["", ""], Held::Yes),
    ] {
        check(&test, values, held);
    }
}

#[test]
fn on_a_header_that_is_not_there_only_inverted_presence_holds() {
    let headers = HeaderList::new([("x-other", "a")]);
    for test in [exact("a"), prefix(""), suffix("a"), part(""), regex(".*"), regex("b")] {
        assert_eq!(ask_both(&criterion("x-role", test), &headers, &PSEUDO), (Held::No, Held::No));
    }
    let present = criterion("x-role", HeaderTest::Present);
    assert_eq!(ask_both(&present, &headers, &PSEUDO), (Held::No, Held::Yes));
    assert_eq!(ask_both(&present, &HeaderList::new([("X-ROLE", "")]), &PSEUDO), (Held::Yes, Held::No));
}

#[test]
fn ignored_case_is_that_of_ascii() {
    let ask = |test: HeaderTest, value: &str| {
        let matcher = HeaderMatch { ignore_case: true, ..criterion("x-role", test) };
        matcher.holds(&HeaderList::new([("x-role", value)]), &PSEUDO)
    };
    for test in [exact("aDmin"), prefix("AD"), suffix("MiN"), part("DM")] {
        assert_eq!(ask(test, "AdMiN"), Held::Yes);
    }
    assert_eq!(ask(exact("é"), "É"), Held::No);
    assert_eq!(ask(exact("k"), "\u{212a}"), Held::No);
    assert_eq!(ask(regex("admin"), "ADMIN"), Held::No);
}

#[test]
fn another_spelling_of_the_name_makes_every_test_doubtful() {
    for headers in [HeaderList::new([("X_Role", "admin")]), HeaderList::new([("x-role", "admin"), ("x.role", "user")])]
    {
        for test in [exact("admin"), regex("admin"), HeaderTest::Present, part("z")] {
            assert_eq!(ask_both(&criterion("x-role", test), &headers, &PSEUDO), (Held::Doubt, Held::Doubt));
        }
    }
}

#[test]
fn a_pattern_is_doubtful_on_a_value_that_is_not_text() {
    let headers = HeaderList::new([("x-role", b"a\xff".as_slice())]);
    assert_eq!(ask_both(&criterion("x-role", regex("a.*")), &headers, &PSEUDO), (Held::Doubt, Held::Doubt));
    assert_eq!(ask_both(&criterion("x-role", prefix("a")), &headers, &PSEUDO), (Held::Yes, Held::No));
    let split = HeaderList::new([("x-role", b"a\xc3".as_slice()), ("x-role", b"\xa9")]);
    assert_eq!(criterion("x-role", regex(".*")).holds(&split, &PSEUDO), Held::Doubt);
}

#[test]
fn pseudo_headers_stand_for_parts_of_the_request() {
    let none = HeaderList::default();
    for (name, test, held) in [
        (":path", exact("/a/b?x=1"), Held::Yes),
        (":path", exact("/a/b"), Held::No),
        (":path", suffix("?x=1"), Held::Yes),
        (":method", exact("GET"), Held::Yes),
        (":method", exact("get"), Held::No),
        (":authority", exact("Shop.example:8443"), Held::Yes),
        ("host", exact("Shop.example:8443"), Held::Yes),
        ("host", exact("shop.example"), Held::No),
        (":scheme", exact("https"), Held::Yes),
        (":path", HeaderTest::Present, Held::Yes),
        (":protocol", exact("websocket"), Held::Doubt),
        (":status", HeaderTest::Present, Held::Doubt),
        ("transfer-encoding", exact("chunked"), Held::Doubt),
        ("trailer", HeaderTest::Present, Held::Doubt),
    ] {
        assert_eq!(ask_both(&criterion(name, test), &none, &PSEUDO), (held, held.not()), "{name}");
    }
    let unknown = Pseudo { path: None, authority: "", method: "", scheme: "" };
    for name in [":path", ":method", ":authority", "host", ":scheme"] {
        for test in [HeaderTest::Present, exact("")] {
            assert_eq!(ask_both(&criterion(name, test), &none, &unknown), (Held::Doubt, Held::Doubt), "{name}");
        }
    }
    let sent = HeaderList::new([(":method", "POST"), ("host", "other"), (":path", "/z")]);
    assert_eq!(criterion(":method", exact("POST")).holds(&sent, &PSEUDO), Held::No, "not from the header lines");
    assert_eq!(criterion("host", exact("other")).holds(&sent, &PSEUDO), Held::No);
}

#[test]
fn escapes_of_the_path_are_compared_without_case_and_those_of_the_query_with() {
    let pseudo = Pseudo { path: Some("/caf%C3%A9?x=%c3%a9"), ..PSEUDO };
    for (test, held) in [
        (exact("/caf%c3%a9?x=%c3%a9"), Held::Yes),
        (exact("/caf%C3%A9?x=%C3%A9"), Held::No),
        (prefix("/caf%c3"), Held::Yes),
        (prefix("/caf%c"), Held::Yes),
        (part("f%C3"), Held::Yes),
        (part("f%c3"), Held::Doubt),
        (part("f%c3%a9?"), Held::Yes),
        (part("c3%"), Held::Yes),
        (part("/caf%c"), Held::Doubt),
        (suffix("=%c3%a9"), Held::Yes),
        (suffix("=%C3%a9"), Held::No),
        (part("e9"), Held::No),
        (regex("/caf%C3.*"), Held::Doubt),
        (regex("/caf(?i:%c3).*"), Held::Yes),
        (regex(".*x=%c3%a9"), Held::Yes),
        (regex(".*x=%C3.*"), Held::No),
    ] {
        let answers = ask_both(&criterion(":path", test.clone()), &HeaderList::default(), &pseudo);
        assert_eq!(answers, (held, held.not()), "{test:?}");
    }
}

#[test]
fn a_pattern_on_a_path_is_doubtful_where_the_case_of_escapes_decides() {
    let path = |re2: &str| Pattern::compile_path(re2).expect(re2);
    for (pattern, held) in [
        (path("/caf%c3%a9"), Held::Yes),
        (path("/caf%C3%A9"), Held::Yes),
        (path("/caf(%[0-9a-f]{2})*"), Held::Yes),
        (path("/caf%(c3|c4)%a9"), Held::Doubt),
        (path("/[^C]*"), Held::Doubt),
        (path("/[^%]*"), Held::No),
        (path("/.*"), Held::Yes),
    ] {
        assert_eq!(matches_path(&pattern, "/caf%C3%A9"), held, "{pattern:?}");
    }
    assert_eq!(matches_path(&path("/[^C]*"), "/%20C"), Held::No);
}

#[test]
fn a_referer_that_envoy_may_take_away_is_doubtful() {
    for (value, test, answers) in [
        ("https://shop.example/a?b", prefix("https://shop.example/"), (Held::Yes, Held::No)),
        ("https://shop.example", HeaderTest::Present, (Held::Yes, Held::No)),
        ("http://localhost:3000/", HeaderTest::Present, (Held::Yes, Held::No)),
        ("http://localhost:x/", HeaderTest::Present, (Held::Doubt, Held::Doubt)),
        ("https://evil.example/", prefix("https://shop.example/"), (Held::No, Held::Yes)),
        ("shop", exact("shop"), (Held::Doubt, Held::No)),
        ("https://u@shop.example/", prefix("https://"), (Held::Doubt, Held::No)),
        ("https://shop.example/#a", HeaderTest::Present, (Held::Doubt, Held::Doubt)),
        ("", HeaderTest::Present, (Held::Doubt, Held::Doubt)),
        // Inverted, it would hold if it is there.
        ("shop", exact("other"), (Held::No, Held::Doubt)),
    ] {
        let headers = HeaderList::new([("Referer", value)]);
        assert_eq!(ask_both(&criterion("referer", test), &headers, &PSEUDO), answers, "{value}");
    }
    let twice = HeaderList::new([("referer", "https://a"), ("referer", "https://b")]);
    assert_eq!(criterion("referer", exact("https://a,https://b")).holds(&twice, &PSEUDO), Held::Doubt);
}

#[test]
fn what_envoy_drops_elsewhere_is_doubtful_too() {
    let websocket = HeaderList::new([("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket")]);
    let upgrade = criterion("upgrade", exact("websocket"));
    assert_eq!(ask_both(&upgrade, &websocket, &PSEUDO), (Held::Yes, Held::No));
    let alone = HeaderList::new([("Upgrade", "websocket")]);
    assert_eq!(ask_both(&upgrade, &alone, &PSEUDO), (Held::Doubt, Held::No));
    assert_eq!(criterion("connection", HeaderTest::Present).holds(&websocket, &PSEUDO), Held::Doubt);
    assert_eq!(ask_both(&criterion("connection", HeaderTest::Present), &alone, &PSEUDO), (Held::No, Held::Yes));
    for (te, held) in [("trailers", Held::Yes), ("gzip", Held::Doubt), ("trailers, gzip", Held::Doubt)] {
        assert_eq!(criterion("te", HeaderTest::Present).holds(&HeaderList::new([("te", te)]), &PSEUDO), held, "{te}");
    }
    let internal = HeaderList::new([("x-envoy-internal", "true")]);
    assert_eq!(criterion("x-envoy-internal", exact("true")).holds(&internal, &PSEUDO), Held::Doubt);
    assert_eq!(criterion("x-envoy-internal", exact("true")).holds(&alone, &PSEUDO), Held::No);
}

#[test]
fn a_criterion_survives_being_stored() {
    for test in [HeaderTest::Present, exact("a"), regex("a+")] {
        let matcher = HeaderMatch { ignore_case: true, invert: true, ..criterion("x-role", test) };
        let bytes = postcard::to_allocvec(&matcher).expect("is written");
        assert_eq!(postcard::from_bytes::<HeaderMatch>(&bytes).expect("is read"), matcher);
    }
}
