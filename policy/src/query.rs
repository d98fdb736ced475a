//! The query of a request target, read as the most lenient backend would: parameters end at `&` and at `;`.

/// The target without every parameter of this name (compared after percent-decoding). The rest keeps its spelling; a query
/// of which nothing is left goes with its `?`.
pub(crate) fn without(target: &str, name: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
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
    if query.is_empty() {
        kept.push('?');
    }
    kept
}

/// The decoded values of every parameter of this name.
pub(crate) fn values(target: &str, name: &str) -> impl Iterator<Item = Vec<u8>> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let named = query.split(['&', ';']).filter(move |parameter| decoded_name(parameter) == name.as_bytes());
    named.map(|parameter| decoded(parameter.split_once('=').map_or("", |(_, value)| value)))
}

/// The name of a parameter: percent-decoded, `+` as a blank.
pub(crate) fn decoded_name(parameter: &str) -> Vec<u8> {
    decoded(parameter.split_once('=').map_or(parameter, |(name, _)| name))
}

/// A part of a query: percent-decoded, `+` as a blank; a broken escape stands for itself.
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
            (b'+', _) => out.push(b' '),
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

    #[test]
    fn takes_out_every_parameter_of_the_name_however_it_is_spelled() {
        for (target, want) in [
            ("/a", "/a"),
            ("/a?x=1", "/a?x=1"),
            ("/a?t=1", "/a"),
            ("/a?x=1&t=1&y=2", "/a?x=1&y=2"),
            ("/a?t=1;x=1", "/a?x=1"),
            ("/a?x=1;t=1;y=2&z", "/a?x=1;y=2&z"),
            ("/a?%74=1&T=2", "/a?T=2"),
            ("/a?t&t=&x", "/a?x"),
            ("/a?", "/a?"),
        ] {
            assert_eq!(without(target, "t"), want, "{target}");
        }
    }

    #[test]
    fn decodes_what_can_be_decoded() {
        for (text, want) in
            [("a%20b+c%zz%4", "a b c%zz%4"), ("%2541", "%41"), ("%", "%"), ("%zz%41", "%zzA"), ("%%41", "%A")]
        {
            assert_eq!(decoded(text), want.as_bytes(), "{text}");
        }
    }
}
