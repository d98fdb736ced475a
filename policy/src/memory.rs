//! What an instance may know from others: that a signature was verified before.

/// Remembers, across instances, that a signature holds. Only that: never a claim, never a failure, so that the worst
/// which a lost or stale memory can do is to cost a verification.
pub trait Memory {
    /// Whether the thing with this digest was verified and is still good at `now` (seconds since the Unix epoch).
    fn remembers(&self, digest: &[u8; 32], now: u64) -> bool;

    /// Keeps that the thing with this digest was verified; it is good until `until` (seconds since the Unix epoch).
    fn remember(&self, digest: &[u8; 32], until: u64);
}

/// Forgets everything.
impl Memory for () {
    fn remembers(&self, _: &[u8; 32], _: u64) -> bool {
        false
    }

    fn remember(&self, _: &[u8; 32], _: u64) {}
}
