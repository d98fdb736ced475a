//! Paths in every spelling, under every setting of the mesh.

use proptest::prelude::*;

use super::*;

const DEFAULT: Normalization =
    Normalization { disabled: false, merge_slashes: false, escaped_slashes: EscapedSlashes::Default };
const DISABLED: Normalization = Normalization { disabled: true, ..DEFAULT };
const MERGED: Normalization = Normalization { merge_slashes: true, ..DEFAULT };
const KEPT: Normalization = with(EscapedSlashes::KeepUnchanged);
const REFUSED: Normalization = with(EscapedSlashes::RejectRequest);
const FORWARDED: Normalization = with(EscapedSlashes::UnescapeAndForward);
const REDIRECTED: Normalization = with(EscapedSlashes::UnescapeAndRedirect);

const fn with(escaped_slashes: EscapedSlashes) -> Normalization {
    Normalization { escaped_slashes, ..DEFAULT }
}

fn read(target: &str, rules: Normalization) -> Result<Cow<'_, str>, Ambiguous> {
    canonical(target, &rules).map(|it| it.path)
}

#[track_caller]
fn check(rules: Normalization, rows: &[(&str, Result<&str, Ambiguous>)]) {
    for (target, path) in rows {
        assert_eq!(read(target, rules).as_deref().map_err(|it| *it), *path, "{target}");
    }
}

#[test]
fn the_default_is_consuls_default() {
    assert_eq!(Normalization::default(), DEFAULT);
}

#[test]
fn plain_paths_stay_and_lose_their_query() {
    check(
        DEFAULT,
        &[
            ("/", Ok("/")),
            ("/a/b", Ok("/a/b")),
            ("/a/", Ok("/a/")),
            ("/a?x=../y;z", Ok("/a")),
            ("/a...b/..c", Ok("/a...b/..c")),
            ("/...", Ok("/...")),
            ("/A", Ok("/A")),
            ("/a[1]:(b),c=d&e@f!g$h'i*j+k", Ok("/a[1]:(b),c=d&e@f!g$h'i*j+k")),
        ],
    );
    let path = canonical("/a/b?c", &DEFAULT).expect("is plain").path;
    assert!(matches!(path, Cow::Borrowed("/a/b")), "nothing is allocated for it");
}

#[test]
fn unreserved_escapes_are_decoded_and_others_normalised() {
    check(
        DEFAULT,
        &[
            ("/%61%2Db", Ok("/a-b")),
            ("/%c3%a9", Ok("/%C3%A9")),
            ("/a%20b", Ok("/a%20b")),
            ("/%7euser", Ok("/~user")),
            ("/%5b%5D%21", Ok("/%5B%5D%21")),
        ],
    );
}

#[test]
fn raw_bytes_that_envoy_encodes_are_encoded() {
    check(
        DEFAULT,
        &[
            ("/a{b}", Ok("/a%7Bb%7D")),
            ("/a%7bb%7D", Ok("/a%7Bb%7D")),
            ("/\"<>^`{|}", Ok("/%22%3C%3E%5E%60%7B%7C%7D")),
            ("/a?{}", Ok("/a")),
        ],
    );
}

