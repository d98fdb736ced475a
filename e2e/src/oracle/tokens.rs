//! What can be seen of a request's tokens without any key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::ask::Ask;
use super::classes::sidecars_verdict;
use super::compare::Case;
use super::mesh::Seen;
use super::ours::{Engine, forwarded, forwarded_values, gateway_uri, seconds, values};
use super::policy::World;
use super::provider::{Location, Provider};
use super::target;

/// The widest skew that anybody takes, in seconds.
const MAX_SKEW: f64 = 121.0;

/// Everything in a request that has only characters of tokens.
fn words(ask: &Ask) -> Vec<&[u8]> {
    let texts = ask.headers.iter().map(|(_, value)| value.as_slice()).chain([ask.target.as_slice()]);
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    texts.flat_map(|text| text.split(move |byte| !is_part(byte))).collect()
}

/// Header and payload of everything in a request that looks like a token.
fn tokens(ask: &Ask) -> Vec<(Value, Value)> {
    let decode = |part: &[u8]| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    words(ask)
        .into_iter()
        .filter_map(|word| {
            let mut parts = word.split(|byte| *byte == b'.');
            Some((decode(parts.next()?)?, decode(parts.next()?)?))
        })
        .collect()
}

/// How many tokens a request carries, or what looks like it.
fn count(ask: &Ask) -> usize {
    tokens(ask).len()
}

/// Whether a request carries several tokens, or several lines of a header that tokens are in, or several cookies of a name
/// that tokens are under.
pub fn are_several(world: &World, ask: &Ask) -> bool {
    let repeated = |name: &String| values(ask, name).len() > 1;
    let mut cookies = world.providers.iter().flat_map(Provider::places).filter_map(|place| match place {
        Location::Cookie(name) => Some(name),
        Location::Header(..) | Location::Query(_) => None,
    });
    count(ask) > 1
        || world.providers.iter().flat_map(Provider::headers).any(|name| repeated(&name))
        || cookies.any(|name| n_cookies(ask, &name) > 1)
}

/// How many cookies a request has under a name, empty ones included.
fn n_cookies(ask: &Ask, name: &str) -> usize {
    let lines = values(ask, "cookie");
    let pairs = lines.iter().flat_map(|line| line.split(|byte| *byte == b';'));
    pairs.filter(|pair| pair.trim_ascii().strip_prefix(name.as_bytes()).is_some_and(|it| it.starts_with(b"="))).count()
}

/// Whether something in a request is a token to those only who skip empty parts, or read no further than a signature is long.
pub fn is_sloppy(ask: &Ask) -> bool {
    words(ask).iter().any(|word| {
        let parts: Vec<_> = word.split(|byte| *byte == b'.').collect();
        // A dangling character behind whole bytes, or more bytes than the algorithm's signatures have.
        let longer = |text: &&[u8]| text.len() % 4 == 1 || matches!(text.len(), 87 | 129 | 177 | 343);
        let has_empty = parts.len() > 3 && parts[..parts.len() - 1].iter().any(|it| it.is_empty());
        word.starts_with(b"eyJ") && (has_empty || parts.get(2).is_some_and(longer))
    })
}

/// Whether a token's header is such.
pub fn any_header(ask: &Ask, is: impl Fn(&Value) -> bool) -> bool {
    tokens(ask).iter().any(|(header, _)| is(header))
}

/// Whether a token without `kid` is to be verified with a set that has an Ed25519 key without `alg`, and is not such a key's.
pub fn meets_key_of_other_kind(world: &World, ask: &Ask) -> bool {
    let keys = world.providers.iter().filter_map(|it| it.keys["keys"].as_array()).flatten();
    let plain = |key: &Value| key["kty"] == "OKP" && key.get("alg").is_none();
    let unnamed = |header: &Value| header.get("kid").is_none() && header["alg"] != "EdDSA";
    keys.into_iter().any(plain) && any_header(ask, unnamed)
}

/// Whether the sidecar may take a token for good that we do not, or the other way round: see the classes `no-crit`,
/// `clock-skew`, `several-tokens`, `sloppy-token` and `other-keys-kind`.
pub fn is_judged_otherwise(world: &World, ask: &Ask) -> bool {
    meets_key_of_other_kind(world, ask)
        || are_several(world, ask)
        || is_sloppy(ask)
        || is_within_skew(ask)
        || any_header(ask, |header| header.get("crit").is_some())
}

/// Whether a token has begun or ended within the widest skew.
pub fn is_within_skew(ask: &Ask) -> bool {
    #[allow(clippy::cast_precision_loss, reason = "seconds are exact in an f64")]
    let now = seconds() as f64;
    tokens(ask).iter().any(|(_, payload)| {
        let near = |name: &str| payload[name].as_f64().is_some_and(|at| (at - now).abs() <= MAX_SKEW);
        near("exp") || near("nbf")
    })
}

