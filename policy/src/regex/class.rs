//! Sets of characters: `[…]`, `\d`, `[:alpha:]`, `\p{Greek}`, as RE2 reads them.
//!
//! Inside `[…]`, RE2 knows single characters, ranges and named sets, and nothing else: `&&`, `--`, `~~` and an inner `[`
//! are characters.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

use super::{BadPattern, cursor::Cursor};

/// ASCII ranges of a named set.
type Ranges = &'static [(u8, u8)];

const DIGIT: Ranges = &[(b'0', b'9')];
const SPACE: Ranges = &[(b'\t', b'\n'), (0x0C, b'\r'), (b' ', b' ')];
const WORD: Ranges = &[(b'0', b'9'), (b'A', b'Z'), (b'_', b'_'), (b'a', b'z')];

/// RE2's names of general categories. There is no `Cn`, and `C` does not cover it.
const CATEGORIES: [&str; 37] = [
    "C", "Cc", "Cf", "Co", "Cs", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl", "No", "P",
    "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs", "Any",
];

/// A set that is being collected.
pub(super) struct Set {
    class: ClassUnicode,
    /// Whether what is added brings its other cases along.
    fold_case: bool,
}

impl Set {
    pub(super) fn new(fold_case: bool) -> Self {
        Self { class: ClassUnicode::empty(), fold_case }
    }

    /// One character: a literal under `(?i)`.
    pub(super) fn one(code: u32, fold_case: bool) -> Self {
        let mut set = Self::new(fold_case);
        set.add(&range(code, code), false);
        set
    }

    pub(super) fn into_class(self) -> Class {
        Class::Unicode(self.class)
    }

    /// Without what is not ASCII.
    pub(super) fn into_ascii(mut self) -> Class {
        self.class.intersect(&range(0, 0x7F));
        self.into_class()
    }

    /// Adds a class; folded first, negated afterwards.
    fn add(&mut self, class: &ClassUnicode, negated: bool) {
        let mut class = class.clone();
        // Fails only without the tables, which the manifest asks for.
        if self.fold_case && class.try_case_fold_simple().is_err() {
            class = ClassUnicode::empty();
        }
        if negated {
            class.negate();
        }
        self.class.union(&class);
    }

    fn add_ascii(&mut self, ranges: Ranges, negated: bool) {
        let ranges = ranges.iter().map(|(from, to)| ClassUnicodeRange::new(char::from(*from), char::from(*to)));
        self.add(&ClassUnicode::new(ranges), negated);
    }

