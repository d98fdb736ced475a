//! Request headers as policy sees them, and the spellings that backends take for the same name.
//!
//! Many backends (CGI, WSGI, PHP, some Java stacks) read `X_Foo`, `X.Foo` and `X-Foo` as one header, while proxies keep
//! them apart. So a name is compared *folded*: letters without case, digits as they are, and every other byte as one
//! symbol. This is the only place that folds.

use std::borrow::Cow;

/// The headers of a request.
pub trait Headers {
    /// The values of a header by its lower-case name, in the order of the header lines; empty when it is not there.
    fn values(&self, name: &str) -> Vec<Cow<'_, [u8]>>;

    /// Whether there is a header that is not spelled like `name` but that a lenient backend takes for it (`X_Foo` for
    /// `x-foo`). Policy treats such a request as doubtful wherever a rule speaks of the header.
    fn has_alias(&self, name: &str) -> bool;

    /// Whether any header's name holds an underscore.
    fn has_underscores(&self) -> bool;
}

/// Headers in memory: policy tests, `explain`, unit tests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderList(pub Vec<(String, Vec<u8>)>);

impl HeaderList {
    /// Collects name and value pairs.
    pub fn new<N: Into<String>, V: Into<Vec<u8>>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl HeaderList {
    /// The headers whose names hold no underscore: what is left of them under `DropHeader`.
    #[must_use]
    pub fn without_underscores(mut self) -> Self {
        self.0.retain(|(name, _)| !name.contains('_'));
        self
    }
}

impl Headers for HeaderList {
    fn values(&self, name: &str) -> Vec<Cow<'_, [u8]>> {
        let named = self.0.iter().filter(|(it, _)| it.eq_ignore_ascii_case(name));
        named.map(|(_, value)| Cow::Borrowed(value.as_slice())).collect()
    }

    fn has_alias(&self, name: &str) -> bool {
        self.0.iter().any(|(it, _)| !it.eq_ignore_ascii_case(name) && same(it, name))
    }

    fn has_underscores(&self) -> bool {
        self.0.iter().any(|(name, _)| name.contains('_'))
    }
}

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

/// One bit of 64 for a name, the same for names that are [`same`]: who has the bits of all names of a request can tell of most
/// other names, without looking at one, that no header is called so.
pub fn shape(name: impl AsRef<[u8]>) -> u64 {
    let name = name.as_ref();
    // Length and end tell names apart best; they begin alike.
    let last = name.last().copied().map_or(0, fold);
    1 << (name.len().wrapping_mul(5).wrapping_add(usize::from(last)) % 64)
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

/// Whether the name is an HTTP token (RFC 9110 §5.6.2), the only thing a header can be called.
pub fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "x-portcullis-source";

    #[test]
    fn spellings_that_backends_confuse_are_the_same() {
        for alias in ["X-Portcullis-Source", "x_portcullis_source", "X.Portcullis!Source", "x-PORTCULLIS_source"] {
            assert!(same(alias, NAME), "{alias}");
            assert!(begins(alias, "x-portcullis-"), "{alias}");
            assert_eq!(shape(alias), shape(NAME), "{alias}");
        }
    }

    #[test]
    fn other_names_stay_apart() {
        assert!(!same("X-Portcullis-Sources", NAME));
        assert!(!same("XPortcullis-Source", NAME));
        assert!(!begins("X-Portcullis", "x-portcullis-"));
        assert!(!begins("Y-Portcullis-Source", "x-portcullis-"));
        assert!(!begins("", "x-portcullis-"));
    }

    #[test]
    fn an_alias_is_another_spelling_and_not_another_case() {
        let headers = HeaderList::new([("X-Role", "a"), ("x-role", "b"), ("X_Team", "c")]);
        assert_eq!(headers.values("x-role"), [b"a".as_slice(), b"b"]);
        assert!(!headers.has_alias("x-role"));
        assert!(headers.has_alias("x-team"));
        assert!(headers.values("x-team").is_empty());
    }

    #[test]
    fn only_tokens_are_header_names() {
        assert!(is_token("X-Api-Key"));
        for bad in ["", "X Api", "X:Api", "X-\u{e4}", "a\n"] {
            assert!(!is_token(bad), "{bad:?}");
        }
    }
}
