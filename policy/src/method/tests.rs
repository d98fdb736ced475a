//! Methods that a request says twice.

use super::*;
use crate::headers::HeaderList;

fn ask(method: &'static str, headers: &[(&str, &str)], uri: &str) -> Result<&'static str, MethodDoubt> {
    effective(method, &HeaderList::new(headers.iter().copied()), uri)
}

#[test]
fn a_request_that_asks_for_nothing_has_the_method_it_has() {
    for (headers, uri) in [
        (&[][..], "/a"),
        (&[("x-method", "DELETE"), ("method", "DELETE")], "/_method=DELETE?method=DELETE&x_method=DELETE&a=_method"),
        (&[("X-HTTP-Method-Override", "get")], "/?_method=GET&_method=get"),
        (&[("x-http-method", " GET ")], "/?"),
    ] {
        assert_eq!(ask("GET", headers, uri), Ok("GET"), "{headers:?} {uri}");
    }
}

#[test]
fn a_header_that_asks_for_another_method_makes_it_doubtful() {
    for (name, value) in [
        ("X-HTTP-Method-Override", "DELETE"),
        ("x-http-method", "DELETE"),
        ("X-Method-Override", "DELETE"),
        ("X-Method-Override", ""),
        ("X-Method-Override", "GET, DELETE"),
        ("x-method-override", "\u{e9}"),
        // An alias, whatever it says.
        ("X_HTTP_Method_Override", "GET"),
        ("X.HTTP-Method", "GET"),
    ] {
        assert_eq!(ask("GET", &[(name, value)], "/"), Err(MethodDoubt::Header), "{name}: {value}");
    }
    let twice = [("x-method-override", "GET"), ("x-method-override", "PUT")];
    assert_eq!(ask("GET", &twice, "/"), Err(MethodDoubt::Header));
}

#[test]
fn a_parameter_that_asks_for_another_method_makes_it_doubtful() {
    for query in [
        "_method=DELETE",
        "a=b&_method=DELETE",
        "a=b;_method=DELETE",
        "_method=GET&_method=DELETE",
        "%5Fmethod=DELETE",
        "_%6dethod=%44ELETE",
        "_METHOD=DELETE",
        ".method=DELETE",
        "_method",
        "_method=",
        "?_method=DELETE&_method=DELETE",
        "_HttpMethod=PATCH",
        "X-HTTP-Method-Override=DELETE",
        "%zz&_method=%",
        "%u005Fmethod=DELETE",
    ] {
        assert_eq!(ask("GET", &[], &format!("/a?{query}")), Err(MethodDoubt::Parameter), "{query}");
    }
}
