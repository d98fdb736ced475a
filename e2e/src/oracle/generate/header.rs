//! Header rules, and headers that are nearly or exactly what a rule means.

use fastrand::Rng;

use crate::oracle::policy::{HeaderRule, HeaderTest};
use crate::oracle::wire::Lines;

/// What rules speak of. `x_role` is `x-role` to a lenient backend.
const NAMES: [&str; 14] = [
    "x-role",
    "x-role",
    "X-Team",
    "x-team",
    "x_role",
    "accept",
    "cookie",
    "user-agent",
    "content-type",
    ":path",
    ":method",
    ":authority",
    "host",
    "x-empty",
];

/// Texts of rules and of requests. U+212A is the sign that `k` becomes under Unicode's case folding.
const VALUES: [&str; 18] = [
    "admin",
    "Admin",
    "adm",
    "min",
    "user",
    "a",
    "a,b",
    "admin,user",
    ",admin",
    "caf\u{e9}",
    "\u{c9}",
    "\u{e9}",
    "k",
    "K",
    "\u{212a}",
    "1",
    "/v1",
    "shop.example",
];

/// Patterns, with what they may or may not match as a whole.
const PATTERNS: [(&str, &[&str]); 20] = [
    ("admin|user", &["admin", "user", "admins", "superuser", "admin,user"]),
    ("(admin|user)(,user)*", &["admin", "admin,user", "user,user,user"]),
    ("a.*", &["a", "admin", "b", "a,b"]),
    ("(?i)ADMIN", &["admin", "Admin", "admins"]),
    ("(?i)k", &["k", "K", "\u{212a}"]),
    ("(?i)\u{e9}", &["\u{e9}", "\u{c9}"]),
    ("\\w+", &["admin", "caf\u{e9}", "a_b", "a-b"]),
    ("\\d{1,3}", &["1", "123", "1234", "\u{661}"]),
    ("[^,]*", &["admin", "a,b", "", "\u{e9}"]),
    (".{4}", &["caf\u{e9}", "cafe", "admin"]),
    ("caf.", &["caf\u{e9}", "cafe", "caf"]),
    ("caf[\u{e0}-\u{ef}]", &["caf\u{e9}", "cafe"]),
    ("(admin)?", &["", "admin", "adminadmin"]),
    ("^admin$", &["admin", "admin\u{e9}"]),
    ("\\badmin\\b.*", &["admin", "admin,user", "admins"]),
    ("\\pL+", &["\u{e9}", "admin", "1"]),
    ("[[:alpha:]]+", &["admin", "\u{e9}"]),
    ("\\D\\W?", &["a", "a,", "1", "\u{e9}\u{e9}"]),
    ("(?s).+", &["a", ""]),
    ("\\Qa.b\\E|x{2}", &["a.b", "axb", "xx"]),
];

/// A header rule.
pub(super) fn rule(random: &mut Rng) -> HeaderRule {
    let name = NAMES[random.usize(..NAMES.len())];
    let text = VALUES[random.usize(..VALUES.len())].to_owned();
    let forms = ["Exact", "Prefix", "Suffix", "Contains"];
    let test = match random.u8(0..10) {
        0 => HeaderTest::Present,
        1..4 => HeaderTest::Text("Regex", PATTERNS[random.usize(..PATTERNS.len())].0.to_owned()),
        _ => HeaderTest::Text(forms[random.usize(..forms.len())], text),
    };
    let folds = matches!(&test, HeaderTest::Text(form, _) if *form != "Regex");
    HeaderRule { name: name.to_owned(), test, ignore_case: folds && random.u8(0..3) == 0, invert: random.u8(0..3) == 0 }
}

/// Header lines about some rules; mostly what a rule asks for, sometimes nearly, sometimes not at all.
pub(super) fn near(random: &mut Rng, rules: &[HeaderRule]) -> Lines {
    let mut lines = Lines::new();
    for rule in rules {
        // Pseudo headers are what the request line and `Host` say.
        if rule.name.starts_with(':') || rule.name == "host" {
            continue;
        }
        let times = [0, 1, 1, 1, 1, 1, 2, 2, 3];
        for _ in 0..times[random.usize(..times.len())] {
            lines.push((spelled(random, &rule.name), value(random, &rule.test)));
        }
    }
    if random.u8(0..20) == 0 {
        let names = ["X-HTTP-Method-Override", "x-method-override", "X-Forwarded-For", "X.Role", "x-portcullis-source"];
        let name = names[random.usize(..names.len())];
        lines.push((name.to_owned(), b"GET".to_vec()));
    }
    random.shuffle(&mut lines);
    lines
}

/// The name in another case, rarely as another name that lenient backends take for it.
fn spelled(random: &mut Rng, name: &str) -> String {
    match random.u8(0..16) {
        0 => name.replace('-', "_"),
        1..4 => name.to_ascii_uppercase(),
        4..8 => name.to_ascii_lowercase(),
        _ => name.to_owned(),
    }
}

fn value(random: &mut Rng, test: &HeaderTest) -> Vec<u8> {
    let any = VALUES[random.usize(..VALUES.len())].to_owned();
    let text = match test {
        HeaderTest::Present => any,
        HeaderTest::Text("Regex", pattern) => {
            let examples = PATTERNS.iter().find(|(it, _)| it == pattern).map_or(&[][..], |(_, examples)| *examples);
            random.choice(examples).map_or(any, ToString::to_string)
        }
        HeaderTest::Text(_, text) => match random.u8(0..10) {
            0 => any,
            1 => text.to_ascii_uppercase(),
            2 => format!("{text}x"),
            3 => format!("x{text}"),
            4 => format!(" {text}\t"),
            _ => text.clone(),
        },
    };
    match random.u8(0..30) {
        0 => Vec::new(),
        1 => [text.as_bytes(), b"\xe9"].concat(),
        _ => text.into_bytes(),
    }
}
