//! The fuzz targets: for each border at which hostile bytes come in, a function that panics when something that must hold
//! for *any* bytes does not. "No panic" is the least of it; each module says what else.
//!
//! The functions are plain, so that they run twice: under libFuzzer (`fuzz/libfuzzer`, by `cargo xtask fuzz`), which looks
//! for new inputs, and as an ordinary test on the inputs that were ever found (`testdata/fuzz`) and on all seeds.
#![allow(clippy::missing_panics_doc, reason = "a target that does not hold says so by a panic: all of them do")]

pub mod api_key;
mod ask;
pub mod certificate;
pub mod chain;
pub mod config_entries;
pub mod jwk_set;
pub mod jwt;
pub mod limits_log;
pub mod path;
pub mod regex;
pub mod snapshot;
pub mod spiffe;
pub mod token;

/// A target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name on the command line, and the name of its folder in `testdata/fuzz`.
    pub name: &'static str,
    /// Longest input that is worth trying, in bytes.
    pub max_len: usize,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 11] = [
    Target { name: "api_key", max_len: 512, run: api_key::run },
    Target { name: "certificate", max_len: 4096, run: certificate::run },
    Target { name: "chain", max_len: 4096, run: chain::run },
    Target { name: "config_entries", max_len: 4096, run: config_entries::run },
    Target { name: "jwk_set", max_len: 4096, run: jwk_set::run },
    Target { name: "limits_log", max_len: 4096, run: limits_log::run },
    Target { name: "path", max_len: 256, run: path::run },
    Target { name: "regex", max_len: 96, run: regex::run },
    Target { name: "snapshot", max_len: 4096, run: snapshot::run },
    Target { name: "spiffe", max_len: 512, run: spiffe::run },
    Target { name: "token", max_len: 1024, run: token::run },
];

/// The target of that name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
