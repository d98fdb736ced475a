//! What callers are known by in every policy: API keys and the names of local trust domains.

use portcullis_policy::{
    model::Policy,
    problem::{Problem, Severity},
    snapshot::{
        Writer,
        record::{ApiKeyRecord, Key, TrustDomain},
    },
};

/// The local trust domains, without roots.
pub(super) fn local_trust_domains(policy: &Policy) -> Vec<TrustDomain> {
    let domains = policy.settings.trust_domains.iter();
    domains.map(|name| TrustDomain { name: name.clone(), peer: None }).collect()
}

/// Adds the API keys. Two of one id: which is meant is not known, so neither is accepted.
pub(super) fn add_api_keys(policy: &Policy, writer: &mut Writer, problems: &mut Vec<Problem>) {
    for key in &policy.api_keys {
        let record = ApiKeyRecord { source: (&key.source).into(), salt: key.salt.clone(), hash: Some(key.hash) };
        if writer.add(Key::ApiKey(&key.id), &record).is_err() {
            problems.push(Problem {
                severity: Severity::Error,
                at: format!("api-key/{}", key.id),
                what: "this key id is defined twice; neither is accepted".to_owned(),
                hint: "make a new key for one of them: portcullis key new".to_owned(),
            });
            let _ = writer.put(Key::ApiKey(&key.id), &ApiKeyRecord { hash: None, ..record });
        }
    }
}
