//! What can be seen of a request line without any policy: written apart from the engine's own canonicaliser, so that the
//! conditions of the documented differences do not repeat its mistakes.

/// Whether Envoy's HTTP parser knows the method. It knows those of the registry; of the generated ones these are missing.
pub fn is_known_method(method: &str) -> bool {
    const KNOWN: [&str; 10] =
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "PURGE"];
    KNOWN.contains(&method)
}

/// Whether a target is refused as HTTP before any rule: not a path, raw bytes, `#`, `%00`.
pub fn is_not_http(target: &[u8]) -> bool {
    let target = without_authority(target);
    let path = path(target);
    !target.starts_with(b"/")
        || target.iter().any(|byte| !(0x21..=0x7E).contains(byte) || *byte == b'#')
        || path.windows(3).any(|it| it == b"%00")
}

/// Whether a path has more than one plausible reading (consul-policy §6.3).
pub fn is_ambiguous(target: &[u8]) -> bool {
    let path = path(without_authority(target));
    let decoded = decoded(path);
    is_not_http(target)
        || path.iter().any(|byte| b"\\;".contains(byte))
        || has_telling_escape(path)
        || std::str::from_utf8(&decoded).map_or(true, |text| text.chars().any(char::is_control))
        || has_telling_segment(&decoded)
}

/// Whether Envoy's normalisation changes a path that is not ambiguous: it holds an escape of a character that needs none, or
/// a raw character that it escapes (consul-policy §6.1).
pub fn is_changed_by_envoy(target: &[u8]) -> bool {
    let path = path(without_authority(target));
    let needless = |pair: &[u8]| hex(pair).is_some_and(|it| it.is_ascii_alphanumeric() || b"-._~".contains(&it));
    path.windows(3).any(|it| it[0] == b'%' && needless(&it[1..])) || path.iter().any(|byte| b"\"<>^`{|}".contains(byte))
}

/// The same target with the letters of its escapes in upper case.
pub fn with_upper_escapes(target: &str) -> String {
    let mut out = target.as_bytes().to_vec();
    for at in 0..out.len() {
        if out[at] == b'%' && out.get(at + 1..at + 3).is_some_and(|it| it.iter().all(u8::is_ascii_hexdigit)) {
            out[at + 1..at + 3].make_ascii_uppercase();
        }
    }
    // Letters were exchanged for letters.
    String::from_utf8(out).unwrap_or_default()
}

/// Whether a text holds an escape with a letter among its digits.
pub fn has_lettered_escape(text: &[u8]) -> bool {
    let letter = |it: &[u8]| it.iter().all(u8::is_ascii_hexdigit) && it.iter().any(u8::is_ascii_alphabetic);
    text.windows(3).any(|it| it[0] == b'%' && letter(&it[1..]))
}

/// An escape that is broken, or that means a byte with a meaning of its own in paths.
fn has_telling_escape(path: &[u8]) -> bool {
    let places = path.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    places.into_iter().any(|(at, _)| match path.get(at + 1..at + 3).and_then(hex) {
        None => true,
        Some(byte) => byte < 0x20 || byte == 0x7F || b"/\\;%?#".contains(&byte),
    })
}

/// A segment that is empty (not behind the last slash), or one or two dots.
fn has_telling_segment(path: &[u8]) -> bool {
    let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').skip(1).collect();
    let last = segments.len().saturating_sub(1);
    segments.iter().enumerate().any(|(at, it)| *it == b"." || *it == b".." || (it.is_empty() && at < last))
}

fn path(target: &[u8]) -> &[u8] {
    target.split(|byte| *byte == b'?').next().unwrap_or_default()
}

fn without_authority(target: &[u8]) -> &[u8] {
    let Some(rest) = target.strip_prefix(b"http://") else { return target };
    let at = rest.iter().position(|byte| b"/?".contains(byte));
    match at {
        Some(at) if rest[at] == b'/' => &rest[at..],
        _ => b"/",
    }
}

/// Percent-decoded; a broken escape stays.
pub fn decoded(path: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(path.len()), 0);
    while let Some(byte) = path.get(at) {
        match path.get(at + 1..at + 3).and_then(hex) {
            Some(value) if *byte == b'%' => {
                out.push(value);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

fn hex(pair: &[u8]) -> Option<u8> {
    // `from_str_radix` would take a sign.
    let text = std::str::from_utf8(pair).ok().filter(|_| pair.iter().all(u8::is_ascii_hexdigit))?;
    u8::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_have_one_reading() {
        for path in ["/", "/a/", "/a%20b", "/%C3%A9", "/%61", "/...", "/a?x=/../;%00", "http://h/a", "http://h"] {
            assert!(!is_ambiguous(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn everything_with_two_readings_is_found() {
        for path in [
            "",
            "*",
            "/a//b",
            "//",
            "/.",
            "/a/..",
            "/%2e%2E/",
            "/a;b",
            "/a%3bb",
            "/%2f",
            "/%5C",
            "/\\",
            "/%252f",
            "/%00",
            "/%0a",
            "/%zz",
            "/%",
            "/%4",
            "/%c0%af",
            "/é",
            "/a#b",
            "/%c2%80",
            "http://h//a",
        ] {
            assert!(is_ambiguous(path.as_bytes()), "{path}");
        }
    }
}
