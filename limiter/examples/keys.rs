//! Charges so many different keys, each of which stays live, and prints what that takes on the disk:
//! `cargo run --release -p portcullis-limiter --example keys -- 1000000 /dev/shm [label]`.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, reason = "a tool for people")]

use portcullis_limiter::{Charge, Limiter, Rule, disk::Disk, store::BUCKETS};
use std::{fs, path::Path, time::Instant};

const SECOND: u64 = 1_000_000_000;
const T0: u64 = 1_800_000_000 * SECOND;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let n_keys: u64 = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let folder = arguments.next().unwrap_or_else(|| "/dev/shm".to_owned());
    let label = if arguments.next().is_some() { "10.0.0.1 and then some" } else { "" };
    let directory = tempfile::tempdir_in(folder).expect("the folder is there");
    let mut limiter = Limiter::new(Disk::new(directory.path()));
    let rule = Rule::Quota { units: 100, begin_ns: T0, end_ns: T0 + 86_400 * SECOND };
    let began = Instant::now();
    let (mut n_admitted, mut most) = (0, (0, 0));
    // Bucket by bucket, as an instance that keeps the log open; at random, almost every charge opens one.
    for bucket in 0..u64::from(BUCKETS) {
        for n in 0..n_keys.div_ceil(u64::from(BUCKETS)) {
            let key = n * u64::from(BUCKETS) + bucket;
            if key < n_keys {
                let charge =
                    Charge { key, tag: 1, label: label.to_owned(), rule, cost: 1, enforced: true, global: false };
                n_admitted += u64::from(limiter.charge(&[charge], T0).expect("it can be counted").admitted);
            }
        }
        if bucket % 64 == 63 {
            let now = measure(directory.path());
            most = (most.0.max(now.0), most.1.max(now.1));
        }
    }
    let took = began.elapsed();
    println!("{n_admitted} of {n_keys} keys admitted, in {} ms", took.as_millis());
    println!("files: {} at most, bytes: {} at most, {} a key", most.0, most.1, most.1 / n_keys.max(1));
    let began = Instant::now();
    let mut key = 0_u64;
    for _ in 0..10_000 {
        key = key.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let charge = Charge {
            key: (key >> 20) % n_keys,
            tag: 1,
            label: String::new(),
            rule,
            cost: 1,
            enforced: true,
            global: false,
        };
        limiter.charge(&[charge], T0 + SECOND).expect("it can be counted");
    }
    println!("one of them at random: {} µs", began.elapsed().as_micros() / 10_000);
    let began = Instant::now();
    for n in 0..100_000 {
        let rule = Rule::Rate { interval_ns: 1, burst: 1000 };
        let charge = Charge { key: 1, tag: 1, label: String::new(), rule, cost: 1, enforced: true, global: false };
        limiter.charge(&[charge], T0 + 2 * SECOND + n * 1000).expect("it can be counted");
    }
    println!("always the same: {} ns", began.elapsed().as_nanos() / 100_000);
}

/// Files and bytes.
fn measure(folder: &Path) -> (u64, u64) {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries.fold((0, 0), |(files, bytes), entry| {
        let metadata = entry.metadata().expect("it is there");
        let (more_files, more) = if metadata.is_dir() { measure(&entry.path()) } else { (1, metadata.len()) };
        (files + more_files, bytes + more)
    })
}
