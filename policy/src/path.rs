//! The one canonicaliser of request paths.
//!
//! Policy must be decided on the path that the backend will understand. A path that two servers could read differently has
//! no canonical form: it is [`Ambiguous`], matches every deny and no allow (consul-policy §6.3, traefik §5). What is
//! forwarded is the request as it came, so only a path whose reading is beyond doubt is ever allowed by a path rule.

use std::{borrow::Cow, fmt};

/// Why a path has no single reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ambiguous {
    /// It does not begin with `/` (`*` of `OPTIONS *` included).
    NotAbsolute,
    /// A byte outside 0x21-0x7E, which proxies encode, drop or refuse as they like.
    RawByte,
    /// A `%` without two hexadecimal digits.
    BrokenEscape,
    /// An encoded control byte; `%00` ends a path on some stacks.
    EncodedControl,
    /// An encoded `/`, `\`, `;`, `%`, `?` or `#`: some backends decode it before routing.
    EncodedReserved,
    /// An escape outside ASCII that is not valid UTF-8 (overlong forms included).
    NotUtf8,
    /// A raw `\`, which some servers read as `/`.
    Backslash,
    /// A `;`: servlet containers cut path parameters off.
    PathParameter,
    /// `.` or `..` as a segment.
    DotSegment,
    /// `//`.
    EmptySegment,
    /// A raw `#`, which no request target may hold.
    Fragment,
}

impl Ambiguous {
    /// A short name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotAbsolute => "not-absolute",
            Self::RawByte => "raw-byte",
            Self::BrokenEscape => "broken-escape",
            Self::EncodedControl => "encoded-control",
            Self::EncodedReserved => "encoded-reserved",
            Self::NotUtf8 => "not-utf8",
            Self::Backslash => "backslash",
            Self::PathParameter => "path-parameter",
            Self::DotSegment => "dot-segment",
            Self::EmptySegment => "empty-segment",
            Self::Fragment => "fragment",
        }
    }
}

impl fmt::Display for Ambiguous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "the path does not begin with a slash",
            Self::RawByte => "the path holds a raw byte that must be encoded",
            Self::BrokenEscape => "the path holds a broken percent escape",
            Self::EncodedControl => "the path holds an encoded control byte",
            Self::EncodedReserved => {
                "the path holds an encoded slash, backslash, semicolon, percent, question mark or hash"
            }
            Self::NotUtf8 => "the path does not decode to UTF-8",
            Self::Backslash => "the path holds a backslash",
            Self::PathParameter => "the path holds a semicolon",
            Self::DotSegment => "the path holds a dot segment",
            Self::EmptySegment => "the path holds an empty segment",
            Self::Fragment => "the path holds a hash",
        })
    }
}

/// The canonical path of a request target (escaped path, then `?` and the query): the query cut off, percent-encoded
/// unreserved characters decoded (RFC 3986 §6.2.2.2), the hexadecimal digits of other escapes in upper case. Idempotent.
pub fn canonical(target: &str) -> Result<Cow<'_, str>, Ambiguous> {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    if !path.starts_with('/') {
        return Err(Ambiguous::NotAbsolute);
    }
    check_bytes(path)?;
    let canonical = if path.contains('%') { Cow::Owned(decode_unreserved(path)?) } else { Cow::Borrowed(path) };
    // After decoding: `/%2e%2e/` is a dot segment as well.
    check_segments(&canonical)?;
    Ok(canonical)
}

fn check_bytes(path: &str) -> Result<(), Ambiguous> {
    for byte in path.bytes() {
        match byte {
            b'\\' => return Err(Ambiguous::Backslash),
            b';' => return Err(Ambiguous::PathParameter),
            b'#' => return Err(Ambiguous::Fragment),
            0x21..=0x7E => {}
            _ => return Err(Ambiguous::RawByte),
        }
    }
    Ok(())
}

fn check_segments(path: &str) -> Result<(), Ambiguous> {
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => return Err(Ambiguous::DotSegment),
            // A trailing slash leaves an empty last segment, which is no empty segment in between.
            "" if segments.peek().is_some() => return Err(Ambiguous::EmptySegment),
            _ => {}
        }
    }
    Ok(())
}

