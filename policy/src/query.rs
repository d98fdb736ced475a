//! The query of a request target, read as the most lenient backend would: parameters end at `&` and at `;`.

/// The target without every parameter of this name (compared after percent-decoding). The rest keeps its spelling; a query
/// of which nothing is left goes with its `?`.
pub(crate) fn without(target: &str, name: &str) -> String {
    let Some((path, query)) = target.split_once('?').filter(|_| values(target, name).next().is_some()) else {
        return target.to_owned();
    };
    let mut kept = String::with_capacity(target.len());
    kept.push_str(path);
    let mut separator = '&';
    for piece in query.split_inclusive(['&', ';']) {
        let parameter = piece.trim_end_matches(['&', ';']);
        if decoded_name(parameter) != name.as_bytes() {
            kept.push(if kept.len() == path.len() { '?' } else { separator });
            kept.push_str(parameter);
        }
        separator = if piece.ends_with(';') { ';' } else { '&' };
    }
    kept
}

/// The decoded values of every parameter of this name.
pub(crate) fn values(target: &str, name: &str) -> impl Iterator<Item = Vec<u8>> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let named = query.split(['&', ';']).filter(move |parameter| decoded_name(parameter) == name.as_bytes());
    named.map(|parameter| decoded(parameter.split_once('=').map_or("", |(_, value)| value)))
}

/// The name of a parameter: percent-decoded.
pub(crate) fn decoded_name(parameter: &str) -> Vec<u8> {
    decoded(parameter.split_once('=').map_or(parameter, |(name, _)| name))
}

/// A part of a query: percent-decoded once; a broken escape stands for itself.
pub(crate) fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let pair = || {
            let mut ahead = bytes.clone();
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            Some(digit(ahead.next())? << 4 | digit(ahead.next())?)
        };
        match (byte, pair()) {
            (b'%', Some(value)) => {
                out.push(value);
                bytes.nth(1);
            }
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_rest_of_a_query_stays_as_it_was_written() {
        for (target, want) in [
            ("/a", "/a"),
            ("/a?x=1", "/a?x=1"),
            ("/a?", "/a?"),
            ("/a?t=1", "/a"),
            ("/a?t", "/a"),
            ("/a?t=1&x=2", "/a?x=2"),
            ("/a?x=2&t=1", "/a?x=2"),
            ("/a?x=2&t=1&y=%20+;z", "/a?x=2&y=%20+;z"),
            ("/a?x;t=1;y", "/a?x;y"),
            ("/a?%74=1&x=%74&T=2", "/a?x=%74&T=2"),
            ("/a?t=1&t=2;t=3", "/a"),
            ("/a?x&&t=1", "/a?x&"),
            ("/a?x=?t=1&t=2", "/a?x=?t=1"),
        ] {
            assert_eq!(without(target, "t"), want, "{target}");
        }
    }

    #[test]
    fn what_is_left_holds_no_parameter_of_the_name() {
        proptest!(|(query in "(t|%74|x|=|&|;|%|\\?|1){0,12}")| {
            let target = format!("/a?{query}");
            let rest = without(&target, "t");
            prop_assert_eq!(values(&rest, "t").count(), 0);
            prop_assert_eq!(without(&rest, "t"), rest.clone());
            if values(&target, "t").count() == 0 {
                prop_assert_eq!(rest, target);
            }
        });
    }

    #[test]
    fn escapes_are_decoded_once_and_broken_ones_stay() {
        for (text, want) in
            [("a%20b+c%zz%4", "a b+c%zz%4"), ("%2541", "%41"), ("%", "%"), ("%zz%41", "%zzA"), ("%%41", "%A")]
        {
            assert_eq!(decoded(text), want.as_bytes(), "{text}");
        }
    }
}
