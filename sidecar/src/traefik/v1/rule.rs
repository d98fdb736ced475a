//! `traefik.frontend.rule`: v1's text as a rule of v3 and the changes that v1's modifiers make to a request.
//!
//! `;` joins matchers that must all hold, `,` separates the values of one of which any may; pairs of headers and queries
//! must all hold. The grammar is read as loosely as v1 read it: runs of `:` are one, empty values do not count.

use super::pattern::{has_placeholder, regex};
use crate::traefik::{rule::Rule, value::regex_fault};

/// Longest text that is read.
const MAX_BYTES: usize = 8 * 1024;
/// A placeholder in a host ends at a dot, one in a path at a slash.
const HOST_PART: &str = "[^.]+";
const PATH_PART: &str = "[^/]+";

/// What a rule of v1 says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Frontend {
    /// Absent if the text holds modifiers only.
    pub(super) rule: Option<String>,
    /// Length of the text, v1's priority.
    pub(super) length: usize,
    pub(super) changes: Changes,
}

/// What v1's modifiers do, each at most once: the last one counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Longest first.
    pub(super) strip: Vec<String>,
    pub(super) strip_regex: Vec<String>,
    pub(super) add_prefix: Option<String>,
    pub(super) replace_path: Option<String>,
    pub(super) replace_path_regex: Option<(String, String)>,
}

/// Translates the text; the templates `.ServiceName` and `.Domain` are filled in.
pub(super) fn translate(text: &str, service: &str, domain: &str) -> Result<Frontend, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("the rule is longer than {MAX_BYTES} bytes"));
    }
    let text = render(text, service, domain)?;
    let mut found = Frontend { length: text.len(), ..Frontend::default() };
    let mut whole: Option<Rule> = None;
    for part in text.split(';').filter(|part| !part.trim().is_empty()) {
        let (name, values) = read(part)?;
        if let Some(rule) = matcher(name, &values)? {
            whole = Some(match whole {
                Some(before) => before.and(rule),
                None => rule,
            });
        }
        modifier(name, &values, &mut found.changes)?;
    }
    if whole.is_none() && found.changes == Changes::default() {
        return Err("the rule is empty".to_owned());
    }
    found.rule = whole.map(|rule| rule.to_string());
    Ok(found)
}

