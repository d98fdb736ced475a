//! How callers are told what their limits are and how they stand (draft-ietf-httpapi-ratelimit-headers; reference:
//! `docs/reference/configuration.md`).
//!
//! What is said holds for a caller that believes it word for word: `r` requests may be sent at once, and when `t` seconds are
//! over there is one more. Limits in shadow are not spoken of, nor is what a bucket belongs to.

use crate::{config::RateLimitHeaders, text};
use portcullis_limiter::Standing;
use portcullis_policy::{
    limit::{Amount, Charge},
    model::Mode,
};

/// Largest integer of a structured field (RFC 9651, section 3.3.1).
const MAX_INTEGER: u64 = 999_999_999_999_999;
const SECOND_NS: u64 = 1_000_000_000;

/// What a caller is told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Headers of the answer.
    pub headers: Vec<(&'static str, String)>,
    /// The names of the limits that refuse, as the inside of a JSON array; empty when they stay inside.
    pub violated: String,
}

/// Says how the limits of a request stand. Of a refusal, the caller is told when to come back, and the standing of those
/// limits only that refuse: so `Retry-After` is never before a `t` beside it, as the draft wants it.
pub fn tell(style: RateLimitHeaders, charges: &[Charge], standings: &[Standing], wall_ns: u64, refused: bool) -> Told {
    let mut told = Told::default();
    let (mut policies, mut limits) = (String::new(), String::new());
    let mut retry = Some(1);
    let mut tightest: Option<(u64, &Charge, &Standing)> = None;
    for (at, (charge, standing)) in charges.iter().zip(standings).enumerate() {
        if charge.mode != Mode::Enforce {
            continue;
        }
        // Two limits of one name are two policies to the caller.
        let namesakes = charges.iter().take(at).filter(|it| it.mode == Mode::Enforce && it.name == charge.name).count();
        let speaks = !refused || !standing.admitted;
        if style.standard() {
            push_name(&mut policies, &charge.name, namesakes);
            push_policy(&mut policies, charge.amount);
            if speaks {
                push_name(&mut limits, &charge.name, namesakes);
                push_parameter(&mut limits, ";r=", standing.remaining.min(MAX_INTEGER));
                if let Some(seconds) = next(charge.amount, standing, wall_ns) {
                    push_parameter(&mut limits, ";t=", seconds);
                }
            }
        }
        if refused && !standing.admitted {
            retry = retry.zip(retry_after(charge.amount, standing, wall_ns)).map(|(a, b): (u64, u64)| a.max(b));
            if style != RateLimitHeaders::Off {
                told.violated.push_str(if told.violated.is_empty() { "\"" } else { ",\"" });
                text::push_json(&mut told.violated, &charge.name);
                told.violated.push('"');
            }
        }
        // Of the limits that speak, the one with the least left; the one that lasts longest, when several have nothing.
        let rank = |standing: &Standing| (standing.remaining, u64::MAX - standing.retry_ns);
        if speaks && tightest.is_none_or(|(_, _, other)| rank(standing) < rank(other)) {
            tightest = Some((standing.remaining, charge, standing));
        }
    }
    if refused && let Some(seconds) = retry {
        told.headers.push(("Retry-After", number(seconds)));
    }
    if !policies.is_empty() {
        told.headers.push(("RateLimit-Policy", policies));
        told.headers.push(("RateLimit", limits));
    }
    if style.legacy()
        && let Some((remaining, charge, standing)) = tightest
    {
        told.headers.push(("X-RateLimit-Limit", number(quota(charge.amount))));
        told.headers.push(("X-RateLimit-Remaining", number(remaining)));
        if let Some(seconds) = next(charge.amount, standing, wall_ns) {
            told.headers.push(("X-RateLimit-Reset", number(seconds)));
        }
    }
    told
}

