//! The decision: one pure function of a snapshot and a request.
//!
//! ```text
//!  form of the request ──► credential holds? ──► destination readable? ──► first enforced candidate that exists
//!        │ no: 400, 403          │ no: 401              │ no: deny           │ action │ permissions │ none
//!                                                                           ▼        ▼             ▼
//!                                                                       decides   first match    default
//!                                                                       an allow needs the tokens that are asked for
//! ```
//!
//! Every branch that is not an explicit allow denies, and every verdict carries the name of the rule that made it.

mod limits;
mod outcome;
mod permissions;
mod requirement;
mod view;

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, rc::Rc};

use serde_json::Value;

pub use self::{
    limits::Applied,
    permissions::{Doubt, Match},
};
use self::{
    limits::Limited,
    outcome::{Outcome, Shadow},
    view::View,
};
use crate::{
    candidates::{Name, candidates},
    change::Change,
    explain::{Observer, Step},
    headers::{HeaderList, Headers},
    identity::{Caller, Certified, PresentedKey, Refusal, identify},
    limit::Charge,
    memory::Memory,
    model::{Action, Mode, Underscores},
    path::{self, Ambiguous, Canonical},
    snapshot::{
        ReadAt, Snapshot, SnapshotError,
        record::{Body, DestinationRecord, IntentionRecord, Key},
    },
    tokens::Tokens,
};

/// What is asked.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The Consul service that is called, in Consul's spelling: `[partition/][namespace/]name`.
    pub destination: &'a str,
    /// HTTP method as sent; compared case-sensitively.
    pub method: &'a str,
    /// Escaped path, and the query if any after `?`.
    pub uri: &'a str,
    /// Host and port as sent; empty when not known.
    pub host: &'a str,
    /// The headers.
    pub headers: &'a dyn Headers,
    /// The client certificate.
    pub certificate: Certified<'a>,
    /// The API key.
    pub api_key: PresentedKey<'a>,
    /// Where the connection comes from.
    pub source_address: Option<IpAddr>,
    /// The entry point, as the middleware's configuration names it; empty when it does not.
    pub entry_point: &'a str,
    /// Claims by provider that were verified elsewhere (policy tests); then no token is read from the request.
    pub claims: Option<&'a BTreeMap<String, Value>>,
    /// What is known of signatures from before.
    pub memory: &'a dyn Memory,
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

/// How a caller that is answered 401 can do better (RFC 6750 §3, RFC 9110 §11.6.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Challenge {
    /// By any credential that the gateway takes.
    #[default]
    Credential,
    /// By a bearer token.
    Token,
    /// By another bearer token: the one that was sent does not hold.
    ValidToken,
}

/// The answer, with everything that a log line, a header or an explanation needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may pass.
    pub verdict: Verdict,
    /// HTTP status for the caller: 200 when allowed, else 307, 400, 401, 403 or 503.
    pub status: u16,
    /// The rule that decided: a `service-intentions/…` name, or `default`, `credential`, `path`, `header`, `method`,
    /// `destination`, `request`, `snapshot`.
    pub rule: String,
    /// The verified caller in Consul's spelling, `anonymous`, or `unverified` when a credential was refused.
    pub source: String,
    /// Why, in one sentence without a full stop; for logs, not for callers.
    pub reason: Cow<'static, str>,
    /// The rule in shadow that would have decided otherwise.
    pub shadow: Option<String>,
    /// What a 401 asks for.
    pub challenge: Challenge,
    /// What must be done to an allowed request before it is forwarded, in this order. For a 307, the URI to go to.
    pub changes: Vec<Change>,
    /// The limits that an allowed request is charged to before it may go on, each once.
    pub charges: Vec<Charge>,
}

/// [`Decision::source`] of a caller without a credential.
pub const ANONYMOUS: &str = "anonymous";
/// [`Decision::source`] of a caller whose credential was refused.
pub const UNVERIFIED: &str = "unverified";
/// Longest destination that is looked up, in bytes.
pub const MAX_DESTINATION_LEN: usize = 255;

// === impl Request ===

static NO_HEADERS: HeaderList = HeaderList(Vec::new());

