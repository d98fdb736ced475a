//! `Permissions` of a source (consul-policy §3.2).

use super::{
    intention::{not_enforced, read_action},
    mode::Modes,
    node::{Node, Object},
    requirement,
};
use portcullis_policy::{
    header_match::{HeaderMatch, HeaderTest},
    headers,
    model::{Mode, PathMatch, Permission, ServiceName, WILDCARD},
    problem::{Problem, Severity},
    regex::{BadPattern, Pattern},
};

const PERMISSION_KEYS: [&str; 4] = ["action", "http", "jwt", "mode"];
const HTTP_KEYS: [&str; 5] = ["pathexact", "pathprefix", "pathregex", "methods", "header"];
const HEADER_KEYS: [&str; 9] =
    ["name", "present", "exact", "prefix", "suffix", "contains", "regex", "ignorecase", "invert"];
/// Consul's list (consul-policy §3.2); others cannot be written there.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"];
/// What can be asked of, though it is no header (consul-policy §3.2).
const PSEUDO_HEADERS: [&str; 4] = [":path", ":method", ":authority", ":scheme"];

/// Reads the list; `None` (with a problem) when any of it cannot be read.
pub(super) fn read_list(
    node: &Node<'_>,
    destination: &ServiceName,
    modes: &Modes<'_>,
    part: &str,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Permission>> {
    if destination.name == WILDCARD {
        problems.push(denied(
            node,
            "Permissions are not possible on a wildcard destination",
            "name the destination, or use Action",
        ));
        return None;
    }
    let Some(list) = node.try_list() else {
        problems.push(denied(node, "Permissions must be a list", ""));
        return None;
    };
    // Every one is read, so that all problems are reported at once.
    let read = |(index, it)| read_permission(it, modes, &format!("{part}/permissions/{index}"), problems);
    let permissions: Vec<_> = list.iter().enumerate().map(read).collect();
    permissions.into_iter().collect()
}

fn denied(node: &Node<'_>, what: &str, hint: &str) -> Problem {
    node.problem(Severity::Error, &format!("{what}; the source is denied"), hint)
}

fn read_permission(node: &Node<'_>, modes: &Modes<'_>, part: &str, problems: &mut Vec<Problem>) -> Option<Permission> {
    let object = object_of_source(node, problems)?;
    let seen = problems.len();
    problems.extend(object.unknown(&PERMISSION_KEYS).iter().map(not_enforced));
    let action = match object.filled("action") {
        Some(action) => read_action(&action, problems),
        None => {
            problems.push(denied(node, "the permission has no Action", ""));
            None
        }
    };
    let mode = modes.of(&object, part, Mode::Enforce, problems);
    let jwt = match object.filled("jwt") {
        None => Ok(None),
        Some(jwt) => requirement::read(&jwt, "the source", modes, &format!("{part}/jwt"), problems),
    };
    let Some(http) = object.filled("http") else {
        problems.push(no_criteria(node));
        return None;
    };
    let criteria = object_of_source(&http, problems)?;
    problems.extend(criteria.unknown(&HTTP_KEYS).iter().map(not_enforced));
    let path = read_path(&criteria, &http, problems);
    let methods = read_methods(&criteria, problems);
    let headers = read_headers(&criteria, problems);
    if path.is_none() && methods.is_empty() && headers.is_empty() && problems.len() == seen {
        // Consul's proxies would take it for "any request" (consul-policy §3.1).
        problems.push(no_criteria(&http));
    }
    let jwt = jwt.ok().filter(|_| problems.len() == seen)?;
    Some(Permission { action: action?, path, methods, headers, jwt, mode: mode? })
}

fn no_criteria(node: &Node<'_>) -> Problem {
    denied(
        node,
        "the permission has no HTTP criteria",
        "give a path, Methods or Header, or use Action on the source for all requests",
    )
}

fn object_of_source<'a>(node: &Node<'a>, problems: &mut Vec<Problem>) -> Option<Object<'a>> {
    let object = node.try_object();
    if object.is_none() {
        problems.push(denied(node, "an object was expected here", ""));
    }
    object
}

fn read_path(criteria: &Object<'_>, http: &Node<'_>, problems: &mut Vec<Problem>) -> Option<PathMatch> {
    let mut literal = |key: &str, kind: fn(String) -> PathMatch| {
        let node = criteria.filled(key)?;
        match node.text().filter(|path| path.starts_with('/')) {
            Some(path) => Some(kind(path.to_owned())),
            None => {
                problems.push(denied(&node, "the path must begin with `/`", ""));
                None
            }
        }
    };
    let (exact, prefix) = (literal("pathexact", PathMatch::Exact), literal("pathprefix", PathMatch::Prefix));
    let regex = criteria.filled("pathregex").and_then(|it| read_pattern(&it, Pattern::compile_path, problems));
    let regex = regex.map(PathMatch::Regex);
    if ["pathexact", "pathprefix", "pathregex"].iter().filter(|key| criteria.filled(key).is_some()).count() > 1 {
        problems.push(denied(http, "at most one path criterion is possible", ""));
    }
    exact.or(prefix).or(regex)
}

