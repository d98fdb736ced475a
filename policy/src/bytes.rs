//! Comparing bytes.

/// Equality, eight bytes at a time: `memcmp` of the target that requests meet goes byte by byte.
pub fn same_bytes(one: &[u8], other: &[u8]) -> bool {
    let ((one, one_rest), (other, other_rest)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    one.len() == other.len()
        && one_rest == other_rest
        && one.iter().zip(other).all(|(one, other)| u64::from_ne_bytes(*one) == u64::from_ne_bytes(*other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_anywhere_is_seen() {
        let text = b"0123456789abcdefghi";
        assert!(same_bytes(text, text) && same_bytes(b"", b""));
        for at in 0..text.len() {
            let mut other = *text;
            other[at] ^= 1;
            assert!(!same_bytes(text, &other), "{at}");
            assert!(!same_bytes(text, &text[..at]), "{at}");
        }
    }
}
