//! From what people authored to a snapshot. Never more permissive than what was written: what cannot be compiled is denied
//! in its own scope and reported.

mod identities;
mod intentions;

use std::collections::BTreeSet;

use crate::{
    candidates::Name,
    jwt,
    model::{Intention, Policy, WILDCARD},
    problem::{Problem, Severity},
    snapshot::{
        Writer,
        record::{Body, IntentionRecord, Key, Settings},
    },
};

pub use self::intentions::rule_name;

/// Compiles a policy into the bytes of a snapshot. `generation` must differ from that of every other snapshot that a
/// gateway may have seen; `created_ms` is in milliseconds since the Unix epoch.
pub fn compile(policy: &Policy, generation: u64, created_ms: u64) -> (Vec<u8>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut writer = Writer::default();

    for ((destination, source), record) in intentions::records(policy, &mut problems) {
        let key = Key::Intention { destination: destination.into(), source: source.into() };
        if writer.add(key, &record).is_err() {
            problems.push(too_large(&record.rule, "the rule", "split the destination, or use fewer permissions"));
            // A broken record is small: this cannot fail again unless the name itself is too long, which readers refuse.
            let _ = writer.add(key, &IntentionRecord { body: Body::Broken, jwt: None, ..record });
        }
    }
    let destinations = intentions::destinations(policy);
    for (destination, record) in &destinations {
        let _ = writer.add(Key::Destination(Name::from(*destination)), record);
    }
    for (id, record) in identities::api_keys(policy, &mut problems) {
        let _ = writer.add(Key::ApiKey(id), &record);
    }
    let reserved_headers = add_providers(policy, &mut writer, &mut problems);
    let trust_domains = identities::trust_domains(policy, &mut writer, &mut problems);
    let (networks_v4, networks_v6) = identities::add_networks(policy, &mut writer, &mut problems);
    let identities = identities::add_orders(policy, &mut writer, &mut problems);

    let settings = Settings {
        default: policy.settings.default,
        trust_domains,
        identities,
        normalization: policy.normalization.clone(),
        underscores: policy.underscores,
        reserved_headers,
        networks_v4,
        networks_v6,
        namespace_wildcards: policy.intentions.iter().any(has_namespace_wildcard),
    };
    (writer.finish(&settings, generation, created_ms), problems)
}

/// Adds the JWT providers; returns the headers in which they forward payloads.
fn add_providers(policy: &Policy, writer: &mut Writer, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut reserved = BTreeSet::new();
    let mut names = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for provider in &policy.providers {
        if !names.insert(provider.name.as_str()) {
            twice.insert(provider.name.as_str());
        }
    }
    for provider in &policy.providers {
        let keys = policy.key_sets.get(&provider.name).map(Vec::as_slice);
        let record = jwt::compile(provider, keys, problems);
        reserved.extend(record.stripped_header().map(str::to_ascii_lowercase));
        if twice.contains(provider.name.as_str()) {
            continue;
        }
        if writer.add(Key::Provider(&provider.name), &record).is_err() {
            let place = format!("jwt-provider/{}", provider.name);
            problems.push(too_large(&place, "the provider", "remove keys that are not in use"));
        }
    }
    for name in twice {
        problems.push(Problem {
            severity: Severity::Error,
            at: format!("jwt-provider/{name}"),
            what: "this provider is defined twice; no token of it is accepted".to_owned(),
            hint: "keep one of the two".to_owned(),
        });
    }
    reserved.into_iter().collect()
}

fn has_namespace_wildcard(intention: &Intention) -> bool {
    let sources = intention.sources.iter().map(|it| &it.source);
    sources.chain([&intention.destination]).any(|name| name.namespace == WILDCARD)
}

fn too_large(at: &str, what: &str, hint: &str) -> Problem {
    Problem {
        severity: Severity::Error,
        at: at.to_owned(),
        what: format!("{what} is too large for a snapshot; it is denied"),
        hint: hint.to_owned(),
    }
}
