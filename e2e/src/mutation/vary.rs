//! Hostile spellings: one request, bent a few times at random. The same seed gives the same variants.

use fastrand::Rng;

use crate::mutation::readings;
use crate::mutation::scenario::{Forbidden, Scenario};
use crate::wire::Head;

/// Most things that happen to one request.
const MAX_BENDS: usize = 5;

/// The variant of this number: every number has its own random sequence, so that one can be made again alone.
pub fn variant(scenario: &Scenario, seed: u64, number: u64) -> Head {
    let mut rng = Rng::with_seed(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    // One step mixes the seed: neighbouring seeds would begin alike.
    rng.u64(..);
    let mut head = match pick(&mut rng, &[&scenario.targets, &scenario.targets, &scenario.harmless]) {
        Some(bases) => pick(&mut rng, bases).cloned().unwrap_or_default(),
        None => Head::default(),
    };
    // Few more often than many: much that is bent often is broken.
    let bends = rng.usize(1..=MAX_BENDS).min(rng.usize(1..=MAX_BENDS));
    for _ in 0..bends {
        match scenario.forbidden {
            Forbidden::Header(name, text)
            | Forbidden::HeaderContains(name, text)
            | Forbidden::HeaderOutside(name, text) => {
                bend_header(&mut rng, &mut head, name, text);
            }
            Forbidden::Method(_) | Forbidden::MethodOutside(_) => bend_method(&mut rng, &mut head),
            Forbidden::MethodOn(..) if rng.bool() => bend_method(&mut rng, &mut head),
            _ => bend_target(&mut rng, &mut head.target),
        }
        if rng.u8(..) < 24 {
            bend_other(&mut rng, &mut head);
        }
    }
    // A line end inside a line would make it two requests, and nothing could be told about the second.
    head.target.retain(|byte| !matches!(byte, b'\r' | b'\n'));
    head.method.retain(|byte| !matches!(byte, b'\r' | b'\n'));
    head
}

fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> Option<&'a T> {
    (!from.is_empty()).then(|| &from[rng.usize(..from.len())])
}

fn word(rng: &mut Rng, from: &[&[u8]]) -> Vec<u8> {
    pick(rng, from).map(|word| word.to_vec()).unwrap_or_default()
}

/// What stands for a slash somewhere.
const SLASHES: [&[u8]; 22] = [
    b"/",
    b"//",
    b"///",
    b"\\",
    b"%2f",
    b"%2F",
    b"%5c",
    b"%5C",
    b"%252f",
    b"%255c",
    b"%c0%af",
    b"%c1%9c",
    b"%e0%80%af",
    b"%u002f",
    b"%uff0f",
    b"%ef%bc%8f",
    b"/./",
    b"/;/",
    b"/%2e/",
    b"/x/../",
    b"/;a=b/",
    b"/\t",
];

/// What goes up somewhere, or stays.
const DOTS: [&[u8]; 18] = [
    b"..",
    b".",
    b"...",
    b"%2e%2e",
    b".%2e",
    b"%2E.",
    b"%252e%252e",
    b"..;",
    b"..;a=b",
    b".;",
    b"..%00",
    b"..%3b",
    b"%c0%ae%c0%ae",
    b"%u002e%u002e",
    b"..%20",
    b"..%09",
    b"%uff0e%uff0e",
    b".%00.",
];

/// What ends or splits a path somewhere.
const ENDS: [&[u8]; 24] = [
    b"?", b"%3f", b"%253f", b"#", b"%23", b"#/../", b"?/../", b"%00", b"\0", b"%0a", b"%0d%0a", b"%09", b"\t", b" ",
    b"%20", b";", b";x=y", b"%3b", b";/", b"%", b"%4", b"%zz", b"%7f", b"\xff",
];

/// What may stand before a path.
const HEADS: [&[u8]; 14] = [
    b"http://deny-prefix.localhost",
    b"https://deny-prefix.localhost",
    b"hTTp://other.example:80",
    b"//other.example",
    b"http:",
    b"http://",
    b"/.",
    b"/;",
    b"/%2e",
    b"*",
    b"other.example:443",
    b"/public/..",
    b"/public/%2e%2e",
    b"",
];

