//! What the sync has to say about authored input: one [`Note`] per bad value, never a retry and never silence.

use std::fmt;

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The service is not synced or not exposed.
    Error,
    /// A default is used instead, or a part is left out; the rest works.
    Warning,
}

/// One finding about one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Note {
    /// `namespace/name` of the Kubernetes Service, or the Consul service name for findings about routes.
    pub object: String,
    /// The annotation, field or tag it is about.
    pub key: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong and what is done instead.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}; {}", self.object, self.key, self.what, self.hint)
    }
}

/// The notes of one object while it is judged.
#[derive(Debug)]
pub(super) struct Notes {
    object: String,
    list: Vec<Note>,
}

impl Notes {
    pub(super) fn new(object: &impl ToString) -> Self {
        Self { object: object.to_string(), list: Vec::new() }
    }

    pub(super) fn warn(&mut self, key: &str, what: impl Into<String>, hint: &str) {
        self.push(Severity::Warning, key, what.into(), hint);
    }

    pub(super) fn error(&mut self, key: &str, what: impl Into<String>, hint: &str) {
        self.push(Severity::Error, key, what.into(), hint);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn into_list(self) -> Vec<Note> {
        self.list
    }

    fn push(&mut self, severity: Severity, key: &str, what: String, hint: &str) {
        let (object, key, hint) = (self.object.clone(), key.to_owned(), hint.to_owned());
        self.list.push(Note { object, key, severity, what, hint });
    }
}
