//! The protocol under schedules: several writers on a directory in memory, where every operation is a point at which any
//! other may go on, where a writer may stop for good at any of them, and where what it appends last may be torn.
//!
//! Small worlds are explored whole (depth first; `PORTCULLIS_SCHEDULES=20000` for all of them), larger ones by many schedules that are likely to hurt (PCT) and at
//! random. Held against a second reading of everything that was ever written, removed logs included:
//!
//! * whoever was answered "admitted" has its record standing there, whoever was answered "refused" has none;
//! * every generation counts in one file only, and its checkpoint says what the generations before it say;
//! * in no window more is admitted than the bucket allows, and nothing less where nobody crashed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test stops where it fails, and says what it has done"
)]

mod common;

use common::{Naive, SECOND, T0, rate};
use portcullis_limiter::{Charge, Directory, Limiter, LogFile};
use shuttle::{
    Config, Runner,
    scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};
use std::{
    io,
    sync::{Arc, Mutex},
};

/// A file system that forgets nothing.
#[derive(Default)]
struct World {
    /// Every file that there ever was: its generation, and what was appended. All are of one bucket.
    files: Vec<(u64, Vec<u8>)>,
    /// Names that there are, each with its file.
    names: Vec<(u64, usize)>,
    /// How a listing goes that others come into.
    torn_listings: bool,
}

/// One writer's way to the world.
struct Writer {
    world: Arc<Mutex<World>>,
    point: Arc<AtomicUsize>,
    /// Operations until it stops for good.
    left: Arc<Mutex<usize>>,
    /// How much of its last append is written, in bytes.
    torn: usize,
}

struct File {
    writer: Writer,
    index: usize,
}

impl Writer {
    fn new(world: &Arc<Mutex<World>>, left: usize, torn: usize) -> Self {
        let point = Arc::new(AtomicUsize::new(0));
        Self { world: world.clone(), point, left: Arc::new(Mutex::new(left)), torn }
    }

    fn share(&self) -> Self {
        let Self { world, point, left, torn } = self;
        Self { world: world.clone(), point: point.clone(), left: left.clone(), torn: *torn }
    }

    /// Others may go on here. `false` when the writer has stopped just before this operation.
    fn step(&self) -> io::Result<bool> {
        self.point.fetch_add(1, Ordering::SeqCst);
        let mut left = self.left.lock().unwrap();
        match *left {
            usize::MAX => Ok(true),
            0 => Err(io::ErrorKind::Interrupted.into()),
            _ => {
                *left -= 1;
                Ok(*left > 0)
            }
        }
    }

    fn go_on(&self) -> io::Result<()> {
        if self.step()? { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
    }
}

impl Directory for Writer {
    type File = File;

    fn newest(&self, _: u16) -> io::Result<Option<u64>> {
        self.go_on()?;
        let mut names = self.world.lock().unwrap().names.clone();
        if self.world.lock().unwrap().torn_listings {
            // What came meanwhile may be missed, and what went too.
            self.go_on()?;
            names.retain(|name| self.world.lock().unwrap().names.contains(name));
        }
        Ok(names.iter().map(|(generation, _)| *generation).max())
    }