/// What most gateways let pass in a path, and some servers take for something else.
const MILD: [&[u8]; 20] = [
    b"!",
    b"$",
    b"&",
    b"'",
    b"()",
    b"*",
    b"+",
    b",",
    b"=",
    b":",
    b"@",
    b"~",
    b"%20",
    b"%C3%A9",
    b"%22",
    b"%7b",
    b"{",
    b"|",
    b"%ef%bc%8e",
    b"-",
];

/// Something that a guard is likely to let pass: only what passes it can get around it.
fn bend_mildly(rng: &mut Rng, target: &mut Vec<u8>) {
    let at = rng.usize(..=target.len());
    match rng.u8(..6) {
        0..=1 => {
            if let Some(byte) = target.get(at).copied().filter(u8::is_ascii_alphanumeric) {
                target.splice(at..=at, format!("%{byte:02x}").into_bytes());
            }
        }
        2 => target.extend(word(rng, &[b"?x=/admin", b"?/../x", b"?x=%2e%2e", b"?#", b"/x", b"/", b"?", b"&x"])),
        3 => {
            target.splice(at..at, word(rng, &[b".", b"..a", b"a..", b"%2ea", b"a%2e"]));
        }
        _ => {
            target.splice(at..at, word(rng, &MILD));
        }
    }
}

fn bend_target(rng: &mut Rng, target: &mut Vec<u8>) {
    if rng.u8(..3) == 0 {
        return bend_mildly(rng, target);
    }
    let at = rng.usize(..=target.len());
    let slashes: Vec<usize> = (0..target.len()).filter(|index| target[*index] == b'/').collect();
    let slash = pick(rng, &slashes).copied();
    match rng.u8(..16) {
        0..=2 => encode(rng, target),
        3..=5 => {
            if let Some(slash) = slash {
                target.splice(slash..=slash, word(rng, &SLASHES));
            }
        }
        6..=7 => {
            // A way up and down again, which some server takes.
            let (first, second, dots) = (word(rng, &SLASHES), word(rng, &SLASHES), word(rng, &DOTS));
            let detour = [&first, b"x".as_slice(), &second, &dots].concat();
            let slash = slash.unwrap_or(at);
            target.splice(slash..slash, detour);
        }
        8 => {
            if let Some(slash) = slash {
                let dots = word(rng, &DOTS);
                target.splice(slash..slash, [b"/".as_slice(), &dots].concat());
            }
        }
        9..=10 => {
            target.splice(at..at, word(rng, &ENDS));
        }
        11 => target.extend(word(rng, &ENDS)),
        12 => {
            target.splice(0..0, word(rng, &HEADS));
        }
        13 => {
            target.splice(at..at, word(rng, &DOTS));
        }
        // Go refuses most raw bytes: mostly those that it takes.
        14 if rng.bool() => target.insert(at, rng.u8(..)),
        14 => target.insert(at, *pick(rng, b"!$&'()*+,-.:;=@[]^_`{|}~\"<>%").unwrap_or(&b';')),
        _ => {
            if let Some(byte) = target.get_mut(at) {
                *byte = if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
            }
        }
    }
}

/// Writes one byte of the target in another way.
fn encode(rng: &mut Rng, target: &mut Vec<u8>) {
    if target.is_empty() {
        return;
    }
    let at = rng.usize(..target.len());
    let byte = target[at];
    let (lower, upper) = (format!("{byte:02x}"), format!("{byte:02X}"));
    let digits = if rng.bool() { lower } else { upper };
    let written = match rng.u8(..8) {
        0..=3 => format!("%{digits}").into_bytes(),
        4 => format!("%25{digits}").into_bytes(),
        5 => format!("%u00{digits}").into_bytes(),
        6 => format!("%{:02x}%{:02x}", 0xC0 | byte >> 6, 0x80 | byte & 0x3F).into_bytes(),
        _ => format!("%25{:02x}%25{:02x}", digits.as_bytes()[0], digits.as_bytes()[1]).into_bytes(),
    };
    target.splice(at..=at, written);
}

const METHODS: [&[u8]; 12] = [
    b"DELETE",
    b"delete",
    b"Delete",
    b"DELETE ",
    b"POST",
    b"GET",
    b"PUT",
    b"HEAD",
    b"OPTIONS",
    b"X-DELETE",
    b"PATCH",
    b"dELETE",
];

