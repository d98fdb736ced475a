//! The clock that guests share: `limits/clock` in the state folder, written twenty times a second.
//!
//! A guest has only wall time, and somebody may set that. This process has a clock that nobody sets (`CLOCK_BOOTTIME`), so
//! it says in the file by how much the wall clock was moved, and the guests' time goes on as if it had not been. The
//! arithmetic is the limiter's ([`portcullis_limiter::clock`]). A thread of its own, because a pass over a large policy takes
//! longer than a beat; nothing else waits for it, and its failure is a line in the log.

use std::{
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use portcullis_limiter::clock::{self, Beat};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    time::{
        ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, clock_gettime, timerfd_create,
        timerfd_settime,
    },
};

use super::folder::StateFolder;

/// Time between beats.
const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: clock::BEAT_NS.cast_signed() };
/// Two looks at one clock so close together that a look at another between them belongs to both, in nanoseconds.
const CLOSE_NS: u64 = 100_000;
/// Attempts at that; the closest counts.
const LOOKS: usize = 10;

/// The running beat.
pub(super) struct Beating {
    /// Closing it ends the thread.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    seen: Arc<Seen>,
}

/// What the beat has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    steps: AtomicU64,
    offset_ns: AtomicI64,
    written: AtomicBool,
}

/// Both clocks at one moment, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Clocks {
    wall_ns: u64,
    boot_ns: u64,
}

struct Heart {
    folder: StateFolder,
    /// The last beat that was written, or would have been.
    last: Option<Beat>,
    seen: Arc<Seen>,
    complaint: Option<String>,
}

// === impl Beating ===

impl Beating {
    /// Starts the thread.
    pub(super) fn start(folder: StateFolder) -> io::Result<Self> {
        // A child process that inherited the end that is held would keep it open.
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let seen = Arc::new(Seen::default());
        let heart = Heart { folder, last: None, seen: seen.clone(), complaint: None };
        let thread = thread::Builder::new().name("clock".to_owned()).spawn(move || heart.run(&stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread), seen })
    }

    /// What it has seen so far.
    pub(super) fn seen(&self) -> &Arc<Seen> {
        &self.seen
    }
}

/// Ends the beat, and says so in the file.
impl Drop for Beating {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

// === impl Seen ===

impl Seen {
    /// How often somebody set the wall clock.
    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Relaxed)
    }

    /// What is added to the wall clock, in nanoseconds.
    pub(super) fn offset_ns(&self) -> i64 {
        self.offset_ns.load(Relaxed)
    }

    /// Whether the last beat could be written.
    pub(super) fn is_written(&self) -> bool {
        self.written.load(Relaxed)
    }
}

// === impl Heart ===

impl Heart {
    fn run(mut self, stopped: &OwnedFd) {
        // Without it a step is noticed up to a beat later.
        let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC).ok();
        loop {
            // Armed before the clocks are read: a step after that is noticed at once, one before that is in the reading.
            let timer = timer.as_ref().filter(|timer| arm(timer).is_ok());
            self.beat(Clocks::now(), false);
            if wait(stopped, timer) {
                break;
            }
        }
        self.beat(Clocks::now(), true);
    }

    fn beat(&mut self, now: Clocks, closed: bool) {
        match self.write(now, closed) {
            Ok(()) => {
                self.seen.written.store(true, Relaxed);
                if self.complaint.take().is_some() {
                    tracing::info!("the clock is written again");
                }
            }
            Err(error) => {
                self.seen.written.store(false, Relaxed);
                let text = error.to_string();
                if self.complaint.as_ref() != Some(&text) {
                    tracing::warn!(
                        file = %self.folder.clock().display(),
                        error = %text,
                        "the clock cannot be written; limits go by the wall clock, as somebody may set it"
                    );
                    self.complaint = Some(text);
                }
            }
        }
    }

    /// Opened each time: the folder may be emptied, and mounted anew, at any time.
    fn write(&mut self, now: Clocks, closed: bool) -> io::Result<()> {
        let file = self.folder.open_clock()?;
        let last = match self.last.take() {
            Some(last) => Some(last),
            None => read(&file)?,
        };
        let beat = match &last {
            Some(last) => last.next(now.wall_ns, now.boot_ns),
            None => Beat::first(now.wall_ns, now.boot_ns),
        };
        let offset_ns = offset(&beat, now.wall_ns);
        let moved = last.is_some_and(|last| offset(&last, now.wall_ns) != offset_ns);
        let beat = if closed { beat.closed() } else { beat };
        self.last = Some(beat);
        self.seen.offset_ns.store(offset_ns, Relaxed);
        if moved {
            self.seen.steps.fetch_add(1, Relaxed);
            tracing::info!(offset_ns, "the wall clock was set; limits go on as if it had not been");
        }
        // Only our part: the rest of the file is the guests'.
        file.write_all_at(&beat.encode(), 0)
    }
}

/// What a beat makes guests add to the wall clock, in nanoseconds.
fn offset(beat: &Beat, wall_ns: u64) -> i64 {
    // A closed beat is never held back.
    let steady_ns = clock::steady(wall_ns, &beat.closed().encode()).steady_ns;
    i64::try_from(i128::from(steady_ns) - i128::from(wall_ns)).unwrap_or(i64::MAX)
}

/// The last beat in the file, whoever wrote it; `None` if there is none that checks.
fn read(file: &std::fs::File) -> io::Result<Option<Beat>> {
    let mut bytes = [0; clock::LEN];
    let mut n_read = 0;
    while let Some(rest) = bytes.get_mut(n_read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, n_read as u64)? {
            0 => break,
            n => n_read += n,
        }
    }
    Ok(Beat::decode(&bytes))
}

