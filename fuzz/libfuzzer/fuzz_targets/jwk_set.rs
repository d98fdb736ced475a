//! libFuzzer on the target `jwk_set`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::jwk_set::run(data));
