//! How Consul's translation for Envoy combines intentions, where that departs from the documented order (consul-policy §2.4)
//! and from literal names (§1.1).
//!
//! What one intention says by itself is taken from our engine; only the combination is modelled here: every intention that
//! covers the caller has an effect of its own if it says the opposite of the default, unless the caller is covered by one
//! of higher precedence *and* narrower source. So the condition of a documented difference can be "the sidecar did
//! exactly what this translation does", not only "something like it was possible".

use portcullis_policy::{Action, Verdict};

use super::classes::sidecars_verdict;
use super::compare::Case;
use super::doubt::DOUBTS;
use super::ours::Engine;
use super::policy::{Entry, Permission, Rule, Source, World};
use super::provider::Requirement;
use super::tokens;

/// An intention: one source of one entry.
struct Intention<'a> {
    precedence: u8,
    source: &'a str,
    rule: &'a Rule,
    /// What the entry requires of each of its sources.
    jwt: Option<&'a Requirement>,
}

/// Whether the sidecar did what the translation does. Of tokens that we may judge otherwise than the sidecar
/// ([`tokens::is_judged_otherwise`]) either judgement will do; and where we refuse an intention that is involved for a doubt
/// ([`DOUBTS`]), which the sidecar does not have, anything will if `or_doubt`.
pub fn explains(case: &Case<'_>, or_doubt: bool) -> bool {
    let seen = sidecars_verdict(case);
    [true, false].into_iter().any(|good| verdict(case, good).map_or(or_doubt, |it| it == seen))
}

/// What the sidecar does by the translation, if it takes the tokens that we may judge otherwise for good ones or not; `None`
/// where we have a doubt.
fn verdict(case: &Case<'_>, good: bool) -> Option<Verdict> {
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
        let alone = alone(case, caller, intention, good)?;
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
        let all = move |entry: &'a Entry| {
            entry.sources.iter().map(move |it| Intention {
                precedence: base - u8::from(it.name == "*"),
                source: &it.name,
                rule: &it.rule,
                jwt: entry.jwt.as_ref(),
            })
        };
        entry.into_iter().flat_map(all)
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
///
/// The translation leaves rules out that say the same as the default, and puts a requirement on tokens beside what is left:
/// under `allow`, a requirement on an allow is gone, and one on a deny lets the deny hold for good tokens only.
fn alone(case: &Case<'_>, caller: &str, intention: &Intention<'_>, good: bool) -> Option<Verdict> {
    let default = case.world.default;
    let action = |action: Action, own: Option<&Requirement>| {
        let required = intention.jwt.into_iter().chain(own);
        let holds = action != default
            && required.into_iter().all(|it| {
                if tokens::is_judged_otherwise(case.world, case.ask) { good } else { is_satisfied(case, it) }
            });
        if holds { action } else { default }
    };
    let rule = match intention.rule {
        Rule::Action(it) => Rule::Action(action(*it, None)),
        Rule::Permissions(permissions) => {
            let translate =
                |it: &Permission| Permission { action: action(it.action, it.jwt.as_ref()), jwt: None, ..it.clone() };
            Rule::Permissions(permissions.iter().map(translate).collect())
        }
    };
    let source = Source { name: caller.to_owned(), rule };
    let entry = Entry { destination: case.ask.destination.clone(), jwt: None, sources: vec![source] };
    let world = World { providers: Vec::new(), entries: vec![entry], ..case.world.clone() };
    let decision = Engine::of(&world, case.trust_domain).ok()?.decide(case.ask, case.caller);
    let case = Case { world: &world, ours: &decision, ..*case };
    (!DOUBTS.iter().any(|it| it.decides(&case))).then_some(decision.verdict)
}

/// Whether the request's tokens satisfy a requirement, by our own check of them but for lists.
fn is_satisfied(case: &Case<'_>, requirement: &Requirement) -> bool {
    let Some(caller) = case.caller.service.as_deref() else { return false };
    let source = Source { name: caller.to_owned(), rule: Rule::Action(Action::Allow) };
    let entry =
        Entry { destination: case.ask.destination.clone(), jwt: Some(requirement.clone()), sources: vec![source] };
    let world = World { default: Action::Deny, entries: vec![entry], ..case.world.clone() };
    // A list never has a value there.
    let world = tokens::without_lists(&world, case.ask).unwrap_or(world);
    let engine = Engine::of(&world, case.trust_domain);
    engine.is_ok_and(|it| it.decide(case.ask, case.caller).verdict == Verdict::Allow)
}

/// Whether an intention that covers the caller requires a token.
pub fn requires_token(case: &Case<'_>) -> bool {
    let Some(caller) = case.caller.service.as_deref() else { return false };
    intentions(case.world, &case.ask.destination).iter().filter(|it| covers(it.source, caller)).any(|it| {
        let own = match it.rule {
            Rule::Permissions(permissions) => permissions.iter().any(|it| it.jwt.is_some()),
            Rule::Action(_) => false,
        };
        own || it.jwt.is_some()
    })
}

/// Whether a source covers a caller, its dots read as a regular expression's.
fn covers(source: &str, caller: &str) -> bool {
    let same = |(pattern, byte): (u8, u8)| pattern == b'.' || pattern == byte;
    source == "*" || source.len() == caller.len() && source.bytes().zip(caller.bytes()).all(same)
}
