//! The decision: one pure function of a snapshot and a request.
//!
//! ```text
//!  destination named? ──► credential holds? ──► destination readable? ──► first of the candidates that exists
//!        │ no: deny            │ no: 401              │ no: deny               │ action │ permissions │ none
//!                                                                             ▼        ▼             ▼
//!                                                                          decides   first match   default
//! ```
//!
//! Every branch that is not an explicit allow denies, and every verdict carries the name of the rule that made it.

use std::{borrow::Cow, rc::Rc};

use crate::{
    candidates::{Name, candidates},
    explain::{Observer, Step},
    identity::{Caller, Credential, Refusal, identify},
    model::{Action, DEFAULT_TENANCY, PathMatch, WILDCARD},
    path::{self, Ambiguous},
    snapshot::{
        ReadAt, Snapshot, SnapshotError,
        record::{Body, IntentionRecord, Key, PermissionRecord},
    },
};

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The Consul service that is called, in the default namespace and partition.
    pub destination: &'a str,
    /// HTTP method as sent; compared case-sensitively.
    pub method: &'a str,
    /// Escaped path, and the query if any after `?`.
    pub uri: &'a str,
    /// What the caller presented.
    pub credential: Credential<'a>,
    /// Seconds since the Unix epoch.
    pub now: u64,
}

/// Whether the request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// The answer, with everything that a log line, a header or an explanation needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may pass.
    pub verdict: Verdict,
    /// HTTP status for the caller: 200 when allowed, else 400, 401, 403 or 503.
    pub status: u16,
    /// The rule that decided: a `service-intentions/…` name, or `default`, `credential`, `path`, `destination`, `snapshot`.
    pub rule: String,
    /// The verified caller in Consul's spelling, `anonymous`, or `unverified` when a credential was refused.
    pub source: String,
    /// Why, in one sentence without a full stop; for logs, not for callers.
    pub reason: Cow<'static, str>,
}

/// [`Decision::source`] of a caller without a credential.
pub const ANONYMOUS: &str = "anonymous";
/// [`Decision::source`] of a caller whose credential was refused.
pub const UNVERIFIED: &str = "unverified";
/// Longest destination name that is looked up, in bytes (Consul's own bound on names that DNS can show is 63).
pub const MAX_DESTINATION_LEN: usize = 255;

// === impl Verdict ===

impl Verdict {
    /// `allow` or `deny`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

// === impl Decision ===

impl Decision {
    /// A refusal for a reason outside the policy: no snapshot, no destination, a broken configuration.
    pub fn refuse(status: u16, rule: &str, reason: impl Into<Cow<'static, str>>) -> Self {
        let source = UNVERIFIED.to_owned();
        Self { verdict: Verdict::Deny, status, rule: rule.to_owned(), source, reason: reason.into() }
    }

