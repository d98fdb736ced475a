//! libFuzzer on the target `spiffe`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::spiffe::run(data));
