//! The pattern's text while it is read, and the escapes that mean one character both inside and outside of a class.

use super::BadPattern;

/// A place in the text. Cheap to copy, so that a reader can try and step back.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

/// The largest code point. Escapes are numbers until the end, for RE2 lets them name surrogates.
const MAX_CODE: u32 = 0x10_FFFF;

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// What has not been read yet.
    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Reads the prefix if it is there.
    pub(super) fn eat(&mut self, prefix: &str) -> bool {
        let found = self.rest().starts_with(prefix);
        if found {
            self.at += prefix.len();
        }
        found
    }

    /// Reads up to the delimiter and over it.
    pub(super) fn until(&mut self, delimiter: &str) -> Option<&'a str> {
        let (before, _) = self.rest().split_once(delimiter)?;
        self.at += before.len() + delimiter.len();
        Some(before)
    }

    pub(super) fn error(&self, what: &'static str) -> BadPattern {
        BadPattern::Syntax { what: what.into(), at: self.at }
    }

    /// The code point of an escape, after its backslash.
    pub(super) fn escape(&mut self) -> Result<u32, BadPattern> {
        let bad = self.error("an unknown escape");
        let Some(first) = self.next() else { return Err(self.error("a trailing backslash")) };
        match first {
            'a' => Ok(0x07),
            'f' => Ok(0x0C),
            'n' => Ok(0x0A),
            'r' => Ok(0x0D),
            't' => Ok(0x09),
            'v' => Ok(0x0B),
            'x' => self.hexadecimal().ok_or(bad),
            // A single digit other than 0 is a back-reference.
            '1'..='7' if !matches!(self.peek(), Some('0'..='7')) => Err(bad),
            '0'..='7' => Ok(self.octal(first)),
            _ if first.is_ascii() && (first == '_' || !first.is_ascii_alphanumeric()) => Ok(u32::from(first)),
            _ => Err(bad),
        }
    }

    /// Up to three digits, the first of which has been read.
    fn octal(&mut self, first: char) -> u32 {
        let mut code = first.to_digit(8).unwrap_or_default();
        for _ in 0..2 {
            let Some(digit) = self.peek().and_then(|it| it.to_digit(8)) else { break };
            code = code * 8 + digit;
            self.next();
        }
        code
    }

    /// `hh` or `{h…}`.
    fn hexadecimal(&mut self) -> Option<u32> {
        if !self.eat("{") {
            let (high, low) = (self.next()?.to_digit(16)?, self.next()?.to_digit(16)?);
            return Some(high * 16 + low);
        }
        let digits = self.until("}")?;
        let mut code = 0;
        for digit in digits.chars() {
            code = code * 16 + digit.to_digit(16)?;
            if code > MAX_CODE {
                return None;
            }
        }
        (!digits.is_empty()).then_some(code)
    }
}
