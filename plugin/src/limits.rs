//! The limits of an allowed request: from what policy charges it to, to whether it may go on.
//!
//! ```text
//!  decision.charges ─► clock ─► limiter.charge ─► all admit it ─► on, its slots kept under a number until the answer is over
//!                                  │                └ one refuses ─► 429, nothing charged
//!                                  └ cannot be counted ─► `OnUnavailable` of its limits: 503, or on, uncounted and reported
//! ```
//!
//! Nothing is ever uncounted in silence: the first such request of an instance and cause is a line in the log.

mod clock;
pub mod fields;

use self::{clock::Clock, fields::Told};
use crate::{
    config::{Level, RateLimitHeaders},
    logs::Logs,
    source::Notice,
};
use portcullis_limiter::{self as limiter, Limiter, Rule, Slot, Standing, charge::tag};
use portcullis_policy::{
    Decision, Verdict,
    limit::{Amount, Charge, OnUnavailable, Scope},
    model::Mode,
};
use std::borrow::Cow;

/// The limit is used up.
pub const TOO_MANY: u16 = 429;

/// Requests whose slots are kept at once. Traefik's instances have one request each; a host that has more of them in
/// flight than this leaves the oldest to their leases.
const MAX_HELD: usize = 256;
/// Limits whose last line in the log is remembered.
const MAX_LOGGED: usize = 64;
/// Shortest time between two lines about one limit, and until a cause that was over is reported anew, in nanoseconds.
const LINE_NS: u64 = 1_000_000_000;
const ALARM_NS: u64 = 60_000_000_000;

/// An instance's limits.
pub struct Limits {
    /// Where units are counted; `None` without a state folder.
    counters: Option<Counters>,
    /// What requests in flight hold, by the number that the host gives back.
    held: Vec<(i32, Vec<Slot>)>,
    last_context: i32,
    alarms: Vec<Alarm>,
    lines: Vec<Line>,
}

struct Counters {
    limiter: Limiter<Logs>,
    clock: Clock,
}

/// Something that was reported.
struct Alarm {
    /// The tag of its words.
    cause: u32,
    said_ns: u64,
}

/// When a limit's refusals were logged last.
struct Line {
    limit: u32,
    said_ns: u64,
    /// Refusals since.
    n_unsaid: u64,
}

/// What the limits have decided.
#[derive(Debug, Default)]
pub struct Limited {
    /// What the caller is told.
    pub told: Told,
    /// The number under which the request's slots are kept; 0: it holds none.
    pub context: i32,
    /// Whether a limit has refused the request.
    pub refused: bool,
    /// What the log is told.
    pub notice: Option<Notice>,
}

// === impl Limits ===

impl Limits {
    /// Limits that are counted in this state folder. Touches nothing yet.
    pub fn new(state: Option<&str>) -> Self {
        let counters =
            state.map(|state| Counters { limiter: Limiter::new(Logs::new(state)), clock: Clock::new(state) });
        Self { counters, held: Vec::new(), last_context: 0, alarms: Vec::new(), lines: Vec::new() }
    }

    /// Charges an allowed request to its limits. Where they refuse it, the decision becomes that.
    pub fn charge(&mut self, decision: &mut Decision, style: RateLimitHeaders, wall_ns: u64) -> Limited {
        if decision.charges.is_empty() || decision.verdict != Verdict::Allow {
            return Limited::default();
        }
        let mut charges = std::mem::take(&mut decision.charges);
        let asked: Vec<_> = charges.iter_mut().map(to_limiter).collect();
        let outcome = match &mut self.counters {
            Some(Counters { limiter, clock }) => {
                limiter.charge_at(&asked, clock.steady(wall_ns), wall_ns).map_err(|cause| cause.to_string())
            }
            None => Err("no `state` folder is set".to_owned()),
        };
        match outcome {
            Ok(outcome) => {
                self.recover(wall_ns);
                let told = fields::tell(style, &charges, &outcome.standings, wall_ns, !outcome.admitted);
                let by = |mode| {
                    let mut judged = charges.iter().zip(&outcome.standings);
                    judged.find(move |(charge, standing)| charge.mode == mode && !standing.admitted)
                };
                if outcome.admitted {
                    if decision.shadow.is_none() {
                        decision.shadow = by(Mode::Shadow).map(|(charge, _)| charge.rule.clone());
                    }
                } else {
                    // Not admitted without a limit that says so would be a fault in the limiter; it refuses all the same.
                    let (rule, reason) = by(Mode::Enforce).map_or((String::new(), USED_UP), |(charge, standing)| {
                        (charge.rule.clone(), why(charge, standing))
                    });
                    refuse(decision, TOO_MANY, rule, reason.into());
                }
                Limited { told, context: self.hold(outcome.slots), refused: !outcome.admitted, notice: None }
            }
            Err(cause) => self.uncounted(decision, &charges, &cause, wall_ns),
        }
    }

