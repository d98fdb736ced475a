//! Text that came from outside, made fit for a log line or a header value.
//!
//! A caller chooses its path, its certificate's names and its header values. None of it may end a log line, forge a
//! field of one, or make a header that Go refuses to write.

use std::borrow::Cow;

/// Longest text kept of one field, in characters; what is longer ends in `...`.
pub const FIELD_CHARS: usize = 512;

/// Appends `text` as one word: no blanks, quotes, backslashes or control characters, nothing beyond ASCII.
pub fn push_word(out: &mut String, text: &str) {
    push(out, text, |c| c.is_ascii_graphic());
}

/// Appends `text` for use between double quotes or as a header's value: as [`push_word`], but blanks stay.
pub fn push_line(out: &mut String, text: &str) {
    push(out, text, |c| c.is_ascii_graphic() || c == ' ');
}

/// Whether a text can stand in any of the places that texts are made for here as it is, which is nearly always so.
pub fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    text.len() <= FIELD_CHARS && text.bytes().all(plain)
}

/// `text` as [`push_line`] makes it; borrowed where there is nothing to change.
pub fn line(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len().min(FIELD_CHARS));
    push_line(&mut out, text);
    Cow::Owned(out)
}

/// Appends a number. (The library's way to write one is a tenth of what a limit costs a request in the guest.)
pub fn push_number(out: &mut String, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut n_digits = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        n_digits += 1;
        if number == 0 {
            break;
        }
    }
    out.extend(digits.iter().skip(digits.len() - n_digits).map(|digit| char::from(*digit)));
}

/// Appends `text` as the inside of a JSON string (RFC 8259, section 7).
pub fn push_json(out: &mut String, text: &str) {
    if is_plain(text) {
        return out.push_str(text);
    }
    for c in text.chars().take(FIELD_CHARS) {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\0'..'\u{20}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

fn push(out: &mut String, text: &str, plain: impl Fn(char) -> bool) {
    for (n, c) in text.chars().enumerate() {
        if n == FIELD_CHARS {
            out.push_str("...");
            return;
        }
        if plain(c) && c != '"' && c != '\\' {
            out.push(c);
        } else if c == ' ' {
            // `escape_default` leaves a blank as it is.
            out.push_str("\\x20");
        } else {
            out.extend(c.escape_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_cannot_be_forged() {
        let mut out = String::new();
        push_word(&mut out, "/a\nlevel=info msg=\"ok\"\u{1b}[0m \\\u{202e}");
        assert_eq!(out, "/a\\nlevel=info\\x20msg=\\\"ok\\\"\\u{1b}[0m\\x20\\\\\\u{202e}");
    }

    #[test]
    fn plain_text_stays_as_it_is() {
        assert_eq!(line("no intention lets web call db"), "no intention lets web call db");
    }

    #[test]
    fn any_text_fits_into_a_json_string() {
        let mut out = "\"".to_owned();
        push_json(&mut out, "a \"b\" \\ \n\0 \u{e4}");
        out.push('"');
        assert_eq!(serde_json::from_str::<String>(&out).unwrap(), "a \"b\" \\ \u{fffd}\u{fffd} \u{e4}");
    }

    #[test]
    fn numbers_are_written_as_the_library_does() {
        for number in [0, 7, 10, 99, 100, 1_795_262_400, u64::MAX] {
            let mut out = "n".to_owned();
            push_number(&mut out, number);
            assert_eq!(out, format!("n{number}"));
        }
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(line(&"x".repeat(10_000)).len(), FIELD_CHARS + 3);
    }
}
