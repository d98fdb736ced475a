//! The one canonicaliser of request paths.
//!
//! Policy must be decided on the path that the backend will understand. A path that two servers could read differently has
//! no canonical form: it is [`Ambiguous`], matches every deny and no allow (consul-policy §6.3, traefik §5). What is
//! forwarded is the canonical path, so only a path whose reading is beyond doubt is ever allowed by a path rule.
//!
//! Where Consul's mesh entry says how requests are normalised (consul-policy §6.1), [`Normalization`] says it here. It can
//! give a reading to more paths than the default does; it cannot make a reading that a backend may not share.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

/// Consul's `HTTP.Incoming.RequestNormalization` of the mesh entry, as far as it is about paths (consul-policy §6.1).
///
/// `Default` is what holds without the entry. It is stricter than Consul's in escaped slashes: Consul leaves them to the
/// backend's taste, here they are ambiguous until the operator says what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Normalization {
    /// `InsecureDisablePathNormalization`. Proxies of such a mesh forward paths as they came, and we do not know how the
    /// next one reads them: whatever normalisation would change is ambiguous ([`Ambiguous::NotNormal`]).
    pub disabled: bool,
    /// `MergeSlashes`: several slashes are one. A path of nothing but several slashes, which Envoy leaves at `//`, stays
    /// ambiguous.
    pub merge_slashes: bool,
    /// `PathWithEscapedSlashesAction`.
    pub escaped_slashes: EscapedSlashes,
}

/// What happens to `%2F` and `%5C` in a path, in either case. Applied before everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum EscapedSlashes {
    /// `IMPLEMENTATION_SPECIFIC_DEFAULT` and nothing said: ambiguous.
    #[default]
    Default,
    /// `KEEP_UNCHANGED`: the operator vouches that no backend decodes them before it routes. They are characters like
    /// others, and a rule with `%2F` meets them.
    KeepUnchanged,
    /// `REJECT_REQUEST`: the request is refused, whatever the rules say ([`Ambiguous::EscapedSlash`]).
    RejectRequest,
    /// `UNESCAPE_AND_REDIRECT`: the client is sent to the path with slashes ([`Canonical::redirect`]).
    UnescapeAndRedirect,
    /// `UNESCAPE_AND_FORWARD`: they are slashes, in the decision and in what is forwarded.
    UnescapeAndForward,
}

/// A path with one reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical<'a> {
    /// The path, which rules are asked about and which must be forwarded if it is not what came.
    pub path: Cow<'a, str>,
    /// Whether the client must be sent to `path` instead (307, before any rule is asked): slashes were unescaped, and
    /// [`EscapedSlashes::UnescapeAndRedirect`] holds.
    pub redirect: bool,
}

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
    /// An encoded `/` or `\` where the operator wants such requests refused: see [`Ambiguous::refuses`].
    EscapedSlash,
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
    /// Normalisation is switched off in the mesh, and it would change the path.
    NotNormal,
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
            Self::EscapedSlash => "escaped-slash",
            Self::NotUtf8 => "not-utf8",
            Self::Backslash => "backslash",
            Self::PathParameter => "path-parameter",
            Self::DotSegment => "dot-segment",
            Self::EmptySegment => "empty-segment",
            Self::Fragment => "fragment",
            Self::NotNormal => "not-normal",
        }
    }

    /// Whether the request must be refused (400) before any rule is asked, rather than be doubtful to those on paths.
    pub fn refuses(self) -> bool {
        self == Self::EscapedSlash
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
            Self::EscapedSlash => "the path holds an encoded slash or backslash, which the mesh refuses",
            Self::NotUtf8 => "the path does not decode to UTF-8",
            Self::Backslash => "the path holds a backslash",
            Self::PathParameter => "the path holds a semicolon",
            Self::DotSegment => "the path holds a dot segment",
            Self::EmptySegment => "the path holds an empty segment",
            Self::Fragment => "the path holds a hash",
            Self::NotNormal => "the path is not in its normal form, and the mesh does not normalise",
        })
    }
}

