//! The values of tags: Go's booleans and durations, lists, addresses and regexes, as Traefik reads them.

use std::net::IpAddr;

use regex_syntax::ast::{self, ErrorKind};

/// Go's `strconv.ParseBool`, which consul-k8s and Traefik use.
pub fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A list: commas separate, blanks around an element and empty elements do not count. There is no escape.
pub fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// Whether Traefik reads this as a duration: whole seconds, or Go's `1h2m3.5s`. Negative ones are never meant.
pub fn is_duration(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A nanosecond count of 64 bits is 292 years; nobody waits that long.
    digits(text) && text.len() <= 9 || go_duration(text)
}

/// Go's `time.ParseDuration`, without a sign.
pub fn go_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(rest.len());
        let (count, tail) = rest.split_at(number);
        let unit = tail.find(|character: char| character.is_ascii_digit() || character == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let counted = count.len() <= 9 && count.bytes().any(|byte| byte.is_ascii_digit());
        if !counted || count.matches('.').count() > 1 || !["ns", "us", "µs", "μs", "ms", "s", "m", "h"].contains(&unit)
        {
            return false;
        }
        rest = tail;
    }
    !text.is_empty()
}

/// An address, or a network as `address/length`.
pub fn is_network(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return text.parse::<IpAddr>().is_ok() };
    let (Ok(address), Ok(length)) = (address.parse::<IpAddr>(), length.parse::<u8>()) else { return false };
    length <= if address.is_ipv4() { 32 } else { 128 }
}

/// A header's name that can also be part of a tag's key, which a dot would split.
pub fn is_header(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

/// Why Go's `regexp` certainly refuses this. Its syntax and the parser's here differ in details (`\Q…\E`, a brace that
/// counts nothing), so only faults that are faults in both are named; Traefik has the last word.
pub fn regex_fault(text: &str) -> Option<String> {
    let error = ast::parse::Parser::new().parse(text).err()?;
    let common = matches!(
        error.kind(),
        ErrorKind::ClassUnclosed
            | ErrorKind::ClassRangeInvalid
            | ErrorKind::EscapeUnexpectedEof
            | ErrorKind::GroupUnclosed
            | ErrorKind::GroupUnopened
            | ErrorKind::RepetitionMissing
            | ErrorKind::UnsupportedBackreference
            | ErrorKind::UnsupportedLookAround
    );
    // For Go a brace that counts nothing is a brace.
    let is_brace = text.get(error.span().start.offset..).is_some_and(|rest| rest.starts_with('{'));
    let common = common && !(is_brace && matches!(error.kind(), ErrorKind::RepetitionMissing));
    // A quotation may hold anything.
    (common && !text.contains("\\Q")).then(|| error.kind().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_or_go_s() {
        for text in ["0", "10", "1s", "1.5h", "300ms", "1h2m3s", "5µs"] {
            assert!(is_duration(text), "{text}");
        }
        for text in ["", "s", "10x", "-1s", "1 s", "1..5s", "1s2", "99999999999", "1e3s", ".s"] {
            assert!(!is_duration(text), "{text}");
        }
        assert!(!go_duration("10"));
    }

    #[test]
    fn networks_are_addresses_with_or_without_a_length() {
        for text in ["192.0.2.1", "192.0.2.0/24", "2001:db8::/32", "::1", "0.0.0.0/0"] {
            assert!(is_network(text), "{text}");
        }
        for text in ["", "192.0.2.1/33", "::/129", "host", "192.0.2.0/", "192.0.2.0/24/8", "192.0.2"] {
            assert!(!is_network(text), "{text}");
        }
    }

    #[test]
    fn only_regexes_that_go_refuses_too_are_faulty() {
        for text in ["(", "[a", "a)", "*a", "\\", "(?=a)", "[z-a]"] {
            assert!(regex_fault(text).is_some(), "{text}");
        }
        for text in ["", "^a{2}$", "{sub:x}", "\\Q(\\E", "(?P<n>a)", "(?i)ä", "a{,2}"] {
            assert_eq!(regex_fault(text), None, "{text}");
        }
    }
}
