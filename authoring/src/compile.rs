//! From what people authored to a snapshot. Never more permissive than what was written: what cannot be compiled is denied
//! in its own scope and reported.

#[cfg(feature = "full")]
mod full;
mod identities;
mod intentions;
#[cfg(feature = "full")]
mod limits;

use portcullis_policy::{
    candidates::Name,
    model::{Intention, Policy, WILDCARD},
    problem::Problem,
    snapshot::{
        Writer,
        record::{Key, Settings},
    },
};

pub use self::intentions::rule_name;

/// Compiles a policy into the bytes of a snapshot. `generation` must differ from that of every other snapshot that a
/// gateway may have seen; `created_ms` is in milliseconds since the Unix epoch.
pub fn compile(policy: &Policy, generation: u64, created_ms: u64) -> (Vec<u8>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut writer = Writer::default();

    intentions::add(policy, &mut writer, &mut problems);
    let destinations = intentions::destinations(policy);
    for (destination, record) in &destinations {
        let _ = writer.add(Key::Destination(Name::from(*destination)), record);
    }
    identities::add_api_keys(policy, &mut writer, &mut problems);
    let settings = Settings {
        default: policy.settings.default,
        trust_domains: identities::local_trust_domains(policy),
        identities: None,
        normalization: policy.normalization,
        underscores: policy.underscores,
        reserved_headers: Vec::new(),
        networks_v4: Vec::new(),
        networks_v6: Vec::new(),
        namespace_wildcards: policy.intentions.iter().any(has_namespace_wildcard),
        limits_by_address: false,
    };
    #[cfg(feature = "full")]
    let settings = full::add(policy, &settings, &mut writer, &mut problems);
    let bytes = writer.finish(&settings, generation, created_ms);
    #[cfg(feature = "full")]
    if let Err(why) = portcullis_policy::Snapshot::open(bytes.as_slice()) {
        problems.push(Problem {
            severity: portcullis_policy::Severity::Fatal,
            at: "settings".to_owned(),
            what: format!("the snapshot could not be read: {why}"),
            hint: "there are too many trust domains or identity forms".to_owned(),
        });
    }
    (bytes, problems)
}

fn has_namespace_wildcard(intention: &Intention) -> bool {
    let sources = intention.sources.iter().map(|it| &it.source);
    sources.chain([&intention.destination]).any(|name| name.namespace == WILDCARD)
}
