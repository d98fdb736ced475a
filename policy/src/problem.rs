//! What is wrong with something that a person wrote: where, what, and how to mend it.

use std::fmt;

/// How bad a [`Problem`] is, by what it does to the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is refused because of it.
    Warning,
    /// Its own scope (a source, a destination, a key) is denied.
    Error,
    /// Its scope is not known, so nothing new may be published: the last good policy stays in force.
    Fatal,
}

/// One thing wrong with authored input. All of them are collected, never the first only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where: the file and the path inside it, e.g. `db.yaml: Sources[0].Permissions[1].HTTP.PathExact`.
    pub at: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it; empty when there is nothing to say that `what` does not.
    pub hint: String,
}

impl Severity {
    /// `warning`, `error` or `fatal`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.severity.label(), self.at, self.what)?;
        if !self.hint.is_empty() {
            write!(f, " (hint: {})", self.hint)?;
        }
        Ok(())
    }
}
