//! What a walk ends with, before it is dressed as a [`Decision`].

use std::borrow::Cow;

use super::{ANONYMOUS, Challenge, Decision, Verdict};
use crate::{identity::Caller, model::Action};

/// See the module.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) action: Action,
    pub(super) rule: String,
    pub(super) reason: Cow<'static, str>,
    /// The default decided, no rule.
    by_default: bool,
    cause: Cause,
}

/// What a refusal is about, where it is not about the caller alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Caller,
    /// The request has no single reading, and that decided.
    Doubt,
    /// A token is missing or not valid.
    Token(Challenge),
    /// A valid token does not say what it should.
    Claims,
}

/// What the rules in shadow say.
#[derive(Debug, Default)]
pub(super) struct Shadow {
    /// The first of them that would have decided, and how.
    would: Option<(Action, String)>,
    /// One of them covers the request, so that the default does not deny it.
    pub(super) suspends_default: bool,
}

impl Shadow {
    /// Notes what a rule in shadow would have decided. The first is the one that would have counted.
    pub(super) fn note(&mut self, action: Action, rule: &str) {
        self.would.get_or_insert_with(|| (action, rule.to_owned()));
    }
}

impl Outcome {
    pub(super) fn by_rule(action: Action, rule: String, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { action, rule, reason: reason.into(), by_default: false, cause: Cause::Caller }
    }

    pub(super) fn deny(rule: String, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::by_rule(Action::Deny, rule, reason)
    }

    /// A refusal because the request could be read in several ways.
    pub(super) fn doubt(rule: String, reason: Cow<'static, str>) -> Self {
        Self { cause: Cause::Doubt, ..Self::deny(rule, reason) }
    }

    /// A refusal because of a token that is missing or not valid.
    pub(super) fn token(rule: String, reason: String, challenge: Challenge) -> Self {
        Self { cause: Cause::Token(challenge), ..Self::deny(rule, reason) }
    }

    /// A refusal because a valid token does not say what it should.
    pub(super) fn claims(rule: String, reason: String) -> Self {
        Self { cause: Cause::Claims, ..Self::deny(rule, reason) }
    }

    pub(super) fn default(action: Action, why: &'static str) -> Self {
        let reason = match action {
            Action::Allow => format!("{why}, and the default is allow"),
            Action::Deny => format!("{why}, and the default is deny"),
        };
        Self { by_default: true, ..Self::by_rule(action, "default".to_owned(), reason) }
    }

    pub(super) fn into_decision(mut self, caller: &Caller<'_>, shadow: Shadow) -> Decision {
        let mut would = shadow.would;
        if self.by_default && self.action == Action::Deny && shadow.suspends_default {
            // What covers the caller is in shadow: the default's deny is what would come of it.
            would.get_or_insert_with(|| (Action::Deny, self.rule.clone()));
            self.action = Action::Allow;
            self.reason = "a rule in shadow covers the request, so the default does not deny it".into();
        }
        let (verdict, status) = match (self.action, self.cause, caller) {
            (Action::Allow, ..) => (Verdict::Allow, 200),
            (Action::Deny, Cause::Doubt, _) => (Verdict::Deny, 400),
            (Action::Deny, Cause::Token(_), _) | (Action::Deny, Cause::Caller, Caller::Anonymous) => {
                (Verdict::Deny, 401)
            }
            (Action::Deny, Cause::Claims, _) | (Action::Deny, Cause::Caller, Caller::Service(_)) => {
                (Verdict::Deny, 403)
            }
        };
        let source = match caller {
            Caller::Anonymous => ANONYMOUS.to_owned(),
            Caller::Service(name) => name.spelled(),
        };
        let challenge = match self.cause {
            Cause::Token(challenge) => challenge,
            Cause::Caller | Cause::Doubt | Cause::Claims => Challenge::Credential,
        };
        let shadow = would.filter(|(action, _)| *action != self.action).map(|(_, rule)| rule);
        Decision {
            verdict,
            status,
            rule: self.rule,
            source,
            reason: self.reason,
            shadow,
            challenge,
            changes: Vec::new(),
            charges: Vec::new(),
        }
    }
}
