use super::*;

#[test]
fn the_whole_text_must_match() {
    let pattern = Pattern::compile("/a|/b").expect("compiles");
    assert!(pattern.is_full_match(b"/a") && pattern.is_full_match(b"/b"));
    assert!(!pattern.is_full_match(b"/ax") && !pattern.is_full_match(b"x/b"));
}

#[test]
fn a_pattern_survives_being_stored() {
    let pattern = Pattern::compile("(?i)/v[0-9]+/caf\u{e9}.*").expect("compiles");
    let bytes = postcard::to_allocvec(&pattern).expect("is written");
    let read: Pattern = postcard::from_bytes(&bytes).expect("is read");
    assert_eq!(read, pattern);
    assert!(read.is_full_match("/V12/CAF\u{c9}!".as_bytes()));
}
