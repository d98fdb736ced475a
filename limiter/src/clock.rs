//! A clock that goes on evenly while the wall clock is set, for guests that have nothing but the wall clock.
//!
//! ```text
//!  limits/clock   │ 0..64: the sidecar's beat, every 50 ms: wall, boottime, offset │ 64..128: the guests' suspicion │
//!
//!  steady = wall + offset            as long as the beat is fresh
//!           beat's wall + offset      when the wall clock is elsewhere: was it set, or is the sidecar dead? The first guest
//!                                     that finds out writes the suspicion; if no beat comes within 100 ms of it, the
//!                                     sidecar is dead, and
//!           wall + offset             it goes on
//! ```
//!
//! So a wall clock that is set forward by more than [`FRESH_NS`] while the sidecar lives gives nothing away; by less, it
//! borrows that much until the next beat, and the log's time waits for it afterwards. The sidecar's death costs no more than
//! [`GRACE_NS`] of time. Everything here is pure; times are in nanoseconds since the Unix epoch.

use xxhash_rust::xxh64::xxh64;

/// Length of the file in bytes.
pub const LEN: usize = 128;
/// Where the suspicion stands in the file.
pub const SUSPICION_AT: u64 = 64;
/// The file's name in the folder of the logs.
pub const FILE_NAME: &str = "clock";
/// How often the sidecar beats.
pub const BEAT_NS: u64 = 50_000_000;
/// How long a beat is good for: two may be missed.
pub const FRESH_NS: u64 = 150_000_000;
/// How long a suspicion waits for a beat.
pub const GRACE_NS: u64 = 100_000_000;
/// Below this the wall clock is being slewed or the two clocks were not read at once; it was not set.
const STEP_NS: i64 = 1_000_000;

/// The steady time is not known: nothing can be charged. Read the file again, which helps where it was just being written.
pub const UNKNOWN: u64 = 0;

/// Names the formats.
const BEAT: u64 = u64::from_le_bytes(*b"beat0001");
const SUSPICION: u64 = u64::from_le_bytes(*b"susp0001");

/// What the time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The steady time, or [`UNKNOWN`].
    pub steady_ns: u64,
    /// To be written at [`SUSPICION_AT`]; a failure costs nothing.
    pub suspect: Option<[u8; 64]>,
}

/// What the sidecar says of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    wall_ns: u64,
    boot_ns: u64,
    offset_ns: i64,
    closed: bool,
}

/// The steady time for a wall time and what stands in the file, which may be empty. [`UNKNOWN`] when no beat can be read from
/// bytes that are there: they were just being written, or are not ours.
pub fn steady(wall_ns: u64, file: &[u8]) -> Reading {
    let Some(beat) = Beat::decode(file) else {
        // A read that the sidecar's write came into has parts of two beats. Wall time could be hours ahead of either.
        let is_torn = file.get(..64).is_some_and(|beat| beat.iter().any(|byte| *byte != 0));
        return Reading { steady_ns: if is_torn { UNKNOWN } else { wall_ns }, suspect: None };
    };
    let at = |wall: u64| wall.saturating_add_signed(beat.offset_ns);
    let ahead_ns = wall_ns.checked_sub(beat.wall_ns);
    if beat.closed || ahead_ns.is_some_and(|ahead| ahead <= FRESH_NS) {
        return Reading { steady_ns: at(wall_ns), suspect: None };
    }
    // Never ahead of the true time, whatever was done to the wall clock.
    let held = Reading { steady_ns: at(beat.wall_ns), suspect: None };
    if beat.wall_ns.saturating_sub(wall_ns) <= FRESH_NS && ahead_ns.is_none() {
        // It was read before the beat was written.
        return held;
    }
    let since = file.get(64..LEN).and_then(|bytes| suspicion(bytes, &beat)).filter(|since| *since <= wall_ns);
    match since {
        Some(since) if wall_ns - since >= GRACE_NS => Reading { steady_ns: at(wall_ns), suspect: None },
        Some(_) => held,
        None => Reading { suspect: Some(encode([SUSPICION, beat.wall_ns, wall_ns, 0, 0, 0, 0])), ..held },
    }
}

