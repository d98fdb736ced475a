//! L7: the first permission whose HTTP criteria match ends it; none: the default (consul-policy §3.1).
//!
//! Where a request has no single reading (an ambiguous path, a header in an alias spelling, an overridden method), a deny
//! matches and an allow does not. An allow that was passed over for that reason turns a default of allow into a deny, and
//! what it demands besides is demanded all the same: under one of the readings the request is its.

use std::borrow::Cow;

use super::{Outcome, View, Walk};
use crate::{
    explain::{Observer, Step},
    header_match::{HeaderMatch, Held, Pseudo, matches_path},
    headers::Headers,
    method::{self, MethodDoubt},
    model::{Action, Mode, PathMatch, Permission},
    path::Ambiguous,
    snapshot::{ReadAt, SnapshotError, record::IntentionRecord},
};

/// What about a request has several readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// Its path.
    Path(Ambiguous),
    /// Its path holds escapes whose letters a pattern tells apart by case.
    Spelling,
    /// A header that a rule speaks of, by its name.
    Header(String),
    /// Its method.
    Method(MethodDoubt),
}

/// How a permission's criteria meet a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// Its methods do not hold the request's.
    pub not_method: bool,
    /// Its path criterion does not hold.
    pub not_path: bool,
    /// The header criteria that do not hold, by their place. When nobody watches, the first only.
    pub not_headers: Vec<usize>,
    /// The first criterion that cannot be judged for sure.
    pub doubt: Option<Doubt>,
}

impl Match {
    /// Whether a criterion fails for sure.
    pub fn fails(&self) -> bool {
        self.not_method || self.not_path || !self.not_headers.is_empty()
    }

    /// Whether all criteria hold for sure.
    pub fn is_sure(&self) -> bool {
        !self.fails() && self.doubt.is_none()
    }
}

impl Doubt {
    /// The name of the rule that refuses such a request: what it is about.
    fn rule(&self) -> &'static str {
        match self {
            Self::Path(_) | Self::Spelling => "path",
            Self::Header(_) => "header",
            Self::Method(_) => "method",
        }
    }

    /// Why, in words.
    pub fn reason(&self) -> Cow<'static, str> {
        match self {
            Self::Path(why) => Cow::Owned(why.to_string()),
            Self::Spelling => Cow::Borrowed("the pattern tells the cases of hexadecimal digits apart"),
            Self::Header(name) => Cow::Owned(format!("the header {name} has several readings")),
            Self::Method(why) => Cow::Owned(why.to_string()),
        }
    }
}

/// What of the request the criteria look at.
pub(super) struct Seen<'s> {
    method: Result<&'s str, MethodDoubt>,
    path: Result<&'s str, Ambiguous>,
    headers: &'s dyn Headers,
    pseudo: Pseudo<'s>,
}

