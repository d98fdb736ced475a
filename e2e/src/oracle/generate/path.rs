//! Paths of rules, and request targets that are nearly or exactly what a rule means.

use fastrand::Rng;

use crate::oracle::policy::PathRule;

/// The paths that rules are about. Few, so that rules meet each other and requests meet rules.
const PLAIN: [&str; 14] = [
    "/",
    "/admin",
    "/admin/",
    "/admin/users",
    "/v1",
    "/v1/items",
    "/v1/items/7",
    "/v1/secret",
    "/a",
    "/a/b",
    "/a/b/c",
    "/files/x.tar.gz",
    "/~user",
    "/A/B",
];

/// Paths that the proxy never shows to a rule in this spelling, or that only their exact spelling meets (consul-policy §3.3).
const ODD: [&str; 14] = [
    "/a//b",
    "/a/../b",
    "/a/./b",
    "/a%2fb",
    "/a%7Eb",
    "/a%20b",
    "/a{b}",
    "/a%7Bb%7D",
    "/a;x=1",
    "/%C3%A9",
    "/%c3%a9",
    "/a%2Fb",
    "/a?x",
    "/a/b?",
];

/// Patterns, with what they may or may not match as a whole.
const PATTERNS: [(&str, &[&str]); 12] = [
    ("/v[0-9]+/.*", &["/v1/items", "/v12/", "/v/x", "/v1", "/x/v1/y"]),
    ("/a|/b", &["/a", "/b", "/ab", "/a/b", "/x/b"]),
    ("(?i)/ADMIN/?", &["/admin", "/Admin/", "/ADMIN", "/admins"]),
    ("/[^/]+/secret", &["/a/secret", "/a/b/secret", "//secret", "/v1/secret/"]),
    ("/a.b", &["/a.b", "/a/b", "/axb", "/a%2fb", "/a%20b"]),
    ("/.{4}", &["/abcd", "/caf%C3%A9", "/abcde"]),
    ("/\\w+(/\\d+)?", &["/a/7", "/items", "/a-b", "/a/7/"]),
    ("/(items|admin)?", &["/", "/items", "/admin", "/itemsadmin"]),
    ("^/admin$", &["/admin", "/admin/"]),
    ("admin", &["/admin", "/"]),
    ("/caf%[cC]3%[aA]9", &["/caf%c3%a9", "/caf%C3%A9"]),
    ("/x{1,2}/(?:y|)", &["/x/", "/xx/y", "/xxx/"]),
];

/// Pieces of what attackers write.
const PIECES: [&str; 31] = [
    "/", "//", "/.", "/./", "/..", "/../", "/x/..", "/%2e%2e/", "/%2E/", "/..;/", "/...", ";", ";x=1", "%2f", "%2F",
    "%5c", "\\", "%252f", "%252e", "%00", "%0a", "%zz", "%4", "%", "%20", "%c0%af", "%C3%A9", "{b}", "\"", "|", "%25",
];

/// A path rule.
pub(super) fn rule(random: &mut Rng) -> PathRule {
    match random.u8(0..10) {
        0..2 => PathRule::Regex(PATTERNS[random.usize(..PATTERNS.len())].0.to_owned()),
        2..6 => PathRule::Prefix(rule_text(random)),
        _ => PathRule::Exact(rule_text(random)),
    }
}

fn rule_text(random: &mut Rng) -> String {
    let list: &[&str] = if random.u8(0..6) == 0 { &ODD } else { &PLAIN };
    list[random.usize(..list.len())].to_owned()
}

/// A request target that is about a rule.
pub(super) fn near(random: &mut Rng, rule: &PathRule) -> Vec<u8> {
    let path = match rule {
        PathRule::Exact(text) => text.clone(),
        PathRule::Prefix(text) => {
            let behind = ["", "", "x", "/x", "/", "/a/b", ".."];
            format!("{text}{}", behind[random.usize(..behind.len())])
        }
        PathRule::Regex(pattern) => {
            let examples = PATTERNS.iter().find(|(it, _)| it == pattern).map_or(&[][..], |(_, examples)| *examples);
            random.choice(examples).map_or_else(|| rule_text(random), ToString::to_string)
        }
    };
    target(random, path.into_bytes())
}

/// A request target about nothing in particular.
pub(super) fn any(random: &mut Rng) -> Vec<u8> {
    let path = rule_text(random);
    target(random, path.into_bytes())
}

/// Changes a path a little, or not at all, and may add a query.
fn target(random: &mut Rng, mut path: Vec<u8>) -> Vec<u8> {
    let changes = [0, 0, 0, 1, 1, 1, 2, 3];
    for _ in 0..changes[random.usize(..changes.len())] {
        change(random, &mut path);
    }
    if random.u8(0..6) == 0 {
        path = with_escapes_in_other_case(path);
    }
    match random.u8(0..40) {
        0..4 => path.extend_from_slice(b"?q=1"),
        4 => path.extend_from_slice(b"?a=/../b&c=%2e"),
        5 => path.push(b'?'),
        6 => path.extend_from_slice(b"#f"),
        7 if path.starts_with(b"/") => path = [b"http://shop.example:8443".as_slice(), &path].concat(),
        _ => {}
    }
    path
}

/// The digits of escapes in lower case, if one of them is in upper case, else in upper case.
fn with_escapes_in_other_case(mut path: Vec<u8>) -> Vec<u8> {
    let escapes: Vec<_> = (0..path.len()).filter(|at| path[*at] == b'%').flat_map(|at| [at + 1, at + 2]).collect();
    let digits: Vec<_> = escapes.into_iter().filter(|at| path.get(*at).is_some_and(u8::is_ascii_hexdigit)).collect();
    let lower = digits.iter().any(|at| path[*at].is_ascii_uppercase());
    for at in digits {
        path[at] = if lower { path[at].to_ascii_lowercase() } else { path[at].to_ascii_uppercase() };
    }
    path
}

fn change(random: &mut Rng, path: &mut Vec<u8>) {
    // The first byte stays a slash mostly: without one, no rule is asked.
    let least = usize::from(path.len() > 1 && random.u8(0..30) > 0);
    let at = random.usize(least.min(path.len())..=path.len());
    let byte = path.get(at).copied();
    match random.u8(0..12) {
        0..3 => {
            // An escape that means the same byte.
            if let Some(byte) = byte {
                let escape = if random.bool() { format!("%{byte:02x}") } else { format!("%{byte:02X}") };
                path.splice(at..=at, escape.into_bytes());
            }
        }
        3 => {
            if let Some(byte) = byte {
                path.splice(at..=at, format!("%25{byte:02x}").into_bytes());
            }
        }
        4..8 => {
            let piece = PIECES[random.usize(..PIECES.len())];
            path.splice(at..at, piece.bytes());
        }
        8 => {
            if let Some(byte) = path.get_mut(at) {
                *byte = if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
            }
        }
        9 => path.truncate(at),
        10 => path.push([b'/', b'x', b'.', b'?'][random.usize(..4)]),
        _ => {
            // A raw byte: what needs no escape, what should have one, and what is not ASCII.
            let raw: [&[u8]; 12] =
                [b"<", b">", b"^", b"`", b"'", b"(", b"@", b":", b"+", b"&", "\u{e9}".as_bytes(), b"\xff"];
            path.splice(at..at, raw[random.usize(..raw.len())].iter().copied());
        }
    }
}
