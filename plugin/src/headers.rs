//! Header names, and the spellings that backends take for the same name.
//!
//! Many backends (CGI, WSGI, PHP, some Java stacks) read `X_Foo`, `X.Foo` and `X-Foo` as one header, while Go keeps
//! them apart. So a name is compared *folded*: letters without case, digits as they are, and every other byte as one
//! symbol. This is the only place that folds.

/// The reserved prefix: what begins like this is ours to write and nobody else's.
pub const OWN_PREFIX: &str = "x-portcullis-";
/// The verified identity of the caller, for the backend and the access log.
pub const SOURCE: &str = "X-Portcullis-Source";
/// The destination the decision was made for; the gate's leaf routers match on it.
pub const DESTINATION: &str = "X-Portcullis-Destination";
/// `allow` or `deny`.
pub const DECISION: &str = "X-Portcullis-Decision";
/// The rule that decided.
pub const RULE: &str = "X-Portcullis-Rule";
/// Why a request was denied; set on denials only, so a backend never sees it.
pub const REASON: &str = "X-Portcullis-Reason";
/// The client's certificates as Traefik's `passTLSClientCert` writes them with `pem: true`.
/// Lower case, as the host lists names.
pub const CERTIFICATE: &str = "x-forwarded-tls-client-cert";

/// Every byte of a header name as a lenient backend reads it. A table, because every name of every request is folded.
#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler, which would refuse a place out of bounds")]
const FOLDED: [u8; 256] = {
    let mut table = [b'-'; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        if byte.is_ascii_alphanumeric() {
            table[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

fn fold(byte: u8) -> u8 {
    FOLDED.get(usize::from(byte)).copied().unwrap_or(b'-')
}

/// Whether two names are the same to a lenient backend.
pub fn same(one: impl AsRef<[u8]>, other: impl AsRef<[u8]>) -> bool {
    let (one, other) = (one.as_ref(), other.as_ref());
    // The length first: nearly all names differ in it, and every header of every request is asked.
    one.len() == other.len() && begins(one, other)
}

/// Whether `name` begins like `prefix` to a lenient backend.
pub fn begins(name: impl AsRef<[u8]>, prefix: impl AsRef<[u8]>) -> bool {
    let (name, prefix) = (name.as_ref(), prefix.as_ref());
    // From the end: names that are not ours begin with `x-` like ours, and differ behind it.
    name.get(..prefix.len()).is_some_and(|head| head.iter().zip(prefix).rev().all(|(a, b)| fold(*a) == fold(*b)))
}

/// Whether the name is an HTTP token (RFC 9110, section 5.6.2), the only thing a header can be called.
pub fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_that_backends_confuse_are_the_same() {
        for alias in ["X-Portcullis-Source", "x_portcullis_source", "X.Portcullis!Source", "x-PORTCULLIS_source"] {
            assert!(same(alias, SOURCE), "{alias}");
            assert!(begins(alias, OWN_PREFIX), "{alias}");
        }
    }

    #[test]
    fn other_names_stay_apart() {
        assert!(!same("X-Portcullis-Sources", SOURCE));
        assert!(!same("XPortcullis-Source", SOURCE));
        assert!(!begins("X-Portcullis", OWN_PREFIX));
        assert!(!begins("Y-Portcullis-Source", OWN_PREFIX));
        assert!(!begins("", OWN_PREFIX));
    }

    #[test]
    fn only_tokens_are_header_names() {
        assert!(is_token("X-Api-Key"));
        for bad in ["", "X Api", "X:Api", "X-\u{e4}", "a\n"] {
            assert!(!is_token(bad), "{bad:?}");
        }
    }
}
