//! What a host calls: `input(len)` for a place to write the text to, `decide()` for the length of the answer, `output()` for
//! its place. Both places are good until the next call of `input` or `decide`.
#![allow(unsafe_code, reason = "an exported name is all of it: no pointer is followed here")]

use std::cell::RefCell;

thread_local! {
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static OUTPUT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A place for a text of `len` bytes; null when that is more than is ever read.
#[unsafe(no_mangle)]
pub extern "C" fn input(len: usize) -> *mut u8 {
    if len > crate::MAX_TEXT_BYTES {
        return std::ptr::null_mut();
    }
    INPUT.with_borrow_mut(|input| {
        input.clear();
        input.resize(len, 0);
        input.as_mut_ptr()
    })
}

/// Decides what [`input`] holds (see [`crate::decisions`]) and answers the length of the answer in bytes.
#[unsafe(no_mangle)]
pub extern "C" fn decide() -> usize {
    let answer = INPUT.with_borrow(|input| crate::decisions(&String::from_utf8_lossy(input)));
    OUTPUT.with_borrow_mut(|output| {
        *output = answer;
        output.len()
    })
}

/// Where the answer is: JSON, in UTF-8.
#[unsafe(no_mangle)]
pub extern "C" fn output() -> *const u8 {
    OUTPUT.with_borrow(|output| output.as_ptr())
}