/// Makes the timer end as soon as somebody sets the wall clock; by itself it never does.
fn arm(timer: &OwnedFd) -> rustix::io::Result<()> {
    let never = Timespec { tv_sec: i64::from(i32::MAX) * 16, tv_nsec: 0 };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: never };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &once).map(drop)
}

/// Waits for the next beat; whether it is the last.
fn wait(stopped: &OwnedFd, timer: Option<&OwnedFd>) -> bool {
    let mut events = vec![PollFd::new(stopped, PollFlags::IN)];
    events.extend(timer.map(|timer| PollFd::from_borrowed_fd(timer.as_fd(), PollFlags::IN)));
    match poll(&mut events, Some(&INTERVAL)) {
        // A closed pipe hangs up.
        Ok(_) => events.first().is_some_and(|stopped| !stopped.revents().is_empty()),
        Err(Errno::INTR) => false,
        Err(_) => {
            // It cannot fail otherwise; if it does, not in a tight loop.
            thread::sleep(std::time::Duration::from_nanos(clock::BEAT_NS));
            false
        }
    }
}

// === impl Clocks ===

impl Clocks {
    /// Reads both. A thread that is put aside between two readings would look like somebody who sets the clock, so the wall
    /// clock is read between two readings of the other, until those are close.
    fn now() -> Self {
        let mut best = (u64::MAX, Self { wall_ns: 0, boot_ns: 0 });
        for _ in 0..LOOKS {
            let before = nanoseconds(ClockId::Boottime);
            let wall_ns = nanoseconds(ClockId::Realtime);
            let width = nanoseconds(ClockId::Boottime).saturating_sub(before);
            if width < best.0 {
                best = (width, Self { wall_ns, boot_ns: before + width / 2 });
            }
            if width <= CLOSE_NS {
                break;
            }
        }
        best.1
    }
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, time::Duration, time::Instant};

    const SECOND: u64 = 1_000_000_000;

    fn heart(state: &std::path::Path) -> Heart {
        Heart { folder: StateFolder::new(state), last: None, seen: Arc::default(), complaint: None }
    }

    fn at(wall_ns: u64, boot_ns: u64) -> Clocks {
        Clocks { wall_ns, boot_ns }
    }

    #[test]
    fn a_step_is_taken_out_and_outlives_a_restart_and_a_reboot() {
        let state = tempfile::tempdir().unwrap();
        let mut first = heart(state.path());
        first.write(at(100 * SECOND, 10 * SECOND), false).unwrap();
        first.write(at(3701 * SECOND, 11 * SECOND), false).unwrap();
        assert_eq!((first.seen.steps(), first.seen.offset_ns()), (1, -3_600_000_000_000));
        first.write(at(3702 * SECOND, 12 * SECOND), true).unwrap();

        // A step back while nobody beats.
        let mut second = heart(state.path());
        second.write(at(3603 * SECOND, 13 * SECOND), false).unwrap();
        assert_eq!(second.seen.offset_ns(), -3_500_000_000_000);

        // Nobody knows how long a reboot took: the offset stays.
        let mut third = heart(state.path());
        third.write(at(4000 * SECOND, SECOND), false).unwrap();
        assert_eq!(third.seen.offset_ns(), -3_500_000_000_000);
    }

    #[test]
    fn the_guests_part_is_not_touched() {
        let state = tempfile::tempdir().unwrap();
        let mut heart = heart(state.path());
        heart.write(at(SECOND, SECOND), false).unwrap();
        let file = heart.folder.open_clock().unwrap();
        file.write_all_at(&[7; 64], 64).unwrap();
        heart.write(at(2 * SECOND, 2 * SECOND), false).unwrap();
        assert_eq!(fs::read(heart.folder.clock()).unwrap()[64..], [7; 64]);
    }

    #[test]
    fn beats_until_it_is_dropped_and_comes_back_when_the_folder_is_emptied() {
        let state = tempfile::tempdir().unwrap();
        let folder = StateFolder::new(state.path());
        let beat = || Beat::decode(&fs::read(folder.clock()).ok()?);
        let wait_for = |what: &str, holds: &dyn Fn() -> bool| {
            let start = Instant::now();
            while !holds() {
                assert!(start.elapsed() < Duration::from_secs(10), "waited for {what}");
                thread::sleep(Duration::from_millis(5));
            }
        };
        let beating = Beating::start(folder.clone()).unwrap();
        wait_for("a beat", &|| beat().is_some());
        let first = beat().unwrap();
        wait_for("the next", &|| beat().is_some_and(|it| it.steady_ns() > first.steady_ns()));
        fs::remove_dir_all(folder.logs()).unwrap();
        wait_for("a new file", &|| beat().is_some());
        assert!(beating.seen().is_written() && beat().is_some_and(|it| it != it.closed()));
        drop(beating);
        assert!(beat().is_some_and(|it| it == it.closed()));
    }

    #[test]
    fn a_folder_that_is_missing_is_waited_for() {
        let parent = tempfile::tempdir().unwrap();
        let mut heart = heart(&parent.path().join("state"));
        heart.beat(Clocks::now(), false);
        assert!(!heart.seen.is_written() && heart.complaint.is_some());
        fs::create_dir(parent.path().join("state")).unwrap();
        heart.beat(Clocks::now(), false);
        assert!(heart.seen.is_written() && heart.complaint.is_none());
    }

    #[test]
    fn the_clocks_are_read_together() {
        let (first, second) = (Clocks::now(), Clocks::now());
        let moved = (second.wall_ns - first.wall_ns).abs_diff(second.boot_ns - first.boot_ns);
        assert!(moved < SECOND / 1000, "{moved}");
    }
}
