//! The rules of routers in v3's syntax: read, checked as far as Traefik's own answer is known, and written.
//!
//! Traefik reads a rule as a Go expression: calls of matchers with texts, `&&`, `||`, `!` and parentheses. What is refused
//! here puts the router in error there, or would be read in another way than it looks. Regexes are looked at as far as
//! [`super::value::regex_fault`] goes.

use std::fmt;

use super::value::{is_network, regex_fault};

/// Longest rule that is read.
pub const MAX_BYTES: usize = 16 * 1024;
/// Deepest nesting that is read, so that hostile text cannot exhaust the stack.
const MAX_DEPTH: usize = 64;

/// A rule, which prints as Traefik reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Both sides.
    And(Box<Rule>, Box<Rule>),
    /// Either side.
    Or(Box<Rule>, Box<Rule>),
    /// Not this.
    Not(Box<Rule>),
    /// One matcher with its values.
    Match(&'static str, Vec<String>),
}

/// Which matchers there are: name, fewest and most values.
type Matchers = &'static [(&'static str, usize, usize)];

const HTTP: Matchers = &[
    ("ClientIP", 1, 1),
    ("Header", 2, 2),
    ("HeaderRegexp", 2, 2),
    ("Host", 1, 1),
    ("HostRegexp", 1, 1),
    ("Method", 1, 1),
    ("Path", 1, 1),
    ("PathPrefix", 1, 1),
    ("PathRegexp", 1, 1),
    ("Query", 1, 2),
    ("QueryRegexp", 1, 2),
];
const TCP: Matchers = &[("ALPN", 1, 1), ("ClientIP", 1, 1), ("HostSNI", 1, 1), ("HostSNIRegexp", 1, 1)];

impl Rule {
    /// Reads the rule of an HTTP router, or says what is wrong with it.
    pub fn http(text: &str) -> Result<Self, String> {
        read(text, HTTP)
    }

    /// Reads the rule of a TCP router.
    pub fn tcp(text: &str) -> Result<Self, String> {
        read(text, TCP)
    }

    /// A matcher with one value.
    pub(super) fn one(matcher: &'static str, value: impl Into<String>) -> Self {
        Self::Match(matcher, vec![value.into()])
    }

    /// Both.
    pub(super) fn and(self, other: Self) -> Self {
        Self::And(Box::new(self), Box::new(other))
    }

    /// Either.
    pub(super) fn or(self, other: Self) -> Self {
        Self::Or(Box::new(self), Box::new(other))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `&&` binds closer than `||`; both are read from the left.
        match self {
            Self::And(left, right) => {
                grouped(f, left, matches!(**left, Self::Or(..)))?;
                f.write_str(" && ")?;
                grouped(f, right, matches!(**right, Self::Or(..) | Self::And(..)))
            }
            Self::Or(left, right) => {
                grouped(f, left, false)?;
                f.write_str(" || ")?;
                grouped(f, right, matches!(**right, Self::Or(..)))
            }
            Self::Not(rule) => {
                f.write_str("!")?;
                grouped(f, rule, matches!(**rule, Self::Or(..) | Self::And(..)))
            }
            Self::Match(name, values) => {
                write!(f, "{name}(")?;
                for (index, value) in values.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { ", " })?;
                    // Go's raw texts cannot hold a backtick, and lose carriage returns.
                    if value.contains(['`', '\r']) {
                        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
                        write!(f, "\"{}\"", quoted.replace('\n', "\\n").replace('\r', "\\r"))?;
                    } else {
                        write!(f, "`{value}`")?;
                    }
                }
                f.write_str(")")
            }
        }
    }
}

fn grouped(f: &mut fmt::Formatter<'_>, rule: &Rule, is_grouped: bool) -> fmt::Result {
    if is_grouped { write!(f, "({rule})") } else { write!(f, "{rule}") }
}