fn bend_method(rng: &mut Rng, head: &mut Head) {
    match rng.u8(..8) {
        0..=1 => head.method = word(rng, &METHODS),
        2..=4 => {
            let name = pick(rng, &readings::METHOD_OVERRIDES).copied().unwrap_or_default();
            let name = respell(rng, name);
            let method = word(rng, &METHODS);
            let line = header_line(rng, &name, &method);
            head.lines.extend(line);
        }
        5..=6 => {
            let key = word(rng, &[b"_method", b"_Method", b"%5fmethod", b"x&_method", b"_metho%64", b"a;_method"]);
            let method = word(rng, &METHODS);
            let glue: &[u8] = if head.target.contains(&b'?') { b"&" } else { b"?" };
            head.target.extend([glue, &key, b"=", &method].concat());
        }
        _ => {
            let at = rng.usize(..=head.method.len());
            head.method.insert(at, *pick(rng, b"-_.!~ aA0\t\0").unwrap_or(&b'-'));
        }
    }
}

fn bend_header(rng: &mut Rng, head: &mut Head, name: &str, text: &str) {
    let value = match rng.u8(..14) {
        0..=3 => text.to_owned(),
        4 => text.to_uppercase(),
        5 => format!("user,{text}"),
        6 => format!("{text},user"),
        7 => format!("user, {text} ,other"),
        8 => format!(" \t{text}\t "),
        9 => String::new(),
        10 => format!("\"{text}\""),
        11 => format!("{text};q=1"),
        12 => "user".to_owned(),
        _ => format!("{text}\u{e9}"),
    };
    let name = respell(rng, name);
    let lines = header_line(rng, &name, value.as_bytes());
    let at = rng.usize(..=head.lines.len());
    match rng.u8(..8) {
        0 if !head.lines.is_empty() => {
            head.lines.swap_remove(rng.usize(..head.lines.len()));
        }
        _ => {
            head.lines.splice(at..at, lines);
        }
    }
}

/// What has nothing to do with the rule, and might matter all the same.
fn bend_other(rng: &mut Rng, head: &mut Head) {
    const LINES: [&[u8]; 16] = [
        b"Connection: keep-alive, X-Role",
        b"Connection: X-Portcullis-Source",
        b"Connection: close, X-Forwarded-Tls-Client-Cert",
        b"X-Original-URL: /admin",
        b"X-Rewrite-URL: /admin",
        b"X-Forwarded-Uri: /admin",
        b"X-Forwarded-Prefix: /admin",
        b"X-Envoy-Original-Path: /public/",
        b"X-Portcullis-Decision: allow",
        b"X_Portcullis_Destination: web",
        b"X-Forwarded-Host: other.example",
        b"Expect: 100-continue",
        b"Upgrade: h2c",
        b"TE: trailers",
        b"Content-Length: 0",
        b"Accept-Encoding: ",
    ];
    head.lines.push(word(rng, &LINES));
}

/// A header's name in one of the spellings that some server folds.
fn respell(rng: &mut Rng, name: &str) -> Vec<u8> {
    let mut name = name.as_bytes().to_vec();
    match rng.u8(..8) {
        0..=2 => {}
        3 => name.make_ascii_uppercase(),
        4..=5 => {
            let dashes: Vec<usize> = (0..name.len()).filter(|index| name[*index] == b'-').collect();
            if let Some(dash) = pick(rng, &dashes) {
                name[*dash] = *pick(rng, b"_.!#$%&'*+^`|~").unwrap_or(&b'_');
            }
        }
        6 => name = String::from_utf8_lossy(&name).replace('-', "_").into_bytes(),
        _ => {
            if let Some(first) = name.first_mut() {
                first.make_ascii_uppercase();
            }
        }
    }
    name
}

/// One header field in one of the ways to write it.
fn header_line(rng: &mut Rng, name: &[u8], value: &[u8]) -> Vec<Vec<u8>> {
    match rng.u8(..32) {
        0 => vec![[name, b" : ", value].concat()],
        1 => vec![[b" ", name, b": ", value].concat()],
        2 => vec![[name, b": ", value, b"\0"].concat()],
        3..=5 => vec![[name, b":", value].concat()],
        6..=8 => vec![[name, b":\t", value, b" "].concat()],
        // Folded over several lines.
        9 => vec![[name, b":"].concat(), [b" ", value].concat()],
        10 => vec![[name, b": x"].concat(), [b"\t", value].concat()],
        11..=12 => vec![[name, b": ", value].concat(), b" \t ".to_vec()],
        _ => vec![[name, b": ", value].concat()],
    }
}
