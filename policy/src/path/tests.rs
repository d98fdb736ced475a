use proptest::prelude::*;

use super::*;

fn read(target: &str) -> Result<Cow<'_, str>, Ambiguous> {
    canonical(target, &Normalization::default()).map(|it| it.path)
}

#[test]
fn plain_paths_stay_and_lose_their_query() {
    for (target, path) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/", "/a/"),
        ("/a?x=../y;z", "/a"),
        ("/a...b/..c", "/a...b/..c"),
        ("/A", "/A"),
    ] {
        assert_eq!(read(target).as_deref(), Ok(path), "{target}");
    }
}

#[test]
fn unreserved_escapes_are_decoded_and_others_normalised() {
    for (target, path) in [("/%61%2Db", "/a-b"), ("/%c3%a9", "/%C3%A9"), ("/a%20b", "/a%20b"), ("/%7euser", "/~user")] {
        assert_eq!(read(target).as_deref(), Ok(path), "{target}");
    }
}

#[test]
fn paths_with_two_readings_are_ambiguous() {
    for (target, why) in [
        ("*", Ambiguous::NotAbsolute),
        ("", Ambiguous::NotAbsolute),
        ("http://h/a", Ambiguous::NotAbsolute),
        ("/a%2fb", Ambiguous::EncodedReserved),
        ("/a%5Cb", Ambiguous::EncodedReserved),
        ("/a%252fb", Ambiguous::EncodedReserved),
        ("/a%3Bb", Ambiguous::EncodedReserved),
        ("/a%00", Ambiguous::EncodedControl),
        ("/a%0a", Ambiguous::EncodedControl),
        ("/%c2%80", Ambiguous::EncodedControl),
        ("/a%zz", Ambiguous::BrokenEscape),
        ("/a%4", Ambiguous::BrokenEscape),
        ("/%c0%af", Ambiguous::NotUtf8),
        ("/a\\b", Ambiguous::Backslash),
        ("/a;x=1/b", Ambiguous::PathParameter),
        ("/a/../b", Ambiguous::DotSegment),
        ("/a/%2e%2E/b", Ambiguous::DotSegment),
        ("/a/.", Ambiguous::DotSegment),
        ("//a", Ambiguous::EmptySegment),
        ("/a//b", Ambiguous::EmptySegment),
        ("/a//", Ambiguous::EmptySegment),
        ("/a b", Ambiguous::RawByte),
        ("/é", Ambiguous::RawByte),
        ("/a#b", Ambiguous::Fragment),
    ] {
        assert_eq!(read(target), Err(why), "{target}");
    }
}

proptest! {
    #[test]
    fn canonical_is_idempotent_and_never_panics(target in "/?([a-zA-Z0-9./%;?# é\\\\]|%[0-9a-fA-F]{2}){0,40}") {
        if let Ok(once) = read(&target) {
            prop_assert_eq!(read(&once), Ok(Cow::Borrowed(once.as_ref())));
        }
    }
}
