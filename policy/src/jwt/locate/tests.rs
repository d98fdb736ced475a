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
    assert_eq!(found(location(), &[("X-T", "Bearer a"), ("X_T", "Bearer c")], "/"), ["a"]);
    let lines = HeaderList::new([("X-T", "Bearer a"), ("x-t", "Bearer b")]);
    let request = TokenRequest { headers: &lines, uri: "/", now: 0 };
    assert_eq!(tokens(&[location()], &request), Err(Rejected::Malformed));
}
