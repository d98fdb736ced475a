//! The differences that are documented, each with a condition as narrow as can be told from policy and request.
//!
//! A difference that no class explains fails the test. A class whose direction is [`Difference::Milder`] is one where
//! Consul's documentation is on our side, or where the request never reaches the gateway's plugin either.
//! `docs/differences.md` shows this table to users; a test holds the two together.

use portcullis_policy::Verdict;

use super::compare::{Case, Difference};
use super::mesh::Seen;
use super::{target, translation};

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

fn sidecars_verdict(case: &Case<'_>) -> Verdict {
    match case.seen {
        Seen::Passed(_) => Verdict::Allow,
        Seen::Refused(_) => Verdict::Deny,
    }
}

fn identity(case: &Case<'_>) -> bool {
    case.ours.status == 401 && case.ours.rule == "credential" && case.caller.service.is_none()
}

fn source_order(case: &Case<'_>) -> bool {
    translation::is_out_of_order(case) && translation::verdict(case) == Some(sidecars_verdict(case))
}

fn name_as_pattern(case: &Case<'_>) -> bool {
    translation::is_covered_by_pattern(case)
        && translation::verdict(case)
            .map_or_else(|| target::is_ambiguous(&case.ask.target), |it| it == sidecars_verdict(case))
}

fn not_http(case: &Case<'_>) -> bool {
    matches!(case.seen, Seen::Refused(0 | 400 | 404))
        && (!target::is_known_method(&case.ask.method) || target::is_not_http(&case.ask.target))
}
