//! What the logs take on the disk, whatever the number of keys.
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

use common::{SECOND, T0, charge};
use portcullis_limiter::{Charge, Limiter, Rule, disk::Disk, store::BUCKETS};
use std::path::Path;

fn measure(folder: &Path) -> (u64, u64) {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.fold((0, 0), |(files, bytes), entry| {
        let metadata = entry.metadata().unwrap();
        let (more_files, more) = if metadata.is_dir() { measure(&entry.path()) } else { (1, metadata.len()) };
        (files + more_files, bytes + more)
    })
}

fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// The bound of `docs/reference/limits-log.md` for so many live keys in a bucket: the checkpoint, as much again behind it
/// but 512 slots at least, and what comes in with the seal; twice, while the next generation begins.
fn bound(n_keys: u64) -> u64 {
    let base = n_keys.min(4096 + 256) + n_keys.min(256) + 2;
    64 * (base + base.max(512) + 64)
}

#[test]
fn a_million_live_keys_stay_inside_the_bound() {
    // All buckets are alike, so that a few of them tell: the example `keys` fills all.
    const TRIED: u64 = 64;
    let folder = folder();
    let mut limiter = Limiter::new(Disk::new(folder.path()));
    let rule = Rule::Quota { units: 2, begin_ns: T0, end_ns: T0 + 86_400 * SECOND };
    let n_keys = 1_000_000_u64.div_ceil(u64::from(BUCKETS));
    for bucket in 0..TRIED {
        for n in 0..n_keys {
            let key = n * u64::from(BUCKETS) + bucket;
            let charges = [Charge { label: key.to_string(), ..charge(key, 1, rule) }];
            assert!(limiter.charge(&charges, T0).unwrap().admitted);
        }
        let (files, bytes) = measure(folder.path());
        assert!(files <= bucket + 1, "{files} files");
        assert!(bytes <= (bucket + 1) * bound(n_keys), "{bytes} bytes in {files} files");
    }
    let (files, bytes) = measure(folder.path());
    println!("{files} files, {bytes} bytes for {} keys", TRIED * n_keys);
    // Every one of them was counted.
    for key in [0, 1, 63, 1024, 500 * 1024 + 7, 900 * 1024] {
        let charges = [charge(key, 1, rule)];
        assert_eq!(limiter.charge(&charges, T0).unwrap().standings[0].remaining, 0);
        assert!(!limiter.charge(&charges, T0).unwrap().admitted);
    }
}

#[test]
fn keys_that_are_over_leave_nothing_behind() {
    let folder = folder();
    let mut limiter = Limiter::new(Disk::new(folder.path()));
    for n in 0..20_000 {
        let charges = [common::rate(n * u64::from(BUCKETS), 1, 1000, 5)];
        assert!(limiter.charge(&charges, T0 + n * 100_000).unwrap().admitted);
    }
    let (files, bytes) = measure(folder.path());
    assert!(files == 1 && bytes <= bound(0), "{bytes} bytes");
}

#[test]
fn a_bucket_full_of_keys_is_stricter_and_no_larger() {
    let folder = folder();
    let mut limiter = Limiter::new(Disk::new(folder.path()));
    let mut admitted = 0;
    for n in 0..10_000 {
        let charges = [common::rate(n * u64::from(BUCKETS), 1, 3600 * SECOND, 5)];
        admitted += u64::from(limiter.charge(&charges, T0).unwrap().admitted);
    }
    assert_eq!(admitted, 4096 + 5, "each its own, and then all of them one");
    let (_, bytes) = measure(folder.path());
    assert!(bytes <= bound(u64::MAX), "{bytes} bytes");
}
