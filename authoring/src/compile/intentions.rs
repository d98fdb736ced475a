//! Intentions as records: one for each pair of destination and source.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use portcullis_policy::{
    model::{Intention, Mode, PathMatch, Permission, Policy, Requirement, ServiceName, Source, SourceRule},
    path,
    problem::{Problem, Severity},
    snapshot::record::{Body, DestinationRecord, IntentionRecord},
};

type ByNames<'a> = BTreeMap<(&'a ServiceName, &'a ServiceName), IntentionRecord>;

/// The records by destination and source.
pub(super) fn records<'a>(policy: &'a Policy, problems: &mut Vec<Problem>) -> ByNames<'a> {
    let mut records = ByNames::new();
    for intention in &policy.intentions {
        check_providers(policy, intention, problems);
        for source in &intention.sources {
            let rule = rule_name(&intention.destination, &source.source);
            let body = body(policy, intention, source, &rule, problems);
            match records.entry((&intention.destination, &source.source)) {
                Entry::Vacant(place) => {
                    let (mode, jwt) = (source.mode, intention.jwt.clone());
                    place.insert(IntentionRecord { rule, mode, jwt, body });
                }
                Entry::Occupied(mut place) => {
                    problems.push(Problem {
                        severity: Severity::Error,
                        at: rule,
                        what: "this source is defined twice for this destination; it is denied".to_owned(),
                        hint: "keep one of the two".to_owned(),
                    });
                    let record = place.get_mut();
                    (record.mode, record.body) = (Mode::Enforce, Body::Broken);
                }
            }
        }
    }
    records
}

/// What holds for destinations whoever calls. All that have an entry are listed as soon as one of them has something to
/// say, so that the entry of one destination hides that of all.
pub(super) fn destinations(policy: &Policy) -> BTreeMap<&ServiceName, DestinationRecord> {
    let mut records: BTreeMap<_, DestinationRecord> = BTreeMap::new();
    for intention in &policy.intentions {
        let new = DestinationRecord { broken: intention.broken, mode: intention.mode };
        let both = |old: DestinationRecord| DestinationRecord {
            broken: old.broken || new.broken,
            // Two entries that do not agree: the harder counts.
            mode: if old.mode == new.mode { old.mode } else { Mode::Enforce },
        };
        records.entry(&intention.destination).and_modify(|old| *old = both(*old)).or_insert(new);
    }
    if records.values().all(|it| !it.broken && it.mode != Mode::Shadow) {
        records.clear();
    }
    records
}

fn body(policy: &Policy, intention: &Intention, source: &Source, rule: &str, problems: &mut Vec<Problem>) -> Body {
    match &source.rule {
        SourceRule::Broken => Body::Broken,
        SourceRule::Action(action) => Body::Action(*action),
        SourceRule::Permissions(permissions) => {
            let protocol = policy.settings.protocols.get(&intention.destination.name).map_or("http", String::as_str);
            if !matches!(protocol, "http" | "http2" | "grpc") {
                problems.push(Problem {
                    severity: Severity::Error,
                    at: rule.to_owned(),
                    what: format!("permissions need an HTTP protocol, the destination's is `{protocol}`; it is denied"),
                    hint: "set Protocol to http in the destination's service-defaults, or use Action".to_owned(),
                });
                return Body::Broken;
            }
            Body::Permissions(permissions.iter().map(permission).collect())
        }
    }
}

/// A permission as it is compared: with the escapes of its path spelled as those of a canonical path.
fn permission(permission: &Permission) -> Permission {
    let spelled = |text: &str| path::canonical_rule(text).into_owned();
    let path = permission.path.as_ref().map(|path| match path {
        PathMatch::Exact(text) => PathMatch::Exact(spelled(text)),
        PathMatch::Prefix(text) => PathMatch::Prefix(spelled(text)),
        PathMatch::Regex(pattern) => PathMatch::Regex(pattern.clone()),
    });
    Permission { path, ..permission.clone() }
}

/// Reports requirements that nobody can meet. They are kept: what they guard stays closed (consul-policy §4.6).
fn check_providers(policy: &Policy, intention: &Intention, problems: &mut Vec<Problem>) {
    let permissions = intention.sources.iter().flat_map(|source| match &source.rule {
        SourceRule::Permissions(permissions) => permissions.as_slice(),
        SourceRule::Action(_) | SourceRule::Broken => &[],
    });
    let requirements = permissions.filter_map(|it| it.jwt.as_ref()).chain(&intention.jwt);
    let names: BTreeSet<_> = requirements.flat_map(Requirement::provider_names).collect();
    for name in names {
        if !policy.providers.iter().any(|provider| provider.name == name) {
            problems.push(Problem {
                severity: Severity::Error,
                at: format!("service-intentions/{}", intention.destination),
                what: format!("there is no jwt-provider `{name}`; what requires it is denied"),
                hint: "write the jwt-provider, or correct the name".to_owned(),
            });
        }
    }
}

/// The stable name of a source's rule, as it appears in logs, headers and tests.
pub fn rule_name(destination: &ServiceName, source: &ServiceName) -> String {
    format!("service-intentions/{destination}/sources/{source}")
}
