use super::*;
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const T0: u64 = 1_800_000_000_000 * MS;

/// A machine: what the true time is, and how far the wall clock is off.
struct Machine {
    true_ns: u64,
    off_ns: i64,
    file: [u8; LEN],
}

impl Machine {
    fn new() -> Self {
        let mut machine = Self { true_ns: 0, off_ns: 0, file: [0; LEN] };
        machine.write(&Beat::first(machine.wall(), machine.boot()));
        machine
    }

    fn wall(&self) -> u64 {
        (T0 + self.true_ns).saturating_add_signed(self.off_ns)
    }

    fn boot(&self) -> u64 {
        self.true_ns + 77
    }

    fn write(&mut self, beat: &Beat) {
        self.file[..64].copy_from_slice(&beat.encode());
    }

    fn beat(&mut self) {
        let beat = Beat::decode(&self.file).unwrap().next(self.wall(), self.boot());
        self.write(&beat);
    }

    /// What a guest reads, less the true time.
    fn error_ns(&mut self) -> i64 {
        let reading = steady(self.wall(), &self.file);
        if let Some(suspect) = reading.suspect {
            self.file[64..].copy_from_slice(&suspect);
        }
        i64::try_from(reading.steady_ns).unwrap() - i64::try_from(T0 + self.true_ns).unwrap()
    }
}

proptest! {
    #[test]
    fn while_the_sidecar_beats_no_step_gives_more_than_is_fresh_and_none_costs_more_than_a_beat(
        // Milliseconds until the next thing, what it is, and by how much the clock is set.
        steps in proptest::collection::vec((1..49u64, -100_000..100_000i64), 1..200)
    ) {
        let mut machine = Machine::new();
        let mut since_beat = 0;
        for (wait, step) in steps {
            machine.true_ns += wait * MS;
            since_beat += wait * MS;
            if since_beat >= BEAT_NS - MS {
                machine.beat();
                since_beat = 0;
                prop_assert_eq!(machine.error_ns(), 0, "right after a beat");
            }
            // One in four sets the clock.
            let before = machine.off_ns;
            if step % 4 == 0 {
                machine.off_ns += step * 1_000_003;
            }
            let error = machine.error_ns();
            let fresh = i64::try_from(FRESH_NS).unwrap();
            prop_assert!(error <= fresh && error >= -i64::try_from(BEAT_NS * 2).unwrap(), "{}", error);
            if (machine.off_ns - before).abs() > fresh {
                prop_assert!(error <= 0, "set by {}: {}", machine.off_ns - before, error);
            }
            // Before the next step the sidecar has seen this one.
            if step % 4 == 0 {
                machine.beat();
                since_beat = 0;
            }
        }
    }

    #[test]
    fn bytes_that_are_no_beat_are_no_time(wall: u64, file in proptest::collection::vec(1..=u8::MAX, 0..200)) {
        let steady_ns = if file.len() < 64 { wall } else { UNKNOWN };
        prop_assert_eq!(steady(wall, &file), Reading { steady_ns, suspect: None });
        prop_assert_eq!(steady(wall, &[0; LEN]).steady_ns, wall);
    }

    #[test]
    fn a_read_that_a_beat_came_into_is_of_either_or_of_none(at in 0..64usize) {
        let first = Beat::first(T0, 0);
        let second = first.next(T0 + 3_600_000 * MS, 50 * MS);
        let torn = [&second.encode()[..at], &first.encode()[at..], &[0; 64]].concat();
        let read = steady(T0 + 3_600_000 * MS, &torn).steady_ns;
        prop_assert!([UNKNOWN, T0, T0 + 50 * MS].contains(&read), "{}", read);
    }

    #[test]
    fn a_beat_with_any_byte_changed_is_none(wall: u64, boot: u64, at in 0..64usize, by in 1..=u8::MAX) {
        let beat = Beat::first(wall, boot).closed();
        let mut bytes = beat.encode();
        prop_assert_eq!(Beat::decode(&bytes), Some(beat));
        bytes[at] ^= by;
        prop_assert_eq!(Beat::decode(&bytes), None);
    }

    #[test]
    fn no_times_overflow(times: [u64; 6]) {
        let [wall, boot, next_wall, next_boot, at, suspect_at] = times;
        let mut file = [0; LEN];
        file[..64].copy_from_slice(&Beat::first(wall, boot).next(next_wall, next_boot).encode());
        if let Some(suspect) = steady(suspect_at, &file).suspect {
            file[64..].copy_from_slice(&suspect);
        }
        steady(at, &file);
    }
}

#[test]
fn the_death_of_the_sidecar_costs_no_more_than_the_grace() {
    let mut machine = Machine::new();
    machine.off_ns = 5_000 * i64::try_from(MS).unwrap();
    machine.beat();
    let mut newest = machine.error_ns();
    let mut standstill = 0;
    for _ in 0..1000 {
        machine.true_ns += MS;
        let now = i64::try_from(machine.true_ns).unwrap() + machine.error_ns();
        // A log's time never goes back.
        standstill = if now <= newest { standstill + 1 } else { 0 };
        newest = newest.max(now);
        assert!(standstill <= GRACE_NS / MS + 1, "{standstill} ms");
    }
    assert_eq!(machine.error_ns(), 0, "and then it goes on as before");
}

#[test]
fn a_dead_sidecar_and_a_clock_that_goes_back_do_not_stop_time() {
    let mut machine = Machine::new();
    machine.off_ns = -3_600_000 * i64::try_from(MS).unwrap();
    assert!(machine.error_ns() <= 0);
    machine.true_ns += GRACE_NS;
    let first = machine.error_ns();
    machine.true_ns += 60_000 * MS;
    assert_eq!(machine.error_ns(), first, "it goes on, an hour behind, which a log makes good by a step");
}

#[test]
fn a_sidecar_that_comes_back_makes_good_what_was_set_meanwhile() {
    let mut machine = Machine::new();
    machine.true_ns += 60_000 * MS;
    machine.off_ns = 3_600_000 * i64::try_from(MS).unwrap();
    machine.beat();
    assert_eq!(machine.error_ns(), 0);
}

#[test]
fn behind_a_reboot_the_offset_stays() {
    let beat = Beat::first(T0, 1000 * MS).next(T0 + 50 * MS + 3_600_000 * MS, 1050 * MS);
    assert_eq!(beat.steady_ns(), T0 + 50 * MS);
    let after = beat.next(T0 + 4_000_000 * MS, 10 * MS);
    assert_eq!(after.steady_ns(), T0 + 400_000 * MS);
}

#[test]
fn a_closed_clock_waits_for_nobody() {
    let mut machine = Machine::new();
    machine.write(&Beat::decode(&machine.file).unwrap().closed());
    machine.true_ns += 10_000 * MS;
    assert_eq!(machine.error_ns(), 0);
    assert_eq!(steady(machine.wall(), &machine.file).suspect, None);
}
