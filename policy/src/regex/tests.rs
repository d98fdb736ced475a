//! Patterns, by what RE2 says of them.

#![cfg(feature = "regex-build")]
//! The syntax has been compared with RE2 itself outside of this repository's tests; what was found worth keeping is here.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn compiled(re2: &str) -> Pattern {
    Pattern::compile(re2).unwrap_or_else(|error| panic!("{re2}: {error}"))
}

/// Every row: a pattern, what it matches as a whole, what it does not.
#[track_caller]
fn check(rows: &[(&str, &[&str], &[&str])]) {
    for (re2, matching, others) in rows {
        let pattern = compiled(re2);
        for text in *matching {
            assert!(pattern.is_full_match(text.as_bytes()), "{re2:?} must match {text:?}");
        }
        for text in *others {
            assert!(!pattern.is_full_match(text.as_bytes()), "{re2:?} must not match {text:?}");
        }
    }
}

#[test]
fn the_whole_text_must_match() {
    check(&[
        ("/a|/b", &["/a", "/b"], &["/ax", "x/b", "/a/b", ""]),
        ("a|ab", &["a", "ab"], &["abb"]),
        ("a*?", &["", "aaa"], &["b"]),
        ("", &[""], &["a", "\n"]),
        ("a|", &["a", ""], &["aa"]),
        ("()", &[""], &["a"]),
    ]);
}

#[test]
fn perl_classes_are_ascii_and_everything_else_is_unicode() {
    check(&[
        (".{4}", &["café", "日本語!"], &["cafés", "caf"]),
        ("\\w+", &["caf_9"], &["café"]),
        ("\\W", &["é", "-"], &["a", "_"]),
        ("\\d", &["7"], &["٣"]),
        ("\\s+", &["\t\n\u{c}\r "], &["\u{b}", "\u{a0}", "\u{85}"]),
        ("\\S", &["\u{b}", "\u{a0}"], &[" "]),
        ("[[:space:]]", &["\u{b}"], &["\u{a0}"]),
        ("\\pL+", &["é", "Яa"], &["1"]),
        ("a\\b.*", &["a", "aé", "a-"], &["ab", "a_"]),
        ("a\\B.", &["ab"], &["a-"]),
        ("é\\b.", &["éa"], &["é-"]),
    ]);
}

#[test]
fn case_folds_by_unicode() {
    check(&[
        ("(?i)k", &["k", "K", "\u{212a}"], &[]),
        ("(?i)s", &["\u{17f}"], &[]),
        ("(?i)É", &["é"], &["e"]),
        ("(?i)ß", &["ẞ"], &["ss"]),
        ("(?i)[^k]", &["a"], &["K", "\u{212a}"]),
        ("(?i)\\w", &["\u{212a}", "\u{17f}"], &["é"]),
        ("(?i)\\W", &["é"], &["\u{212a}"]),
        ("(?i)[[:lower:]]", &["A", "\u{212a}"], &["1"]),
        ("(?i)\\p{Lu}", &["a", "é"], &["1"]),
        ("a(?i)b", &["ab", "aB"], &["Ab"]),
        ("(?i:a)b", &["Ab"], &["aB"]),
        ("(?i)a(?-i)b", &["Ab"], &["aB"]),
        ("(a(?i)b)c", &["aBc"], &["aBC"]),
        ("a(?i)b|c", &["aB", "C"], &["AB"]),
    ]);
}

#[test]
fn anchors_and_flags_mean_what_they_mean_in_re2() {
    check(&[
        (".", &["a"], &["\n"]),
        ("(?s).", &["\n"], &[]),
        ("(?s:.).", &["\na"], &["a\n"]),
        ("[^a]", &["\n"], &["a"]),
        ("\\D", &["\n"], &[]),
        ("^a$", &["a"], &["a\n", "\na"]),
        ("\\Aa\\z", &["a"], &["a\n"]),
        ("a$\nb", &[], &["a\nb"]),
        ("(?m)a$\n^b", &["a\nb"], &["a\r\nb"]),
        ("(?m)^\\Aa", &["a"], &[]),
        ("(?m)a\n\\Ab", &[], &["a\nb"]),
        ("(?m:a$)\n(?-m)b", &["a\nb"], &[]),
        ("(?U)a*", &["", "aa"], &[]),
        ("(?)a", &["a"], &[]),
        ("(?:^)*a", &["a"], &[]),
        ("(?P<name>a)(?<other>b)", &["ab"], &[]),
    ]);
}

