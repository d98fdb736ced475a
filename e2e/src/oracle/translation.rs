//! How Consul's translation for Envoy combines intentions, where that departs from the documented order (consul-policy §2.4)
//! and from literal names (§1.1).
//!
//! What one intention says by itself is taken from our engine; only the combination is modelled here: every intention that
//! covers the caller has an effect of its own if it says the opposite of the default, unless the caller is covered by one
//! of higher precedence *and* narrower source. So the condition of a documented difference can be "the sidecar did
//! exactly what this translation does", not only "something like it was possible".

use portcullis_policy::{Action, Verdict};

use super::compare::Case;
use super::doubt::DOUBTS;
use super::ours::Engine;
use super::policy::{Entry, Rule, World};

/// An intention: one source of one entry.
struct Intention<'a> {
    precedence: u8,
    source: &'a str,
    rule: &'a Rule,
}

/// What the sidecar does by the translation; `None` where we refuse an intention that is involved for a doubt
/// ([`DOUBTS`]), which the sidecar does not have.
pub fn verdict(case: &Case<'_>) -> Option<Verdict> {
    let caller = case.caller.service.as_deref()?;
    let intentions = intentions(case.world, &case.ask.destination);
    let default = match case.world.default {
        Action::Allow => Verdict::Allow,
        Action::Deny => Verdict::Deny,
    };
    let mut effect = default;
    for (at, intention) in intentions.iter().enumerate() {
        let narrower = |it: &&Intention<'_>| intention.source == "*" && it.source != "*" && covers(it.source, caller);
        if !covers(intention.source, caller) || intentions[..at].iter().any(|it| narrower(&it)) {
            continue;
        }
        let alone = alone(case, caller, intention.rule)?;
        if alone != default {
            effect = alone;
        }
    }
    Some(effect)
}

/// Whether the caller is covered by a name that is not its own, with the dots of a regular expression.
pub fn is_covered_by_pattern(case: &Case<'_>) -> bool {
    let intentions = intentions(case.world, &case.ask.destination);
    case.caller.service.as_deref().is_some_and(|caller| {
        intentions.iter().any(|it| it.source != "*" && it.source != caller && covers(it.source, caller))
    })
}

/// Whether the caller's intention for every service (6) stands beside the one for every source of this service (8).
pub fn is_out_of_order(case: &Case<'_>) -> bool {
    let intentions = intentions(case.world, &case.ask.destination);
    let has = |precedence, source: Option<&str>| {
        intentions.iter().any(|it| it.precedence == precedence && Some(it.source) == source)
    };
    let caller = case.caller.service.as_deref();
    caller.is_some() && !has(9, caller) && has(8, Some("*")) && has(6, caller)
}

/// The intentions for a destination in order, the later ones of the same source left out.
fn intentions<'a>(world: &'a World, destination: &str) -> Vec<Intention<'a>> {
    let of = |entry: Option<&'a Entry>, base: u8| {
        entry.into_iter().flat_map(move |entry| &entry.sources).map(move |it| Intention {
            precedence: base - u8::from(it.name == "*"),
            source: &it.name,
            rule: &it.rule,
        })
    };
    let mut intentions: Vec<_> = of(world.entry(destination), 9).chain(of(world.entry("*"), 6)).collect();
    intentions.sort_by_key(|it| std::cmp::Reverse(it.precedence));
    let mut seen = Vec::new();
    intentions.retain(|it| {
        let new = !seen.contains(&it.source);
        seen.push(it.source);
        new
    });
    intentions
}

/// What an intention says to the caller if there is no other.
fn alone(case: &Case<'_>, caller: &str, rule: &Rule) -> Option<Verdict> {
    let source = super::policy::Source { name: caller.to_owned(), rule: rule.clone() };
    let entry = Entry { destination: case.ask.destination.clone(), jwt: None, sources: vec![source] };
    let world = World { entries: vec![entry], ..case.world.clone() };
    let decision = Engine::of(&world, case.trust_domain).ok()?.decide(case.ask, case.caller);
    let case = Case { world: &world, ours: &decision, ..*case };
    (!DOUBTS.iter().any(|it| it.decides(&case))).then_some(decision.verdict)
}

/// Whether a source covers a caller, its dots read as a regular expression's.
fn covers(source: &str, caller: &str) -> bool {
    let same = |(pattern, byte): (u8, u8)| pattern == b'.' || pattern == byte;
    source == "*" || source.len() == caller.len() && source.bytes().zip(caller.bytes()).all(same)
}
