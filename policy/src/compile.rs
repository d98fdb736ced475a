//! From what people authored to a snapshot. Never more permissive than what was written: what cannot be compiled is denied
//! in its own scope and reported.

use std::collections::{BTreeMap, btree_map::Entry};

use crate::{
    candidates::Name,
    model::{Intention, Policy, ServiceName, Source, SourceRule, WILDCARD},
    problem::{Problem, Severity},
    snapshot::{
        Writer,
        record::{ApiKeyRecord, Body, IntentionRecord, Key, PermissionRecord, Settings},
    },
};

/// Compiles a policy into the bytes of a snapshot. `generation` must differ from that of every other snapshot that a
/// gateway may have seen; `created_ms` is in milliseconds since the Unix epoch.
pub fn compile(policy: &Policy, generation: u64, created_ms: u64) -> (Vec<u8>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut writer = Writer::default();
    let mut broken: Vec<&ServiceName> =
        policy.intentions.iter().filter(|it| it.broken).map(|it| &it.destination).collect();
    broken.sort();
    broken.dedup();

    for ((destination, source), record) in intention_records(policy, &mut problems) {
        let key = Key::Intention { destination: destination.into(), source: source.into() };
        if writer.add(key, &record).is_err() {
            problems.push(too_large(&record.rule));
            // A broken record is small: this cannot fail again unless the name itself is too long, which readers refuse.
            let broken = IntentionRecord { rule: record.rule, body: Body::Broken };
            let _ = writer.add(key, &broken);
        }
    }
    for destination in &broken {
        let _ = writer.add(Key::Broken(Name::from(*destination)), &());
    }
    for (id, record) in api_key_records(policy, &mut problems) {
        let _ = writer.add(Key::ApiKey(id), &record);
    }

    let settings = Settings {
        default: policy.settings.default,
        trust_domains: policy.settings.trust_domains.clone(),
        namespace_wildcards: policy.intentions.iter().any(has_namespace_wildcard),
        broken_destinations: !broken.is_empty(),
    };
    (writer.finish(&settings, generation, created_ms), problems)
}

type ByNames<'a> = BTreeMap<(&'a ServiceName, &'a ServiceName), IntentionRecord>;

fn intention_records<'a>(policy: &'a Policy, problems: &mut Vec<Problem>) -> ByNames<'a> {
    let mut records = ByNames::new();
    for intention in &policy.intentions {
        for source in &intention.sources {
            let rule = rule_name(&intention.destination, &source.source);
            let body = body(policy, intention, source, &rule, problems);
            match records.entry((&intention.destination, &source.source)) {
                Entry::Vacant(place) => {
                    place.insert(IntentionRecord { rule, body });
                }
                Entry::Occupied(mut place) => {
                    problems.push(Problem {
                        severity: Severity::Error,
                        at: rule,
                        what: "this source is defined twice for this destination; it is denied".to_owned(),
                        hint: "keep one of the two".to_owned(),
                    });
                    place.get_mut().body = Body::Broken;
                }
            }
        }
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
            let record = |it: &crate::model::Permission| PermissionRecord {
                action: it.action,
                path: it.path.clone(),
                methods: it.methods.clone(),
            };
            Body::Permissions(permissions.iter().map(record).collect())
        }
    }
}

fn api_key_records<'a>(policy: &'a Policy, problems: &mut Vec<Problem>) -> BTreeMap<&'a str, ApiKeyRecord> {
    let mut records = BTreeMap::new();
    let mut twice = Vec::new();
    for key in &policy.api_keys {
        let record = ApiKeyRecord {
            partition: key.source.partition.clone(),
            namespace: key.source.namespace.clone(),
            name: key.source.name.clone(),
            salt: key.salt.clone(),
            hash: key.hash,
        };
        if records.insert(key.id.as_str(), record).is_some() {
            twice.push(key.id.as_str());
        }
    }
    for id in twice {
        // Which of the two is meant is not known, so neither is.
        if records.remove(id).is_some() {
            problems.push(Problem {
                severity: Severity::Error,
                at: format!("api-key/{id}"),
                what: "this key id is defined twice; neither is accepted".to_owned(),
                hint: "make a new key for one of them: portcullis key new".to_owned(),
            });
        }
    }
    records
}

/// The stable name of a source's rule, as it appears in logs, headers and tests.
pub fn rule_name(destination: &ServiceName, source: &ServiceName) -> String {
    format!("service-intentions/{destination}/sources/{source}")
}

fn has_namespace_wildcard(intention: &Intention) -> bool {
    let wild = |name: &ServiceName| name.namespace == WILDCARD;
    wild(&intention.destination) || intention.sources.iter().any(|source| wild(&source.source))
}

fn too_large(rule: &str) -> Problem {
    Problem {
        severity: Severity::Error,
        at: rule.to_owned(),
        what: "the rule is too large for a snapshot; it is denied".to_owned(),
        hint: "split the destination, or use fewer permissions".to_owned(),
    }
}
