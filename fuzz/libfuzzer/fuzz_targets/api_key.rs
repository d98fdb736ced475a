//! libFuzzer on the target `api_key`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::api_key::run(data));