/// A request for `/` that carries nothing, to nobody, at the epoch.
impl Default for Request<'_> {
    fn default() -> Self {
        Self {
            destination: "",
            method: "GET",
            uri: "/",
            host: "",
            headers: &NO_HEADERS,
            certificate: Certified::Absent,
            api_key: PresentedKey::Absent,
            source_address: None,
            entry_point: "",
            claims: None,
            memory: &(),
            now: 0,
        }
    }
}

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
        Self {
            verdict: Verdict::Deny,
            status,
            rule: rule.to_owned(),
            source: UNVERIFIED.to_owned(),
            reason: reason.into(),
            shadow: None,
            challenge: Challenge::Credential,
            changes: Vec::new(),
            charges: Vec::new(),
        }
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
    let decision = admit(snapshot, request, observer).unwrap_or_else(Decision::snapshot);
    observer.step(Step::Decided(&decision));
    decision
}

/// What has to hold before any rule is asked.
fn admit<R: ReadAt>(
    snapshot: &Snapshot<R>,
    request: &Request<'_>,
    observer: &mut impl Observer,
) -> Result<Decision, SnapshotError> {
    let named = Name::parse(request.destination).filter(|_| request.destination.len() <= MAX_DESTINATION_LEN);
    let Some(destination) = named else {
        return Ok(Decision::refuse(403, "destination", "the request names no valid destination"));
    };
    if request.method.bytes().any(|byte| byte.is_ascii_lowercase()) {
        // Methods are compared as they are written, and some backends do not; Consul's proxies refuse these, too.
        return Ok(Decision::refuse(400, "request", "the method holds a lower-case letter"));
    }
    let settings = snapshot.settings();
    if settings.underscores == Underscores::RejectRequest && request.headers.has_underscores() {
        return Ok(Decision::refuse(400, "request", "a header name holds an underscore"));
    }
    let path = path::canonical(request.uri, &settings.normalization);
    if let Some(why) = path.as_ref().err().filter(|why| why.refuses()) {
        return Ok(Decision::refuse(400, "request", why.to_string()));
    }
    let uri = canonical_uri(request.uri, &path);
    if path.as_ref().is_ok_and(|path| path.redirect) {
        let changes = vec![Change::SetUri(uri.into_owned())];
        let reason = "the path holds an encoded slash; the caller is sent to the decoded one";
        return Ok(Decision { changes, ..Decision::refuse(307, "request", reason) });
    }
    let mut tokens = Tokens::new(snapshot, request, &uri);
    let caller = match identify(snapshot, request, destination, &mut tokens) {
        Ok(caller) => caller,
        Err(Refusal::Snapshot(error)) => return Err(error),
        Err(refusal) => {
            let challenge = refusal.challenge();
            return Ok(Decision { challenge, ..Decision::refuse(401, "credential", refusal.to_string()) });
        }
    };
    observer.step(Step::Identified(&caller));
    let mut walk = Walk { snapshot, request, observer, path: &path, uri: &uri, tokens, shadow: Shadow::default() };
    let outcome = walk.governed(&caller, destination)?;
    let shadow = std::mem::take(&mut walk.shadow);
    let decision = outcome.into_decision(&caller, shadow);
    if decision.verdict == Verdict::Deny {
        return Ok(decision);
    }
    Ok(match walk.limited(&caller, destination)? {
        Limited::By(charges) => {
            Decision { changes: view::changes(settings, request.uri, &uri, &walk.tokens), charges, ..decision }
        }
        Limited::Unreadable(rule) => {
            let refused = Decision::refuse(503, &rule, "the limit could not be read");
            Decision { source: decision.source, shadow: decision.shadow, ..refused }
        }
    })
}

/// The request target with its path in canonical form; as it came when it has none.
fn canonical_uri<'a>(uri: &'a str, path: &Result<Canonical<'a>, Ambiguous>) -> Cow<'a, str> {
    let Ok(Canonical { path: Cow::Owned(path), .. }) = path else { return Cow::Borrowed(uri) };
    let query = uri.find('?').and_then(|at| uri.get(at..)).unwrap_or_default();
    let mut whole = String::with_capacity(path.len() + query.len());
    whole.push_str(path);
    whole.push_str(query);
    Cow::Owned(whole)
}