    /// What becomes of a request that cannot be counted.
    fn uncounted(&mut self, decision: &mut Decision, charges: &[Charge], cause: &str, wall_ns: u64) -> Limited {
        let enforced = || charges.iter().filter(|charge| charge.mode == Mode::Enforce);
        let denies = enforced().find(|charge| charge.on_unavailable == OnUnavailable::Deny);
        let becomes = match denies {
            Some(_) => "such requests are refused (503)",
            None => "such requests pass uncounted",
        };
        let rule = denies.or_else(|| enforced().next()).or(charges.first()).map_or("", |charge| charge.rule.as_str());
        let notice = self
            .alarm(wall_ns, cause)
            .then(|| (Level::Warn, format!("limits cannot be counted, {rule} for one: {cause}; {becomes}")));
        if let Some(charge) = denies {
            let reason = format!("the units of the limit cannot be counted: {cause}");
            refuse(decision, crate::respond::UNAVAILABLE, charge.rule.clone(), reason.into());
        }
        Limited { refused: denies.is_some(), notice, ..Limited::default() }
    }

    /// Gives back what the request with this number holds, if it holds anything. Failures are left to the lease.
    pub fn release(&mut self, context: i32, wall_ns: impl FnOnce() -> u64) {
        let Some(at) = self.held.iter().position(|(number, _)| *number == context) else { return };
        let (_, slots) = self.held.swap_remove(at);
        if let Some(Counters { limiter, clock }) = &mut self.counters {
            limiter.release(&slots, clock.steady(wall_ns()));
        }
    }

    /// Keeps slots under a number, which is never 0.
    fn hold(&mut self, slots: Vec<Slot>) -> i32 {
        if slots.is_empty() {
            return 0;
        }
        if self.held.len() >= MAX_HELD {
            self.held.remove(0);
        }
        self.last_context = self.last_context.checked_add(1).unwrap_or(1);
        self.held.push((self.last_context, slots));
        self.last_context
    }

    // --- What the log is told ---

    /// Whether a cause is to be reported: once, until it has been over.
    fn alarm(&mut self, now_ns: u64, cause: &str) -> bool {
        let cause = tag(cause);
        if self.alarms.iter().any(|alarm| alarm.cause == cause) {
            return false;
        }
        self.alarms.push(Alarm { cause, said_ns: now_ns });
        true
    }

    /// Units are counted: what was reported a while ago is over.
    fn recover(&mut self, now_ns: u64) {
        self.alarms.retain(|alarm| alarm.said_ns.abs_diff(now_ns) < ALARM_NS);
    }

    /// Whether a refusal by a limit is to be logged, and how many were not since the last one that was. A flood must cost
    /// less than what it is refused, and each refusal is in the access log anyway.
    pub fn line(&mut self, rule: &str, now_ns: u64) -> Option<u64> {
        let limit = tag(rule);
        if let Some(line) = self.lines.iter_mut().find(|line| line.limit == limit) {
            if line.said_ns.abs_diff(now_ns) < LINE_NS {
                line.n_unsaid += 1;
                return None;
            }
            line.said_ns = now_ns;
            return Some(std::mem::take(&mut line.n_unsaid));
        }
        if self.lines.len() >= MAX_LOGGED {
            self.lines.remove(0);
        }
        self.lines.push(Line { limit, said_ns: now_ns, n_unsaid: 0 });
        Some(0)
    }
}

const USED_UP: &str = "the limit is used up";

/// Why a limit refuses, for logs.
fn why(charge: &Charge, standing: &Standing) -> &'static str {
    match charge.amount {
        _ if standing.retry_ns == u64::MAX => "the request costs more than the limit ever holds",
        Amount::Rate { .. } => USED_UP,
        Amount::Quota { .. } => "the quota of this window is used up",
        Amount::Concurrency { .. } => "as many requests as the limit allows are under way",
    }
}

fn refuse(decision: &mut Decision, status: u16, rule: String, reason: Cow<'static, str>) {
    decision.verdict = Verdict::Deny;
    decision.status = status;
    decision.rule = rule;
    decision.reason = reason;
    // It would not have decided otherwise any more.
    decision.shadow = None;
    decision.changes.clear();
}

/// A charge as the limiter takes it. The label moves over: nothing else reads it.
fn to_limiter(charge: &mut Charge) -> limiter::Charge {
    let rule = match charge.amount {
        Amount::Rate { burst, .. } => Rule::Rate { interval_ns: fields::interval_ns(charge.amount), burst },
        Amount::Quota { requests, begin_s, end_s } => {
            let ns = |seconds: u64| seconds.saturating_mul(1_000_000_000);
            Rule::Quota { units: requests, begin_ns: ns(begin_s), end_ns: ns(end_s) }
        }
        Amount::Concurrency { requests, lease_s } => {
            Rule::Concurrency { units: requests, lease_ns: u64::from(lease_s).saturating_mul(1_000_000_000) }
        }
    };
    limiter::Charge {
        key: charge.key,
        tag: tag(&charge.rule),
        label: std::mem::take(&mut charge.label),
        rule,
        cost: charge.cost,
        enforced: charge.mode == Mode::Enforce,
        global: charge.scope == Scope::Global,
    }
}

#[cfg(test)]
#[path = "limits/tests.rs"]
mod tests;
