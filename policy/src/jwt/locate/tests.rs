//! Queries and cookies in the forms that clients and forgers write them.

use super::*;
use crate::headers::HeaderList;

fn found(location: Location, headers: &[(&str, &str)], uri: &str) -> Vec<String> {
    let headers = HeaderList::new(headers.iter().copied());
    let tokens = tokens(&[location], &TokenRequest { headers: &headers, uri, now: 0 }).unwrap();
    tokens.iter().map(|token| String::from_utf8_lossy(token).into_owned()).collect()
}

#[test]
fn every_parameter_of_the_name_is_a_token() {
    for (uri, expected) in [
        ("/", &[][..]),
        ("/t=a", &[]),
        ("/?", &[]),
        ("/?t", &[""]),
        ("/?t=", &[""]),
        ("/?t=a", &["a"]),
        ("/?x=1&t=a&y", &["a"]),
        ("/?t=a&t=b", &["a", "b"]),
        ("/?t=a&t=a", &["a"]),
        ("/?x;t=a;t=b&t=c", &["a", "b", "c"]),
        ("/?%74=%61%2Eb", &["a.b"]),
        ("/?t=a=b", &["a=b"]),
        ("/?T=a&tt=b&xt=c", &[]),
        ("/?t=%zz%4", &["%zz%4"]),
        ("/?x=?t=a", &[]),
        ("/?t=a?t=b", &["a?t=b"]),
        ("/?t=a+b", &["a+b"]),
    ] {
        assert_eq!(found(Location::Query("t".to_owned()), &[], uri), expected, "{uri}");
    }
}

#[test]
fn the_rest_of_a_query_stays_as_it_was_written() {
    for (uri, expected) in [
        ("/a", None),
        ("/a?x=1", None),
        ("/a?", None),
        ("/a?t=1", Some("/a")),
        ("/a?t", Some("/a")),
        ("/a?t=1&x=2", Some("/a?x=2")),
        ("/a?x=2&t=1", Some("/a?x=2")),
        ("/a?x=2&t=1&y=%20+;z", Some("/a?x=2&y=%20+;z")),
        ("/a?x;t=1;y", Some("/a?x;y")),
        ("/a?%74=1&x=%74", Some("/a?x=%74")),
        ("/a?t=1&t=2;t=3", Some("/a")),
        ("/a?x&&t=1", Some("/a?x&")),
        ("/a?x=?t=1&t=2", Some("/a?x=?t=1")),
    ] {
        assert_eq!(without_parameter(uri, "t").as_deref(), expected, "{uri}");
    }
}

#[test]
fn what_is_left_holds_no_parameter_of_the_name() {
    use proptest::prelude::*;
    proptest!(|(query in "(t|%74|x|=|&|;|%|\\?|1){0,12}")| {
        let uri = format!("/a?{query}");
        if let Some(rest) = without_parameter(&uri, "t") {
            prop_assert_eq!(without_parameter(&rest, "t"), None);
            prop_assert!(in_query(&rest, "t").is_empty());
        } else {
            prop_assert!(in_query(&uri, "t").is_empty());
        }
    });
}

#[test]
fn cookies_are_found_in_every_cookie_header() {
    let of = |values: &[&str]| {
        let headers: Vec<_> = values.iter().map(|value| ("Cookie", *value)).collect();
        found(Location::Cookie("s".to_owned()), &headers, "/?s=q")
    };
    for (values, expected) in [
        (&[][..], &[][..]),
        (&["s=a"], &["a"]),
        (&["x=1; s=a; y"], &["a"]),
        (&["x=1;s=a;s=b", "s=c"], &["a", "b", "c"]),
        (&["s=\"a\""], &["a"]),
        (&["s=\"a"], &["\"a"]),
        (&["s="], &[""]),
        (&["s"], &[]),
        (&["S=a; ss=b; xs=c; s =d"], &[]),
        (&["s=a=b"], &["a=b"]),
    ] {
        assert_eq!(of(values), expected, "{values:?}");
    }
}

#[test]
fn a_header_counts_where_its_value_begins_with_the_prefix() {
    let location = || Location::Header { name: "x-t".to_owned(), prefix: "Bearer ".to_owned(), forward: false };
    for (value, expected) in [
        ("Bearer a", &["a"][..]),
        ("Bearer ", &[""]),
        ("Bearer  a", &[" a"]),
        ("bearer a", &[]),
        ("Bearer", &[]),
        ("x Bearer a", &[]),
        ("", &[]),
    ] {
        assert_eq!(found(location(), &[("X-T", value)], "/"), expected, "{value}");
    }
    assert_eq!(found(location(), &[("X-T", "Bearer a"), ("x-t", "Bearer b"), ("X_T", "Bearer c")], "/"), ["a", "b"]);
}