fn decode_unreserved(path: &str) -> Result<String, Ambiguous> {
    let mut out = String::with_capacity(path.len());
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(char::from(byte));
            decoded.push(byte);
            continue;
        }
        let value = hex_pair(bytes.next(), bytes.next()).ok_or(Ambiguous::BrokenEscape)?;
        match value {
            0..=0x1F | 0x7F => return Err(Ambiguous::EncodedControl),
            b'/' | b'\\' | b';' | b'%' | b'?' | b'#' => return Err(Ambiguous::EncodedReserved),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(value)),
            _ => {
                const HEX: [char; 16] =
                    ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
                out.push('%');
                out.extend(
                    [usize::from(value >> 4), usize::from(value & 15)].into_iter().filter_map(|digit| HEX.get(digit)),
                );
            }
        }
        decoded.push(value);
    }
    // The C1 controls (U+0080..U+009F) are control bytes too once decoded.
    match core::str::from_utf8(&decoded) {
        Ok(text) if text.chars().any(char::is_control) => Err(Ambiguous::EncodedControl),
        Ok(_) => Ok(out),
        Err(_) => Err(Ambiguous::NotUtf8),
    }
}

fn hex_pair(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_paths_stay_and_lose_their_query() {
        for (target, path) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/", "/a/"),
            ("/a?x=../y;z", "/a"),
            ("/a...b/..c", "/a...b/..c"),
            ("/A", "/A"),
        ] {
            assert_eq!(canonical(target).as_deref(), Ok(path), "{target}");
        }
    }

    #[test]
    fn unreserved_escapes_are_decoded_and_others_normalised() {
        for (target, path) in
            [("/%61%2Db", "/a-b"), ("/%c3%a9", "/%C3%A9"), ("/a%20b", "/a%20b"), ("/%7euser", "/~user")]
        {
            assert_eq!(canonical(target).as_deref(), Ok(path), "{target}");
        }
    }

    #[test]
    fn paths_with_two_readings_are_ambiguous() {
        for (target, why) in [
            ("*", Ambiguous::NotAbsolute),
            ("", Ambiguous::NotAbsolute),
            ("http://h/a", Ambiguous::NotAbsolute),
            ("/a%2fb", Ambiguous::EncodedReserved),
            ("/a%5Cb", Ambiguous::EncodedReserved),
            ("/a%252fb", Ambiguous::EncodedReserved),
            ("/a%3Bb", Ambiguous::EncodedReserved),
            ("/a%00", Ambiguous::EncodedControl),
            ("/a%0a", Ambiguous::EncodedControl),
            ("/%c2%80", Ambiguous::EncodedControl),
            ("/a%zz", Ambiguous::BrokenEscape),
            ("/a%4", Ambiguous::BrokenEscape),
            ("/%c0%af", Ambiguous::NotUtf8),
            ("/a\\b", Ambiguous::Backslash),
            ("/a;x=1/b", Ambiguous::PathParameter),
            ("/a/../b", Ambiguous::DotSegment),
            ("/a/%2e%2E/b", Ambiguous::DotSegment),
            ("/a/.", Ambiguous::DotSegment),
            ("//a", Ambiguous::EmptySegment),
            ("/a//b", Ambiguous::EmptySegment),
            ("/a//", Ambiguous::EmptySegment),
            ("/a b", Ambiguous::RawByte),
            ("/é", Ambiguous::RawByte),
            ("/a#b", Ambiguous::Fragment),
        ] {
            assert_eq!(canonical(target), Err(why), "{target}");
        }
    }

    proptest! {
        #[test]
        fn canonical_is_idempotent_and_never_panics(target in "/?([a-zA-Z0-9./%;?# é\\\\]|%[0-9a-fA-F]{2}){0,40}") {
            if let Ok(once) = canonical(&target) {
                prop_assert_eq!(canonical(&once), Ok(Cow::Borrowed(once.as_ref())));
            }
        }
    }
}
