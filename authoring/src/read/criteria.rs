//! Criteria on requests: those of a permission's `HTTP` (consul-policy §3.2), and those of limits.

use super::node::{Node, Object};
use portcullis_policy::{
    header_match::{HeaderMatch, HeaderTest},
    headers,
    model::PathMatch,
    problem::{Problem, Severity},
    regex::{BadPattern, Pattern},
};

const KEYS: [&str; 5] = ["pathexact", "pathprefix", "pathregex", "methods", "header"];
const HEADER_KEYS: [&str; 9] =
    ["name", "present", "exact", "prefix", "suffix", "contains", "regex", "ignorecase", "invert"];
/// Consul's list (consul-policy §3.2); others cannot be written there.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"];
/// What can be asked of, though it is no header (consul-policy §3.2).
const PSEUDO_HEADERS: [&str; 4] = [":path", ":method", ":authority", ":scheme"];

/// What a request must be like; nothing given is nothing asked.
pub(super) struct Criteria {
    pub(super) path: Option<PathMatch>,
    pub(super) methods: Vec<String>,
    pub(super) headers: Vec<HeaderMatch>,
}

/// Reads the criteria of an object. Each fault is a problem that says what comes of it (`scope`); `besides` are keys that
/// others read.
pub(super) fn read(
    object: &Object<'_>,
    node: &Node<'_>,
    besides: &[&str],
    scope: &str,
    problems: &mut Vec<Problem>,
) -> Criteria {
    let mut reader = Reader { scope, problems };
    reader.only(object, &[&KEYS, besides].concat());
    let path = reader.path(object, node);
    let methods = reader.methods(object);
    Criteria { path, methods, headers: reader.headers(object) }
}

struct Reader<'p> {
    scope: &'p str,
    problems: &'p mut Vec<Problem>,
}

impl Reader<'_> {
    fn fault(&mut self, node: &Node<'_>, what: &str, hint: &str) {
        self.problems.push(node.problem(Severity::Error, &format!("{what}; {}", self.scope), hint));
    }

    fn only(&mut self, object: &Object<'_>, known: &[&str]) {
        for node in object.unknown(known) {
            self.fault(&node, "this field is not enforced by this version", "remove it, or upgrade Portcullis");
        }
    }

    fn path(&mut self, object: &Object<'_>, node: &Node<'_>) -> Option<PathMatch> {
        let exact = self.literal(object, "pathexact").map(PathMatch::Exact);
        let prefix = self.literal(object, "pathprefix").map(PathMatch::Prefix);
        let regex = object.filled("pathregex").and_then(|it| self.pattern(&it, Pattern::compile_path));
        let regex = regex.map(PathMatch::Regex);
        if ["pathexact", "pathprefix", "pathregex"].iter().filter(|key| object.filled(key).is_some()).count() > 1 {
            self.fault(node, "at most one path criterion is possible", "");
        }
        exact.or(prefix).or(regex)
    }

    fn literal(&mut self, object: &Object<'_>, key: &str) -> Option<String> {
        let node = object.filled(key)?;
        let path = node.text().filter(|path| path.starts_with('/'));
        if path.is_none() {
            self.fault(&node, "the path must begin with `/`", "");
        }
        path.map(str::to_owned)
    }

    /// Consul stores any text; a proxy that cannot compile it keeps its old rules (consul-policy §3.4).
    fn pattern(&mut self, node: &Node<'_>, compile: fn(&str) -> Result<Pattern, BadPattern>) -> Option<Pattern> {
        let Some(text) = node.text() else {
            self.fault(node, "a regex must be a text", "");
            return None;
        };
        match compile(text) {
            Ok(pattern) => Some(pattern),
            Err(why) => {
                self.fault(node, &format!("the regex cannot be used: {why}"), "the syntax is RE2's");
                None
            }
        }
    }

    fn methods(&mut self, object: &Object<'_>) -> Vec<String> {
        let Some(node) = object.filled("methods") else { return Vec::new() };
        let Some(texts) = node.texts() else {
            self.fault(&node, "Methods must be a list of names", "");
            return Vec::new();
        };
        let methods: Vec<_> = texts.iter().map(|text| text.to_ascii_uppercase()).collect();
        for method in &methods {
            if !METHODS.contains(&method.as_str()) {
                let what = format!("unknown method `{method}`");
                self.fault(&node, &what, &format!("known are {}", METHODS.join(" ")));
            }
        }
        methods
    }

    fn headers(&mut self, object: &Object<'_>) -> Vec<HeaderMatch> {
        let Some(node) = object.filled("header") else { return Vec::new() };
        let Some(list) = node.try_list() else {
            self.fault(&node, "Header must be a list", "");
            return Vec::new();
        };
        list.iter().filter_map(|it| self.header(it)).collect()
    }

    fn header(&mut self, node: &Node<'_>) -> Option<HeaderMatch> {
        let Some(object) = node.try_object() else {
            self.fault(node, "an object was expected here", "");
            return None;
        };
        let seen = self.problems.len();
        self.only(&object, &HEADER_KEYS);
        let name = object.filled("name").and_then(|it| it.text()).map(str::to_ascii_lowercase).unwrap_or_default();
        if !headers::is_token(&name) && !PSEUDO_HEADERS.contains(&name.as_str()) {
            self.fault(node, "the header criterion has no Name of a header", "");
        }
        let present = self.flag(&object, "present");
        let (ignore_case, invert) = (self.flag(&object, "ignorecase"), self.flag(&object, "invert"));
        let mut tests = Vec::new();
        if present {
            tests.push(HeaderTest::Present);
        }
        let mut read = |key: &str, kind: fn(String) -> HeaderTest| {
            let Some(value) = object.filled(key) else { return };
            match value.text() {
                Some(text) => tests.push(kind(text.to_owned())),
                None => self.fault(&value, "a header's value must be a text", ""),
            }
        };
        read("exact", HeaderTest::Exact);
        read("prefix", HeaderTest::Prefix);
        read("suffix", HeaderTest::Suffix);
        read("contains", HeaderTest::Contains);
        if let Some(regex) = object.filled("regex") {
            tests.extend(self.pattern(&regex, Pattern::compile).map(HeaderTest::Regex));
        }
        let test = match <[HeaderTest; 1]>::try_from(tests) {
            Ok([test]) => Some(test),
            Err(_) if self.problems.len() > seen => None,
            Err(_) => {
                let what = "a header criterion has exactly one of Present, Exact, Prefix, Suffix, Contains and Regex";
                self.fault(node, what, "");
                None
            }
        };
        if ignore_case && matches!(test, Some(HeaderTest::Present | HeaderTest::Regex(_))) {
            let what = "IgnoreCase goes with Exact, Prefix, Suffix and Contains only";
            self.fault(node, what, "write (?i) into a regex");
        }
        (self.problems.len() == seen).then_some(())?;
        Some(HeaderMatch { name, test: test?, ignore_case, invert })
    }

    fn flag(&mut self, object: &Object<'_>, key: &str) -> bool {
        let Some(node) = object.filled(key) else { return false };
        node.truth().unwrap_or_else(|| {
            self.fault(&node, "true or false was expected here", "");
            false
        })
    }
}
