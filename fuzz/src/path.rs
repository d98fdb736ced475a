//! Request targets, under any normalisation (the first byte). A canonical path is canonical once and for all, is bounded
//! by what was sent, and holds nothing that two servers could read differently.

use portcullis_policy::path::{EscapedSlashes, Normalization, canonical, canonical_rule};

/// The target's body.
pub fn run(data: &[u8]) {
    let Some((rules, data)) = data.split_first() else { return };
    let Ok(target) = core::str::from_utf8(data) else { return };
    let rules = rules_of(*rules);
    let Ok(read) = canonical(target, &rules) else { return };
    let path = read.path.into_owned();
    let again = canonical(&path, &rules).map(|again| (again.path.into_owned(), again.redirect));
    assert_eq!(again, Ok((path.clone(), false)), "canonical once, canonical always");
    // A byte becomes one escape at most.
    assert!(path.len() <= 3 * target.len() && path.starts_with('/'), "{path}");
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\;?#".contains(&byte)), "{path}");
    assert!(!path.contains("//") && path.split('/').all(|segment| segment != "." && segment != ".."), "{path}");
    // What follows `?` is no part of the path, whatever it is.
    let plain = target.split('?').next().unwrap_or_default();
    let other_query = canonical(&format!("{plain}?/../;#%00"), &rules).map(|read| read.path.into_owned());
    assert_eq!(other_query, Ok(path.clone()));
    let unescapes =
        matches!(rules.escaped_slashes, EscapedSlashes::UnescapeAndForward | EscapedSlashes::UnescapeAndRedirect);
    // Where nothing is normalised, nothing may have been, but the case of escapes. Slashes are settings of their own.
    let same = path == canonical_rule(plain);
    assert!(!rules.disabled || rules.merge_slashes || unescapes || same, "{path} for {plain}");
    assert!(unescapes || path.matches('/').count() <= plain.matches('/').count(), "a slash from nowhere: {path}");
    assert!(read.redirect <= (rules.escaped_slashes == EscapedSlashes::UnescapeAndRedirect));
}

fn rules_of(byte: u8) -> Normalization {
    Normalization {
        disabled: byte & 1 != 0,
        merge_slashes: byte & 2 != 0,
        escaped_slashes: match (byte >> 2) % 5 {
            0 => EscapedSlashes::Default,
            1 => EscapedSlashes::KeepUnchanged,
            2 => EscapedSlashes::RejectRequest,
            3 => EscapedSlashes::UnescapeAndRedirect,
            _ => EscapedSlashes::UnescapeAndForward,
        },
    }
}
