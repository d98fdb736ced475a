//! Intentions as records: one for each pair of destination and source.

use std::collections::BTreeMap;

use portcullis_policy::{
    model::{Intention, Mode, PathMatch, Permission, Policy, Requirement, ServiceName, Source, SourceRule, WILDCARD},
    path,
    problem::{Problem, Severity},
    snapshot::{
        NotAdded, Writer,
        record::{Body, DestinationRecord, IntentionRecord, Key},
    },
};

/// Adds a record for each source of each entry.
pub(super) fn add(policy: &Policy, writer: &mut Writer, problems: &mut Vec<Problem>) {
    for intention in &policy.intentions {
        check_providers(policy, intention, problems);
        for source in &intention.sources {
            let rule = rule_name(&intention.destination, &source.source);
            let body = body(policy, intention, source, &rule, problems);
            let key = Key::Intention { destination: (&intention.destination).into(), source: (&source.source).into() };
            let record = IntentionRecord { rule, mode: source.mode, jwt: intention.jwt.clone(), body };
            let Err(why) = writer.add(key, &record) else { continue };
            problems.push(Problem {
                severity: Severity::Error,
                at: record.rule.clone(),
                what: format!("{why}; this source is denied"),
                hint: match why {
                    NotAdded::Twice => "keep one of the two".to_owned(),
                    NotAdded::TooLarge => "split the destination, or use fewer permissions".to_owned(),
                },
            });
            // A broken record is small: this cannot fail unless the name itself is too long, which readers refuse.
            let broken = IntentionRecord { mode: Mode::Enforce, jwt: None, body: Body::Broken, ..record };
            let _ = writer.put(key, &broken);
        }
    }
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
    let in_shadow = |it: &Intention| it.sources.iter().any(|source| source.mode == Mode::Shadow);
    let is_plain = records.values().all(|it| !it.broken && it.mode != Mode::Shadow);
    if is_plain && !policy.intentions.iter().any(in_shadow) {
        records.clear();
    }
    records
}

fn body(policy: &Policy, intention: &Intention, source: &Source, rule: &str, problems: &mut Vec<Problem>) -> Body {
    match &source.rule {
        SourceRule::Broken => Body::Broken,
        SourceRule::Action(action) => Body::Action(*action),
        SourceRule::Permissions(permissions) => {
            let protocols = &policy.settings.protocols;
            let protocol = protocols.get(&intention.destination.name).or_else(|| protocols.get(WILDCARD));
            let protocol = protocol.map_or("http", String::as_str);
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
    Permission { path: permission.path.as_ref().map(spelled), ..permission.clone() }
}

/// A path criterion with its escapes spelled as those of a canonical path.
pub(super) fn spelled(path: &PathMatch) -> PathMatch {
    let spelled = |text: &str| path::canonical_rule(text).into_owned();
    match path {
        PathMatch::Exact(text) => PathMatch::Exact(spelled(text)),
        PathMatch::Prefix(text) => PathMatch::Prefix(spelled(text)),
        PathMatch::Regex(pattern) => PathMatch::Regex(pattern.clone()),
    }
}

/// Reports requirements that nobody can meet. They are kept: what they guard stays closed (consul-policy §4.6).
fn check_providers(policy: &Policy, intention: &Intention, problems: &mut Vec<Problem>) {
    let permissions = intention.sources.iter().flat_map(|source| match &source.rule {
        SourceRule::Permissions(permissions) => permissions.as_slice(),
        SourceRule::Action(_) | SourceRule::Broken => &[],
    });
    let requirements = permissions.filter_map(|it| it.jwt.as_ref()).chain(&intention.jwt);
    let mut told: Vec<&str> = Vec::new();
    for name in requirements.flat_map(Requirement::provider_names) {
        if !told.contains(&name) && !policy.providers.iter().any(|provider| provider.name == name) {
            told.push(name);
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