#[test]
fn classes_hold_characters_and_no_operators() {
    check(&[
        ("[a&&b]+", &["a&b"], &["c"]),
        ("[a-c--b]", &["b", "-"], &["d"]),
        ("[a~~b]+", &["~"], &[]),
        ("[a[b]", &["[", "a", "b"], &["]"]),
        ("[[a]b]", &["ab]", "[b]"], &["a"]),
        ("[]a]+", &["]a"], &[]),
        ("[^]a]", &["b"], &["]"]),
        ("[-a]+", &["-a"], &[]),
        ("[a-]+", &["a-"], &[]),
        ("[\\d-z]+", &["1-z"], &["y"]),
        ("[+--]+", &["+,-"], &["."]),
        ("[[:^alpha:]x]", &["1", "x"], &["a"]),
        ("[:alpha:]", &["a", ":", "l"], &["b"]),
        ("[\\p{Greek}\\d]+", &["α1"], &["a"]),
        ("[^\\p{^Lu}]", &["A"], &["a"]),
        ("[\\]\\-\\\\]+", &["]-\\"], &[]),
        ("[\\x{d7ff}-\\x{e000}]", &["\u{d7ff}", "\u{e000}"], &["a"]),
        ("[.$^|*]+", &[".$^|*"], &["a"]),
        ("[^\\x{0}-\\x{10ffff}]", &[], &["a", ""]),
    ]);
}

#[test]
fn unicode_groups_are_those_of_re2() {
    check(&[
        ("\\pN", &["1", "٣", "Ⅷ"], &["a"]),
        ("\\PN", &["a"], &["1"]),
        ("\\p{^N}", &["a"], &["1"]),
        ("\\P{^N}", &["1"], &["a"]),
        ("\\p{Greek}", &["α"], &["a"]),
        ("\\p{Old_Italic}", &["\u{10300}"], &["a"]),
        ("\\p{Any}", &["\n", "日"], &[]),
        // Without the unassigned, unlike in Rust.
        ("\\p{C}", &["\u{1}", "\u{e000}", "\u{ad}"], &["a", "\u{378}"]),
        ("\\p{Cs}", &[], &["a"]),
        ("\\P{Cs}", &["a"], &[]),
    ]);
    for bad in ["\\p{greek}", "\\p{Letter}", "\\p{Alphabetic}", "\\p{Cn}", "\\p{L", "\\p", "\\p{}", "\\p{sc=Greek}"] {
        assert!(Pattern::compile(bad).is_err(), "{bad}");
    }
}

#[test]
fn escapes_are_those_of_re2() {
    check(&[
        ("\\a\\f\\n\\r\\t\\v", &["\u{7}\u{c}\n\r\t\u{b}"], &[]),
        ("\\x41\\x{42}\\x{1F600}", &["AB😀"], &[]),
        ("\\101\\60\\0", &["A0\0"], &[]),
        ("\\1234", &["S4"], &[]),
        ("\\.\\/\\-\\_\\&\\<\\ \\#", &["./-_&< #"], &[]),
        ("\\Qa.*[\\E+", &["a.*[", "a.*[["], &["a"]),
        ("\\Q\\", &["\\"], &[]),
        ("a\\Q\\E*", &["aa"], &[]),
        ("\\Qab\\E*", &["a", "abb"], &["abab"]),
        ("\\x{d800}", &[], &["a"]),
        ("]}{", &["]}{"], &[]),
        ("#a b", &["#a b"], &[]),
    ]);
    for bad in [
        "\\1",
        "\\8",
        "\\18",
        "\\",
        "\\x",
        "\\x4",
        "\\x{}",
        "\\x{110000}",
        "\\x{41",
        "\\e",
        "\\é",
        "\\G",
        "\\R",
        "\\Z",
        "\\h",
        "\\u0041",
        "\\K",
        "[\\b]",
        "[\\z]",
        "[a-\\d]",
        "[\\",
    ] {
        assert!(Pattern::compile(bad).is_err(), "{bad}");
    }
}

