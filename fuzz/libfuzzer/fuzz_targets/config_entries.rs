//! libFuzzer on the target `config_entries`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::config_entries::run(data));