/// Whether the file need not be read again at this wall time: the sidecar has hardly had time for another beat, and what it
/// would say is the same unless the wall clock was set by less than [`BEAT_NS`], which is borrowed either way.
pub fn is_recent(wall_ns: u64, file: &[u8]) -> bool {
    let ahead = Beat::decode(file).filter(|beat| !beat.closed).and_then(|beat| wall_ns.checked_sub(beat.wall_ns));
    ahead.is_some_and(|ahead| ahead <= BEAT_NS)
}

/// Since when the sidecar is suspected to be dead after this beat.
fn suspicion(bytes: &[u8], beat: &Beat) -> Option<u64> {
    match decode(bytes)? {
        [SUSPICION, of, since, ..] if of == beat.wall_ns => Some(since),
        _ => None,
    }
}

fn encode(words: [u64; 7]) -> [u8; 64] {
    let mut bytes = [0; 64];
    let (covered, checksum) = bytes.split_at_mut(56);
    let (chunks, _) = covered.as_chunks_mut::<8>();
    for (chunk, word) in chunks.iter_mut().zip(words) {
        *chunk = word.to_le_bytes();
    }
    checksum.copy_from_slice(&xxh64(covered, 0).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<[u64; 7]> {
    let (covered, checksum) = bytes.get(..64)?.split_at_checked(56)?;
    if checksum != xxh64(covered, 0).to_le_bytes() {
        return None;
    }
    let (chunks, _) = covered.as_chunks::<8>();
    let mut words = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk));
    Some(core::array::from_fn(|_| words.next().unwrap_or_default()))
}

// === impl Beat ===

impl Beat {
    /// What the file says; `None` when there is no beat in it.
    pub fn decode(file: &[u8]) -> Option<Self> {
        match decode(file)? {
            [BEAT, wall_ns, boot_ns, offset_ns, closed, ..] => {
                Some(Self { wall_ns, boot_ns, offset_ns: offset_ns.cast_signed(), closed: closed != 0 })
            }
            _ => None,
        }
    }

    /// The first beat that there ever is: steady time is wall time.
    pub fn first(wall_ns: u64, boot_ns: u64) -> Self {
        Self { wall_ns, boot_ns, offset_ns: 0, closed: false }
    }

    /// The beat after this one, also after a restart of the sidecar. `boot_ns` is the time since the machine was started,
    /// which nobody sets; both clocks are read as close together as can be.
    #[must_use]
    pub fn next(&self, wall_ns: u64, boot_ns: u64) -> Self {
        let mut offset_ns = self.offset_ns;
        // Behind a reboot nothing is known of how long it took.
        if let Some(passed) = boot_ns.checked_sub(self.boot_ns) {
            let step = i128::from(wall_ns) - i128::from(self.wall_ns) - i128::from(passed);
            if step.unsigned_abs() > u128::from(STEP_NS.unsigned_abs()) {
                let offset = i128::from(offset_ns) - step;
                offset_ns = i64::try_from(offset).unwrap_or(offset_ns);
            }
        }
        Self { wall_ns, boot_ns, offset_ns, closed: false }
    }

    /// The last one: from here on guests need not wait for another.
    #[must_use]
    pub fn closed(self) -> Self {
        Self { closed: true, ..self }
    }

    /// The steady time of the beat.
    pub fn steady_ns(&self) -> u64 {
        self.wall_ns.saturating_add_signed(self.offset_ns)
    }

    /// The first half of the file.
    pub fn encode(&self) -> [u8; 64] {
        let closed = u64::from(self.closed);
        encode([BEAT, self.wall_ns, self.boot_ns, self.offset_ns.cast_unsigned(), closed, 0, 0])
    }
}

#[cfg(test)]
#[path = "clock_tests.rs"]
mod tests;
