//! Criteria on headers (consul-policy §3.2 and §3.5).
//!
//! Several values of a header are one text, joined by `,`, before anything is compared. A value criterion on a header that
//! is not there does not hold, and inverting it changes nothing about that. Where the gateway cannot know what the backend
//! will see, the answer is [`Held::Doubt`].

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{headers::Headers, path, regex::Pattern};

/// One element of a permission's `Header`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderMatch {
    /// The name in lower case, or a pseudo header: `:path`, `:method`, `:authority` (which is also `host`), `:scheme`.
    pub name: String,
    /// What is asked of the header.
    pub test: HeaderTest,
    /// Whether ASCII letters are compared without case. Means nothing to `Present` and `Regex`.
    pub ignore_case: bool,
    /// Whether the answer is turned round, except on a header that is not there.
    pub invert: bool,
}

/// What is asked of a header. Texts are compared byte by byte with the joined value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeaderTest {
    /// It is there, be it empty.
    Present,
    /// The whole value.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// Its end.
    Suffix(String),
    /// Any part of it.
    Contains(String),
    /// The whole value matches.
    Regex(Pattern),
}

/// Whether a criterion holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// It depends on who reads the request: a deny with it holds, an allow does not.
    Doubt,
}

/// What pseudo headers stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pseudo<'a> {
    /// The canonical path, and the query after `?` if there is one; none if the path is ambiguous.
    pub path: Option<&'a str>,
    /// Host and port as sent, the case kept; empty if not known.
    pub authority: &'a str,
    /// As sent.
    pub method: &'a str,
    /// `http` or `https`; empty if not known.
    pub scheme: &'a str,
}

/// Longest text that a pattern is held against, in bytes: twice what servers usually accept of all headers together.
const MAX_SEARCHED: usize = 16 * 1024;

/// Fields that Go's server takes away before anybody sees them.
const HIDDEN: [&str; 2] = ["trailer", "transfer-encoding"];

impl Held {
    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Doubt => Self::Doubt,
        }
    }
}

impl From<bool> for Held {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

impl HeaderMatch {
    /// Asks the criterion about a request.
    pub fn holds(&self, headers: &dyn Headers, pseudo: &Pseudo<'_>) -> Held {
        match self.name.as_str() {
            ":path" => self.holds_for_path(pseudo.path),
            ":method" => self.holds_for_known(pseudo.method),
            ":authority" | "host" if pseudo.authority.is_empty() => match headers.values("host").as_slice() {
                [host] if !host.is_empty() => self.turned(self.holds_for(host)),
                _ => Held::Doubt,
            },
            ":authority" | "host" => self.holds_for_known(pseudo.authority),
            ":scheme" => self.holds_for_known(pseudo.scheme),
            name if name.starts_with(':') || HIDDEN.contains(&name) || headers.has_alias(name) => Held::Doubt,
            name => {
                let values = headers.values(name);
                // Envoy leaves nothing of it but `trailers`.
                if name == "te" && values.iter().any(|value| **value != *b"trailers") {
                    return Held::Doubt;
                }
                let held = self.holds_for_values(&values);
                // Envoy takes it away or does not, and the backend gets it from Traefik.
                let sure = !may_be_dropped(name, &values, headers) || held == self.holds_for_values(&[]);
                if sure { held } else { Held::Doubt }
            }
        }
    }

    /// A field that every request has.
    fn holds_for_known(&self, value: &str) -> Held {
        if value.is_empty() { Held::Doubt } else { self.turned(self.holds_for(value.as_bytes())) }
    }

