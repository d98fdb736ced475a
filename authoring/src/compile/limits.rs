//! Limits as records: one list for each destination, as it is written.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_policy::{
    limit::{
        rule::{Callers, Cost, Criteria, KeyPart, Limit},
        wire::LimitList,
    },
    model::{Mode, Policy, ServiceName},
    problem::{Problem, Severity},
    snapshot::{Writer, record::Key},
};

use super::intentions;

/// Adds a record for each destination that has limits; returns whether any of them looks at the client's address.
pub(super) fn add(policy: &Policy, writer: &mut Writer, problems: &mut Vec<Problem>) -> bool {
    let mut by_destination: BTreeMap<&ServiceName, Vec<Limit>> = BTreeMap::new();
    for entry in &policy.limits {
        let limits = by_destination.entry(&entry.destination).or_default();
        limits.extend(entry.limits.iter().map(limit));
    }
    let mut by_address = false;
    for (destination, mut limits) in by_destination {
        refuse_twins(&mut limits, problems);
        for limit in &limits {
            check_providers(policy, limit, problems);
        }
        by_address |= limits.iter().any(looks_at_address);
        if writer.add(Key::Limits(destination.into()), &LimitList(limits)).is_err() {
            let rule = format!("rate-limits/{destination}");
            problems.push(Problem {
                severity: Severity::Error,
                at: rule.clone(),
                what: "the limits are too large for a snapshot; the whole destination is refused".to_owned(),
                hint: "use fewer limits, or shorter regexes".to_owned(),
            });
            let name = "rate-limits".to_owned();
            let _ = writer
                .put(Key::Limits(destination.into()), &LimitList(vec![Limit { name, ..Limit::unreadable(rule) }]));
        }
    }
    by_address
}

/// A limit as it is compared: with the escapes of its paths spelled as those of a canonical path.
fn limit(limit: &Limit) -> Limit {
    let criteria = |it: &Criteria| Criteria { path: it.path.as_ref().map(intentions::spelled), ..it.clone() };
    Limit {
        matches: limit.matches.iter().map(criteria).collect(),
        costs: limit.costs.iter().map(|it| Cost { criteria: criteria(&it.criteria), cost: it.cost }).collect(),
        ..limit.clone()
    }
}

/// Two limits of one name would take from each other's buckets: what they cover is refused.
fn refuse_twins(limits: &mut [Limit], problems: &mut Vec<Problem>) {
    let mut names = BTreeSet::new();
    let twice: BTreeSet<_> =
        limits.iter().filter(|it| !names.insert(it.rule.clone())).map(|it| it.rule.clone()).collect();
    for limit in limits.iter_mut().filter(|it| twice.contains(&it.rule)) {
        *limit = Limit { name: limit.name.clone(), ..Limit::unreadable(limit.rule.clone()) };
    }
    problems.extend(twice.into_iter().map(|rule| Problem {
        severity: Severity::Error,
        at: rule,
        what: "this limit is defined twice; the whole destination is refused".to_owned(),
        hint: "give each limit of a destination a Name of its own".to_owned(),
    }));
}

/// Reports claims that no token can make: their limits are kept, and every request falls into the bucket of all whose key
/// cannot be read.
fn check_providers(policy: &Policy, limit: &Limit, problems: &mut Vec<Problem>) {
    if limit.mode == Mode::Off {
        return;
    }
    let in_key = limit.key.iter().filter_map(|part| match part {
        KeyPart::Claim { provider, .. } => Some((provider, "all requests share one bucket")),
        _ => None,
    });
    let in_tiers = limit.tiers.iter().filter_map(|tier| Some((&tier.claim.as_ref()?.provider, "the tier is nobody's")));
    for (name, consequence) in in_key.chain(in_tiers) {
        if !policy.providers.iter().any(|provider| provider.name == *name) {
            problems.push(Problem {
                severity: Severity::Error,
                at: limit.rule.clone(),
                what: format!("there is no jwt-provider `{name}`; {consequence}"),
                hint: "write the jwt-provider, or correct the name".to_owned(),
            });
        }
    }
}

fn looks_at_address(limit: &Limit) -> bool {
    let in_network = |it: &Callers| matches!(it, Callers::Network { .. });
    limit.key.iter().any(|part| matches!(part, KeyPart::ClientAddress { .. }))
        || limit.exempt.iter().chain(&limit.sources).any(in_network)
        || limit.tiers.iter().flat_map(|tier| &tier.sources).any(in_network)
}
