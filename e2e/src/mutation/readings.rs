//! Everything that one request could mean to some backend.
//!
//! Servers, frameworks and file systems decode once or twice, before or after removing dot segments; cut `;parameters`, or
//! everything from a NUL on; take `\` for `/`; fold `X_Role` and `X-Role`; take the first, the last or all of several
//! values; let a header or a query parameter override the method. All of these are applied in every order, and each
//! result is a reading.

use crate::wire::Head;

/// More readings than this of one path: an attack, but no longer worth the time.
const MAX_READINGS: usize = 256;
/// How often a path may be percent-decoded.
const MAX_DECODES: usize = 2;

/// Headers that let a request have another method than its own, with dashes and in lower case.
pub const METHOD_OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// A query parameter that does the same, beside those with the names of the headers.
pub const METHOD_PARAMETER: &[u8] = b"_method";

/// Every path that the target could mean, the plain one first. Paths are decoded bytes where a reading decodes.
///
/// `/%61` and `/a` are one path to every server (RFC 3986 §6.2.2.2), so that is not counted as decoding.
pub fn paths(target: &[u8]) -> Vec<Vec<u8>> {
    let path = before(target, b'?');
    let mut found = vec![plainer(path)];
    if !is_plain(path) {
        let mut from = 0;
        for decodes in 0..=MAX_DECODES {
            from = close(&mut found, from);
            if decodes < MAX_DECODES {
                for index in 0..found.len() {
                    let decoded = decoded(&found[index]);
                    add(&mut found, decoded);
                }
            }
        }
    }
    found
}

/// Every method that the request could mean, its own first.
pub fn methods(head: &Head) -> Vec<Vec<u8>> {
    let mut found = vec![head.method.clone(), head.method.to_ascii_uppercase()];
    let mut means = |method: &[u8]| {
        // An override without a value overrides nothing.
        if !method.is_empty() {
            add(&mut found, method.to_ascii_uppercase());
        }
    };
    for name in METHOD_OVERRIDES {
        lines(head, name).for_each(|(_, value)| means(value));
    }
    let query = head.target.iter().position(|byte| *byte == b'?').map_or(&b""[..], |at| &head.target[at + 1..]);
    for pair in query.split(|byte| matches!(byte, b'&' | b';' | b'?')) {
        let (name, value) = split_at(pair, b'=');
        let name = decoded(name);
        let overrides = METHOD_OVERRIDES.iter().map(|it| it.as_bytes()).chain([METHOD_PARAMETER]);
        if overrides.into_iter().any(|it| name.eq_ignore_ascii_case(it)) {
            means(&decoded(value));
        }
    }
    found
}

/// Every value that a backend finds in the header `name` (lower case, with dashes) if it takes the value of a line as one:
/// each line's, and all of them joined. None: no reading finds the header.
pub fn values(head: &Head, name: &str) -> Vec<Vec<u8>> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    for (_, value) in lines(head, name) {
        add(&mut found, value.to_vec());
    }
    // With the spellings that fold, and without.
    for exact in [false, true] {
        let named: Vec<&[u8]> = lines(head, name).filter(|(it, _)| !exact || *it).map(|(_, value)| value).collect();
        for glue in [b",".as_slice(), b", "] {
            if !named.is_empty() {
                add(&mut found, named.join(glue));
            }
        }
    }
    found
}

/// [`values`], and what a backend finds that takes values for lists: each element, with its quotes and parameters, and without.
pub fn elements(head: &Head, name: &str) -> Vec<Vec<u8>> {
    let mut found = values(head, name);
    for (_, value) in lines(head, name) {
        for element in value.split(|byte| matches!(byte, b',' | b';')) {
            let element = element.trim_ascii();
            add(&mut found, element.to_vec());
            let unquoted = element.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
            add(&mut found, unquoted.unwrap_or(element).to_vec());
        }
    }
    found
}

