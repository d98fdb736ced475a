//! Regular expressions of rules: RE2's language, whole-string, in linear time, compiled where there is room for it.
//!
//! ```text
//!  RE2 text ──parse──► HIR ──build──► sparse DFA bytes ──snapshot──► validated DFA ──► is_full_match
//!  └──────────── feature `regex-build`, native only ─────────────┘  └──────── everywhere, one byte a step ────┘
//! ```
//!
//! Consul hands `PathRegex` and `Header[].Regex` to Envoy, and Envoy asks RE2 whether the *whole* text matches
//! (consul-policy §3.4). The syntax is therefore RE2's own, read by our parser: Rust's regex syntax is close, but gives
//! another meaning to `&&` and `[` inside of classes, to `\d`, `\w` and `\s`, and refuses what RE2 takes literally.
//!
//! A text that is not UTF-8 never matches. Whoever asks about such a text must treat the answer as doubt.

#[cfg(feature = "regex-build")]
mod build;
#[cfg(feature = "regex-build")]
mod class;
#[cfg(feature = "regex-build")]
mod cursor;
#[cfg(feature = "regex-build")]
mod escapes;
#[cfg(feature = "regex-build")]
mod parse;

use std::{borrow::Cow, fmt, sync::Arc};

use regex_automata::{
    Anchored,
    dfa::{Automaton, sparse::DFA},
    util::start,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

/// Longest pattern that is read, in bytes.
pub const MAX_TEXT_LEN: usize = 8 * 1024;
/// Largest automaton of one pattern, in bytes: what a rule with it adds to the snapshot.
pub const MAX_AUTOMATON_LEN: usize = 128 * 1024;

/// A compiled pattern. Clones share it.
#[derive(Clone)]
pub struct Pattern(Arc<Compiled>);

struct Compiled {
    text: String,
    /// Decoded and validated once, so that a search validates nothing.
    automaton: DFA<Vec<u8>>,
}

/// Why a pattern cannot be used. The source that holds it is denied (consul-policy §3.4).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// Not RE2, or something of RE2 that is not supported.
    #[error("{what} at byte {at} of the regular expression")]
    Syntax {
        /// What is wrong.
        what: Cow<'static, str>,
        /// Where, in bytes from the beginning of the text.
        at: usize,
    },
    /// The text exceeds [`MAX_TEXT_LEN`].
    #[error("the regular expression is longer than {MAX_TEXT_LEN} bytes; split it over several permissions")]
    TooLong,
    /// The automaton exceeds [`MAX_AUTOMATON_LEN`], or the work to make it exceeds its bounds.
    #[error(
        "the regular expression needs an automaton of more than {} KiB; use smaller counts than in `x{{1,500}}` (or \
         `*`), ASCII classes instead of `.` and `\\pL` inside of counts, or split it over several permissions",
        MAX_AUTOMATON_LEN / 1024
    )]
    TooLarge,
    /// This build holds only the search.
    #[error(
        "regular expressions need a snapshot: policy that is written inline is compiled in the plugin, which cannot"
    )]
    NeedsSnapshot,
}

// === impl Pattern ===

impl Pattern {
    /// Compiles RE2 text for any subject. Takes bounded time and space, whatever the text: a second for the worst of them.
    #[cfg(feature = "regex-build")]
    pub fn compile(re2: &str) -> Result<Self, BadPattern> {
        Self::compile_for(re2, parse::Subject::Text)
    }

    /// As [`Pattern::compile`], for canonical paths alone ([`crate::path::canonical`]): they are ASCII, which makes the
    /// automata much smaller, and the hexadecimal digits after a literal `%` match in either case.
    #[cfg(feature = "regex-build")]
    pub fn compile_path(re2: &str) -> Result<Self, BadPattern> {
        Self::compile_for(re2, parse::Subject::Path)
    }

    #[cfg(feature = "regex-build")]
    fn compile_for(re2: &str, subject: parse::Subject) -> Result<Self, BadPattern> {
        if re2.len() > MAX_TEXT_LEN {
            return Err(BadPattern::TooLong);
        }
        let automaton = build::automaton(&parse::parse(re2, subject)?)?;
        Ok(Self(Arc::new(Compiled { text: re2.to_owned(), automaton })))
    }

    /// Compiles RE2 text: not in this build, which holds only the search.
    #[cfg(not(feature = "regex-build"))]
    pub fn compile(_re2: &str) -> Result<Self, BadPattern> {
        Err(BadPattern::NeedsSnapshot)
    }

    /// Compiles RE2 text for paths: not in this build, which holds only the search.
    #[cfg(not(feature = "regex-build"))]
    pub fn compile_path(_re2: &str) -> Result<Self, BadPattern> {
        Err(BadPattern::NeedsSnapshot)
    }

    /// Whether all of the text matches. Takes time linear in the text.
    pub fn is_full_match(&self, text: &[u8]) -> bool {
        let dfa = &self.0.automaton;
        let Ok(mut state) = dfa.start_state(&start::Config::new().anchored(Anchored::Yes)) else { return false };
        for byte in text {
            state = dfa.next_state(state, *byte);
            // No byte leads out of a dead state. Ours never quit: only ASCII word boundaries are compiled.
            if dfa.is_dead_state(state) || dfa.is_quit_state(state) {
                return false;
            }
        }
        // A match is known one step late, when it is known what follows it: here, nothing.
        dfa.is_match_state(dfa.next_eoi_state(state))
    }

    /// What it was compiled from.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; self.0.automaton.write_to_len()];
        let written = self.0.automaton.write_to_little_endian(&mut bytes).ok()?;
        bytes.truncate(written);
        Some(bytes)
    }

    fn from_bytes(text: String, bytes: &[u8]) -> Result<Self, &'static str> {
        if text.len() > MAX_TEXT_LEN || bytes.len() > MAX_AUTOMATON_LEN {
            return Err("the regular expression exceeds its bounds");
        }
        let Ok((automaton, read)) = DFA::from_bytes(bytes) else { return Err("the automaton is not valid") };
        if read != bytes.len() {
            return Err("the automaton is longer than it says");
        }
        Ok(Self(Arc::new(Compiled { text, automaton: automaton.to_owned() })))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.0.text).finish()
    }
}

/// By text and by automaton, so that a snapshot of another version is another pattern.
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text && self.to_bytes() == other.to_bytes()
    }
}

impl Eq for Pattern {}

impl Serialize for Pattern {
    /// Where none can be compiled none has to be written: that is 3 KB of wasm.
    #[cfg(not(feature = "regex-build"))]
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("this build writes no patterns"))
    }

    #[cfg(feature = "regex-build")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.to_bytes().ok_or_else(|| S::Error::custom("the automaton cannot be written"))?;
        Stored { text: Cow::Borrowed(&self.0.text), automaton: Cow::Owned(bytes) }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        Self::from_bytes(stored.text.into_owned(), &stored.automaton).map_err(D::Error::custom)
    }
}

/// The stored form.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
    /// The bytes of a sparse DFA, little-endian.
    #[serde(borrow, with = "raw")]
    automaton: Cow<'a, [u8]>,
}

/// Bytes as bytes: serde's own way for `[u8]` is one number after the other.
mod raw {
    use std::{borrow::Cow, fmt};

    use serde::{Deserializer, Serializer, de::Visitor};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'de, [u8]>, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Cow<'de, [u8]>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(bytes))
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Ok(Cow::Owned(bytes.to_owned()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests;