#[test]
fn counts_are_counts_only_where_re2_sees_one() {
    check(&[
        ("a{2}", &["aa"], &["a", "aaa"]),
        ("a{2,}", &["aa", "aaaa"], &["a"]),
        ("a{1,2}", &["a", "aa"], &["", "aaa"]),
        ("a{0}", &[""], &["a"]),
        ("a{,2}", &["a{,2}"], &["aa"]),
        ("a{ 1}", &["a{ 1}"], &["a"]),
        ("a{x}", &["a{x}"], &[]),
        ("a{01}", &["a{01}"], &["a"]),
        ("a{", &["a{"], &[]),
        ("a{1000000000}", &["a{1000000000}"], &["a"]),
        ("a{1,2", &["a{1,2"], &[]),
        ("a{2}?", &["aa"], &["", "a"]),
        ("((a{10}){10}){10}", &["a".repeat(1000).as_str()], &["a"]),
        ("(?:a{0,50})*", &["a"], &[]),
    ]);
    for bad in [
        "a{1001}",
        "a{0,1001}",
        "a{1001,}",
        "a{2,1}",
        "(a{500}){3}",
        "((a{10}){10}){11}",
        "a**",
        "a*+",
        "a{2}{3}",
        "a+??",
    ] {
        assert!(Pattern::compile(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_re2_does_not_know_is_refused() {
    for bad in [
        "(?=a)",
        "(?!a)",
        "(?<=a)",
        "(?<!a)",
        "(?x)a",
        "(?R)a",
        "(?u)a",
        "(?-u:a)",
        "(?P=n)",
        "(?P>n)",
        "(?P<>a)",
        "(?<a-b>a)",
        "(?P<a",
        "(?i",
        "(?-)",
        "(?i-)",
        "(?--i)",
        "(?>a)",
        "(?#c)",
        "(?&n)",
        "\\C",
        "a)",
        "(a",
        "*",
        "|*",
        "(*a)",
        "^(?i)|+",
        "[a",
        "[",
        "[]",
        "[^]",
        "[b-a]",
        "[[:foo:]]",
        "[[:ALPHA:]]",
    ] {
        assert!(matches!(Pattern::compile(bad), Err(BadPattern::Syntax { .. })), "{bad}");
    }
}

#[test]
fn a_refusal_says_what_and_where() {
    let error = Pattern::compile("/a/(?=b)").expect_err("is not RE2");
    assert_eq!(error.to_string(), "look-around, which RE2 does not have, at byte 3 of the regular expression");
}

#[test]
fn a_text_that_is_not_utf8_never_matches() {
    for re2 in ["(?s).*", "\\x{d800}", "[^a]*", "\\PL*", "a\\B.*", "\\xff", "[\\x{80}-\\x{10ffff}]"] {
        let pattern = compiled(re2);
        for text in [b"\xff".as_slice(), b"a\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"] {
            assert!(!pattern.is_full_match(text), "{re2} {text:?}");
        }
    }
}

#[test]
fn a_search_takes_one_step_a_byte() {
    // With backtracking, forty letters would take a year.
    let text = "a".repeat(1 << 20);
    for re2 in ["(a*)*b", "(a|a)*b", "(a|aa)+b", "(?:a?){50}a{50}b", "([a-z]+)*!"] {
        assert!(!compiled(re2).is_full_match(text.as_bytes()), "{re2}");
    }
    assert!(compiled("(a*)*").is_full_match(text.as_bytes()));
}

#[test]
fn what_needs_too_much_room_is_refused_with_advice() {
    for re2 in [".{1000}", "\\pL{1000}", "(\\pL{30}){30}", "(.*a.{12})", "(a|b)*a(a|b){13}", ".*a.{15}b.{15}c"] {
        let error = Pattern::compile(re2).expect_err(re2);
        assert_eq!(error, BadPattern::TooLarge, "{re2}");
        assert!(error.to_string().contains("smaller counts"), "{error}");
    }
    assert_eq!(Pattern::compile(&"a".repeat(MAX_TEXT_LEN + 1)), Err(BadPattern::TooLong));
    for deep in [
        "(".repeat(4000),
        "(?:".repeat(2000),
        "a".to_owned() + &"*(?i)".repeat(1300),
        "(a".repeat(200) + &")*".repeat(200),
    ] {
        assert!(matches!(Pattern::compile(&deep), Err(BadPattern::Syntax { .. })), "{}", &deep[..20]);
    }
}

#[test]
fn usual_patterns_are_small() {
    for (re2, bytes) in [
        ("/v[0-9]+/.*", 2_000),
        ("/api/v[12]/users/[^/]+/orders", 2_000),
        ("(?i)/admin(/.*)?", 2_000),
        (".*\\.(jpg|png|gif|css|js)", 3_000),
        ("/[a-z0-9-]{1,63}", 5_000),
        ("(?i)(curl|wget|python-requests|libwww-perl|nikto).*", 3_000),
        ("\\pL+", 16_000),
    ] {
        let len = compiled(re2).to_bytes().expect("is written").len();
        assert!(len <= bytes, "{re2}: {len}");
    }
}

#[test]
fn patterns_for_paths_are_smaller_and_hold_no_other_characters() {
    let (text, path) = (compiled("[^/]{1,100}"), Pattern::compile_path("[^/]{1,100}").expect("compiles"));
    let len = |pattern: &Pattern| pattern.to_bytes().expect("is written").len();
    assert!(len(&path) * 5 < len(&text), "{} {}", len(&path), len(&text));
    assert!(path.is_full_match(b"abc") && !path.is_full_match("é".as_bytes()) && text.is_full_match("é".as_bytes()));
    assert!(Pattern::compile_path("/.{1000}").is_ok());
}

#[test]
fn patterns_for_paths_take_the_digits_of_escapes_in_either_case() {
    for (re2, matching, others) in [
        ("/caf%c3%a9", ["/caf%C3%A9", "/caf%c3%a9"], "/CAF%C3%A9"),
        ("/(%[0-9a-f]{2})+", ["/%C3%A9", "/%20"], "/%C3%G9"),
        ("/%[cd][0-9a-f]", ["/%C3", "/%d3"], "/%E3"),
        ("/%(?:c3)x|%2f", ["%2F", "%2f"], "/%C3x"),
        ("/%c{1}3a", ["/%C3a", "/%c3a"], "/%C3A"),
        ("/%[a-z]*", ["/%ab", "/%"], "/%AB"),
        ("/[%ab]*", ["/%ab", "/ba"], "/%AB"),
        ("/\\Q%e2\\E", ["/%E2", "/%e2"], "/%E3"),
    ] {
        let pattern = Pattern::compile_path(re2).expect(re2);
        for text in matching {
            assert!(pattern.is_full_match(text.as_bytes()), "{re2} must match {text}");
        }
        assert!(!pattern.is_full_match(others.as_bytes()), "{re2} must not match {others}");
    }
    assert!(!compiled("%c3").is_full_match(b"%C3"), "only for paths");
}

#[test]
fn a_pattern_survives_being_stored() {
    let pattern = compiled("(?i)/v[0-9]+/caf\u{e9}.*");
    let bytes = postcard::to_allocvec(&pattern).expect("is written");
    let read: Pattern = postcard::from_bytes(&bytes).expect("is read");
    assert_eq!(read, pattern);
    assert_eq!(read.text(), "(?i)/v[0-9]+/caf\u{e9}.*");
    assert!(read.is_full_match("/V12/CAF\u{c9}!".as_bytes()));
    assert_ne!(pattern, compiled("(?i)/v[0-9]+/caf\u{e9}.+"));
    assert_ne!(compiled("[^a]"), Pattern::compile_path("[^a]").expect("compiles"));
}

#[test]
fn stored_bytes_that_are_cut_long_or_too_many_are_refused() {
    let pattern = compiled("/a.*");
    let automaton = pattern.to_bytes().expect("is written");
    for len in 0..automaton.len() {
        assert!(Pattern::from_bytes(String::new(), &automaton[..len]).is_err(), "{len}");
    }
    let mut long = automaton.clone();
    long.push(0);
    assert!(Pattern::from_bytes(String::new(), &long).is_err());
    assert!(Pattern::from_bytes("a".repeat(MAX_TEXT_LEN + 1), &automaton).is_err());
    assert!(Pattern::from_bytes(String::new(), &vec![0; MAX_AUTOMATON_LEN + 1]).is_err());
}

/// Patterns that RE2 and Rust read alike, once `\d`, `\w` and `\s` are left out.
fn common() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        Just("a"),
        Just("b"),
        Just("k"),
        Just("é"),
        Just("/"),
        Just("."),
        Just("[a-c]"),
        Just("[^a]"),
        Just("[^k/]"),
        Just("\\p{Greek}"),
        Just("[é-ü]"),
        Just("\\x{212a}"),
        Just("[[:alpha:]]"),
        Just("[[:^digit:]]"),
        Just("^"),
        Just("$"),
        Just("\\."),
        Just("ß"),
    ]
    .prop_map(str::to_owned);
    atom.prop_recursive(5, 24, 3, |inner| {
        let flags = prop_oneof![Just("i"), Just("s"), Just("m"), Just("is"), Just("-i"), Just("im-s"), Just("U")];
        let times = prop_oneof![Just("*"), Just("+"), Just("?"), Just("{2}"), Just("{0,2}"), Just("{1,}"), Just("*?")];
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| format!("(?:{})", parts.join("|"))),
            (inner.clone(), times).prop_map(|(sub, times)| format!("(?:{sub}){times}")),
            (inner, flags).prop_map(|(sub, flags)| format!("(?{flags}:{sub})")),
        ]
    })
}