/// A name as a string item of a list (RFC 9651, section 3.3.3): printable ASCII, quotes and backslashes escaped.
fn push_name(list: &mut String, name: &str, namesakes: usize) {
    list.push_str(if list.is_empty() { "\"" } else { ", \"" });
    if text::is_plain(name) {
        list.push_str(name);
    } else {
        for c in name.chars().take(text::FIELD_CHARS) {
            match c {
                '"' | '\\' => list.extend(['\\', c]),
                ' '..='~' => list.push(c),
                _ => list.push('?'),
            }
        }
    }
    if namesakes > 0 {
        push_parameter(list, "-", namesakes as u64 + 1);
    }
    list.push('"');
}

/// What is allowed, in whole seconds: a caller that spreads `q` requests evenly over `w` seconds is never refused.
fn push_policy(list: &mut String, amount: Amount) {
    let q = quota(amount);
    push_parameter(list, ";q=", q);
    match amount {
        Amount::Rate { period_ms, burst, .. } => {
            push_parameter(list, ";w=", period_ms.div_ceil(1000).clamp(1, MAX_INTEGER));
            if u64::from(burst) != q {
                push_parameter(list, ";portcullis-burst=", burst.into());
            }
        }
        Amount::Quota { begin_s, end_s, .. } => {
            push_parameter(list, ";w=", end_s.saturating_sub(begin_s).clamp(1, MAX_INTEGER));
        }
        Amount::Concurrency { .. } => list.push_str(";qu=\"concurrent-requests\""),
    }
}

fn push_parameter(list: &mut String, name: &str, value: u64) {
    list.push_str(name);
    text::push_number(list, value);
}

fn number(value: u64) -> String {
    let mut text = String::new();
    text::push_number(&mut text, value);
    text
}

/// Units in a window: of a rate whose period is no whole number of seconds, as many as it gives in the next whole number,
/// rounded down.
fn quota(amount: Amount) -> u64 {
    match amount {
        // The usual case, without the long division that is dear here.
        Amount::Rate { requests, period_ms, .. } if period_ms.is_multiple_of(1000) => requests.into(),
        Amount::Rate { requests, period_ms, .. } => {
            let window_ms = u128::from(period_ms.div_ceil(1000)) * 1000;
            let units = u128::from(requests) * window_ms / u128::from(period_ms.max(1));
            u64::try_from(units).unwrap_or(MAX_INTEGER).min(MAX_INTEGER)
        }
        Amount::Quota { requests, .. } => requests.min(MAX_INTEGER),
        Amount::Concurrency { requests, .. } => requests.into(),
    }
}

/// Seconds after which there is at least one unit more than remains now, whatever is taken of those until then; rounded up,
/// at least 1. `None` where that is up to other requests.
fn next(amount: Amount, standing: &Standing, wall_ns: u64) -> Option<u64> {
    match amount {
        Amount::Rate { burst, .. } => {
            // The bucket is full after `reset_ns`, and the units between the next one and a full bucket come after it.
            let behind = u64::from(burst).saturating_sub(standing.remaining).saturating_sub(1);
            let wait = standing.reset_ns.saturating_sub(behind.saturating_mul(interval_ns(amount)));
            Some(seconds(wait))
        }
        Amount::Quota { end_s, .. } => Some(seconds(end_s.saturating_mul(SECOND_NS).saturating_sub(wall_ns))),
        Amount::Concurrency { .. } => None,
    }
}

/// Seconds after which a refused request is worth trying again; `None` when it never is.
fn retry_after(amount: Amount, standing: &Standing, wall_ns: u64) -> Option<u64> {
    if standing.retry_ns == u64::MAX {
        return None;
    }
    // What holds a place may be over at any time, the lease is only its end.
    let next = next(amount, standing, wall_ns);
    Some(next.map_or(1, |next| next.max(seconds(standing.retry_ns))))
}

fn seconds(ns: u64) -> u64 {
    ns.div_ceil(SECOND_NS).clamp(1, MAX_INTEGER)
}

/// Nanoseconds in which one unit of a rate comes back, rounded up; at least 1.
pub(super) fn interval_ns(amount: Amount) -> u64 {
    match amount {
        Amount::Rate { requests, period_ms, .. } => {
            period_ms.saturating_mul(1_000_000).div_ceil(u64::from(requests.max(1))).max(1)
        }
        Amount::Quota { .. } | Amount::Concurrency { .. } => 1,
    }
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