    fn snapshot(error: SnapshotError) -> Self {
        Self::refuse(503, "snapshot", error.to_string())
    }
}

/// Decides one request.
pub fn decide<R: ReadAt>(snapshot: &Snapshot<R>, request: &Request<'_>) -> Decision {
    decide_observed(snapshot, request, &mut ())
}

/// Decides one request and shows every step to an observer. There is no second evaluator: `explain` is this walk, watched.
pub fn decide_observed<R: ReadAt>(
    snapshot: &Snapshot<R>,
    request: &Request<'_>,
    observer: &mut impl Observer,
) -> Decision {
    let decision = walk(snapshot, request, observer).unwrap_or_else(Decision::snapshot);
    observer.step(Step::Decided(&decision));
    decision
}

fn walk<R: ReadAt>(
    snapshot: &Snapshot<R>,
    request: &Request<'_>,
    observer: &mut impl Observer,
) -> Result<Decision, SnapshotError> {
    if !is_destination(request.destination) {
        return Ok(Decision::refuse(403, "destination", "the request names no valid destination"));
    }
    let caller = match identify(snapshot, request.credential, request.now) {
        Ok(caller) => caller,
        Err(Refusal::Snapshot(error)) => return Err(error),
        Err(refusal) => return Ok(Decision::refuse(401, "credential", refusal.to_string())),
    };
    observer.step(Step::Identified(&caller));
    let destination = Name { partition: DEFAULT_TENANCY, namespace: DEFAULT_TENANCY, name: request.destination };

    let verdict = if snapshot.is_broken(Key::Broken(destination))? {
        let rule = format!("service-intentions/{}", request.destination);
        Outcome::deny(rule, "the intentions of this destination could not be read")
    } else {
        match find(snapshot, &caller, destination, observer)? {
            Some(intention) => apply(snapshot.settings().default, &intention, request, observer),
            None => Outcome::default(snapshot.settings().default, "no intention applies"),
        }
    };
    Ok(verdict.into_decision(&caller))
}

fn is_destination(name: &str) -> bool {
    // NUL separates the parts of a key, and `*` is a pattern, not a destination.
    !name.is_empty() && name.len() <= MAX_DESTINATION_LEN && name != WILDCARD && !name.contains('\0')
}

/// The intention that governs this caller, if any.
fn find<R: ReadAt>(
    snapshot: &Snapshot<R>,
    caller: &Caller<'_>,
    destination: Name<'_>,
    observer: &mut impl Observer,
) -> Result<Option<Rc<IntentionRecord>>, SnapshotError> {
    let Caller::Service(source) = caller else { return Ok(None) };
    let source = source.as_ref();
    for candidate in candidates(source.into(), destination, snapshot.settings().namespace_wildcards) {
        let key = Key::Intention { destination: candidate.destination, source: candidate.source };
        let found = snapshot.intention(key)?;
        observer.step(Step::Candidate { candidate, found: found.as_deref() });
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// What a walk ends with, before it is dressed as a [`Decision`].
struct Outcome {
    action: Action,
    rule: String,
    reason: Cow<'static, str>,
    /// Set when the path had no single reading and that decided.
    ambiguous: bool,
}

impl Outcome {
    fn deny(rule: String, reason: &'static str) -> Self {
        Self { action: Action::Deny, rule, reason: reason.into(), ambiguous: false }
    }

    fn default(action: Action, why: &'static str) -> Self {
        let reason = match action {
            Action::Allow => format!("{why}, and the default is allow"),
            Action::Deny => format!("{why}, and the default is deny"),
        };
        Self { action, rule: "default".to_owned(), reason: reason.into(), ambiguous: false }
    }

    fn into_decision(self, caller: &Caller<'_>) -> Decision {
        let (verdict, status) = match (self.action, caller) {
            (Action::Allow, _) => (Verdict::Allow, 200),
            (Action::Deny, _) if self.ambiguous => (Verdict::Deny, 400),
            (Action::Deny, Caller::Anonymous) => (Verdict::Deny, 401),
            (Action::Deny, Caller::Service(_)) => (Verdict::Deny, 403),
        };
        let source = match caller {
            Caller::Anonymous => ANONYMOUS.to_owned(),
            Caller::Service(name) => name.spelled(),
        };
        Decision { verdict, status, rule: self.rule, source, reason: self.reason }
    }
}

fn apply(default: Action, intention: &IntentionRecord, request: &Request<'_>, observer: &mut impl Observer) -> Outcome {
    let outcome = |action, reason: &'static str| Outcome {
        action,
        rule: intention.rule.clone(),
        reason: reason.into(),
        ambiguous: false,
    };
    match &intention.body {
        Body::Broken => outcome(Action::Deny, "the intention could not be read"),
        Body::Action(Action::Allow) => outcome(Action::Allow, "the intention allows this source"),
        Body::Action(Action::Deny) => outcome(Action::Deny, "the intention denies this source"),
        Body::Permissions(permissions) => apply_permissions(default, intention, permissions, request, observer),
    }
}

/// The first permission whose criteria match ends it; none: the default (consul-policy §3.1).
///
/// On an ambiguous path every path criterion of a deny matches and none of an allow, and an allow that was passed over for
/// that reason turns a default of allow into a deny: the default would be an allow, too.
fn apply_permissions(
    default: Action,
    intention: &IntentionRecord,
    permissions: &[PermissionRecord],
    request: &Request<'_>,
    observer: &mut impl Observer,
) -> Outcome {
    let path = path::canonical(request.uri, &path::Normalization::default()).map(|it| it.path);
    let mut passed_over = None;
    for (index, permission) in permissions.iter().enumerate() {
        let matched = matches(permission, request.method, &path);
        observer.step(Step::Permission { index, permission, matched });
        if matched == Match::PassedOver {
            passed_over = path.as_ref().err().copied();
        }
        if let Match::Yes | Match::OnDoubt = matched {
            let reason = match (permission.action, matched) {
                (Action::Allow, _) => Cow::Borrowed("the permission allows this request"),
                (Action::Deny, Match::OnDoubt) => doubt(path.as_ref().err().copied()),
                (Action::Deny, _) => Cow::Borrowed("the permission denies this request"),
            };
            return Outcome {
                action: permission.action,
                rule: permission_rule(&intention.rule, index),
                reason,
                ambiguous: matched == Match::OnDoubt,
            };
        }
    }
    if passed_over.is_some() {
        return Outcome { action: Action::Deny, rule: "path".to_owned(), reason: doubt(passed_over), ambiguous: true };
    }
    Outcome::default(default, "no permission of the intention matches")
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

fn doubt(ambiguous: Option<Ambiguous>) -> Cow<'static, str> {
    ambiguous.map_or(Cow::Borrowed("the path is ambiguous"), |why| Cow::Owned(why.to_string()))
}

/// How a permission's criteria meet a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// All criteria hold.
    Yes,
    /// A deny that holds because the path is ambiguous.
    OnDoubt,
    /// The method does not match.
    NotMethod,
    /// The path does not match.
    NotPath,
    /// An allow that would need to know the path, which is ambiguous.
    PassedOver,
}

fn matches(permission: &PermissionRecord, method: &str, path: &Result<Cow<'_, str>, Ambiguous>) -> Match {
    if !permission.methods.is_empty() && !permission.methods.iter().any(|it| it == method) {
        return Match::NotMethod;
    }
    let Some(criterion) = &permission.path else { return Match::Yes };
    let holds = match (criterion, path) {
        (_, Err(_)) if permission.action == Action::Deny => return Match::OnDoubt,
        (_, Err(_)) => return Match::PassedOver,
        (PathMatch::Exact(want), Ok(path)) => path == want,
        (PathMatch::Prefix(want), Ok(path)) => path.starts_with(want.as_str()),
    };
    if holds { Match::Yes } else { Match::NotPath }
}