proptest! {
    // Unicode classes take a while to compile without optimization.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_match_is_what_rust_calls_one_in_the_common_language(
        re2 in common(),
        texts in prop::collection::vec("[abkKAé/1\n.ßẞα\u{212a}-]{0,5}", 32),
    ) {
        let pattern = Pattern::compile(&re2);
        prop_assume!(pattern != Err(BadPattern::TooLarge));
        let path = Pattern::compile_path(&re2).unwrap();
        let (pattern, rust) = (pattern.unwrap(), ::regex::Regex::new(&format!("\\A(?:{re2})\\z")).unwrap());
        for text in texts {
            let matches = rust.is_match(&text);
            prop_assert_eq!(pattern.is_full_match(text.as_bytes()), matches, "{} {:?}", re2, text);
            prop_assert_eq!(path.is_full_match(text.as_bytes()), matches && text.is_ascii(), "{} {:?}", re2, text);
        }
    }

    #[test]
    fn no_text_makes_the_compiler_panic(
        re2 in "([a-z(){}\\[\\]|*+?.^$\\\\:&<>,0-9-]|\\\\[A-Za-z0-9]|\\(\\?|\\[:|é|[[:cntrl:]]){0,24}",
        path in any::<bool>(),
    ) {
        let pattern = if path { Pattern::compile_path(&re2) } else { Pattern::compile(&re2) };
        if let Ok(pattern) = pattern {
            pattern.is_full_match(re2.as_bytes());
        }
    }

    #[test]
    fn damaged_bytes_are_refused_or_search_without_panic(at in 0_usize..2000, byte in any::<u8>()) {
        let mut bytes = compiled("(?i)/v[0-9]+/(é|b).*").to_bytes().unwrap();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(pattern) = Pattern::from_bytes(String::new(), &bytes) {
            pattern.is_full_match("/v1/é".as_bytes());
            pattern.is_full_match(b"/v1/b\xff\n");
        }
    }
}