    /// Adds `\d`, `\p{Greek}` and their like if the cursor is at one.
    pub(super) fn eat_escape(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, BadPattern> {
        let mut ahead = *cursor;
        if !ahead.eat("\\") {
            return Ok(false);
        }
        match ahead.next() {
            Some('d') => self.add_ascii(DIGIT, false),
            Some('D') => self.add_ascii(DIGIT, true),
            Some('s') => self.add_ascii(SPACE, false),
            Some('S') => self.add_ascii(SPACE, true),
            Some('w') => self.add_ascii(WORD, false),
            Some('W') => self.add_ascii(WORD, true),
            Some(letter @ ('p' | 'P')) => self.property(&mut ahead, letter == 'P')?,
            _ => return Ok(false),
        }
        *cursor = ahead;
        Ok(true)
    }

    /// `N`, `{Greek}`, `{^Greek}`, after `\p` or `\P`.
    fn property(&mut self, cursor: &mut Cursor<'_>, negated: bool) -> Result<(), BadPattern> {
        let bad = cursor.error("an unknown Unicode group");
        let rest = cursor.rest();
        let name = match cursor.next() {
            Some('{') => cursor.until("}"),
            Some(letter) => rest.get(..letter.len_utf8()),
            None => None,
        };
        let Some(name) = name else { return Err(bad) };
        let (name, negated) = name.strip_prefix('^').map_or((name, negated), |name| (name, !negated));
        self.add(&group(name).ok_or(bad)?, negated);
        Ok(())
    }

    /// Adds `[:alpha:]` or `[:^alpha:]` if the cursor is at one.
    fn eat_posix(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, BadPattern> {
        let mut ahead = *cursor;
        if !ahead.eat("[:") {
            return Ok(false);
        }
        let Some(name) = ahead.until(":]") else { return Ok(false) };
        let (name, negated) = name.strip_prefix('^').map_or((name, false), |name| (name, true));
        let ranges: Ranges = match name {
            "alnum" => &[(b'0', b'9'), (b'A', b'Z'), (b'a', b'z')],
            "alpha" => &[(b'A', b'Z'), (b'a', b'z')],
            "ascii" => &[(0, 0x7F)],
            "blank" => &[(b'\t', b'\t'), (b' ', b' ')],
            "cntrl" => &[(0, 0x1F), (0x7F, 0x7F)],
            "digit" => DIGIT,
            "graph" => &[(b'!', b'~')],
            "lower" => &[(b'a', b'z')],
            "print" => &[(b' ', b'~')],
            "punct" => &[(b'!', b'/'), (b':', b'@'), (b'[', b'`'), (b'{', b'~')],
            // Other than `\s`, with the vertical tab.
            "space" => &[(b'\t', b'\r'), (b' ', b' ')],
            "upper" => &[(b'A', b'Z')],
            "word" => WORD,
            "xdigit" => &[(b'0', b'9'), (b'A', b'F'), (b'a', b'f')],
            _ => return Err(cursor.error("an unknown character class")),
        };
        self.add_ascii(ranges, negated);
        *cursor = ahead;
        Ok(true)
    }

    /// A bracketed class, after its `[`.
    pub(super) fn bracketed(cursor: &mut Cursor<'_>, fold_case: bool) -> Result<Self, BadPattern> {
        let unclosed = cursor.error("a `[` without its `]`");
        let negated = cursor.eat("^");
        let mut set = Self::new(fold_case);
        let mut first = true;
        // A `]` at the beginning is a character.
        while first || cursor.peek() != Some(']') {
            if cursor.peek().is_none() {
                return Err(unclosed);
            }
            first = false;
            if set.eat_posix(cursor)? || set.eat_escape(cursor)? {
                continue;
            }
            let from = character(cursor)?.ok_or_else(|| unclosed.clone())?;
            let mut to = from;
            // A `-` at the end is a character.
            if cursor.rest().starts_with('-') && !cursor.rest().starts_with("-]") && cursor.rest() != "-" {
                cursor.eat("-");
                let here = cursor.error("a range that ends before it begins");
                to = character(cursor)?.ok_or_else(|| unclosed.clone())?;
                if to < from {
                    return Err(here);
                }
            }
            set.add(&range(from, to), false);
        }
        cursor.eat("]");
        if negated {
            set.class.negate();
        }
        Ok(set)
    }
}

/// `.`: any character, or any but the line feed.
pub(super) fn dot(newline: bool) -> Set {
    let mut set = Set::new(false);
    if !newline {
        set.class = range(0x0A, 0x0A);
    }
    set.class.negate();
    set
}

/// One character of a class; none at the end of the text.
fn character(cursor: &mut Cursor<'_>) -> Result<Option<u32>, BadPattern> {
    if cursor.eat("\\") { cursor.escape().map(Some) } else { Ok(cursor.next().map(u32::from)) }
}

/// A range of code points, without the surrogates in it: no UTF-8 text holds one.
fn range(from: u32, to: u32) -> ClassUnicode {
    let part = |from: u32, to: u32| Some(ClassUnicodeRange::new(char::from_u32(from)?, char::from_u32(to)?));
    let below = (from <= 0xD7FF).then(|| part(from, to.min(0xD7FF))).flatten();
    let above = (to >= 0xE000).then(|| part(from.max(0xE000), to)).flatten();
    ClassUnicode::new(below.into_iter().chain(above))
}

/// A Unicode group by RE2's name: a general category, a script, or `Any`.
fn group(name: &str) -> Option<ClassUnicode> {
    match name {
        "Any" => Some(range(0, 0x10_FFFF)),
        // Without the unassigned ones, and without surrogates.
        "C" => {
            let mut all = table("gc", "Cc")?;
            all.union(&table("gc", "Cf")?);
            all.union(&table("gc", "Co")?);
            Some(all)
        }
        "Cs" => Some(ClassUnicode::empty()),
        _ if CATEGORIES.contains(&name) => table("gc", name),
        // Rust takes scripts in any case and by their codes, RE2 only in their proper spelling.
        _ if is_script_spelling(name) => table("sc", name),
        _ => None,
    }
}

fn is_script_spelling(name: &str) -> bool {
    let mut start = true;
    let word = |letter: char| {
        let fits = if start { letter.is_ascii_uppercase() } else { letter.is_ascii_lowercase() || letter == '_' };
        start = letter == '_';
        fits
    };
    name.len() > 1 && name.chars().all(word)
}

/// A table of `regex-syntax`, which shows them only through its parser. The name has been checked.
fn table(property: &str, name: &str) -> Option<ClassUnicode> {
    let hir = regex_syntax::parse(&format!("\\p{{{property}={name}}}")).ok()?;
    match hir.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class),
        _ => None,
    }
}