/// The world as it is where a list has no values: what a list of one of the request's tokens says is not what is asked for.
/// `None` if no token has such a list.
pub fn without_lists(world: &World, ask: &Ask) -> Option<World> {
    let tokens = tokens(ask);
    let mut world = world.clone();
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
    changed.then_some(world)
}

/// Whether the sidecar does what we would do if lists had no values.
pub fn has_list_claim(case: &Case<'_>) -> bool {
    let Some(world) = without_lists(case.world, case.ask) else { return false };
    let engine = Engine::of(&world, case.trust_domain);
    engine.is_ok_and(|it| it.decide(case.ask, case.caller).verdict == sidecars_verdict(case))
}

/// Whether what we forward differs from what the sidecar does by tokens only that we did not look at, those in the query
/// and those in headers, and by the payloads of such tokens.
pub fn is_left_alone(case: &Case<'_>) -> bool {
    let Seen::Passed(arrived) = case.seen else { return false };
    let untouched = case.headers_forwarded_differently(arrived).iter().all(|name| {
        let ours = forwarded_values(case.ask, case.ours, name);
        ours == values(case.ask, name) || ours.is_empty() && is_payload(case, name)
    });
    untouched && without_some_tokens(case).iter().any(|it| is_same(it, &arrived.target))
}

/// Whether what we forward lacks nothing but a payload that the caller has made up.
pub fn is_forged_payload(case: &Case<'_>) -> bool {
    let Seen::Passed(arrived) = case.seen else { return false };
    let forged = |name: &String| {
        let theirs = arrived.headers.iter().filter(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let nothing = forwarded_values(case.ask, case.ours, name).is_empty();
        nothing && is_payload(case, name) && theirs.eq(values(case.ask, name).iter())
    };
    let names = case.headers_forwarded_differently(arrived);
    is_same(&forwarded(case.ask, case.ours), &arrived.target) && !names.is_empty() && names.iter().all(forged)
}

/// Whether a provider with a token in the query has a header location that is forwarded, and the sidecar left the query as
/// it came.
pub fn is_forwarded_as_header(case: &Case<'_>) -> bool {
    let Seen::Passed(arrived) = case.seen else { return false };
    let forwards = |it: &Provider| {
        let places = it.places();
        places.iter().any(|it| matches!(it, Location::Header(_, _, true))) && places.len() > 1
    };
    let came = gateway_uri(&case.ask.target);
    let kept = is_same(&came, &arrived.target)
        || is_same(&with_query_of(&forwarded(case.ask, case.ours), &came), &arrived.target);
    kept && case.world.providers.iter().any(forwards)
}

/// A target's path with another one's query.
fn with_query_of(target: &str, other: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    other.split_once('?').map_or_else(|| path.to_owned(), |(_, query)| format!("{path}?{query}"))
}

fn is_payload(case: &Case<'_>, name: &str) -> bool {
    let is = |it: &Provider| it.forwarding.as_ref().is_some_and(|(header, _)| header == name);
    case.world.providers.iter().any(is)
}

/// What we forward, without what is in any choice of the places in the query that are a token's for some provider: the
/// sidecar leaves a token that is not valid where it is.
fn without_some_tokens(case: &Case<'_>) -> Vec<String> {
    let mut names: Vec<_> = case.world.providers.iter().flat_map(Provider::places).collect();
    names.dedup();
    let mut targets = vec![forwarded(case.ask, case.ours)];
    for place in names {
        if let Location::Query(name) = place {
            let fewer: Vec<_> = targets.iter().map(|target| without_parameter(target, &name)).collect();
            targets.extend(fewer);
        }
    }
    targets
}

fn is_same(one: &str, other: &str) -> bool {
    parameters(one) == parameters(other)
}

/// Path and parameters: those that say nothing left out, the others decoded and in an order of their own, for the sidecar
/// writes the whole query anew when it takes a token out.
fn parameters(target: &str) -> (String, Vec<Vec<u8>>) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let said = query.split('&').map(|it| it.trim_end_matches('=')).filter(|it| !it.is_empty());
    // Twice, for what it has decoded once is decoded here as well.
    let decode = |it: &str| target::decoded(&target::decoded(it.as_bytes()));
    let mut parameters: Vec<_> = said.map(decode).collect();
    parameters.sort();
    (target::with_upper_escapes(path), parameters)
}

fn without_parameter(target: &str, name: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let kept: Vec<_> = query.split('&').filter(|it| it.split('=').next() != Some(name)).collect();
    if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
}
