//! Threads that charge as fast as they can, on a real disk; then a second reading of all that they wrote.
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
use portcullis_limiter::{Charge, Directory as _, Limiter, LogFile as _, disk::Disk};
use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::{Duration, Instant},
};

const THREADS: u32 = 8;
const INTERVAL: u64 = SECOND / 1000;
const BURST: u32 = 50;

fn now(began: Instant) -> u64 {
    T0 + u64::try_from(began.elapsed().as_nanos()).unwrap()
}

/// Everything that stood in a bucket, as its reader saw it: it holds every generation open before the next one is removed.
fn follow(disk: &Disk, bucket: u16, done: &AtomicBool) -> Vec<(u64, Vec<u8>)> {
    let mut read: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut open = Vec::new();
    loop {
        let is_last = done.load(Ordering::Acquire);
        let next = read.last().map_or(1, |(generation, _)| generation + 1);
        // One may be made and removed while we are slow; then the test says so below, and tries again.
        for generation in next..=disk.newest(bucket).unwrap().unwrap_or(0) {
            if let Ok(file) = disk.open(bucket, generation, false) {
                open.push(file);
                read.push((generation, Vec::new()));
            }
        }
        if is_last {
            break;
        }
    }
    for (file, (_, bytes)) in open.iter().zip(&mut read) {
        let mut buf = vec![0; 1 << 16];
        while let n @ 1.. = file.read(bytes.len() as u64, &mut buf).unwrap() {
            bytes.extend_from_slice(&buf[..n]);
        }
    }
    read
}

fn charge_all(path: &Path, charges: impl Fn(u32) -> Vec<Charge> + Sync, duration: Duration) -> (Naive, Vec<u32>) {
    let disk = Disk::new(path);
    let (began, tags, done) = (Instant::now(), AtomicU32::new(1), AtomicBool::new(false));
    let (files, admitted) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| follow(&disk, 1, &done));
        let writers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut limiter = Limiter::new(disk.clone()).with_long(512);
                    let mut admitted = Vec::new();
                    while began.elapsed() < duration {
                        let tag = tags.fetch_add(1, Ordering::Relaxed);
                        if limiter.charge(&charges(tag), now(began)).unwrap().admitted {
                            admitted.push(tag);
                        }
                        // Traefik frees instances at any time.
                        if tag % 997 == 0 {
                            limiter = Limiter::new(disk.clone()).with_long(512);
                        }
                    }
                    admitted
                })
            })
            .collect();
        let admitted: Vec<_> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        done.store(true, Ordering::Release);
        (reader.join().unwrap(), admitted)
    });
    let mut naive = Naive::default();
    for (n, (generation, bytes)) in files.iter().enumerate() {
        assert_eq!(*generation, n as u64 + 1, "the reader was too slow");
        assert!(naive.read(bytes, 1, *generation), "generation {generation} counts");
    }
    println!("{} requests, {} admitted, {} generations", tags.into_inner(), admitted.len(), files.len());
    (naive, admitted)
}

fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

#[test]
fn threads_admit_what_the_log_says_and_the_bucket_allows() {
    let folder = folder();
    let duration = Duration::from_secs(2);
    let (naive, mut admitted) = charge_all(folder.path(), |tag| vec![rate(1, tag, INTERVAL, BURST)], duration);
    naive.check_windows();
    let mut stands: Vec<_> = naive.admitted.iter().map(|one| one.tag).collect();
    admitted.sort_unstable();
    stands.sort_unstable();
    assert_eq!(admitted, stands);
    // Demand suffices, but for the time in which this machine ran something else.
    let (Some(first), Some(last)) = (naive.admitted.first(), naive.admitted.last()) else { panic!("none") };
    let allowed = u64::from(BURST) + (last.at - first.at) / INTERVAL;
    println!("{} of {allowed}", admitted.len());
    assert!(admitted.len() as u64 <= allowed);
}

#[test]
fn threads_that_charge_two_limits_admit_what_both_say() {
    let folder = folder();
    let charges = |tag| {
        let mut charges = vec![rate(1, tag, INTERVAL, BURST), rate(1025, tag, INTERVAL * 3 / 2, BURST)];
        if tag % 2 == 0 {
            charges.reverse();
        }
        charges
    };
    let (naive, admitted) = charge_all(folder.path(), charges, Duration::from_secs(2));
    naive.check_windows();
    for key in [1, 1025] {
        let n_stand = naive.admitted.iter().filter(|one| one.key == key && !one.refunded).count();
        assert_eq!(n_stand, admitted.len());
        assert!(admitted.iter().take(200).all(|tag| naive.stands(key, *tag)));
    }
}
