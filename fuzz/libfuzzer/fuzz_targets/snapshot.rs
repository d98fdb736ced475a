//! libFuzzer on the target `snapshot`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::snapshot::run(data));