/// The canonical path of a request target (escaped path, then `?` and the query): the query cut off, percent-encoded
/// unreserved characters decoded (RFC 3986 §6.2.2.2), the hexadecimal digits of other escapes in upper case, and the
/// bytes that Envoy encodes encoded; then slashes as the mesh wants them. Idempotent.
pub fn canonical<'a>(target: &'a str, rules: &Normalization) -> Result<Canonical<'a>, Ambiguous> {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    if is_canonical(path) {
        return Ok(Canonical { path: Cow::Borrowed(path), redirect: false });
    }
    let read = read(path, *rules);
    // What the mesh refuses or sends elsewhere it does before anything else about the path matters.
    match (rules.escaped_slashes, &read) {
        (EscapedSlashes::RejectRequest, _) | (EscapedSlashes::UnescapeAndRedirect, Err(_))
            if has_escaped_slash(path) =>
        {
            Err(Ambiguous::EscapedSlash)
        }
        _ => read,
    }
}

/// Whether nothing about a path is special, as of nearly all: one look at each byte. What is not sure here is read in full.
fn is_canonical(path: &str) -> bool {
    let mut previous = 0;
    for byte in path.bytes() {
        let fits = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => true,
            b'/' | b'.' => previous != b'/',
            _ => false,
        };
        if !fits || (previous == 0 && byte != b'/') {
            return false;
        }
        previous = byte;
    }
    previous != 0
}

fn has_escaped_slash(path: &str) -> bool {
    let escapes = path.as_bytes().windows(3).filter(|it| it.first() == Some(&b'%'));
    escapes.into_iter().any(|it| it.eq_ignore_ascii_case(b"%2f") || it.eq_ignore_ascii_case(b"%5c"))
}

fn read(path: &str, rules: Normalization) -> Result<Canonical<'_>, Ambiguous> {
    if !path.starts_with('/') {
        return Err(Ambiguous::NotAbsolute);
    }
    check_bytes(path)?;
    let plain = !path.bytes().any(|byte| byte == b'%' || is_encoded_by_envoy(byte));
    let mut redirect = false;
    let mut path = Cow::Borrowed(path);
    if !plain {
        let rewritten = Rewriter::new(&rules).rewrite(&path)?;
        redirect = rewritten.unescaped && rules.escaped_slashes == EscapedSlashes::UnescapeAndRedirect;
        path = Cow::Owned(rewritten.out);
    }
    if rules.merge_slashes && path.contains("//") {
        path = Cow::Owned(merge_slashes(&path));
    }
    // After decoding: `/%2e%2e/` is a dot segment as well.
    check_segments(&path)?;
    Ok(Canonical { path, redirect })
}

/// The text of a rule, fit to be compared with canonical paths: the hexadecimal digits of its escapes in upper case, and
/// nothing else changed.
///
/// Consul compares a rule's text as it stands, and Envoy keeps the case of escapes, so there `/%c3%a9` and `/%C3%A9` are
/// two rules. Traefik has made the digits upper case before we see them, and both spell the same path: here both rules meet
/// it, however it was sent. Nothing else of a rule is normalised, as in Consul (consul-policy §3.3).
pub fn canonical_rule(text: &str) -> Cow<'_, str> {
    with_hex(text, u8::to_ascii_uppercase)
}

/// The other spelling of [`canonical_rule`]: the hexadecimal digits of escapes in lower case.
pub(crate) fn lower_hex(text: &str) -> Cow<'_, str> {
    with_hex(text, u8::to_ascii_lowercase)
}

/// The same text with the hexadecimal digits of its escapes changed; borrowed if there is nothing to change.
fn with_hex(text: &str, change: fn(&u8) -> u8) -> Cow<'_, str> {
    let mut out: Option<Vec<u8>> = None;
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'%')) {
        at += found + 1;
        // At the end of a prefix there may be half an escape.
        let Some(digits) = bytes.get(at..bytes.len().min(at + 2)) else { break };
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            continue;
        }
        if digits.iter().any(|digit| change(digit) != *digit) {
            let out = out.get_or_insert_with(|| bytes.to_vec());
            for digit in out.iter_mut().skip(at).take(2) {
                *digit = change(digit);
            }
        }
        at += 2;
    }
    // ASCII letters were exchanged for ASCII letters, so it is a text still.
    out.and_then(|out| String::from_utf8(out).ok()).map_or(Cow::Borrowed(text), Cow::Owned)
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

