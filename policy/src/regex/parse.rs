//! RE2's syntax, read into the representation that `regex-automata` compiles.
//!
//! The parser keeps its own stack of groups and never calls itself, so depth costs no stack here; [`MAX_DEPTH`] bounds
//! what it hands on. Whether an operator is greedy and what a group captures is read and forgotten: only whether the
//! whole text matches is ever asked.

use regex_syntax::hir::{Hir, Look, Repetition};

use super::{
    BadPattern,
    class::{self, Set},
    cursor::Cursor,
    escapes,
};

/// Deepest nesting of groups and repetitions.
const MAX_DEPTH: u32 = 100;
/// RE2's bound on a count, and on the product of counts that are nested.
const MAX_REPEAT: u32 = 1000;

/// What `(?ims)` switches. `U` changes only greediness.
#[derive(Clone, Copy, Default)]
struct Flags {
    fold_case: bool,
    multi_line: bool,
    dot_matches_newline: bool,
}

/// A piece of the pattern, with what RE2 and we bound.
struct Piece {
    hir: Hir,
    /// The largest product of nested counts in it.
    repeats: u32,
    depth: u32,
}

/// A group that is open, or the pattern itself.
struct Group {
    /// What held before it.
    outer: Flags,
    /// Finished alternatives.
    branches: Vec<Piece>,
    /// Of the current alternative.
    pieces: Vec<Piece>,
}

/// What a pattern will be asked about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// Any text.
    Text,
    /// Canonical paths, which are ASCII, with their escapes in upper case. Classes without what no path holds make
    /// automata of a tenth of the size.
    Path,
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    subject: Subject,
    flags: Flags,
    /// Where the group that is being read hangs in.
    outer: Vec<Group>,
    group: Group,
}

/// Reads a pattern.
pub(super) fn parse(text: &str, subject: Subject) -> Result<Hir, BadPattern> {
    let (flags, cursor) = (Flags::default(), Cursor::new(text));
    let mut parser = Parser { cursor, subject, flags, outer: Vec::new(), group: Group::new(flags) };
    parser.run()?;
    if !parser.outer.is_empty() {
        return Err(parser.cursor.error("a `(` without its `)`"));
    }
    parser.end_branch();
    Ok(parser.group.join().hir)
}

// === impl Piece ===

impl Piece {
    fn new(hir: Hir) -> Self {
        Self { hir, repeats: 1, depth: 1 }
    }

    /// Several pieces as one.
    fn join(pieces: Vec<Self>, join: fn(Vec<Hir>) -> Hir) -> Self {
        let repeats = pieces.iter().map(|it| it.repeats).max().unwrap_or(1);
        let depth = pieces.iter().map(|it| it.depth).max().unwrap_or(1);
        Self { hir: join(pieces.into_iter().map(|it| it.hir).collect()), repeats, depth }
    }
}

// === impl Group ===

impl Group {
    fn new(outer: Flags) -> Self {
        Self { outer, branches: Vec::new(), pieces: Vec::new() }
    }

    /// The finished alternatives as one piece.
    fn join(self) -> Piece {
        Piece::join(self.branches, Hir::alternation)
    }
}

// === impl Parser ===

