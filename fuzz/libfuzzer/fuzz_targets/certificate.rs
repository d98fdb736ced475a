//! libFuzzer on the target `certificate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::certificate::run(data));