#[test]
fn paths_with_two_readings_are_ambiguous() {
    check(
        DEFAULT,
        &[
            ("*", Err(Ambiguous::NotAbsolute)),
            ("", Err(Ambiguous::NotAbsolute)),
            ("http://h/a", Err(Ambiguous::NotAbsolute)),
            ("?/a", Err(Ambiguous::NotAbsolute)),
            ("/a%2fb", Err(Ambiguous::EncodedReserved)),
            ("/a%5Cb", Err(Ambiguous::EncodedReserved)),
            ("/a%252fb", Err(Ambiguous::EncodedReserved)),
            ("/a%3Bb", Err(Ambiguous::EncodedReserved)),
            ("/a%3Fb", Err(Ambiguous::EncodedReserved)),
            ("/a%23b", Err(Ambiguous::EncodedReserved)),
            ("/a%00", Err(Ambiguous::EncodedControl)),
            ("/a%0a", Err(Ambiguous::EncodedControl)),
            ("/a%7f", Err(Ambiguous::EncodedControl)),
            ("/%c2%80", Err(Ambiguous::EncodedControl)),
            ("/a%zz", Err(Ambiguous::BrokenEscape)),
            ("/a%4", Err(Ambiguous::BrokenEscape)),
            ("/a%", Err(Ambiguous::BrokenEscape)),
            ("/%4%31", Err(Ambiguous::BrokenEscape)),
            ("/%c0%af", Err(Ambiguous::NotUtf8)),
            ("/%ff", Err(Ambiguous::NotUtf8)),
            ("/a\\b", Err(Ambiguous::Backslash)),
            ("/a;x=1/b", Err(Ambiguous::PathParameter)),
            ("/a/..;/b", Err(Ambiguous::PathParameter)),
            ("/a/../b", Err(Ambiguous::DotSegment)),
            ("/a/%2e%2E/b", Err(Ambiguous::DotSegment)),
            ("/a/.", Err(Ambiguous::DotSegment)),
            ("/..", Err(Ambiguous::DotSegment)),
            ("//a", Err(Ambiguous::EmptySegment)),
            ("/a//b", Err(Ambiguous::EmptySegment)),
            ("/a//", Err(Ambiguous::EmptySegment)),
            ("//", Err(Ambiguous::EmptySegment)),
            ("/a b", Err(Ambiguous::RawByte)),
            ("/é", Err(Ambiguous::RawByte)),
            ("/a\u{7f}", Err(Ambiguous::RawByte)),
            ("/a#b", Err(Ambiguous::Fragment)),
        ],
    );
}

#[test]
fn merged_slashes_are_one_and_paths_of_nothing_else_stay_ambiguous() {
    check(
        MERGED,
        &[
            ("//a", Ok("/a")),
            ("/a//b///c", Ok("/a/b/c")),
            ("/a//", Ok("/a/")),
            ("/", Ok("/")),
            ("/a//%61?b//c", Ok("/a/a")),
            // Envoy leaves two of them.
            ("//", Err(Ambiguous::EmptySegment)),
            ("////", Err(Ambiguous::EmptySegment)),
            ("//../a", Err(Ambiguous::DotSegment)),
            ("/a%2F/b", Err(Ambiguous::EncodedReserved)),
        ],
    );
    assert!(!canonical("//a", &MERGED).expect("is read").redirect);
}

#[test]
fn escaped_slashes_are_kept_where_the_operator_says_so() {
    check(
        KEPT,
        &[
            ("/a%2fb%5c", Ok("/a%2Fb%5C")),
            ("/a%2F..%2Fb", Ok("/a%2F..%2Fb")),
            ("/a%252fb", Err(Ambiguous::EncodedReserved)),
            ("/a\\b", Err(Ambiguous::Backslash)),
        ],
    );
}

#[test]
fn escaped_slashes_are_refused_where_the_operator_says_so() {
    for target in ["/a%2fb", "/a%2Fb", "/a%5cb", "/a%5Cb"] {
        let why = read(target, REFUSED).expect_err("is refused");
        assert_eq!(why, Ambiguous::EscapedSlash, "{target}");
        assert!(why.refuses());
        assert!(!read(target, DEFAULT).expect_err("is ambiguous").refuses());
    }
    check(REFUSED, &[("/a/b", Ok("/a/b")), ("/a?b%2fc", Ok("/a"))]);
}

