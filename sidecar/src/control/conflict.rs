//! Two sources that speak of the same thing: what the one that does not count would have refused.

use std::{collections::BTreeSet, fmt};

use portcullis_authoring::read;
use portcullis_policy::{
    Policy, PolicySettings, Problem, Severity,
    model::{Action, Intention, SourceRule},
};

use crate::documents::Document;

/// An entry that does not count, since another source has one about the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Kind and name.
    pub about: String,
    /// The source whose entry counts.
    pub winner: String,
    /// The source whose entry does not.
    pub loser: String,
    /// What is lost with it.
    pub hides: Hides,
}

/// What a hidden entry would have refused and the one that counts does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hides {
    /// Callers that it denies, wholly or for some requests.
    pub denies: BTreeSet<String>,
    /// Whether it asks for a token, a limit or another identity.
    pub more: bool,
}

/// Callers that are named in a line.
const NAMED: usize = 3;

// === impl Hides ===

impl Hides {
    /// What the second ones say beyond the first ones; `None` when both mean the same.
    pub(super) fn of(first: &[Document], second: &[Document]) -> Option<Self> {
        let (first, second) = (meaning(first), meaning(second));
        if first == second {
            return None;
        }
        let before: BTreeSet<_> = first.intentions.iter().flat_map(denied).collect();
        let denies = second.intentions.iter().flat_map(denied).filter(|it| !before.contains(it)).collect();
        let tokens = |policy: &Policy| policy.intentions.iter().any(asks_for_tokens);
        let more = (tokens(&second) && !tokens(&first)) || (second.limits != first.limits && !second.limits.is_empty());
        Some(Self { denies, more })
    }

    /// Whether the hidden entry was stricter, as far as that can be seen.
    pub fn is_stricter(&self) -> bool {
        self.more || !self.denies.is_empty()
    }
}

/// Problems are of no interest here: what cannot be read is broken, and so is its meaning.
fn meaning(documents: &[Document]) -> Policy {
    read::entries(documents, PolicySettings::default()).0
}

/// The callers that an entry denies anything to.
fn denied(intention: &Intention) -> Vec<String> {
    if intention.broken {
        return vec!["*".to_owned()];
    }
    let denies = |rule: &SourceRule| match rule {
        SourceRule::Action(action) => *action != Action::Allow,
        SourceRule::Broken => true,
        SourceRule::Permissions(list) => list.iter().any(|it| it.action != Action::Allow),
    };
    intention.sources.iter().filter(|it| denies(&it.rule)).map(|it| it.source.to_string()).collect()
}

fn asks_for_tokens(intention: &Intention) -> bool {
    let permissions = |rule: &SourceRule| match rule {
        SourceRule::Permissions(list) => list.iter().any(|it| it.jwt.is_some()),
        SourceRule::Action(_) | SourceRule::Broken => false,
    };
    intention.jwt.is_some() || intention.sources.iter().any(|it| permissions(&it.rule))
}

impl fmt::Display for Hides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<_> = self.denies.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
        match (named.is_empty(), self.more) {
            (true, false) => return Ok(()),
            (true, true) => return f.write_str("; that hides a requirement"),
            _ => {}
        }
        write!(f, "; that hides a deny of {}", named.join(", "))?;
        let others = self.denies.len() - named.len();
        if others > 0 {
            write!(f, " and {others} more")?;
        }
        if self.more { f.write_str(", and a requirement") } else { Ok(()) }
    }
}

// === impl Conflict ===

impl Conflict {
    /// As it is told. A warning, for nothing is refused because of it.
    pub fn problem(&self) -> Problem {
        Problem {
            severity: Severity::Warning,
            at: self.about.clone(),
            what: format!("{} says otherwise than {}, whose entry counts{}", self.loser, self.winner, self.hides),
            hint: "keep one of the two".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn hides(first: &Value, second: &Value) -> Option<String> {
        let entry = |sources: &Value| {
            let entry = json!({"Kind": "service-intentions", "Name": "a", "Sources": sources});
            vec![("p".to_owned(), entry)]
        };
        Hides::of(&entry(first), &entry(second)).map(|hides| hides.to_string())
    }

    #[test]
    fn denies_and_requirements_that_are_lost_are_named() {
        let allow = json!([{"Name": "x", "Action": "allow"}]);
        assert_eq!(hides(&allow, &allow), None);
        assert_eq!(hides(&allow, &json!([{"Name": "y", "Action": "allow"}])).unwrap(), "");
        let denies = json!([{"Name": "x", "Action": "deny"}, {"Name": "*", "Action": "deny"}]);
        assert_eq!(hides(&allow, &denies).unwrap(), "; that hides a deny of `*`, `x`");
        assert_eq!(hides(&denies, &allow).unwrap(), "");
        let part = json!([{"Name": "x", "Permissions": [{"Action": "deny", "HTTP": {"PathPrefix": "/a"}}]}]);
        assert_eq!(hides(&allow, &part).unwrap(), "; that hides a deny of `x`");
        let token = json!([{"Name": "x", "Permissions": [{"Action": "allow", "HTTP": {"PathPrefix": "/a"}, "JWT": {"Providers": [{"Name": "o"}]}}]}]);
        assert_eq!(hides(&allow, &token).unwrap(), "; that hides a requirement");
        // What cannot be read may have been a deny of anybody.
        assert_eq!(hides(&allow, &json!([])).unwrap(), "; that hides a deny of `*`");
    }
}
