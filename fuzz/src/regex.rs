//! RE2 patterns, on the first line, and a text to match behind it. A pattern that compiles is the same after it was stored,
//! bounded, and, where the syntax means the same there, says what the crate `regex` says.

use portcullis_policy::regex::Pattern;

/// Longest stored pattern, in bytes: a record of a snapshot is bounded as well.
const MAX_STORED: usize = 256 * 1024;

/// The target's body.
pub fn run(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let (pattern, subject) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(compiled) = Pattern::compile(pattern) else { return };
    assert_eq!(compiled.text(), pattern);
    let matches = compiled.is_full_match(subject.as_bytes());
    let stored = postcard::to_allocvec(&compiled).unwrap_or_else(|error| panic!("{error}"));
    assert!(stored.len() <= MAX_STORED, "{} bytes for {pattern}", stored.len());
    let read: Pattern = postcard::from_bytes(&stored).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read.is_full_match(subject.as_bytes()), matches, "{pattern} stored, on {subject:?}");
    if is_common(pattern)
        && let Ok(other) = regex::Regex::new(&format!("^(?:{pattern})$"))
    {
        assert_eq!(other.is_match(subject), matches, "{pattern} on {subject:?}");
    }
}

/// Whether the pattern holds only what RE2 and `regex` read alike: no escapes, classes, counts, flags or groups with names.
fn is_common(pattern: &str) -> bool {
    pattern.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".*+?|()/-_ ".contains(&byte))
        && !pattern.contains("(?")
}