/// One request on its way through the rules.
struct Walk<'w, R, O> {
    snapshot: &'w Snapshot<R>,
    request: &'w Request<'w>,
    observer: &'w mut O,
    path: &'w Result<Canonical<'w>, Ambiguous>,
    uri: &'w str,
    tokens: Tokens<'w, R>,
    shadow: Shadow,
}

impl<R: ReadAt, O: Observer> Walk<'_, R, O> {
    /// The first enforced intention that covers the caller decides; none: the default (consul-policy §2.3).
    fn governed(&mut self, caller: &Caller<'_>, destination: Name<'_>) -> Result<Outcome, SnapshotError> {
        let own = self.snapshot.destination(Key::Destination(destination))?;
        if own.as_ref().is_some_and(|record| record.broken) {
            let rule = format!("service-intentions/{}", self.request.destination);
            return Ok(Outcome::deny(rule, "the intentions of this destination could not be read"));
        }
        self.suspend_default(destination, own.as_deref())?;
        // An entry of its own that is enforced does not lose its default to what a wider one in shadow says.
        let is_guarded = own.is_some_and(|record| record.mode == Mode::Enforce);
        if let Caller::Service(source) = caller {
            let wildcards = self.snapshot.settings().namespace_wildcards;
            for candidate in candidates(source.as_ref().into(), destination, wildcards) {
                let key = Key::Intention { destination: candidate.destination, source: candidate.source };
                let found = self.snapshot.intention(key)?;
                self.observer.step(Step::Candidate { candidate, found: found.as_deref() });
                let suspends = !is_guarded || candidate.destination == destination;
                if let Some(outcome) = self.ask(found, suspends)? {
                    return Ok(outcome);
                }
            }
        }
        Ok(self.default("no intention applies"))
    }

    /// Notes when the entry that speaks of this destination as a whole is in shadow.
    fn suspend_default(&mut self, destination: Name<'_>, own: Option<&DestinationRecord>) -> Result<(), SnapshotError> {
        // An entry of its own, else that for all of them, else that for all namespaces.
        let mut mode = own.map(|own| own.mode).filter(|mode| *mode != Mode::Off);
        for pattern in destination.patterns().into_iter().skip(1) {
            if mode.is_some() {
                break;
            }
            let wider = self.snapshot.destination(Key::Destination(pattern))?;
            mode = wider.map(|wider| wider.mode).filter(|mode| *mode != Mode::Off);
        }
        self.shadow.suspends_default |= mode == Some(Mode::Shadow);
        Ok(())
    }

    /// What an intention says, if it counts. One in shadow may suspend the default.
    fn ask(&mut self, found: Option<Rc<IntentionRecord>>, suspends: bool) -> Result<Option<Outcome>, SnapshotError> {
        let Some(intention) = found else { return Ok(None) };
        match intention.mode {
            Mode::Off => Ok(None),
            Mode::Enforce => self.apply(&intention).map(Some),
            Mode::Shadow => {
                // A shadow inside a shadow has nothing to say.
                let outer = std::mem::take(&mut self.shadow);
                let outcome = self.apply(&intention)?;
                self.shadow = outer;
                self.shadow.note(outcome.action, &outcome.rule);
                self.shadow.suspends_default |= suspends;
                Ok(None)
            }
        }
    }

    fn apply(&mut self, intention: &IntentionRecord) -> Result<Outcome, SnapshotError> {
        let outcome = |action, reason| Outcome::by_rule(action, intention.rule.clone(), reason);
        match &intention.body {
            Body::Broken => Ok(outcome(Action::Deny, "the intention could not be read")),
            // A token does not lift a deny (consul-policy §4.2, §4.4).
            Body::Action(Action::Deny) => Ok(outcome(Action::Deny, "the intention denies this source")),
            Body::Action(Action::Allow) => {
                let allowed = outcome(Action::Allow, "the intention allows this source");
                self.require(intention.jwt.as_ref(), allowed)
            }
            Body::Permissions(permissions) => self.apply_permissions(intention, permissions),
        }
    }

    /// What happens when no rule decides.
    fn default(&self, why: &'static str) -> Outcome {
        Outcome::default(self.snapshot.settings().default, why)
    }

    fn view(&self) -> View<'_> {
        let uri = self.path.is_ok().then_some(self.uri);
        View::new(self.snapshot.settings(), self.request, uri, &self.tokens)
    }
}
