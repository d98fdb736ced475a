//! From the parts of a key to the bucket of a request.
//!
//! A bucket is named by its limit and the key's parts, and by nothing else: whoever changes numbers goes on with the units
//! that are taken already.

use std::{fmt::Write as _, net::IpAddr};

use crate::{crypto::Hash, identity::masked};

/// Longest value of a part, in bytes. A longer one is as if it could not be read: hashing it is the caller's choice of cost.
const MAX_VALUE: usize = 1024;
/// Longest value in a label, in bytes.
const MAX_SHOWN: usize = 64;
/// The label of the bucket of all whose key cannot be read.
const SHARED: &str = "(shared)";
/// The label of the bucket of a limit whose key has no parts.
const ALL: &str = "(all)";

/// A bucket's name in the making.
pub(crate) struct Bucket {
    bytes: Vec<u8>,
    /// How many of them name the limit.
    rule_len: usize,
    label: String,
    is_shared: bool,
}

impl Bucket {
    pub(crate) fn new(rule: &str) -> Self {
        let mut bucket = Self { bytes: Vec::with_capacity(128), rule_len: 0, label: String::new(), is_shared: false };
        bucket.push(b'=', rule.as_bytes());
        bucket.rule_len = bucket.bytes.len();
        bucket
    }

    /// Adds a part. One that is empty, as what cannot be read is, makes the bucket the one that the limit keeps for all such.
    pub(crate) fn add(&mut self, kind: u8, value: &[u8], shown: &[u8]) {
        if value.is_empty() || value.len() > MAX_VALUE {
            self.is_shared = true;
            return;
        }
        self.push(kind, value);
        if !self.label.is_empty() {
            self.label.push(' ');
        }
        let shown = String::from_utf8_lossy(shown.get(..MAX_SHOWN).unwrap_or(shown));
        self.label.extend(shown.chars().map(|it| if it.is_control() { '?' } else { it }));
    }

    /// Adds a part that is a text.
    pub(crate) fn add_text(&mut self, kind: u8, text: &str) {
        self.add(kind, text.as_bytes(), text.as_bytes());
    }

    /// Adds the network of an address, its prefixes being of these lengths.
    pub(crate) fn add_network(&mut self, address: Option<IpAddr>, v4: u8, v6: u8) {
        let len = if address.is_some_and(|it| it.is_ipv4()) { v4 } else { v6 };
        match address.map(|it| masked(it, len)) {
            None => self.add(b'n', b"", b""),
            Some(IpAddr::V4(network)) => {
                let [a, b, c, d] = network.octets();
                self.add(b'n', &[a, b, c, d], format!("{a}.{b}.{c}.{d}/{len}").as_bytes());
            }
            Some(IpAddr::V6(network)) => self.add(b'n', &network.octets(), spelled(network.segments(), len).as_bytes()),
        }
    }

    /// The name, of which [`key`] makes the key, and the label. `counter` sets a bucket apart whose allowance is of another kind
    /// than its limit's.
    pub(crate) fn finish(mut self, counter: Option<u8>) -> (Vec<u8>, String) {
        if self.is_shared {
            self.bytes.truncate(self.rule_len);
            self.push(b'-', b"");
            SHARED.clone_into(&mut self.label);
        } else if self.label.is_empty() {
            ALL.clone_into(&mut self.label);
        }
        if let Some(counter) = counter {
            self.push(b'+', &[counter]);
        }
        (self.bytes, self.label)
    }

    fn push(&mut self, kind: u8, value: &[u8]) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.bytes.extend_from_slice(value);
    }
}

/// The key of a bucket with this name. Nobody can choose names that share one.
pub(crate) fn key(name: &[u8]) -> u64 {
    Hash::Sha256.digest(&[name]).first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// A network of IPv6: its groups up to the last that is not zero. (The library's own spelling is 2 KB of wasm.)
fn spelled(groups: [u16; 8], len: u8) -> String {
    let n_shown = groups.iter().rposition(|group| *group != 0).map_or(0, |at| at + 1);
    let mut text = String::with_capacity(44);
    for (at, group) in groups.iter().take(n_shown).enumerate() {
        // Nothing fails that writes to a text.
        let _ = write!(text, "{}{group:x}", if at == 0 { "" } else { ":" });
    }
    let _ = write!(text, "{}/{len}", if n_shown == 8 { "" } else { "::" });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_spelled_short() {
        let label = |address: &str, v4, v6| {
            let mut bucket = Bucket::new("r");
            bucket.add_network(address.parse().ok(), v4, v6);
            bucket.finish(None).1
        };
        assert_eq!(label("192.0.2.7", 32, 64), "192.0.2.7/32");
        assert_eq!(label("192.0.2.7", 24, 64), "192.0.2.0/24");
        assert_eq!(label("192.0.2.7", 0, 64), "0.0.0.0/0");
        assert_eq!(label("2001:db8:1:2:3:4:5:6", 32, 64), "2001:db8:1:2::/64");
        assert_eq!(label("2001:db8:1:2:3:4:5:6", 32, 128), "2001:db8:1:2:3:4:5:6/128");
        assert_eq!(label("2001:db8::6", 32, 0), "::/0");
        assert_eq!(label("unknown", 32, 64), SHARED);
    }

    fn finished(bucket: Bucket, counter: Option<u8>) -> (u64, String) {
        let (name, label) = bucket.finish(counter);
        (key(&name), label)
    }

    fn bucket(rule: &str, parts: &[(u8, &str)]) -> (u64, String) {
        let mut bucket = Bucket::new(rule);
        for (kind, value) in parts {
            bucket.add_text(*kind, value);
        }
        finished(bucket, None)
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let one = bucket("r", &[(b's', "ab"), (b'h', "c")]);
        for other in [
            bucket("r", &[(b's', "a"), (b'h', "bc")]),
            bucket("r", &[(b's', "abc")]),
            bucket("r", &[(b'h', "ab"), (b's', "c")]),
            bucket("rs", &[(b's', "ab"), (b'h', "c")]),
            bucket("r", &[]),
        ] {
            assert_ne!(one.0, other.0, "{}", other.1);
        }
        assert_eq!(one, bucket("r", &[(b's', "ab"), (b'h', "c")]));
        assert_eq!(one.1, "ab c");
        assert_eq!(bucket("r", &[]).1, ALL);
    }

    #[test]
    fn whatever_cannot_be_read_is_one_bucket_of_the_limit() {
        let shared = |parts: &[&[u8]]| {
            let mut bucket = Bucket::new("r");
            for part in parts {
                bucket.add(b'h', part, part);
            }
            finished(bucket, None)
        };
        let long = [b'a'; MAX_VALUE + 1];
        let one = shared(&[b""]);
        assert_eq!(one.1, SHARED);
        for parts in [&[b"a".as_slice(), b""][..], &[b"", b"b"], &[&long]] {
            assert_eq!(shared(parts), one);
        }
        assert_ne!(one.0, bucket("r", &[]).0);
        assert_ne!(one.0, shared(&[b"(shared)"]).0);
    }

    #[test]
    fn a_label_is_short_and_holds_no_control_bytes() {
        let (_, label) = bucket("r", &[(b'h', "a\nb"), (b'h', &"\u{e4}".repeat(100))]);
        assert!(label.starts_with("a?b \u{e4}") && label.len() <= 3 + 1 + MAX_SHOWN + 2, "{label}");
    }

    #[test]
    fn another_counter_is_another_bucket() {
        let with = |counter| finished(Bucket::new("r"), counter).0;
        assert_ne!(with(None), with(Some(b'd')));
        assert_ne!(with(Some(b'm')), with(Some(b'd')));
    }
}