/// Go's template, of which only two names can be known here.
fn render(text: &str, service: &str, domain: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or("a template is not closed")?;
        out.push_str(before);
        match name.trim() {
            ".ServiceName" => out.push_str(service),
            ".Domain" if domain.is_empty() => {
                return Err("the default domain of Traefik v1 is not known; set traefikDomain".to_owned());
            }
            ".Domain" => out.push_str(domain),
            other => return Err(format!("the template {{{{{other}}}}} cannot be filled in")),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// `Name:a,b`.
fn read(part: &str) -> Result<(&str, Vec<String>), String> {
    let (name, rest) = part.split_once(':').ok_or_else(|| format!("{part:?} has no value"))?;
    let rest: Vec<_> = rest.split(':').filter(|piece| !piece.is_empty()).collect();
    let rest = rest.join(":");
    let values: Vec<_> =
        rest.split(',').filter(|value| !value.is_empty()).map(|value| value.trim().to_owned()).collect();
    if values.is_empty() || values.iter().any(String::is_empty) {
        return Err(format!("{part:?} has an empty value"));
    }
    Ok((name.trim(), values))
}

fn matcher(name: &str, values: &[String]) -> Result<Option<Rule>, String> {
    let any = |one: fn(&str) -> Result<Rule, String>| -> Result<Option<Rule>, String> {
        let rules = values.iter().map(|value| one(value)).collect::<Result<Vec<_>, _>>()?;
        Ok(rules.into_iter().reduce(Rule::or))
    };
    match name {
        "Host" => any(host),
        "HostRegexp" => {
            any(|value| Ok(Rule::one("HostRegexp", checked(format!("(?i)^{}$", regex(value, HOST_PART)?))?)))
        }
        "Path" | "PathStrip" | "PathStripRegex" => any(|value| path("Path", value, "$")),
        "PathPrefix" | "PathPrefixStrip" | "PathPrefixStripRegex" => any(|value| path("PathPrefix", value, "")),
        "Method" => any(|value| Ok(Rule::one("Method", value.to_ascii_uppercase()))),
        "Headers" => pairs(name, values, |key, value| Ok(two("Header", key, value.to_owned()))),
        "HeadersRegexp" => pairs(name, values, |key, value| Ok(two("HeaderRegexp", key, checked(value.to_owned())?))),
        "Query" => {
            let rules = values.iter().map(|pair| query(pair)).collect::<Result<Vec<_>, _>>()?;
            Ok(rules.into_iter().reduce(Rule::and))
        }
        "AddPrefix" | "ReplacePath" | "ReplacePathRegex" => Ok(None),
        other => Err(format!("Traefik v1 has no matcher {other:?}")),
    }
}

fn host(value: &str) -> Result<Rule, String> {
    // v1 compared the text; v3 reads a star as a wildcard, which would let more in, and browsers send xn--… only.
    if !value.is_ascii() || value.contains(['*', ':', '/', '{', '}', ' ']) {
        return Err(format!("{value:?} is no host that v1 could meet; write it as browsers send it"));
    }
    Ok(Rule::one("Host", value.to_ascii_lowercase()))
}

fn path(matcher: &'static str, value: &str, end: &str) -> Result<Rule, String> {
    if !value.starts_with('/') {
        return Err(format!("the path {value:?} does not begin with /"));
    }
    // v1 looked at the decoded path, v3 looks at one with its reserved characters still encoded.
    if value.contains(['%', '#']) || (value.contains('?') && !has_placeholder(value)) {
        return Err(format!("the path {value:?} holds a character that v1 and v3 read differently"));
    }
    if has_placeholder(value) {
        return Ok(Rule::one("PathRegexp", checked(format!("^{}{end}", regex(value, PATH_PART)?))?));
    }
    Ok(Rule::one(matcher, value))
}

fn query(pair: &str) -> Result<Rule, String> {
    let (key, value) = pair.split_once('=').ok_or_else(|| format!("the query {pair:?} is no key=value"))?;
    if key.is_empty() || value.contains('=') || has_placeholder(key) {
        return Err(format!("the query {pair:?} is no key=value"));
    }
    Ok(match value {
        "" => two("QueryRegexp", key, ".*".to_owned()),
        _ if has_placeholder(value) => two("QueryRegexp", key, checked(format!("^{}$", regex(value, ".*")?))?),
        _ => two("Query", key, value.to_owned()),
    })
}

fn two(matcher: &'static str, key: &str, value: String) -> Rule {
    Rule::Match(matcher, vec![key.to_owned(), value])
}

/// `K,v,K2,v2`, all of which must hold.
fn pairs(
    name: &str,
    values: &[String],
    one: impl Fn(&str, &str) -> Result<Rule, String>,
) -> Result<Option<Rule>, String> {
    if values.len() % 2 == 1 {
        return Err(format!("{name} needs pairs of a header and a value; a value cannot hold a comma"));
    }
    let rules = values.chunks_exact(2).map(|pair| one(&pair[0], &pair[1])).collect::<Result<Vec<_>, _>>()?;
    Ok(rules.into_iter().reduce(Rule::and))
}

fn checked(text: String) -> Result<String, String> {
    match regex_fault(&text) {
        None => Ok(text),
        Some(fault) => Err(format!("{text:?} is no regex: {fault}; a comma ends a value, even in {{1,2}}")),
    }
}

fn modifier(name: &str, values: &[String], changes: &mut Changes) -> Result<(), String> {
    let single = || match values {
        [value] if value.starts_with('/') => Ok(value.clone()),
        _ => Err(format!("{name} takes one path that begins with /")),
    };
    match name {
        "PathStrip" | "PathPrefixStrip" => {
            if let Some(value) = values.iter().find(|value| has_placeholder(value)) {
                return Err(format!("{name} strips {value:?} as it stands there; write {name}Regex"));
            }
            changes.strip = values.to_vec();
            // The first prefix that fits is stripped.
            changes.strip.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        }
        "PathStripRegex" | "PathPrefixStripRegex" => {
            let end = if name == "PathStripRegex" { "$" } else { "" };
            let regexes = values.iter().map(|value| Ok(format!("^{}{end}", regex(value, PATH_PART)?)));
            changes.strip_regex = regexes.collect::<Result<_, String>>()?;
        }
        "AddPrefix" => changes.add_prefix = Some(single()?),
        "ReplacePath" => changes.replace_path = Some(single()?),
        "ReplacePathRegex" => {
            let words: Vec<_> = values.iter().flat_map(|value| value.split(' ')).collect();
            let ([from, to], 1) = (words.as_slice(), values.len()) else {
                return Err(format!(
                    "{name} takes a regex and a replacement with one blank between them, without commas"
                ));
            };
            let (from, to) = (*from, *to);
            changes.replace_path_regex = Some((checked(from.to_owned())?, to.to_owned()));
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> String {
        let found = translate(text, "echo", "example.com").unwrap_or_else(|error| panic!("{text}: {error}"));
        let rule = found.rule.unwrap_or_default();
        if !rule.is_empty() {
            assert_eq!(Rule::http(&rule).unwrap().to_string(), rule);
        }
        rule
    }

    #[test]
    fn every_matcher_has_its_rule() {
        for (v1, v3) in [
            ("Host:Echo.example.com,b", "Host(`echo.example.com`) || Host(`b`)"),
            ("Host:{{ .ServiceName }}.{{.Domain}}", "Host(`echo.example.com`)"),
            ("Host:a,b;Method:get,POST", "(Host(`a`) || Host(`b`)) && (Method(`GET`) || Method(`POST`))"),
            ("HostRegexp:a.x,{v:b|c}.y", r"HostRegexp(`(?i)^a\.x$`) || HostRegexp(`(?i)^(?:b|c)\.y$`)"),
            ("Path:/a,/b/{v}/{n:[0-9]+}", "Path(`/a`) || PathRegexp(`^/b/[^/]+/[0-9]+$`)"),
            ("PathPrefix: /a ;; Host:x;", "PathPrefix(`/a`) && Host(`x`)"),
            ("PathPrefix:/a/{v}", "PathRegexp(`^/a/[^/]+`)"),
            ("PathStrip:/a", "Path(`/a`)"),
            ("PathPrefixStripRegex:/a/{v}", "PathRegexp(`^/a/[^/]+`)"),
            ("Headers:A,b,C,d", "Header(`A`, `b`) && Header(`C`, `d`)"),
            ("HeadersRegexp:A,^b`$", "HeaderRegexp(`A`, \"^b`$\")"),
            ("Query:k=v,l=,m={x:[0-9]+}", "Query(`k`, `v`) && QueryRegexp(`l`, `.*`) && QueryRegexp(`m`, `^[0-9]+$`)"),
            ("Headers:A,b::c:", "Header(`A`, `b:c`)"),
            ("AddPrefix:/x", ""),
        ] {
            assert_eq!(rule(v1), v3, "{v1}");
        }
    }

    #[test]
    fn modifiers_change_the_path_and_the_last_one_counts() {
        let found = translate("PathPrefixStrip:/a,/a/b;AddPrefix:/x;AddPrefix:/y", "", "").unwrap();
        assert_eq!(found.changes.strip, ["/a/b", "/a"]);
        assert_eq!(found.changes.add_prefix.as_deref(), Some("/y"));
        let found = translate("PathStripRegex:/a/{v};ReplacePathRegex:^/x{2}(.*) /y$1;ReplacePath:/z", "", "").unwrap();
        assert_eq!(found.changes.strip_regex, ["^/a/[^/]+$"]);
        assert_eq!(found.changes.replace_path_regex, Some(("^/x{2}(.*)".to_owned(), "/y$1".to_owned())));
        assert_eq!(found.changes.replace_path.as_deref(), Some("/z"));
    }

    #[test]
    fn what_v1_refused_or_cannot_be_said_in_v3_is_refused() {
        let long = "Host:".to_owned() + &"a".repeat(MAX_BYTES);
        for text in [
            "",
            ";",
            "Host",
            "Host:",
            "Host: ,a",
            "host:a",
            "Host:*.x",
            "Host:ä",
            "Path:a",
            "Path:/a%20b",
            "Headers:A",
            "Query:a",
            "Query:a=b=c",
            "PathPrefix:/{a",
            "HostRegexp:{a:(}",
            "PathPrefixStrip:/{a}",
            "AddPrefix:x",
            "ReplacePathRegex:a  b",
            "Host:{{getTag}}",
            "Host:{{.Domain}}",
            "Host:{{",
            "ReplacePathRegex:( a",
            "ReplacePathRegex:a{1,2} b",
            &long,
        ] {
            assert!(translate(text, "echo", "").is_err(), "{text}");
        }
    }
}
