//! A JSON value with its place, and objects whose keys are folded.

use serde_json::{Map, Value};

use portcullis_policy::problem::{Problem, Severity};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    value: &'a Value,
    place: String,
}

/// An object whose keys are compared without letter case, underscores and hyphens.
#[derive(Debug)]
pub(super) struct Object<'a> {
    map: &'a Map<String, Value>,
    place: String,
}

/// A key or kind without what differs between Consul's JSON, HCL and CRDs.
pub(super) fn fold(key: &str) -> String {
    key.chars().filter(|it| *it != '_' && *it != '-').map(|it| it.to_ascii_lowercase()).collect()
}

impl<'a> Node<'a> {
    pub(super) fn new(value: &'a Value, place: String) -> Self {
        Self { value, place }
    }

    pub(super) fn problem(&self, severity: Severity, what: &str, hint: &str) -> Problem {
        Problem {
            severity,
            at: self.place.trim_end_matches(": ").to_owned(),
            what: what.to_owned(),
            hint: hint.to_owned(),
        }
    }

    /// The value as an object; anything else is fatal, since what it was meant to say is not known.
    pub(super) fn object(&self, problems: &mut Vec<Problem>) -> Option<Object<'a>> {
        let object = self.try_object();
        if object.is_none() {
            problems.push(self.problem(Severity::Fatal, "an object was expected here", ""));
        }
        object
    }

    pub(super) fn try_object(&self) -> Option<Object<'a>> {
        self.value.as_object().map(|map| Object { map, place: self.place.clone() })
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    /// A truth value, or its word.
    pub(super) fn truth(&self) -> Option<bool> {
        match self.value {
            Value::Bool(truth) => Some(*truth),
            Value::String(word) => match word.as_str() {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// The value itself.
    #[cfg(feature = "full")]
    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    /// Consul writes empty lists as `null`; an absent value and an empty one are the same.
    pub(super) fn is_empty(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// The elements of a list; nothing when it is none. Use [`Self::try_list`] where that matters.
    pub(super) fn list(&self) -> Vec<Node<'a>> {
        self.try_list().unwrap_or_default()
    }

    pub(super) fn try_list(&self) -> Option<Vec<Node<'a>>> {
        match self.value {
            Value::Null => Some(Vec::new()),
            Value::Array(list) => {
                let node = |(index, value)| Node::new(value, format!("{}[{index}]", self.place));
                Some(list.iter().enumerate().map(node).collect())
            }
            _ => None,
        }
    }

    /// A list of texts; a single text is split at commas, which is how Traefik's providers may hand a list to a plugin.
    pub(super) fn texts(&self) -> Option<Vec<&'a str>> {
        if let Some(text) = self.text() {
            return Some(text.split(',').map(str::trim).filter(|it| !it.is_empty()).collect());
        }
        self.try_list()?.iter().map(Node::text).collect()
    }
}

impl<'a> Object<'a> {
    /// The value of a key, given in its folded spelling. Two spellings of one key in one object: none of them counts
    /// ([`Self::unknown`] reports them).
    pub(super) fn get(&self, folded: &str) -> Option<Node<'a>> {
        let mut found = self.map.iter().filter(|(key, _)| fold(key) == folded);
        let (key, value) = found.next()?;
        if found.next().is_some() {
            return None;
        }
        Some(Node::new(value, self.join(key)))
    }

    /// The value of a key unless it is empty.
    pub(super) fn filled(&self, folded: &str) -> Option<Node<'a>> {
        self.get(folded).filter(|node| !node.is_empty())
    }

    /// Keys that carry something and are not among the known ones, and keys that stand there twice in different spellings.
    pub(super) fn unknown(&self, known: &[&str]) -> Vec<Node<'a>> {
        let twice = |folded: &str| self.map.keys().filter(|key| fold(key) == folded).count() > 1;
        self.map
            .iter()
            .map(|(key, value)| (fold(key), Node::new(value, self.join(key))))
            .filter(|(folded, node)| twice(folded) || (!known.contains(&folded.as_str()) && !node.is_empty()))
            .map(|(_, node)| node)
            .collect()
    }

    fn join(&self, key: &str) -> String {
        let separator = if self.place.ends_with(' ') || self.place.is_empty() { "" } else { "." };
        format!("{}{separator}{key}", self.place)
    }
}
