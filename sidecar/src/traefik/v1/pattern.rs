//! v1's templates in paths, hosts and queries: `/users/{id:[0-9]+}` as a regex.

/// Whether the text holds a placeholder.
pub(super) fn has_placeholder(text: &str) -> bool {
    text.contains(['{', '}'])
}

/// The template as a regex without anchors; a placeholder without a regex of its own takes `default`.
pub(super) fn regex(template: &str, default: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some(open) = rest.find(['{', '}']) {
        out.push_str(&regex_syntax::escape(&rest[..open]));
        if rest.as_bytes()[open] == b'}' {
            return Err(format!("{template:?} has a }} too many"));
        }
        let close = closing(&rest[open..]).ok_or_else(|| format!("{template:?} has a {{ that is not closed"))?;
        let inside = &rest[open + 1..open + close];
        let (name, own) = inside.split_once(':').map_or((inside, default), |(name, own)| (name, own));
        if name.trim().is_empty() || own.is_empty() {
            return Err(format!("{template:?} has a placeholder without a name or a regex"));
        }
        // v1 put each into a group of its own, so an alternative or a flag stayed inside.
        let needs_group = own.contains('|') || own.contains("(?");
        let (open_group, close_group) = if needs_group { ("(?:", ")") } else { ("", "") };
        out.extend([open_group, own, close_group]);
        rest = &rest[open + close + 1..];
    }
    out.push_str(&regex_syntax::escape(rest));
    Ok(out)
}

/// Where the brace that opens the text is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    text.bytes().position(|byte| {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        depth == 0
    })
}

#[cfg(test)]
mod tests {
    use super::regex;

    #[test]
    fn literals_are_escaped_and_placeholders_are_regexes() {
        let table = [
            ("a.b", Ok("a\\.b")),
            ("{sub}.x", Ok("[^.]+\\.x")),
            ("/{n:[0-9]{2}}/{v:a|b}", Ok("/[0-9]{2}/(?:a|b)")),
            ("{a", Err(())),
            ("a}", Err(())),
            ("{}", Err(())),
            ("{a:}", Err(())),
        ];
        for (template, expected) in table {
            assert_eq!(
                regex(template, "[^.]+").map_err(drop).as_deref(),
                expected.as_ref().map(|it| *it),
                "{template}"
            );
        }
    }
}
