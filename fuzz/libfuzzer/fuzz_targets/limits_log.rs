//! libFuzzer on the target `limits_log`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::limits_log::run(data));
