//! A body that is checked without being kept: byte `i` of it follows from `i`.
//!
//! The pattern repeats after a prime number of bytes that is larger than any buffer on the way, so that a lost, doubled
//! or swapped buffer is seen. Comparing is a `memcmp`, fast enough for a gigabyte in an unoptimized build.

use std::sync::OnceLock;

use bytes::Bytes;

/// The period of the pattern: a prime above 1 MiB.
const PERIOD: usize = 1_048_583;

fn block() -> &'static Bytes {
    static BLOCK: OnceLock<Bytes> = OnceLock::new();
    BLOCK.get_or_init(|| {
        // xorshift64 from a fixed start: the same bytes in every run and in every process.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut bytes = Vec::with_capacity(PERIOD + 8);
        while bytes.len() < PERIOD {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes.truncate(PERIOD);
        Bytes::from(bytes)
    })
}

/// Up to `most` bytes of the pattern from `offset` on; fewer where the pattern starts again. Nothing is copied.
pub fn piece(offset: u64, most: usize) -> Bytes {
    let from = usize::try_from(offset % PERIOD as u64).unwrap_or(0);
    let to = PERIOD.min(from.saturating_add(most));
    block().slice(from..to)
}

/// Compares a stream with the pattern as it arrives.
#[derive(Debug, Default, Clone, Copy)]
pub struct Check {
    bytes: u64,
    different: bool,
}

impl Check {
    /// Takes the next bytes of the stream.
    pub fn take(&mut self, mut data: &[u8]) {
        while !data.is_empty() && !self.different {
            let expected = piece(self.bytes, data.len());
            let (now, later) = data.split_at(expected.len());
            self.different = now != expected;
            self.bytes += now.len() as u64;
            data = later;
        }
    }

    /// How many bytes came before the first difference's piece was through.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether all bytes so far were the pattern's.
    pub fn exact(&self) -> bool {
        !self.different
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_in_any_pieces_is_exact() {
        let mut check = Check::default();
        let mut offset = 0;
        for step in [1, 70_000, PERIOD, 3] {
            let part = piece(offset, step);
            offset += part.len() as u64;
            check.take(&part);
        }
        assert!(check.exact());
        assert_eq!(check.bytes(), offset);
    }

    #[test]
    fn a_lost_or_changed_byte_is_seen() {
        let mut lost = Check::default();
        lost.take(&piece(1, 100));
        assert!(!lost.exact());
        let mut changed = piece(0, 100).to_vec();
        changed[99] ^= 1;
        let mut check = Check::default();
        check.take(&changed);
        assert!(!check.exact());
    }
}
