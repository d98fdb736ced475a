//! Pairs of v3 as one tree, in the spelling of Traefik's file provider: known keys, values of their types, and names that
//! are themselves only.

use serde_json::{Map, Value, json};

use super::{
    Problem, is_name,
    rule::Rule,
    schema::{self, Kind, Node},
    value::{go_bool, is_duration, is_header, is_network, list, regex_fault},
};

/// Reads pairs of key (below the prefix) and value, or says what is wrong with each that cannot be read.
///
/// A boolean in place of a structure gives the empty structure for `true`, and `false` for `false`, which switches it off.
pub fn read<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Map<String, Value>, Vec<Problem>> {
    let mut tree = Map::new();
    let mut problems = Vec::new();
    for (key, value) in pairs {
        if let Err((what, hint)) = insert(&mut tree, key, value.trim()) {
            problems.push(Problem::new(key, what, hint));
        }
    }
    if problems.is_empty() { Ok(tree) } else { Err(problems) }
}

type Refusal = (String, &'static str);

const DOCS: &str = "see docs/reference/annotations.md for the keys";

fn insert(tree: &mut Map<String, Value>, key: &str, text: &str) -> Result<(), Refusal> {
    let mut node = schema::root();
    let mut at = tree;
    let mut segments = key.split('.').peekable();
    while let Some(segment) = segments.next() {
        let (name, index) = indexed(segment);
        let parent = node;
        let unknown = || ("Traefik v3 has no such key".to_owned(), DOCS);
        node = parent.child(name).ok_or_else(unknown)?;
        if node.is_indexed != index.is_some() {
            return Err((
                format!("{segment} is written {}", if node.is_indexed { "with an index" } else { "without one" }),
                DOCS,
            ));
        }
        let name = spelling(parent, node, segment, at)?;
        if node.kind == Kind::Any {
            // A plugin's own settings: nobody but the plugin knows them.
            let rest: Vec<_> = segments.collect();
            return put(at, &name, json!({ rest.join("."): text }));
        }
        if segments.peek().is_none() {
            return put(at, &name, value(node, text)?);
        }
        if !node.is_level() {
            return Err(unknown());
        }
        let below = at.entry(name).or_insert_with(|| Value::Object(Map::new()));
        at = below.as_object_mut().ok_or((TWICE.to_owned(), KEEP_ONE))?;
    }
    Ok(())
}

const TWICE: &str = "the key stands there twice";
const KEEP_ONE: &str = "keep one of them";

/// The node's own spelling; for a name of the author's choice the one that was used before, which must be this one.
fn spelling(parent: &Node, node: &Node, segment: &str, at: &Map<String, Value>) -> Result<String, Refusal> {
    if node.is_indexed {
        return Ok(segment.to_ascii_lowercase());
    }
    if !node.is_chosen() {
        return Ok(node.name.to_owned());
    }
    let is_header_map = node.kind == Kind::HeaderText;
    if !(if is_header_map { is_header(segment) } else { is_name(segment) }) {
        return Err((format!("{segment:?} is no name"), "use only A-Z a-z 0-9 _ -"));
    }
    // Traefik folds two spellings into one object and takes the name of either.
    if at.keys().any(|other| other != segment && other.eq_ignore_ascii_case(segment)) {
        let of = parent.name.trim_end_matches('s');
        return Err((format!("{of} {segment} is spelled in two ways"), "spell it in one way"));
    }
    Ok(segment.to_owned())
}

/// `name[7]` as name and index.
fn indexed(segment: &str) -> (&str, Option<u8>) {
    let parts = segment.strip_suffix(']').and_then(|rest| rest.split_once('['));
    match parts.and_then(|(name, index)| Some((name, index.parse().ok()?))) {
        Some((name, index)) => (name, Some(index)),
        None => (segment, None),
    }
}

fn put(at: &mut Map<String, Value>, name: &str, value: Value) -> Result<(), Refusal> {
    match (at.get_mut(name), value) {
        (None, value) => {
            at.insert(name.to_owned(), value);
        }
        (Some(there), value) if *there == value => {}
        // `tls=true` beside `tls.options=…`, and a plugin's settings one by one.
        (Some(Value::Object(there)), Value::Object(more)) => {
            for (key, value) in more {
                put(there, &key, value)?;
            }
        }
        _ => return Err((TWICE.to_owned(), KEEP_ONE)),
    }
    Ok(())
}

fn value(node: &Node, text: &str) -> Result<Value, Refusal> {
    let refuse = |what: &str, hint: &'static str| Err((format!("{text:?} is no {what}"), hint));
    let items = || list(text);
    let all = |fits: fn(&str) -> bool, what: &str, hint: &'static str| match items().iter().find(|item| !fits(item)) {
        Some(item) => Err((format!("{item:?} is no {what}"), hint)),
        None => Ok(()),
    };
    match node.kind {
        Kind::Group => return Err(("the key takes no value, only keys below it".to_owned(), DOCS)),
        // What a boolean does to a structure that Traefik lets be empty.
        Kind::Open => return Ok(if boolean(text)? { json!({}) } else { json!(false) }),
        Kind::Bool => return Ok(json!(boolean(text)?)),
        Kind::Int | Kind::Count => {
            return match text.parse::<i64>() {
                Ok(number) if node.kind == Kind::Int || number >= 0 => Ok(json!(number)),
                Ok(_) => refuse("number from 0", "write 0 or more"),
                Err(_) => refuse("integer", "write an integer"),
            };
        }
        Kind::Duration if !is_duration(text) => return refuse("duration", "write seconds, or 1m30s"),
        // A bare number is seconds in a tag, and a text in the file must say so.
        Kind::Duration if text.bytes().all(|byte| byte.is_ascii_digit()) => return Ok(json!(format!("{text}s"))),
        Kind::HttpRule | Kind::TcpRule if text.is_empty() => {
            return Err(("the rule is empty".to_owned(), "add traefik.http.routers.<name>.rule"));
        }
        Kind::HttpRule => drop(Rule::http(text).map_err(|what| (what, "see Traefik v3's rules and priorities"))?),
        Kind::TcpRule => drop(Rule::tcp(text).map_err(|what| (what, "see Traefik v3's TCP rules"))?),
        Kind::Names if items().is_empty() => {
            return Err(("no entry point is named".to_owned(), "name them, or leave the key out"));
        }
        Kind::Reference if !is_reference(text) => return refuse("name", "write name or name@provider"),
        Kind::References => all(is_reference, "name", "write name or name@provider")?,
        Kind::Regex => {
            if let Some(fault) = regex_fault(text) {
                return Err((format!("{text:?} is no regex: {fault}"), "write a Go regex"));
            }
        }
        Kind::Regexes => all(|item| regex_fault(item).is_none(), "regex", "a comma ends a regex here, even in {1,2}")?,
        Kind::Networks => all(is_network, "address and no network", "write 192.0.2.1 or 192.0.2.0/24")?,
        Kind::Path if !text.starts_with('/') => return refuse("path", "begin it with /"),
        Kind::Header if !is_header(text) => return refuse("header", "write one header's name"),
        Kind::Headers => all(is_header, "header", "write names of headers")?,
        Kind::Statuses => all(is_status, "status", "write 404 or 500-599")?,
        Kind::One(words) if !words.split(' ').any(|word| word.eq_ignore_ascii_case(text)) => {
            return Err((format!("{text:?} is not one of {}", words.replace(' ', ", ")), "write one of them"));
        }
        Kind::One(_) => return Ok(json!(text.to_ascii_lowercase())),
        _ => {}
    }
    if text.contains(|character: char| character.is_control() && character != '\t') && node.kind != Kind::HttpRule {
        return Err(("the value holds a control character".to_owned(), "write it in one line"));
    }
    Ok(match node.kind {
        Kind::List
        | Kind::Names
        | Kind::References
        | Kind::Regexes
        | Kind::Networks
        | Kind::Headers
        | Kind::Statuses => {
            json!(items())
        }
        _ => json!(text),
    })
}