impl<R: ReadAt, O: Observer> Walk<'_, R, O> {
    pub(super) fn apply_permissions(
        &mut self,
        intention: &IntentionRecord,
        permissions: &[Permission],
    ) -> Result<Outcome, SnapshotError> {
        self.check_tokens(intention, permissions)?;
        let matches = self.matches(permissions);
        let mut passed_over = None;
        for (index, (permission, matched)) in permissions.iter().zip(matches).enumerate() {
            self.observer.step(Step::Permission { index, permission, matched: &matched });
            if permission.mode == Mode::Off || matched.fails() {
                continue;
            }
            let rule = permission_rule(&intention.rule, index);
            if permission.mode == Mode::Shadow {
                self.shadow.note(permission.action, &rule);
                self.shadow.suspends_default = true;
                continue;
            }
            match (permission.action, matched.doubt) {
                (Action::Deny, None) => {
                    return Ok(Outcome::deny(rule, "the permission denies this request"));
                }
                (Action::Deny, Some(doubt)) => return Ok(Outcome::doubt(rule, doubt.reason())),
                (Action::Allow, None) => {
                    let allowed = Outcome::by_rule(Action::Allow, rule, "the permission allows this request");
                    let allowed = self.require(permission.jwt.as_ref(), allowed)?;
                    return self.require_for_entry(intention, allowed);
                }
                (Action::Allow, Some(doubt)) => {
                    let demanded = Outcome::by_rule(Action::Allow, rule, "");
                    let demanded = self.require(permission.jwt.as_ref(), demanded)?;
                    if demanded.action == Action::Deny {
                        return Ok(demanded);
                    }
                    passed_over.get_or_insert(doubt);
                }
            }
        }
        if let Some(doubt) = passed_over {
            return Ok(Outcome::doubt(doubt.rule().to_owned(), doubt.reason()));
        }
        let default = self.default("no permission of the intention matches");
        self.require_for_entry(intention, default)
    }

    /// The entry's requirement holds for each of its sources; an outcome that denies needs nothing more.
    fn require_for_entry(&mut self, intention: &IntentionRecord, outcome: Outcome) -> Result<Outcome, SnapshotError> {
        match (outcome.action, &intention.jwt) {
            (Action::Allow, Some(requirement)) => self.require(Some(requirement), outcome),
            (Action::Allow, None) | (Action::Deny, _) => Ok(outcome),
        }
    }

    /// Checks all tokens before rules on headers are asked: rules do not see what a checked token takes out.
    fn check_tokens(&mut self, intention: &IntentionRecord, permissions: &[Permission]) -> Result<(), SnapshotError> {
        if permissions.iter().all(|it| it.headers.is_empty()) {
            return Ok(());
        }
        let requirements = permissions.iter().filter_map(|it| it.jwt.as_ref()).chain(&intention.jwt);
        for alternative in requirements.filter(|it| it.mode != Mode::Off).flat_map(|it| &it.providers) {
            self.tokens.check(&alternative.provider)?;
        }
        Ok(())
    }

    /// How each permission meets the request. When nobody watches, only up to the first that is sure to end it.
    fn matches(&self, permissions: &[Permission]) -> Vec<Match> {
        let view = self.view();
        let seen = self.seen(&view, permissions.iter().any(|it| !it.methods.is_empty()));
        let thorough = self.observer.is_thorough();
        let mut found = Vec::with_capacity(permissions.len());
        for permission in permissions {
            let matched = meet(&permission.methods, permission.path.as_ref(), &permission.headers, &seen, thorough);
            let ends = matched.is_sure() && permission.mode == Mode::Enforce;
            found.push(matched);
            if ends {
                break;
            }
        }
        found
    }

    /// The request for criteria; what its method is costs something, so it is said whether any asks.
    pub(super) fn seen<'s>(&'s self, view: &'s View<'_>, by_method: bool) -> Seen<'s> {
        let method = self.request.method;
        Seen {
            method: if by_method { method::effective(method, view, self.uri) } else { Ok(method) },
            path: self.path.as_ref().map(|it| it.path.as_ref()).map_err(|why| *why),
            headers: view,
            pseudo: view.pseudo(),
        }
    }
}

/// Holds each criterion of a permission or a limit against the request.
pub(super) fn meet(
    methods: &[String],
    path: Option<&PathMatch>,
    headers: &[HeaderMatch],
    seen: &Seen<'_>,
    thorough: bool,
) -> Match {
    let mut met = Match::default();
    if !methods.is_empty() {
        match &seen.method {
            Ok(method) => met.not_method = !methods.iter().any(|it| it == method),
            Err(why) => met.doubt = Some(Doubt::Method(*why)),
        }
    }
    if met.fails() && !thorough {
        return met;
    }
    if let Some(criterion) = path {
        match seen.path {
            Ok(path) => match covers(criterion, path) {
                Held::Yes => {}
                Held::No => met.not_path = true,
                Held::Doubt => met.doubt = Some(Doubt::Spelling),
            },
            Err(why) => met.doubt = Some(Doubt::Path(why)),
        }
    }
    for (index, header) in headers.iter().enumerate() {
        if met.fails() && !thorough {
            return met;
        }
        match header.holds(seen.headers, &seen.pseudo) {
            Held::Yes => {}
            Held::No => met.not_headers.push(index),
            Held::Doubt => {
                met.doubt.get_or_insert_with(|| Doubt::Header(header.name.clone()));
            }
        }
    }
    met
}

fn covers(criterion: &PathMatch, path: &str) -> Held {
    match criterion {
        PathMatch::Exact(want) => (path == want).into(),
        PathMatch::Prefix(want) => path.starts_with(want.as_str()).into(),
        PathMatch::Regex(pattern) => matches_path(pattern, path),
    }
}

/// `<rule>/permissions/<index>`, without the formatting machinery for one digit: every request that L7 decides asks for it.
fn permission_rule(rule: &str, index: usize) -> String {
    let mut name = String::with_capacity(rule.len() + 20);
    name.push_str(rule);
    name.push_str("/permissions/");
    match u32::try_from(index).ok().and_then(|index| char::from_digit(index, 10)) {
        Some(digit) => name.push(digit),
        None => name.push_str(&index.to_string()),
    }
    name
}
