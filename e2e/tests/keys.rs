//! Very many keys leave few files and few bytes.

use portcullis_e2e::limits::stand::in_memory;
use portcullis_e2e::limits::{is_long, keys};
use portcullis_e2e::report::{mebibytes, say};

#[test]
fn a_million_keys_stay_within_the_stated_files_and_bytes() {
    let state = in_memory().unwrap();
    let charged = keys::charge(state.path(), if is_long() { 1_000_000 } else { 50_000 }).unwrap();
    let (most, bound) = (charged.most, charged.bound());
    say(&format!(
        "    {} keys: at most {} files, {} (stated: {} files, {}), {:.1?} a charge",
        charged.keys,
        most.files,
        mebibytes(most.bytes),
        bound.files,
        mebibytes(bound.bytes),
        charged.each,
    ));
    assert!(most.files <= bound.files && most.bytes <= bound.bytes, "{charged:?}");
}