/// As Envoy does it: every run of slashes is one, but of a path of nothing else two are left.
fn merge_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() {
        out.push('/');
    }
    if path.ends_with('/') {
        out.push('/');
    }
    out
}

/// The raw bytes that Envoy's normalisation encodes (consul-policy §6.1).
fn is_encoded_by_envoy(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// Goes over a path that holds escapes or bytes that need one.
struct Rewriter<'r> {
    rules: &'r Normalization,
    out: String,
    /// What a backend reads that decodes everything.
    decoded: Vec<u8>,
    /// Whether a slash was unescaped.
    unescaped: bool,
}

impl<'r> Rewriter<'r> {
    fn new(rules: &'r Normalization) -> Self {
        Self { rules, out: String::new(), decoded: Vec::new(), unescaped: false }
    }

    fn rewrite(mut self, path: &str) -> Result<Self, Ambiguous> {
        self.out.reserve(path.len());
        self.decoded.reserve(path.len());
        let mut bytes = path.bytes();
        while let Some(byte) = bytes.next() {
            if byte == b'%' {
                let value = hex_pair(bytes.next(), bytes.next()).ok_or(Ambiguous::BrokenEscape)?;
                self.escape(value)?;
            } else {
                self.raw(byte)?;
            }
        }
        // The C1 controls (U+0080..U+009F) are control bytes too once decoded.
        match core::str::from_utf8(&self.decoded) {
            Ok(text) if text.chars().any(char::is_control) => Err(Ambiguous::EncodedControl),
            Ok(_) => Ok(self),
            Err(_) => Err(Ambiguous::NotUtf8),
        }
    }

    fn raw(&mut self, byte: u8) -> Result<(), Ambiguous> {
        if is_encoded_by_envoy(byte) {
            self.changes()?;
            self.push_escape(byte);
        } else {
            self.out.push(char::from(byte));
        }
        self.decoded.push(byte);
        Ok(())
    }

    fn escape(&mut self, value: u8) -> Result<(), Ambiguous> {
        match value {
            0..=0x1F | 0x7F => return Err(Ambiguous::EncodedControl),
            b'/' | b'\\' => return self.escaped_slash(value),
            b';' | b'%' | b'?' | b'#' => return Err(Ambiguous::EncodedReserved),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                self.changes()?;
                self.out.push(char::from(value));
            }
            _ => self.push_escape(value),
        }
        self.decoded.push(value);
        Ok(())
    }

    fn escaped_slash(&mut self, value: u8) -> Result<(), Ambiguous> {
        match self.rules.escaped_slashes {
            EscapedSlashes::Default => return Err(Ambiguous::EncodedReserved),
            EscapedSlashes::RejectRequest => return Err(Ambiguous::EscapedSlash),
            EscapedSlashes::KeepUnchanged => self.push_escape(value),
            // Normalisation makes a slash of a backslash. Without it there is a raw backslash.
            _ if value == b'\\' && self.rules.disabled => return Err(Ambiguous::Backslash),
            EscapedSlashes::UnescapeAndRedirect | EscapedSlashes::UnescapeAndForward => {
                self.unescaped = true;
                self.out.push('/');
            }
        }
        self.decoded.push(value);
        Ok(())
    }

    /// Normalisation changes the path here.
    fn changes(&self) -> Result<(), Ambiguous> {
        if self.rules.disabled { Err(Ambiguous::NotNormal) } else { Ok(()) }
    }

    fn push_escape(&mut self, value: u8) {
        const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
        self.out.push('%');
        let digits = [usize::from(value >> 4), usize::from(value & 15)];
        self.out.extend(digits.into_iter().filter_map(|digit| HEX.get(digit)));
    }
}

fn hex_pair(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

#[cfg(test)]
mod tests;