fn boolean(text: &str) -> Result<bool, Refusal> {
    go_bool(text).ok_or_else(|| (format!("{text:?} is no boolean"), "write true or false"))
}

fn is_reference(text: &str) -> bool {
    let (name, provider) = text.split_once('@').unwrap_or((text, "file"));
    is_name(provider) && !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'@')
}

fn is_status(text: &str) -> bool {
    let code = |text: &str| text.len() == 3 && text.parse::<u16>().is_ok_and(|code| (100..600).contains(&code));
    text.split_once('-').map_or_else(|| code(text), |(from, to)| code(from) && code(to) && from <= to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(pairs: &[(&str, &str)]) -> String {
        read(pairs.iter().copied()).unwrap_err()[0].what.clone()
    }

    #[test]
    fn pairs_become_the_tree_of_the_file_provider() {
        let tree = read([
            ("HTTP.routers.Web.entrypoints", "a, b,"),
            ("http.routers.Web.rule", "Host(`a`)"),
            ("http.routers.Web.tls", "true"),
            ("http.routers.Web.tls.domains[0].main", "a"),
            ("http.middlewares.m.ratelimit.period", "10"),
            ("http.middlewares.h.headers.customrequestheaders.X-A", ""),
            ("http.services.s.loadbalancer.sticky.cookie", "1"),
            ("http.services.s.loadbalancer.healthcheck.interval", "1m"),
        ])
        .unwrap();
        assert_eq!(
            Value::Object(tree)["http"],
            json!({
                "routers": {"Web": {
                    "entryPoints": ["a", "b"], "rule": "Host(`a`)", "tls": {"domains[0]": {"main": "a"}},
                }},
                "middlewares": {
                    "m": {"rateLimit": {"period": "10s"}},
                    "h": {"headers": {"customRequestHeaders": {"X-A": ""}}},
                },
                "services": {"s": {"loadBalancer": {"sticky": {"cookie": {}}, "healthCheck": {"interval": "1m"}}}},
            })
        );
    }

    #[test]
    fn a_key_or_value_that_traefik_would_stumble_over_is_refused() {
        for (key, value, what) in [
            ("http.routers.x.rul", "a", "no such key"),
            ("http", "true", "takes no value"),
            ("http.", "x", "no such key"),
            ("http.routers..rule", "Host(`a`)", "no name"),
            ("http.routers.x.rule.y", "a", "no such key"),
            ("http.routers.x.rule", " ", "empty"),
            ("http.routers.x.priority", "9.5", "no integer"),
            ("http.routers.x.tls.domains.main", "a", "with an index"),
            ("http.middlewares.m.stripprefixregex.regex", "a{1,2}b(", "no regex"),
            ("http.middlewares.m.ratelimit.sourcecriterion.ipstrategy", "true", "takes no value"),
            ("http.middlewares.m.ipallowlist.sourcerange", "192.0.2.0/24,here", "\"here\""),
            ("http.middlewares.m.headers.customrequestheaders.X A", "b", "no name"),
            ("http.services.s.loadbalancer.strategy", "drr", "not one of"),
            ("http.middlewares.m.errors.status", "4xx", "no status"),
            ("http.middlewares.m.addprefix.prefix", "/a\u{0}", "control character"),
        ] {
            let found = refused(&[(key, value)]);
            assert!(found.contains(what), "{key}: {found}");
        }
        assert!(refused(&[("http.routers.x.tls", "true"), ("http.routers.X.tls", "true")]).contains("two ways"));
        assert!(refused(&[("enable", "true"), ("ENABLE", "false")]).contains("twice"));
    }
}