/// The lines that some server takes for the header, and whether they are spelled like it.
fn lines<'h>(head: &'h Head, name: &str) -> impl Iterator<Item = (bool, &'h [u8])> {
    head.headers()
        .filter(move |(it, _)| folded(it).eq(name.bytes()))
        .map(move |(it, value)| (it.eq_ignore_ascii_case(name.as_bytes()), value))
}

/// A header's name as CGI, WSGI, PHP and others see it.
fn folded(name: &[u8]) -> impl Iterator<Item = u8> {
    name.iter().map(|byte| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' })
}

/// A path that every server reads alike: the usual case, and most of the time.
fn is_plain(path: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'~');
    path.first() == Some(&b'/') && path.iter().all(plain) && !path.windows(2).any(|pair| pair == b"//")
}

/// One thing that some server does to a path.
type Habit = fn(&[u8]) -> Vec<u8>;

const HABITS: [Habit; 10] = [
    without_authority,
    |path| before(path, b'?').to_vec(),
    |path| before(path, b'#').to_vec(),
    |path| before(path, 0).to_vec(),
    |path| path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect(),
    |path| path.iter().copied().filter(|byte| !byte.is_ascii_control()).collect(),
    // `;parameters` of each segment, and of the whole path.
    |path| join(path.split(|byte| *byte == b'/').map(|segment| before(segment, b';'))),
    |path| before(path, b';').to_vec(),
    without_empty_segments,
    without_dot_segments,
];

/// Applies every habit to what is found from `from` on, and to what comes of it. Returns the number of readings then.
fn close(found: &mut Vec<Vec<u8>>, from: usize) -> usize {
    let mut index = from;
    while index < found.len() {
        for habit in HABITS {
            let reading = habit(&found[index]);
            add(found, reading);
        }
        index += 1;
    }
    index
}

fn add(found: &mut Vec<Vec<u8>>, reading: Vec<u8>) {
    if found.len() < MAX_READINGS && !found.contains(&reading) {
        found.push(reading);
    }
}

fn before(bytes: &[u8], end: u8) -> &[u8] {
    bytes.split(|byte| *byte == end).next().unwrap_or_default()
}

fn split_at(bytes: &[u8], end: u8) -> (&[u8], &[u8]) {
    let first = before(bytes, end);
    (first, bytes.get(first.len() + 1..).unwrap_or_default())
}

fn join<'a>(segments: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    segments.collect::<Vec<_>>().join(&b'/')
}

/// `http://host/path` and `//host/path`.
fn without_authority(path: &[u8]) -> Vec<u8> {
    let colon = path.iter().position(|byte| *byte == b':').filter(|at| !path[..*at].contains(&b'/'));
    let rest = colon.map_or(path, |at| &path[at + 1..]);
    let Some(rest) = rest.strip_prefix(b"//") else { return path.to_vec() };
    rest.iter().position(|byte| *byte == b'/').map_or_else(|| b"/".to_vec(), |at| rest[at..].to_vec())
}

fn without_empty_segments(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for byte in path {
        if *byte != b'/' || out.last() != Some(&b'/') {
            out.push(*byte);
        }
    }
    out
}

/// RFC 3986 §5.2.4, on segments.
fn without_dot_segments(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." if last => out.push(b""),
            b"." => {}
            b".." => {
                if out.len() > 1 {
                    out.pop();
                }
                if last {
                    out.push(b"");
                }
            }
            segment => out.push(segment),
        }
    }
    join(out.into_iter())
}

/// With the escapes of letters, digits, `-`, `.`, `_` and `~` decoded.
fn plainer(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, tail)) = rest.split_first() {
        let escape = match tail {
            [high, low, tail @ ..] if *byte == b'%' => hex(*high, *low).map(|value| (value, tail)),
            _ => None,
        };
        let escape = escape.filter(|(value, _)| value.is_ascii_alphanumeric() || b"-._~".contains(value));
        let (byte, tail) = escape.unwrap_or((*byte, tail));
        out.push(byte);
        rest = tail;
    }
    out
}

