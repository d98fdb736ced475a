//! Durations as Go writes them: `1h30m`, `250ms`, `1.5s`.

/// Units in nanoseconds; a longer name before one that it begins with.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
];
/// Digits behind a point that count. As many fit into a `u64` times an hour.
const MAX_FRACTION: usize = 6;

/// The duration in nanoseconds; `None` when it is none, negative, or longer than a `u64` holds.
pub(super) fn nanoseconds(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut total) = (text, 0_u64);
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
        if (whole.is_empty() && fraction.is_empty()) || fraction.len() > MAX_FRACTION {
            return None;
        }
        let (unit, after) = UNITS.iter().find_map(|(name, unit)| Some((*unit, after.strip_prefix(name)?)))?;
        let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
        let scale = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
        let part = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()?.checked_mul(unit)? / scale };
        total = total.checked_add(whole.checked_mul(unit)?)?.checked_add(part)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_writes() {
        for (text, expected) in [
            ("0", 0),
            ("0s", 0),
            ("5m", 300_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("250ms", 250_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1us", 1_000),
            ("1\u{b5}s2ns", 1_002),
            ("5m0s", 300_000_000_000),
        ] {
            assert_eq!(nanoseconds(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in ["", "5", "m", "-5m", "5x", "5m ", " 5m", "1..5s", ".s", "99999999999h", "1.0000001s", "1e3s"] {
            assert_eq!(nanoseconds(text), None, "{text}");
        }
    }
}