    /// White space around a value is no part of it (RFC 9110 §5.5). Go's server leaves some there, when a line was folded and
    /// over HTTP/2, and its client takes it away again: the backend sees a value without (CVE-2019-18802).
    fn holds_for_values(&self, values: &[Cow<'_, [u8]>]) -> Held {
        let values: Vec<&[u8]> = values.iter().map(|value| value.trim_ascii()).collect();
        match values.as_slice() {
            [] => Held::from(self.invert && self.test == HeaderTest::Present),
            [value] => self.turned(self.holds_for(value)),
            values => {
                let joined = self.holds_for(&values.join(&b','));
                if values.iter().any(|value| value.is_empty()) {
                    // Envoy leaves empty values out of some fields and keeps them in others, and so do backends.
                    let filled: Vec<_> = values.iter().filter(|value| !value.is_empty()).copied().collect();
                    if self.holds_for(&filled.join(&b',')) != joined {
                        return Held::Doubt;
                    }
                }
                // A backend that takes the first line, or the last, must come to the same answer (CVE-2026-26308).
                if values.iter().any(|value| self.holds_for(value) != joined) {
                    return Held::Doubt;
                }
                self.turned(joined)
            }
        }
    }

    /// In the path, the hexadecimal digits of escapes are in upper case, however they were sent (see
    /// [`path::canonical_rule`]); the query is as sent.
    fn holds_for_path(&self, path: Option<&str>) -> Held {
        let Some(path) = path else { return Held::Doubt };
        let held = match &self.test {
            HeaderTest::Present => Held::Yes,
            HeaderTest::Exact(want) => self.compare_path(is, path, want, true),
            HeaderTest::Prefix(want) => self.compare_path(begins, path, want, true),
            HeaderTest::Suffix(want) => self.compare_path(ends, path, want, want.contains('?')),
            HeaderTest::Contains(want) => self.compare_path(contains, path, want, want.contains('?')),
            HeaderTest::Regex(pattern) => matches_path(pattern, path),
        };
        self.turned(held)
    }

    /// `placed`: whether it is plain what of the text is about the path and what about the query.
    fn compare_path(&self, compare: fn(&[u8], &[u8]) -> bool, path: &str, want: &str, placed: bool) -> Held {
        if self.compare(compare, path.as_bytes(), want.as_bytes()) {
            return Held::Yes;
        }
        if self.compare(compare, path.as_bytes(), in_path(want, path::canonical_rule).as_bytes()) {
            return if placed { Held::Yes } else { Held::Doubt };
        }
        // Half an escape in the rule's text: it depends on the spelling that was sent.
        let lower = in_path(path, path::lower_hex);
        if self.compare(compare, lower.as_bytes(), want.as_bytes()) { Held::Doubt } else { Held::No }
    }

    fn holds_for(&self, value: &[u8]) -> Held {
        match &self.test {
            HeaderTest::Present => Held::Yes,
            HeaderTest::Exact(want) => self.compare(is, value, want.as_bytes()).into(),
            HeaderTest::Prefix(want) => self.compare(begins, value, want.as_bytes()).into(),
            HeaderTest::Suffix(want) => self.compare(ends, value, want.as_bytes()).into(),
            HeaderTest::Contains(want) => self.compare(contains, value, want.as_bytes()).into(),
            // A search costs a step for each byte, of each rule that asks.
            HeaderTest::Regex(_) if value.len() > MAX_SEARCHED || core::str::from_utf8(value).is_err() => Held::Doubt,
            HeaderTest::Regex(pattern) => pattern.is_full_match(value).into(),
        }
    }

    fn compare(&self, compare: fn(&[u8], &[u8]) -> bool, value: &[u8], want: &[u8]) -> bool {
        if self.ignore_case {
            compare(&value.to_ascii_lowercase(), &want.to_ascii_lowercase())
        } else {
            compare(value, want)
        }
    }

    fn turned(&self, held: Held) -> Held {
        if self.invert { held.not() } else { held }
    }
}

/// Whether a pattern matches a canonical path, or a path and its query.
///
/// The hexadecimal digits of escapes are in upper case in a canonical path, however they were sent. Where a pattern tells
/// the cases apart, the answer is doubt: write `(?i:%c3%a9)` to meet both.
pub fn matches_path(pattern: &Pattern, canonical: &str) -> Held {
    if canonical.len() > MAX_SEARCHED {
        return Held::Doubt;
    }
    let (held, lower) = (pattern.is_full_match(canonical.as_bytes()), in_path(canonical, path::lower_hex));
    // Most paths hold no such escape.
    let same = matches!(lower, Cow::Borrowed(_)) || pattern.is_full_match(lower.as_bytes()) == held;
    if same { held.into() } else { Held::Doubt }
}

/// The text with its part before the query changed.
fn in_path(text: &str, change: fn(&str) -> Cow<'_, str>) -> Cow<'_, str> {
    let Some((path, query)) = text.split_once('?') else { return change(text) };
    match change(path) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(path) => Cow::Owned(path + "?" + query),
    }
}

/// Whether Envoy drops the field before the rules, or may.
fn may_be_dropped(name: &str, values: &[Cow<'_, [u8]>], headers: &dyn Headers) -> bool {
    match name {
        // What is no URL.
        "referer" => values.len() > 1 || !values.iter().all(|value| is_plain_url(value)),
        // What the connection is not asked for.
        "upgrade" => {
            let connection = headers.values("connection").join(&b',');
            !connection.split(|byte| *byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
        }
        // What is between two neighbours on the way.
        "connection" | "keep-alive" | "proxy-connection" => true,
        // Its own, from outside.
        _ => name.starts_with("x-envoy-"),
    }
}

/// Whether nobody doubts that it is a URL a browser would send; there are others.
fn is_plain_url(text: &[u8]) -> bool {
    let rest = text.strip_prefix(b"http").map(|rest| rest.strip_prefix(b"s").unwrap_or(rest));
    let Some(rest) = rest.and_then(|rest| rest.strip_prefix(b"://")) else { return false };
    let authority = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
    let mut parts = authority.splitn(2, |byte| *byte == b':');
    let (host, port) = (parts.next().unwrap_or_default(), parts.next().unwrap_or(b"443"));
    let is_host = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'.' || *byte == b'-';
    let is_rest = |byte: &u8| byte.is_ascii_alphanumeric() || b"/.-_~?&=%+,!$*:@".contains(byte);
    !host.is_empty()
        && host.iter().all(is_host)
        && (1..=4).contains(&port.len())
        && port.iter().all(u8::is_ascii_digit)
        && rest.iter().all(is_rest)
}

fn is(value: &[u8], want: &[u8]) -> bool {
    value == want
}

fn begins(value: &[u8], want: &[u8]) -> bool {
    value.starts_with(want)
}

fn ends(value: &[u8], want: &[u8]) -> bool {
    value.ends_with(want)
}

fn contains(value: &[u8], want: &[u8]) -> bool {
    // `windows` has none of length 0.
    want.is_empty() || value.windows(want.len()).any(|part| part == want)
}

#[cfg(test)]
mod tests;