fn read(text: &str, matchers: Matchers) -> Result<Rule, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("the rule is longer than {MAX_BYTES} bytes"));
    }
    let mut reader = Reader { rest: text.trim(), matchers, depth: 0 };
    let rule = reader.either()?;
    if reader.rest.is_empty() { Ok(rule) } else { Err(format!("{} is not understood", shown(reader.rest))) }
}

struct Reader<'a> {
    rest: &'a str,
    matchers: Matchers,
    depth: usize,
}

impl Reader<'_> {
    fn either(&mut self) -> Result<Rule, String> {
        let mut rule = self.both()?;
        while self.take("||") {
            rule = rule.or(self.both()?);
        }
        Ok(rule)
    }

    fn both(&mut self) -> Result<Rule, String> {
        let mut rule = self.single()?;
        while self.take("&&") {
            rule = rule.and(self.single()?);
        }
        Ok(rule)
    }

    fn single(&mut self) -> Result<Rule, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("the rule is nested too deeply".to_owned());
        }
        let rule = if self.take("!") {
            Rule::Not(Box::new(self.single()?))
        } else if self.take("(") {
            let rule = self.either()?;
            if !self.take(")") {
                return Err(format!("a parenthesis is not closed at {}", shown(self.rest)));
            }
            rule
        } else {
            self.matcher()?
        };
        self.depth -= 1;
        Ok(rule)
    }

    fn matcher(&mut self) -> Result<Rule, String> {
        let end = self.rest.find(|character: char| !character.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let Some((name, fewest, most)) = self.matchers.iter().find(|(name, ..)| spells(name, word)) else {
            return Err(format!("there is no matcher {}", shown(if word.is_empty() { self.rest } else { word })));
        };
        self.rest = rest;
        if !self.take("(") {
            return Err(format!("{name} has no value"));
        }
        let mut values = Vec::new();
        while !self.take(")") {
            values.push(self.value(name)?);
            if !self.take(",") {
                if self.take(")") {
                    break;
                }
                return Err(format!("the values of {name} are not closed at {}", shown(self.rest)));
            }
        }
        if !(*fewest..=*most).contains(&values.len()) {
            return Err(format!("{name} has {} values; write one matcher for each, joined by ||", values.len()));
        }
        check(name, &values)?;
        Ok(Rule::Match(name, values))
    }

    /// One Go text: raw between backticks, or quoted with escapes.
    fn value(&mut self, matcher: &str) -> Result<String, String> {
        let unclosed = || format!("a text of {matcher} is not closed");
        if let Some(rest) = self.rest.strip_prefix('`') {
            let (value, rest) = rest.split_once('`').ok_or_else(unclosed)?;
            self.rest = rest;
            return Ok(value.replace('\r', ""));
        }
        let Some(rest) = self.rest.strip_prefix('"') else {
            return Err(format!("the value of {matcher} is no text in backticks or quotes"));
        };
        let mut value = String::new();
        let mut characters = rest.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.rest = &rest[at + 1..];
                    return Ok(value);
                }
                '\n' => return Err(unclosed()),
                '\\' => match characters.next().map(|(_, escaped)| escaped) {
                    Some(escaped @ ('\\' | '"')) => value.push(escaped),
                    Some('n') => value.push('\n'),
                    Some('r') => value.push('\r'),
                    Some('t') => value.push('\t'),
                    _ => return Err(format!("an escape in {matcher} is not known; use backticks")),
                },
                other => value.push(other),
            }
        }
        Err(unclosed())
    }

    /// Takes this sign and the blanks around it. A line that ends behind a value or a parenthesis ends the rule for Go,
    /// so line breaks are blanks only after a sign that asks for more.
    fn take(&mut self, sign: &str) -> bool {
        let blank = |character: char| character == ' ' || character == '\t';
        let Some(rest) = self.rest.trim_start_matches(blank).strip_prefix(sign) else { return false };
        let asks = sign != ")";
        self.rest = rest.trim_start_matches(|character| blank(character) || asks && matches!(character, '\n' | '\r'));
        true
    }
}