/// Consul stores any text; a proxy that cannot compile it keeps its old rules (consul-policy §3.4).
fn read_pattern(
    node: &Node<'_>,
    compile: fn(&str) -> Result<Pattern, BadPattern>,
    problems: &mut Vec<Problem>,
) -> Option<Pattern> {
    let Some(text) = node.text() else {
        problems.push(denied(node, "a regex must be a text", ""));
        return None;
    };
    match compile(text) {
        Ok(pattern) => Some(pattern),
        Err(why) => {
            problems.push(denied(node, &format!("the regex cannot be used: {why}"), "the syntax is RE2's"));
            None
        }
    }
}

fn read_methods(criteria: &Object<'_>, problems: &mut Vec<Problem>) -> Vec<String> {
    let Some(node) = criteria.filled("methods") else { return Vec::new() };
    let Some(texts) = node.texts() else {
        problems.push(denied(&node, "Methods must be a list of names", ""));
        return Vec::new();
    };
    let methods: Vec<_> = texts.iter().map(|text| text.to_ascii_uppercase()).collect();
    for method in &methods {
        if !METHODS.contains(&method.as_str()) {
            let what = format!("unknown method `{method}`");
            problems.push(denied(&node, &what, &format!("known are {}", METHODS.join(" "))));
        }
    }
    methods
}

fn read_headers(criteria: &Object<'_>, problems: &mut Vec<Problem>) -> Vec<HeaderMatch> {
    let Some(node) = criteria.filled("header") else { return Vec::new() };
    let Some(list) = node.try_list() else {
        problems.push(denied(&node, "Header must be a list", ""));
        return Vec::new();
    };
    list.iter().filter_map(|it| read_header(it, problems)).collect()
}

fn read_header(node: &Node<'_>, problems: &mut Vec<Problem>) -> Option<HeaderMatch> {
    let object = object_of_source(node, problems)?;
    let seen = problems.len();
    problems.extend(object.unknown(&HEADER_KEYS).iter().map(not_enforced));
    let name = object.filled("name").and_then(|it| it.text()).map(str::to_ascii_lowercase).unwrap_or_default();
    if !headers::is_token(&name) && !PSEUDO_HEADERS.contains(&name.as_str()) {
        problems.push(denied(node, "the header criterion has no Name of a header", ""));
    }
    let present = flag(&object, "present", problems);
    let (ignore_case, invert) = (flag(&object, "ignorecase", problems), flag(&object, "invert", problems));
    let mut tests = Vec::new();
    if present {
        tests.push(HeaderTest::Present);
    }
    let mut read = |key: &str, kind: fn(String) -> HeaderTest| {
        let Some(value) = object.filled(key) else { return };
        match value.text() {
            Some(text) => tests.push(kind(text.to_owned())),
            None => problems.push(denied(&value, "a header's value must be a text", "")),
        }
    };
    read("exact", HeaderTest::Exact);
    read("prefix", HeaderTest::Prefix);
    read("suffix", HeaderTest::Suffix);
    read("contains", HeaderTest::Contains);
    if let Some(regex) = object.filled("regex") {
        tests.extend(read_pattern(&regex, Pattern::compile, problems).map(HeaderTest::Regex));
    }
    let test = match <[HeaderTest; 1]>::try_from(tests) {
        Ok([test]) => Some(test),
        Err(_) if problems.len() > seen => None,
        Err(_) => {
            let what = "a header criterion has exactly one of Present, Exact, Prefix, Suffix, Contains and Regex";
            problems.push(denied(node, what, ""));
            None
        }
    };
    if ignore_case && matches!(test, Some(HeaderTest::Present | HeaderTest::Regex(_))) {
        let what = "IgnoreCase goes with Exact, Prefix, Suffix and Contains only";
        problems.push(denied(node, what, "write (?i) into a regex"));
    }
    (problems.len() == seen).then_some(())?;
    Some(HeaderMatch { name, test: test?, ignore_case, invert })
}

fn flag(object: &Object<'_>, key: &str, problems: &mut Vec<Problem>) -> bool {
    match object.filled(key) {
        None => false,
        Some(node) => node.truth().unwrap_or_else(|| {
            problems.push(denied(&node, "true or false was expected here", ""));
            false
        }),
    }
}