#[test]
fn escaped_slashes_are_slashes_where_the_operator_says_so() {
    // Envoy redirects whatever holds one, so what has no clear form afterwards is refused rather than left to the rules.
    for (rules, otherwise) in [(FORWARDED, None), (REDIRECTED, Some(Ambiguous::EscapedSlash))] {
        let unclear = |why| Err(otherwise.unwrap_or(why));
        check(
            rules,
            &[
                ("/a%2fb%5Cc", Ok("/a/b/c")),
                ("/a%2F", Ok("/a/")),
                ("/a%2F..%2fb", unclear(Ambiguous::DotSegment)),
                ("/a/..%5cb", unclear(Ambiguous::DotSegment)),
                ("/a%2F/b", unclear(Ambiguous::EmptySegment)),
                ("/a%252fb", Err(Ambiguous::EncodedReserved)),
                ("/a\\b", Err(Ambiguous::Backslash)),
            ],
        );
    }
    let merged = Normalization { merge_slashes: true, ..FORWARDED };
    check(
        merged,
        &[("/a%2F/b", Ok("/a/b")), ("%2Fa", Err(Ambiguous::NotAbsolute)), ("/%2F", Err(Ambiguous::EmptySegment))],
    );
}

#[test]
fn only_unescaped_slashes_redirect() {
    for (rules, target, redirect) in [
        (REDIRECTED, "/a%2fb", true),
        (REDIRECTED, "/a%5cb", true),
        (REDIRECTED, "/%61", false),
        (REDIRECTED, "/a{b}", false),
        (FORWARDED, "/a%2fb", false),
        (Normalization { merge_slashes: true, ..REDIRECTED }, "//a", false),
    ] {
        assert_eq!(canonical(target, &rules).map(|it| it.redirect), Ok(redirect), "{target}");
    }
}

#[test]
fn without_normalisation_what_it_would_change_is_ambiguous() {
    check(
        DISABLED,
        &[
            ("/a/b", Ok("/a/b")),
            ("/a%20b%c3%a9", Ok("/a%20b%C3%A9")),
            ("/%61", Err(Ambiguous::NotNormal)),
            ("/a%2e", Err(Ambiguous::NotNormal)),
            ("/a{b}", Err(Ambiguous::NotNormal)),
            ("/a\\b", Err(Ambiguous::Backslash)),
            ("/a/../b", Err(Ambiguous::DotSegment)),
            ("/a//b", Err(Ambiguous::EmptySegment)),
        ],
    );
    check(Normalization { merge_slashes: true, ..DISABLED }, &[("/a//b", Ok("/a/b"))]);
    let forwarded = Normalization { disabled: true, ..FORWARDED };
    check(forwarded, &[("/a%2Fb", Ok("/a/b")), ("/a%5Cb", Err(Ambiguous::Backslash))]);
}

#[test]
fn of_a_rule_only_the_case_of_escapes_changes() {
    for (text, rule) in [
        ("/%c3%a9", "/%C3%A9"),
        ("/%C3%a9/x%2fy", "/%C3%A9/x%2Fy"),
        ("/a%7eb", "/a%7Eb"),
        ("/a/../b//c{d}?e", "/a/../b//c{d}?e"),
        ("/%zz%%c3%c", "/%zz%%C3%C"),
        ("/%", "/%"),
        ("/%g", "/%g"),
        ("/é%c3é", "/é%C3é"),
        ("/abc", "/abc"),
    ] {
        assert_eq!(canonical_rule(text), rule);
        assert_eq!(canonical_rule(&lower_hex(rule)), rule);
    }
    assert!(matches!(canonical_rule("/a%20b"), Cow::Borrowed(_)));
}

#[test]
fn every_reason_has_a_name_and_a_sentence_of_its_own() {
    use Ambiguous::*;
    let all = [
        NotAbsolute,
        RawByte,
        BrokenEscape,
        EncodedControl,
        EncodedReserved,
        EscapedSlash,
        NotUtf8,
        Backslash,
        PathParameter,
        DotSegment,
        EmptySegment,
        Fragment,
        NotNormal,
    ];
    let labels: std::collections::BTreeSet<_> = all.map(Ambiguous::label).into();
    let sentences: std::collections::BTreeSet<_> = all.map(|it| it.to_string()).into();
    assert_eq!((labels.len(), sentences.len()), (all.len(), all.len()));
}