/// Traefik also knows a matcher all in lower case, all in upper case, and with one capital.
fn spells(name: &str, word: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let title = || lower.get(..1).map(str::to_ascii_uppercase).unwrap_or_default() + lower.get(1..).unwrap_or_default();
    word == name || word == lower || word == name.to_ascii_uppercase() || word == title()
}

/// What Traefik asks of the values of a matcher when it builds the router.
fn check(matcher: &str, values: &[String]) -> Result<(), String> {
    if values.iter().any(String::is_empty) {
        return Err(format!("a value of {matcher} is empty"));
    }
    let last = values.last().map_or("", String::as_str);
    match matcher {
        "Host" | "HostSNI" if !last.is_ascii() => {
            return Err(format!("{matcher} takes ASCII only: write {last:?} as browsers send it, xn--…"));
        }
        "Path" | "PathPrefix" if !last.starts_with('/') => return Err(format!("{last:?} does not begin with /")),
        "ClientIP" if !is_network(last) => return Err(format!("{last:?} is no address and no network")),
        "HostRegexp" | "HostSNIRegexp" | "PathRegexp" | "HeaderRegexp" | "QueryRegexp" => {
            if let Some(fault) = regex_fault(last) {
                return Err(format!("{last:?} is no regex: {fault}"));
            }
        }
        _ => {}
    }
    Ok(())
}

/// The beginning of a text, for messages.
fn shown(text: &str) -> String {
    if text.is_empty() {
        return "the end".to_owned();
    }
    format!("{:?}", text.chars().take(24).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_prints_as_it_is_read() {
        for (text, printed) in [
            ("Host(`a`)", "Host(`a`)"),
            (" HOST(\"a\")  ||host( `b` )&&Path(`/c`)", "Host(`a`) || Host(`b`) && Path(`/c`)"),
            ("(Host(`a`) || Host(`b`)) && !Path(`/c`)", "(Host(`a`) || Host(`b`)) && !Path(`/c`)"),
            ("Host(`a`) &&\n  !(Method(`GET`) && Query(`a`))", "Host(`a`) && !(Method(`GET`) && Query(`a`))"),
            ("Header(`A`, \"`\\\\\\\"\")", "Header(`A`, \"`\\\\\\\"\")"),
            ("Pathprefix(`/a`,)", "PathPrefix(`/a`)"),
            ("Query(`a`, `b`) || QueryRegexp(`a`)", "Query(`a`, `b`) || QueryRegexp(`a`)"),
        ] {
            let rule = Rule::http(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(rule.to_string(), printed);
            assert_eq!(Rule::http(printed).unwrap(), rule);
        }
    }

    #[test]
    fn what_puts_a_router_in_error_is_refused() {
        let deep = "!".repeat(100) + "Host(`a`)";
        for text in [
            "",
            "Host",
            "Host()",
            "Host(``)",
            "Host('a')",
            "Host(`a`, `b`)",
            "Host(`a`) Host(`b`)",
            "Host(`a`) |",
            "Host(`ä`)",
            "Path(`a`)",
            "PathRegexp(`(`)",
            "ClientIP(`1.2.3`)",
            "Headers(`a`, `b`)",
            "Header(`a`)",
            "(Host(`a`)",
            "Host(`a`))",
            "Host(`a",
            "Host(\"a\\x\")",
            "hOST(`a`)",
            "Host(`a`)\n&& Path(`/`)",
            "HostSNI(`a`)",
            "Host(`a`) && ",
            &deep,
        ] {
            assert!(Rule::http(text).is_err(), "{text}");
        }
        assert!(Rule::tcp("HostSNI(`*`)").is_ok() && Rule::tcp("Host(`a`)").is_err());
        assert!(Rule::http(&format!("Host(`{}`)", "a".repeat(MAX_BYTES))).is_err());
    }
}