impl Parser<'_> {
    fn run(&mut self) -> Result<(), BadPattern> {
        // RE2 refuses `a**`, in which Perl users see something else.
        let mut repeated = false;
        loop {
            let token = self.cursor;
            let Some(next) = self.cursor.next() else { return Ok(()) };
            let bounds = match next {
                '*' => Some((0, None)),
                '+' => Some((1, None)),
                '?' => Some((0, Some(1))),
                '{' => self.bounds(),
                _ => None,
            };
            if let Some((min, max)) = bounds {
                if repeated {
                    return Err(token.error("a repetition of a repetition"));
                }
                self.cursor.eat("?");
                self.repeat(token, min, max)?;
                repeated = true;
                continue;
            }
            repeated = false;
            match next {
                '(' => self.open(token)?,
                ')' => self.close(token)?,
                '|' => self.end_branch(),
                '^' => self.push(Hir::look(if self.flags.multi_line { Look::StartLF } else { Look::Start })),
                '$' => self.push(Hir::look(if self.flags.multi_line { Look::EndLF } else { Look::End })),
                '.' => self.class(class::dot(self.flags.dot_matches_newline)),
                '[' => {
                    let set = Set::bracketed(&mut self.cursor, self.flags.fold_case)?;
                    self.class(set);
                }
                '\\' => self.escape(token)?,
                literal => self.literal(u32::from(literal)),
            }
        }
    }

    fn push(&mut self, hir: Hir) {
        self.group.pieces.push(Piece::new(hir));
    }

    fn class(&mut self, set: Set) {
        self.push(Hir::class(match self.subject {
            Subject::Text => set.into_class(),
            Subject::Path => set.into_ascii(),
        }));
    }

    fn literal(&mut self, code: u32) {
        self.class(Set::one(code, self.flags.fold_case));
    }

    fn end_branch(&mut self) {
        let mut pieces = std::mem::take(&mut self.group.pieces);
        if self.subject == Subject::Path {
            escapes::fold(pieces.iter_mut().map(|piece| &mut piece.hir));
        }
        self.group.branches.push(Piece::join(pieces, Hir::concat));
    }

    /// After a backslash.
    fn escape(&mut self, token: Cursor<'_>) -> Result<(), BadPattern> {
        let mut set = Set::new(self.flags.fold_case);
        let mut whole = token;
        if set.eat_escape(&mut whole)? {
            let read = whole.at();
            while self.cursor.at() < read {
                self.cursor.next();
            }
            self.class(set);
            return Ok(());
        }
        match self.cursor.peek() {
            Some('A') => self.look(Look::Start),
            Some('z') => self.look(Look::End),
            Some('b') => self.look(Look::WordAscii),
            Some('B') => self.look(Look::WordAsciiNegate),
            Some('C') => return Err(token.error("`\\C`, a single byte, is not supported")),
            Some('Q') => {
                self.cursor.next();
                while !self.cursor.eat("\\E") {
                    let Some(literal) = self.cursor.next() else { break };
                    self.literal(u32::from(literal));
                }
            }
            _ => {
                let code = self.cursor.escape()?;
                self.literal(code);
            }
        }
        Ok(())
    }

    /// A letter that stands for a place between characters.
    fn look(&mut self, look: Look) {
        self.cursor.next();
        self.push(Hir::look(look));
    }

    /// `(`, `(?:`, `(?flags:`, `(?flags)`, `(?P<name>`, `(?<name>`.
    fn open(&mut self, token: Cursor<'_>) -> Result<(), BadPattern> {
        let inside = self.flags;
        if self.cursor.eat("?") {
            let name = if self.cursor.eat("P<") {
                true
            } else if ["<=", "<!", "=", "!"].iter().any(|look| self.cursor.rest().starts_with(look)) {
                return Err(token.error("look-around, which RE2 does not have,"));
            } else {
                self.cursor.eat("<")
            };
            if name {
                let name = self.cursor.until(">").unwrap_or_default();
                if name.is_empty() || !name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_') {
                    return Err(token.error("a group whose name is not of letters, digits and `_`"));
                }
            } else if !self.switches(token)? {
                return Ok(());
            }
        }
        let outer = std::mem::replace(&mut self.group, Group::new(inside));
        self.outer.push(outer);
        if self.outer.len() > MAX_DEPTH as usize {
            return Err(token.error("too many groups within groups"));
        }
        Ok(())
    }

    /// The flags up to `:` (true: a group begins) or `)` (false: they hold for the rest of the current one).
    fn switches(&mut self, token: Cursor<'_>) -> Result<bool, BadPattern> {
        let mut flags = self.flags;
        let (mut on, mut seen) = (true, true);
        let opens = loop {
            match self.cursor.next() {
                Some('i') => flags.fold_case = on,
                Some('m') => flags.multi_line = on,
                Some('s') => flags.dot_matches_newline = on,
                Some('U') => {}
                Some('-') if on => {
                    (on, seen) = (false, false);
                    continue;
                }
                Some(end @ (':' | ')')) if seen => break end == ':',
                _ => return Err(token.error("a `(?` that RE2 does not know")),
            }
            seen = true;
        };
        self.flags = flags;
        Ok(opens)
    }

    fn close(&mut self, token: Cursor<'_>) -> Result<(), BadPattern> {
        let Some(outer) = self.outer.pop() else { return Err(token.error("a `)` without its `(`")) };
        self.end_branch();
        let group = std::mem::replace(&mut self.group, outer);
        self.flags = group.outer;
        let mut piece = group.join();
        piece.depth += 1;
        self.add(token, piece)
    }

    /// The last piece again and again.
    fn repeat(&mut self, token: Cursor<'_>, min: u32, max: Option<u32>) -> Result<(), BadPattern> {
        let Some(piece) = self.group.pieces.pop() else { return Err(token.error("a repetition of nothing")) };
        let count = max.unwrap_or(min).max(1);
        if max.is_some_and(|max| max < min) {
            return Err(token.error("a count whose end is below its beginning"));
        }
        let repeats = piece.repeats.saturating_mul(count);
        if min > MAX_REPEAT || repeats > MAX_REPEAT {
            return Err(token.error("a count above 1000 (nested counts multiply)"));
        }
        let sub = Box::new(piece.hir);
        let hir = Hir::repetition(Repetition { min, max, greedy: true, sub });
        self.add(token, Piece { hir, repeats, depth: piece.depth + 1 })
    }

    fn add(&mut self, token: Cursor<'_>, piece: Piece) -> Result<(), BadPattern> {
        if piece.depth > MAX_DEPTH {
            return Err(token.error("too many groups within groups"));
        }
        self.group.pieces.push(piece);
        Ok(())
    }

    /// `n}`, `n,}` or `n,m}` after `{`. Anything else makes of the `{` a character.
    fn bounds(&mut self) -> Option<(u32, Option<u32>)> {
        let mut ahead = self.cursor;
        let min = number(&mut ahead)?;
        let max = if !ahead.eat(",") {
            Some(min)
        } else if ahead.peek() == Some('}') {
            None
        } else {
            Some(number(&mut ahead)?)
        };
        if !ahead.eat("}") {
            return None;
        }
        self.cursor = ahead;
        Some((min, max))
    }
}

/// A number as RE2 reads it: without leading zeros, and with ten digits or more it is none.
fn number(cursor: &mut Cursor<'_>) -> Option<u32> {
    let rest = cursor.rest();
    let len = rest.bytes().take_while(u8::is_ascii_digit).count();
    let digits = rest.get(..len).filter(|it| it.len() < 10 && (*it == "0" || !it.starts_with('0')))?;
    cursor.eat(digits);
    digits.parse().ok()
}