    fn open(&self, _: u16, generation: u64, create: bool) -> io::Result<File> {
        self.go_on()?;
        let mut world = self.world.lock().unwrap();
        let index = match world.names.iter().find(|(name, _)| *name == generation) {
            Some((_, index)) => *index,
            None if create => {
                world.files.push((generation, Vec::new()));
                let index = world.files.len() - 1;
                world.names.push((generation, index));
                index
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(File { writer: self.share(), index })
    }

    fn remove(&self, _: u16, generation: u64) -> io::Result<()> {
        self.go_on()?;
        self.world.lock().unwrap().names.retain(|(name, _)| *name != generation);
        Ok(())
    }
}

impl LogFile for File {
    fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.writer.go_on()?;
        let world = self.writer.world.lock().unwrap();
        let bytes = &world.files[self.index].1;
        let bytes = bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let len = bytes.len().min(buf.len());
        buf[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<u64> {
        let is_alive = self.writer.step()?;
        let file = &mut self.writer.world.lock().unwrap().files[self.index].1;
        let at = file.len() as u64;
        if is_alive {
            file.extend_from_slice(bytes);
            return Ok(at);
        }
        file.extend_from_slice(&bytes[..self.writer.torn.min(bytes.len())]);
        Err(io::ErrorKind::Interrupted.into())
    }
}

/// What the writers of a world do.
#[derive(Clone, Copy)]
struct Plan {
    writers: u32,
    requests: u32,
    burst: u32,
    /// Slots before a seal.
    long: usize,
    /// Time between two requests of a writer.
    pace_ns: u64,
    /// Two limits in one request instead of one.
    two: bool,
    /// The first writer stops after so many operations, and tears its last append after so many bytes.
    crash: Option<(usize, usize)>,
    /// Writers begin with an open log.
    warm: bool,
    torn_listings: bool,
}

const PLAN: Plan = Plan {
    writers: 3,
    requests: 1,
    burst: 2,
    long: 512,
    pace_ns: 0,
    two: false,
    crash: None,
    warm: true,
    torn_listings: false,
};

/// Far enough apart that a bucket of another key fills up in the time of a test.
const INTERVAL: u64 = SECOND;

impl Plan {
    fn charges(&self, tag: u32) -> Vec<Charge> {
        let first = rate(1, tag, INTERVAL, self.burst);
        // Of another size, and in the other order for every other writer.
        let mut charges = vec![first, rate(1 + 1024, tag, INTERVAL * 2, self.burst + 1)];
        charges.truncate(if self.two { 2 } else { 1 });
        if tag % 2 == 1 {
            charges.reverse();
        }
        charges
    }

    fn play(self) {
        let world = Arc::new(Mutex::new(World { torn_listings: self.torn_listings, ..World::default() }));
        let writers: Vec<_> = (0..self.writers)
            .map(|n| {
                let (left, torn) = self.crash.filter(|_| n == 0).unwrap_or((usize::MAX, 0));
                let writer = Writer::new(&world, usize::MAX, torn);
                let left_of = writer.left.clone();
                let mut limiter = Limiter::new(writer).with_long(self.long);
                if self.warm {
                    // Refused, and so not appended: all that it does is to open the log.
                    let too_much = Charge { cost: self.burst + 1, ..rate(1, 0, INTERVAL, self.burst) };
                    assert!(!limiter.charge(&[too_much], T0).unwrap().admitted);
                }
                *left_of.lock().unwrap() = left;
                thread::spawn(move || {
                    let mut answers = Vec::new();
                    for m in 0..self.requests {
                        let tag = 1 + n + self.writers * m;
                        let answer = limiter.charge(&self.charges(tag), T0 + u64::from(m) * self.pace_ns);
                        answers.push((tag, answer.map(|outcome| outcome.admitted)));
                    }
                    answers
                })
            })
            .collect();
        let answers: Vec<_> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        self.check(&world.lock().unwrap(), &answers);
    }

    fn check(&self, world: &World, answers: &[(u32, Result<bool, portcullis_limiter::Unavailable>)]) {
        let naive = read(world);
        naive.check_windows();
        for (tag, answer) in answers {
            for charge in self.charges(*tag) {
                let stands = naive.stands(charge.key, *tag);
                match answer {
                    Ok(admitted) => assert_eq!(stands, *admitted, "request {tag} in {naive:?}"),
                    // It crashed: it may have been counted, but nobody was let in.
                    Err(error) => assert!(self.crash.is_some(), "{error}"),
                }
            }
        }
        let n_asked = self.writers * self.requests;
        let n_admitted = answers.iter().filter(|(_, answer)| *answer == Ok(true)).count();
        if self.pace_ns == 0 {
            assert!(n_admitted <= self.burst as usize);
            if self.crash.is_none() && !self.two {
                assert_eq!(n_admitted, self.burst.min(n_asked) as usize, "nothing is lost: {answers:?}");
            }
        }
    }
}

/// All generations, in their order; each counts in one file.
fn read(world: &World) -> Naive {
    let mut naive = Naive::default();
    let mut files: Vec<_> = world.files.iter().collect();
    files.sort_by_key(|(generation, _)| *generation);
    let mut last = 0;
    for (generation, bytes) in files {
        if naive.read(bytes, 1, *generation) {
            assert_eq!(*generation, last + 1, "each generation once, none left out");
            last = *generation;
        }
    }
    naive
}

fn run(name: &str, scheduler: impl Scheduler + 'static, plan: Plan) {
    let mut config = Config::new();
    config.stack_size = 0x20_000;
    config.max_steps = shuttle::MaxSteps::FailAfter(100_000);
    let n_schedules = Runner::new(scheduler, config).run(move || plan.play());
    println!("{name}: {n_schedules} schedules");
}

fn many(variable: &str, usually: usize) -> usize {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(usually)
}

/// A tenth of what a release build does in the same time.
fn n_schedules() -> usize {
    many("PORTCULLIS_SCHEDULES", 300)
}

#[test]
fn three_writers_at_one_bucket_in_every_schedule() {
    let plan = PLAN;
    run("three writers, one charge each", DfsScheduler::new(Some(n_schedules() * 100), false), plan);
}

#[test]
fn two_writers_at_two_limits_in_every_schedule() {
    let plan = Plan { writers: 2, two: true, burst: 1, ..PLAN };
    run("two writers, two limits of one bucket", DfsScheduler::new(Some(n_schedules() * 100), false), plan);
}

#[test]
fn two_writers_of_which_one_stops_anywhere_in_every_schedule() {
    for left in 1..6 {
        for torn in [0, 1, 63, 64] {
            let plan = Plan { writers: 2, burst: 1, crash: Some((left, torn)), ..PLAN };
            let name = format!("two writers, one stops at its operation {left} with {torn} bytes written");
            run(&name, DfsScheduler::new(Some(n_schedules() * 100), false), plan);
        }
    }
}

#[test]
fn three_writers_of_which_one_stops_anywhere() {
    for left in 1..6 {
        for torn in [0, 1, 63, 64] {
            let plan = Plan { crash: Some((left, torn)), ..PLAN };
            let name = format!("three writers, one stops at its operation {left} with {torn} bytes written");
            run(&name, PctScheduler::new(3, n_schedules() / 3), plan);
            run(&name, RandomScheduler::new(n_schedules() / 3), plan);
        }
    }
}

#[test]
fn a_generation_ends_under_two_writers_depth_first() {
    // The first record is the last one of its generation, so that both go on in the next.
    let plan = Plan { writers: 2, burst: 1, requests: 2, long: 1, ..PLAN };
    run("rotation, two writers", DfsScheduler::new(Some(n_schedules() * 10), false), plan);
}

#[test]
fn a_generation_ends_under_three_writers() {
    for long in 1..4 {
        let plan = Plan { requests: 6, burst: 9, long, ..PLAN };
        run(&format!("rotation at {long}, PCT"), PctScheduler::new(4, n_schedules()), plan);
        run(&format!("rotation at {long}, random"), RandomScheduler::new(n_schedules()), plan);
    }
}

#[test]
fn generations_end_while_some_are_slow_or_new() {
    let plan = Plan { writers: 4, requests: 5, burst: 12, long: 1, warm: false, ..PLAN };
    run("from nothing, PCT", PctScheduler::new(5, n_schedules()), plan);
    run("from nothing, random", RandomScheduler::new(n_schedules()), plan);
}

#[test]
fn time_goes_on_while_generations_end() {
    let plan = Plan { requests: 6, burst: 2, long: 3, pace_ns: INTERVAL / 2, ..PLAN };
    run("time goes on, PCT", PctScheduler::new(4, n_schedules()), plan);
    run("time goes on, random", RandomScheduler::new(n_schedules()), plan);
}

#[test]
fn requests_with_two_limits_while_generations_end() {
    let plan = Plan { requests: 4, burst: 4, two: true, long: 3, pace_ns: INTERVAL / 3, ..PLAN };
    run("two limits, PCT", PctScheduler::new(4, n_schedules()), plan);
    run("two limits, random", RandomScheduler::new(n_schedules()), plan);
}

#[test]
fn one_stops_anywhere_while_generations_end() {
    for left in 1..30 {
        for torn in [0, 17, 64, 128] {
            let plan = Plan { requests: 4, burst: 8, long: 2, crash: Some((left, torn)), ..PLAN };
            let name = format!("rotation, one stops at its operation {left} with {torn} bytes written");
            run(&name, PctScheduler::new(4, n_schedules() / 30), plan);
            run(&name, RandomScheduler::new(n_schedules() / 30), plan);
        }
    }
}

#[test]
fn listings_may_be_torn() {
    let plan = Plan { writers: 3, requests: 5, burst: 12, long: 4, warm: false, torn_listings: true, ..PLAN };
    run("torn listings, PCT", PctScheduler::new(4, n_schedules()), plan);
    run("torn listings, random", RandomScheduler::new(n_schedules()), plan);
}