fn rules() -> impl Strategy<Value = Normalization> {
    let escaped = prop_oneof![
        Just(EscapedSlashes::Default),
        Just(EscapedSlashes::KeepUnchanged),
        Just(EscapedSlashes::RejectRequest),
        Just(EscapedSlashes::UnescapeAndRedirect),
        Just(EscapedSlashes::UnescapeAndForward),
    ];
    (any::<bool>(), any::<bool>(), escaped).prop_map(|(disabled, merge_slashes, escaped_slashes)| Normalization {
        disabled,
        merge_slashes,
        escaped_slashes,
    })
}

fn targets() -> impl Strategy<Value = String> {
    prop_oneof![
        "/?([a-zA-Z0-9./%;?# é\\\\{}\"|]|%[0-9a-fA-F]{2}){0,40}",
        // Most of the above is ambiguous.
        "(/{1,2}(a|[.]{1,3}|%2[eEfF]|%5[cC]|%61|%7[bB]|[{]|%c3%A9){0,4}){1,5}",
    ]
}

proptest! {
    #[test]
    fn canonical_is_idempotent_and_never_panics(target in targets(), rules in rules()) {
        if let Ok(once) = canonical(&target, &rules) {
            let twice = canonical(&once.path, &rules).expect("what is canonical is not ambiguous");
            prop_assert_eq!(&twice.path, &once.path);
            prop_assert!(!twice.redirect, "a redirect ends");
        }
    }

    #[test]
    fn a_canonical_path_has_one_reading(target in targets(), rules in rules()) {
        let Ok(path) = read(&target, rules) else { return Ok(()) };
        prop_assert!(path.starts_with('/') && !path.contains("//"), "{}", path);
        prop_assert!(path.bytes().all(|byte| (0x21..0x7F).contains(&byte)), "{}", path);
        prop_assert!(!path.contains(['\\', ';', '?', '#', '"', '<', '>', '^', '`', '{', '|', '}']), "{}", path);
        prop_assert!(!path.split('/').any(|segment| segment == "." || segment == ".."), "{}", path);
        prop_assert_eq!(canonical_rule(&path), path.as_ref(), "its escapes are in upper case");
        // To decode it changes neither its segments (unless they are to be kept) nor their kind.
        if rules.escaped_slashes != EscapedSlashes::KeepUnchanged {
            prop_assert!(!path.contains("%2F") && !path.contains("%5C"), "{}", path);
        }
        prop_assert!(!path.contains("%25") && !path.contains("%2E"), "{}", path);
    }

    #[test]
    fn settings_change_no_path_that_is_canonical_without_them(target in targets(), rules in rules()) {
        if let Ok(path) = read(&target, DEFAULT) {
            prop_assert_eq!(read(&path, rules), Ok(Cow::Borrowed(path.as_ref())));
        }
    }
}

#[test]
fn what_is_canonical_at_a_glance_is_so_when_it_is_read_in_full() {
    const ALPHABET: [char; 8] = ['/', '.', 'a', '-', '%', ';', '\\', '"'];
    let mut paths = vec![String::new()];
    let mut n_plain = 0;
    for _ in 0..5 {
        paths = paths.iter().flat_map(|path| ALPHABET.map(|c| format!("{path}{c}"))).collect();
        for path in paths.iter().filter(|path| is_canonical(path)) {
            n_plain += 1;
            for rules in [DEFAULT, DISABLED, MERGED, KEPT, REFUSED, FORWARDED, REDIRECTED] {
                let full = super::read(path, rules);
                assert!(full.is_ok_and(|it| !it.redirect && it.path == path.as_str()), "{path} under {rules:?}");
                assert!(!has_escaped_slash(path));
            }
        }
    }
    assert!(n_plain > 100 && !is_canonical("") && !is_canonical("a"), "{n_plain}");
}
