//! Percent escapes in patterns for paths.
//!
//! A canonical path has the hexadecimal digits of its escapes in upper case, however they were sent, and an author may have
//! written them in lower case: `/caf%c3%a9`, `(%[0-9a-f]{2})+`. Directly after a literal `%`, two digits are therefore
//! taken in either case. Where a digit hides deeper, [`super::Pattern`] stays as it is, and
//! [`crate::header_match::matches_path`] sees the doubt.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Repetition};

/// Folds the two digits after each `%` of a sequence.
pub(super) fn fold<'h>(sequence: impl Iterator<Item = &'h mut Hir>) {
    let mut digits = 0;
    for hir in sequence {
        if is_percent(hir) {
            digits = 2;
        } else if digits > 0 {
            digits = fold_digits(hir, digits);
        }
    }
}

fn is_percent(hir: &Hir) -> bool {
    matches!(hir.kind(), HirKind::Literal(literal) if *literal.0 == *b"%")
}

/// Folds an element that stands for up to so many digits, and tells how many are left.
fn fold_digits(hir: &mut Hir, digits: u32) -> u32 {
    let (folded, left) = match hir.kind() {
        HirKind::Literal(literal) => match &*literal.0 {
            [digit] if digit.is_ascii_hexdigit() => (class([*digit]), digits - 1),
            _ => return 0,
        },
        HirKind::Class(Class::Unicode(ranges)) => {
            let digit = |byte: &u8| ranges.iter().any(|it| (it.start()..=it.end()).contains(&char::from(*byte)));
            let mut all = ranges.clone();
            all.union(&set((b'A'..=b'F').chain(b'a'..=b'f').filter(digit)));
            (Hir::class(Class::Unicode(all)), digits - 1)
        }
        // A longer one reaches over the escape.
        HirKind::Repetition(repetition) => match repetition.max.and_then(|max| digits.checked_sub(max)) {
            Some(left) => {
                let mut sub = repetition.sub.clone();
                // One digit at a time; a group of several is left as it is.
                if fold_digits(&mut sub, 1) > 0 || !matches!(sub.kind(), HirKind::Class(_) | HirKind::Literal(_)) {
                    return 0;
                }
                let (min, max, greedy) = (repetition.min, repetition.max, repetition.greedy);
                (Hir::repetition(Repetition { min, max, greedy, sub }), left)
            }
            None => return 0,
        },
        _ => return 0,
    };
    *hir = folded;
    left
}

fn class(digits: impl IntoIterator<Item = u8>) -> Hir {
    Hir::class(Class::Unicode(set(digits)))
}

/// The digits in both cases.
fn set(digits: impl IntoIterator<Item = u8>) -> ClassUnicode {
    let cases = digits.into_iter().flat_map(|digit| [digit.to_ascii_lowercase(), digit.to_ascii_uppercase()]);
    ClassUnicode::new(cases.map(|digit| ClassUnicodeRange::new(char::from(digit), char::from(digit))))
}
