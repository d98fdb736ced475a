//! Watching a decision being made: the steps, and an observer that writes them down in words.

use crate::{
    candidates::{Candidate, Name},
    decide::{Decision, Match},
    identity::Caller,
    model::{Action, PathMatch, ServiceName},
    snapshot::record::{Body, IntentionRecord, PermissionRecord},
};

/// One step of [`crate::decide_observed`].
#[derive(Debug)]
pub enum Step<'a> {
    /// The caller is known.
    Identified(&'a Caller<'a>),
    /// One place where an intention could be was looked at.
    Candidate {
        /// Where.
        candidate: Candidate<'a>,
        /// What was there.
        found: Option<&'a IntentionRecord>,
    },
    /// One permission of the intention was tried.
    Permission {
        /// Its place in the list, from 0.
        index: usize,
        /// The permission.
        permission: &'a PermissionRecord,
        /// How it met the request.
        matched: Match,
    },
    /// The end.
    Decided(&'a Decision),
}

/// Something that is shown each step. `()` looks away, at no cost.
pub trait Observer {
    /// Takes one step in.
    fn step(&mut self, step: Step<'_>);
}

impl Observer for () {
    fn step(&mut self, _: Step<'_>) {}
}

/// Writes the steps down, one line each.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// The lines, in order.
    pub lines: Vec<String>,
}

impl Observer for Transcript {
    fn step(&mut self, step: Step<'_>) {
        self.lines.push(match step {
            Step::Identified(Caller::Anonymous) => "caller: anonymous, no credential was presented".to_owned(),
            Step::Identified(Caller::Service(name)) => format!("caller: service {name}"),
            Step::Candidate { candidate, found } => {
                let (source, destination) = (spell(candidate.source), spell(candidate.destination));
                let outcome =
                    found.map_or_else(|| "none".to_owned(), |it| format!("{} ({})", it.rule, summary(&it.body)));
                format!("intention {source} -> {destination} (precedence {}): {outcome}", candidate.precedence)
            }
            Step::Permission { index, permission, matched } => {
                format!("permission {index} ({}): {}", criteria(permission), outcome(matched))
            }
            Step::Decided(decision) => {
                format!("{} by {}: {}", decision.verdict.as_str(), decision.rule, decision.reason)
            }
        });
    }
}

fn spell(name: Name<'_>) -> String {
    let Name { partition, namespace, name } = name;
    ServiceName { partition: partition.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }.to_string()
}

fn summary(body: &Body) -> String {
    match body {
        Body::Action(action) => action.as_str().to_owned(),
        Body::Permissions(permissions) if permissions.len() == 1 => "1 permission".to_owned(),
        Body::Permissions(permissions) => format!("{} permissions", permissions.len()),
        Body::Broken => "could not be read, denies".to_owned(),
    }
}

fn criteria(permission: &PermissionRecord) -> String {
    let path = match &permission.path {
        Some(PathMatch::Exact(path)) => format!(" path {path}"),
        Some(PathMatch::Prefix(path)) => format!(" path {path}*"),
        None => String::new(),
    };
    let methods = if permission.methods.is_empty() { "any method".to_owned() } else { permission.methods.join(",") };
    let action = match permission.action {
        Action::Allow => "allow",
        Action::Deny => "deny",
    };
    format!("{action} {methods}{path}")
}

fn outcome(matched: Match) -> &'static str {
    match matched {
        Match::Yes => "matches",
        Match::OnDoubt => "matches, because the path is ambiguous",
        Match::NotMethod => "no, another method",
        Match::NotPath => "no, another path",
        Match::PassedOver => "no, the path is ambiguous and an allow needs a clear one",
    }
}
