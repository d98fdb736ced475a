//! From what people authored to a snapshot. Never more permissive than what was written: what cannot be compiled is denied
//! in its own scope and reported.

#[cfg(feature = "full")]
mod full;
mod identities;
mod intentions;

use portcullis_policy::{
    candidates::Name,
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
    let settings = Settings {
        default: policy.settings.default,
        trust_domains: identities::local_trust_domains(policy),
        identities: None,
        normalization: policy.normalization.clone(),
        underscores: policy.underscores,
        reserved_headers: Vec::new(),
        networks_v4: Vec::new(),
        networks_v6: Vec::new(),
        namespace_wildcards: policy.intentions.iter().any(has_namespace_wildcard),
    };
    #[cfg(feature = "full")]
    let settings = full::add(policy, settings, &mut writer, &mut problems);
    (writer.finish(&settings, generation, created_ms), problems)
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
