//! The differences that are documented, each with a condition as narrow as can be told from policy and request.
//!
//! A difference that no class explains fails the test. A class whose direction is [`Difference::Milder`] is one where
//! Consul's documentation is on our side, or where the request never reaches the gateway's plugin either.
//! `docs/differences.md` shows this table to users; a test holds the two together.

use portcullis_policy::Verdict;

use super::compare::{Case, Difference};
use super::mesh::Seen;
use super::ours::Engine;
use super::policy::World;
use super::target;

/// A documented difference.
#[derive(Debug, Clone, Copy)]
pub struct Class {
    /// Its name in reports.
    pub name: &'static str,
    /// Which way we may differ.
    pub directions: &'static [Difference],
    /// What Consul's sidecar does.
    pub consul: &'static str,
    /// What we do.
    pub ours: &'static str,
    /// Why.
    pub why: &'static str,
    /// Whether it explains a case. Called for differences in one of the directions only.
    holds: fn(&Case<'_>) -> bool,
}

use Difference::{Milder, Stricter};

/// All of them. The first that explains a difference counts it.
pub const CLASSES: &[Class] = &[
    Class {
        name: "identity",
        directions: &[Stricter],
        consul: "A certificate that no intention's source covers falls to the default: under `allow`, agents, gateways, other \
            trust domains, namespaces and partitions, misspelt IDs and certificates without a URI name pass, even where `*` \
            is denied. Of several URI names, any one that an intention covers counts.",
        ours: "Refused with 401 before any intention is asked, unless the certificate has exactly one URI name, and that \
            names a service in a trust domain that is configured.",
        why: "Whoever is not known must not be better off than whoever is.",
        holds: identity,
    },
    Class {
        name: "ambiguous-path",
        directions: &[Stricter],
        consul: "Decides on the path after its own normalisation and forwards that.",
        ours: "Refuses with 400 a path that has more than one reading, where a rule needs the path.",
        why: "Backends disagree on what such a path means; a rule that holds for one reading only is a way around the rule.",
        holds: |case| case.ours.status == 400 && target::is_ambiguous(&case.ask.target),
    },
    Class {
        name: "source-order",
        directions: &[Stricter, Milder],
        consul: "An intention from any source to this service (precedence 8) and one from this source to any service (6) are \
            both in force: either allow is enough when the default is `deny`, either deny when it is `allow`.",
        ours: "The intention of higher precedence decides alone, as Consul documents it and as its own \
            `/v1/connect/intentions/check` answers.",
        why: "The order is what authors rely on.",
        holds: source_order,
    },
    Class {
        name: "name-as-pattern",
        directions: &[Stricter, Milder],
        consul: "The name of a source is put into a regular expression as it is, so that `a.b` covers the caller `axb`.",
        ours: "Names are compared whole and literally.",
        why: "`axb` is another service.",
        holds: name_as_pattern,
    },
    Class {
        name: "not-http",
        directions: &[Milder],
        consul: "Refuses unknown methods, raw control or non-ASCII bytes, `#` and `%00` with 400 before any rule is asked.",
        ours: "Where no rule needs the path or the method, the verdict does not depend on them; the gateway's own HTTP server \
            refuses or escapes what is not HTTP.",
        why: "What is not HTTP is the server's business.",
        holds: not_http,
    },
];

impl Class {
    /// The first class that explains a case with a difference.
    pub fn of(case: &Case<'_>, difference: Difference) -> Option<&'static Class> {
        CLASSES.iter().find(|it| it.directions.contains(&difference) && (it.holds)(case))
    }
}

/// What we would decide under another policy; `None` where that policy cannot be compiled.
fn verdict_under(case: &Case<'_>, world: &World) -> Option<Verdict> {
    let engine = Engine::of(world, case.trust_domain).ok()?;
    Some(engine.decide(case.ask, case.caller).verdict)
}

fn sidecars_verdict(case: &Case<'_>) -> Verdict {
    match case.seen {
        Seen::Passed(_) => Verdict::Allow,
        Seen::Refused(_) => Verdict::Deny,
    }
}

fn identity(case: &Case<'_>) -> bool {
    case.ours.status == 401 && case.ours.rule == "credential" && case.caller.service.is_none()
}

/// The sidecar combines what the two intentions say each by itself, by "or" for what is not the default.
fn source_order(case: &Case<'_>) -> bool {
    let Some(name) = case.caller.service.as_deref() else { return false };
    let (named, any) = (case.world.entry(&case.ask.destination), case.world.entry("*"));
    let (Some(named), Some(any)) = (named, any) else { return false };
    if named.source(name).is_some() || named.source("*").is_none() || any.source(name).is_none() {
        return false;
    }
    let without = |destination: &str, source: &str| {
        let mut world = case.world.clone();
        for entry in world.entries.iter_mut().filter(|it| it.destination == destination) {
            entry.sources.retain(|it| it.name != source);
        }
        world.entries.retain(|it| !it.sources.is_empty());
        verdict_under(case, &world)
    };
    let (Some(eight), Some(six)) = (without("*", name), without(&case.ask.destination, "*")) else { return false };
    let either = |verdict| if eight == verdict || six == verdict { verdict } else { eight };
    let combined = match case.world.default {
        portcullis_policy::Action::Deny => either(Verdict::Allow),
        portcullis_policy::Action::Allow => either(Verdict::Deny),
    };
    sidecars_verdict(case) == combined
}

/// The sidecar does what we would do if the policy's name were the caller's.
fn name_as_pattern(case: &Case<'_>) -> bool {
    let Some(name) = case.caller.service.as_deref() else { return false };
    let mut world = case.world.clone();
    let mut renamed = false;
    for entry in &mut world.entries {
        let taken = entry.source(name).is_some();
        for source in entry.sources.iter_mut().filter(|it| it.name != name && covers(&it.name, name)) {
            // Where the caller has an intention of its own, too, the two are in force together.
            if taken {
                return true;
            }
            name.clone_into(&mut source.name);
            renamed = true;
        }
    }
    renamed && (verdict_under(case, &world) == Some(sidecars_verdict(case)))
}

/// Whether a name with dots, read as a regular expression, covers another.
fn covers(pattern: &str, name: &str) -> bool {
    pattern.contains('.')
        && pattern.len() == name.len()
        && pattern.bytes().zip(name.bytes()).all(|(pattern, byte)| pattern == b'.' || pattern == byte)
}

fn not_http(case: &Case<'_>) -> bool {
    matches!(case.seen, Seen::Refused(0 | 400 | 404))
        && (!target::is_known_method(&case.ask.method) || target::is_not_http(&case.ask.target))
}
