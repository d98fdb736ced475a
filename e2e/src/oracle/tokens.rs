//! What can be seen of a request's tokens without any key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::ask::Ask;
use super::classes::sidecars_verdict;
use super::compare::Case;
use super::mesh::Seen;
use super::ours::{Engine, forwarded, forwarded_values, seconds, values};
use super::provider::{Location, Provider};
use super::target;

/// The widest skew that anybody takes, in seconds.
const MAX_SKEW: f64 = 121.0;

/// Header and payload of everything in a request that looks like a token.
fn tokens(ask: &Ask) -> Vec<(Value, Value)> {
    let texts = ask.headers.iter().map(|(_, value)| value.as_slice()).chain([ask.target.as_slice()]);
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let words = texts.flat_map(|text| text.split(move |byte| !is_part(byte)));
    let decode = |part: &[u8]| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    words
        .filter_map(|word| {
            let mut parts = word.split(|byte| *byte == b'.');
            Some((decode(parts.next()?)?, decode(parts.next()?)?))
        })
        .collect()
}

/// Whether a token's header is such.
pub fn any_header(ask: &Ask, is: impl Fn(&Value) -> bool) -> bool {
    tokens(ask).iter().any(|(header, _)| is(header))
}

/// Whether a token has begun or ended within the widest skew.
pub fn is_within_skew(case: &Case<'_>) -> bool {
    #[allow(clippy::cast_precision_loss, reason = "seconds are exact in an f64")]
    let now = seconds() as f64;
    tokens(case.ask).iter().any(|(_, payload)| {
        let near = |name: &str| payload[name].as_f64().is_some_and(|at| (at - now).abs() <= MAX_SKEW);
        near("exp") || near("nbf")
    })
}

/// Whether the sidecar does what we would do if lists had no values: if what a token's list says were not asked for.
pub fn has_list_claim(case: &Case<'_>) -> bool {
    let tokens = tokens(case.ask);
    let mut world = case.world.clone();
    let mut changed = false;
    for (_, claims) in world.requirements_mut().flat_map(|it| &mut it.0) {
        for (path, value) in claims {
            let at = |payload| path.iter().try_fold(payload, |it: &Value, key| it.get(key));
            if tokens.iter().any(|(_, payload)| at(payload).is_some_and(Value::is_array)) {
                "\u{1}".clone_into(value);
                changed = true;
            }
        }
    }
    let under = || Some(Engine::of(&world, case.trust_domain).ok()?.decide(case.ask, case.caller).verdict);
    changed && under() == Some(sidecars_verdict(case))
}

/// Whether what we forward differs from what the sidecar does by tokens only that we did not look at: those in the query are
/// still there, and headers with tokens or their payload are as they came, or were never to come in.
pub fn is_left_alone(case: &Case<'_>) -> bool {
    let Seen::Passed(arrived) = case.seen else { return false };
    let mut ours = forwarded(case.ask, case.ours);
    for place in case.world.providers.iter().flat_map(Provider::places) {
        if let Location::Query(name) = place {
            ours = without_parameter(&ours, &name);
        }
    }
    let untouched = case.headers_forwarded_differently(arrived).iter().all(|name| {
        let ours = forwarded_values(case.ask, case.ours, name);
        let payload = |it: &Provider| it.forwarding.as_ref().is_some_and(|(header, _)| header == name);
        ours == values(case.ask, name) || ours.is_empty() && case.world.providers.iter().any(payload)
    });
    untouched && parameters(&ours) == parameters(&arrived.target)
}

/// Path and parameters: those that say nothing left out, the others in an order of their own, for the sidecar writes the
/// whole query anew.
fn parameters(target: &str) -> (String, Vec<String>) {
    let target = target::with_upper_escapes(target);
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let said = query.split('&').map(|it| it.trim_end_matches('=')).filter(|it| !it.is_empty());
    // Of what the generator escapes in queries, the sidecar writes this without need.
    let mut parameters: Vec<_> = said.map(|it| it.replace("%2E", ".")).collect();
    parameters.sort();
    (path.to_owned(), parameters)
}

fn without_parameter(target: &str, name: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let kept: Vec<_> = query.split('&').filter(|it| it.split('=').next() != Some(name)).collect();
    if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
}
