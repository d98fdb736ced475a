//! Watching a decision being made: the steps, an observer that writes them down in words, and what would have changed it.

mod alternatives;
mod words;

pub use self::alternatives::alternatives;
use crate::{
    candidates::Candidate,
    decide::{Applied, Decision, Match},
    identity::Caller,
    limit::rule::Limit,
    model::{Permission, Requirement},
    snapshot::record::IntentionRecord,
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
        permission: &'a Permission,
        /// How it met the request.
        matched: &'a Match,
    },
    /// The tokens that a rule asks for were looked at.
    Requirement {
        /// What it asks for.
        requirement: &'a Requirement,
        /// Why it is not met; `None` when it is.
        unmet: Option<&'a str>,
    },
    /// One limit of an allowed request was looked at.
    Limit {
        /// The limit.
        limit: &'a Limit,
        /// What it has to do with the request.
        applied: &'a Applied,
    },
    /// The end.
    Decided(&'a Decision),
}

/// Something that is shown each step. `()` looks away, at no cost.
pub trait Observer {
    /// Takes one step in.
    fn step(&mut self, step: Step<'_>);

    /// Whether to hold every criterion against the request, where the first that fails would do for the verdict.
    fn is_thorough(&self) -> bool {
        false
    }
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
        self.lines.push(words::step(&step));
    }

    fn is_thorough(&self) -> bool {
        true
    }
}
