//! The clock that all instances and the sidecar agree on, as far as there is one: `limits/clock` in the state folder.
//!
//! Without the file, time is the wall clock's. With it, somebody who sets the wall clock gives nothing away
//! ([`portcullis_limiter::clock`]). A beat that was good stays in use when the file cannot be read any more: forgetting it
//! would be a step of the clock by all that it had made up for.

use crate::file::{read_some, write_some};
use portcullis_limiter::clock::{self, Beat};
use std::{fs::File, io};

/// The file's name in the state folder.
const NAME: &str = "limits/clock";
/// Length of the guests' suspicion, which lies behind the sidecar's beat.
const SUSPICION: usize = clock::LEN - BEAT;
/// Length of the beat.
const BEAT: usize = 64;
/// How long a descriptor is used before the name is looked up again, in nanoseconds: who replaces the file is noticed, and
/// a missing one does not cost each request a system call.
const KEEP_NS: u64 = 1_000_000_000;
/// How often a beat is read that was being written.
const ATTEMPTS: usize = 3;

/// See the module. Touches nothing until it is asked.
#[derive(Debug)]
pub(super) struct Clock {
    path: String,
    file: Option<File>,
    /// When the name was looked up, by the wall clock.
    opened_ns: Option<u64>,
    /// The file as it was read last with a beat in it.
    last: [u8; clock::LEN],
    /// A suspicion that could not be written, so that it counts for this instance at least.
    own: Option<[u8; SUSPICION]>,
}

// === impl Clock ===

impl Clock {
    /// The clock in a state folder.
    pub(super) fn new(state: &str) -> Self {
        Self { path: format!("{state}/{NAME}"), file: None, opened_ns: None, last: [0; clock::LEN], own: None }
    }

    /// The time that limits count by, in nanoseconds, when it is `wall_ns` by the wall clock.
    pub(super) fn steady(&mut self, wall_ns: u64) -> u64 {
        if !clock::is_recent(wall_ns, &self.last) {
            self.look(wall_ns);
        }
        let reading = clock::steady(wall_ns, &self.last);
        if let Some(suspicion) = reading.suspect {
            // In the copy too: it is what counts as long as the file cannot be read.
            for (to, from) in self.last.iter_mut().skip(BEAT).zip(suspicion) {
                *to = from;
            }
            let written = self.file.as_ref().is_some_and(|file| {
                write_some(file, clock::SUSPICION_AT, &suspicion).is_ok_and(|len| len == SUSPICION)
            });
            self.own = (!written).then_some(suspicion);
        }
        reading.steady_ns
    }

    /// Reads the file, by its name from time to time.
    fn look(&mut self, wall_ns: u64) {
        if self.opened_ns.is_none_or(|opened| opened.abs_diff(wall_ns) >= KEEP_NS) {
            self.opened_ns = Some(wall_ns);
            self.file = open(&self.path);
        }
        self.read();
    }

    /// Takes over what the file holds, if there is a beat in it.
    fn read(&mut self) {
        let Some(file) = &self.file else { return };
        let mut bytes = [0; clock::LEN];
        for _ in 0..ATTEMPTS {
            match read_some(file, 0, &mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(_) if Beat::decode(&bytes).is_some() => break,
                Ok(_) => {}
            }
        }
        if Beat::decode(&bytes).is_none() {
            return;
        }
        self.last = bytes;
        if let Some(own) = self.own {
            for (to, from) in self.last.iter_mut().skip(BEAT).zip(own) {
                *to = from;
            }
        }
    }
}

/// Opens the file, which is the sidecar's to make; for reading alone where it may not be written.
fn open(path: &str) -> Option<File> {
    match File::options().read(true).write(true).open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => File::open(path).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: u64 = 1_795_262_400_000_000_000;
    const MS: u64 = 1_000_000;

    fn folder() -> (tempfile::TempDir, Clock, std::path::PathBuf) {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir(state.path().join("limits")).unwrap();
        let clock = Clock::new(state.path().to_str().unwrap());
        let file = state.path().join(NAME);
        (state, clock, file)
    }

    /// A beat at the given wall time whose offset is `-1 h`: the clock was set forward by that much.
    fn beat(wall: u64) -> Beat {
        let hour = 3_600_000 * MS;
        let beat = Beat::first(wall - hour - 50 * MS, 10_000 * MS);
        beat.next(wall, 10_050 * MS)
    }

    fn write(file: &std::path::Path, beat: &Beat) {
        std::fs::write(file, [beat.encode(), [0; 64]].concat()).unwrap();
    }

    #[test]
    fn without_a_file_time_is_the_wall_clocks() {
        let (_state, mut clock, file) = folder();
        assert_eq!(clock.steady(WALL), WALL);
        write(&file, &beat(WALL));
        assert_eq!(clock.steady(WALL + MS), WALL + MS, "not looked for again within a second");
        let hour = 3_600_000 * MS;
        assert_eq!(clock.steady(WALL + 1000 * MS) / hour, (WALL - hour + 1000 * MS) / hour);
    }

    #[test]
    fn a_beat_outlives_its_file_in_an_instance_that_has_seen_it() {
        let (_state, mut clock, file) = folder();
        write(&file, &beat(WALL));
        let hour = 3_600_000 * MS;
        assert_eq!(clock.steady(WALL), WALL - hour);
        std::fs::remove_file(&file).unwrap();
        for later in [10_000, 10_200, 20_000] {
            assert!(clock.steady(WALL + later * MS) <= WALL - hour + later * MS, "{later}");
        }
        assert_eq!(
            clock.steady(WALL + 20_000 * MS),
            WALL - hour + 20_000 * MS,
            "the sidecar is dead, the clock goes on"
        );
    }

    #[test]
    fn a_torn_beat_is_as_if_it_had_not_been_read() {
        let (_state, mut clock, file) = folder();
        write(&file, &beat(WALL));
        let before = clock.steady(WALL);
        let mut torn = std::fs::read(&file).unwrap();
        torn[9] ^= 1;
        std::fs::write(&file, torn).unwrap();
        assert_eq!(clock.steady(WALL + MS), before + MS);
    }

    #[test]
    fn a_suspicion_is_written_and_holds_where_it_cannot_be() {
        for writable in [true, false] {
            let (_state, mut clock, file) = folder();
            write(&file, &beat(WALL));
            let before = clock.steady(WALL);
            if !writable {
                clock.file = File::open(&file).ok();
            }
            // A step forward, as it looks: held at the last beat.
            assert_eq!(clock.steady(WALL + 500 * MS), before);
            assert_eq!(std::fs::read(&file).unwrap()[64..] != [0; 64], writable);
            assert_eq!(clock.steady(WALL + 550 * MS), before);
            // No beat for long enough: the sidecar is dead.
            assert_eq!(clock.steady(WALL + 601 * MS), before + 601 * MS, "{writable}");
            // It was not.
            write(&file, &beat(WALL + 650 * MS));
            assert_eq!(clock.steady(WALL + 700 * MS), before + 700 * MS);
        }
    }
}