/// One round of decoding, as the most forgiving decoder does it: `%2f`, `%u002f`, and overlong UTF-8 for ASCII.
fn decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, tail)) = rest.split_first() {
        let (value, tail) = match (byte, tail) {
            (b'%', [b'u' | b'U', a, b, c, d, tail @ ..]) => match (hex(*a, *b), hex(*c, *d)) {
                (Some(0), Some(value)) => (value, tail),
                // A full-width form, which best-fit tables map to ASCII.
                (Some(0xFF), Some(value @ 1..=0x5E)) => (value + 0x20, tail),
                _ => (*byte, &rest[1..]),
            },
            (b'%', [high, low, tail @ ..]) => match hex(*high, *low) {
                Some(value) => (value, tail),
                None => (*byte, &rest[1..]),
            },
            (byte, tail) => (*byte, tail),
        };
        out.push(value);
        rest = tail;
    }
    shortened(&out)
}

/// Overlong forms of ASCII (`C0 AF`, `E0 80 AF`) as a decoder that does not check takes them.
fn shortened(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        let (byte, tail) = match (first, tail) {
            (0xC0 | 0xC1, [second, tail @ ..]) => ((first & 1) << 6 | second & 0x3F, tail),
            (0xE0, [second @ (0x80 | 0x81), third, tail @ ..]) => ((second & 1) << 6 | third & 0x3F, tail),
            (first, tail) => (*first, tail),
        };
        out.push(byte);
        rest = tail;
    }
    out
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(target: &str, path: &str) -> bool {
        paths(target.as_bytes()).iter().any(|it| it == path.as_bytes())
    }

    #[test]
    fn known_ways_to_spell_a_path_are_understood() {
        for target in [
            "/admin",
            "/%61dmin",
            "/%2561dmin",
            "/%u0061dmin",
            "/%uff41dmin",
            "/%c1%a1dmin",
            "/x/../admin",
            "/x/%2e%2e/admin",
            "/x/..%2fadmin",
            "/x/..%252fadmin",
            "/x/..;/admin",
            "/x/..;a=b/admin",
            "/x\\..\\admin",
            "/x%5c..%5cadmin",
            "/x/..%c0%afadmin",
            "//admin",
            "//host/admin",
            "/./admin",
            "/admin;x=1",
            "/;x/admin",
            "/admin%3bx",
            "/admin?x",
            "/admin%3fx",
            "/admin#x",
            "/admin%23x",
            "/admin%00.png",
            "/ad%09min",
            "http://host/admin",
            "hTTp://host:80//admin",
            "/#/../admin",
        ] {
            assert!(reads(target, "/admin"), "{target}: {:?}", paths(target.as_bytes()));
        }
    }

    #[test]
    fn harmless_paths_have_one_reading() {
        for target in ["/", "/admins/x", "/a/b-c_d~e?x=/../admin", "/p%75blic/%2D"] {
            assert_eq!(paths(target.as_bytes()).len(), 1, "{target}");
        }
        for target in ["/Admin", "/administration", "/x/admin", "/a.b/c..d", "/a%20b"] {
            assert!(!reads(target, "/admin"), "{target}");
        }
    }

    #[test]
    fn overriding_headers_and_parameters_are_methods() {
        let means = |head: &Head| methods(head).contains(&b"DELETE".to_vec());
        assert!(means(&Head::new("delete", "/")));
        assert!(means(&Head::new("POST", "/").line("X_Http_Method_Override: delete")));
        assert!(means(&Head::new("POST", "/?a&%5Fmethod=DELETE")));
        assert!(!means(&Head::new("POST", "/?method=DELETE&_method=").line("X-Method: DELETE")));
    }

    #[test]
    fn a_header_has_every_value_that_somebody_finds_in_it() {
        let head = Head::new("GET", "/").line("X-Role: user").line("x_role:  \"admin\" , b");
        let found = elements(&head, "x-role");
        for value in ["user", "admin", "b", "user,\"admin\" , b"] {
            assert!(found.contains(&value.as_bytes().to_vec()), "{value}");
        }
        assert!(!values(&head, "x-role").contains(&b"admin".to_vec()));
        assert!(elements(&head, "x-team").is_empty());
    }
}
