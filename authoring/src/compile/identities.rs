//! What callers are known by in every policy: API keys and the names of local trust domains.

use std::collections::BTreeMap;

use portcullis_policy::{
    model::Policy,
    problem::{Problem, Severity},
    snapshot::record::{ApiKeyRecord, TrustDomain},
};

/// The local trust domains, without roots.
pub(super) fn local_trust_domains(policy: &Policy) -> Vec<TrustDomain> {
    let domains = policy.settings.trust_domains.iter();
    domains.map(|name| TrustDomain { name: name.clone(), peer: None }).collect()
}

/// The API keys by their ids. Two of one id: which is meant is not known, so neither is.
pub(super) fn api_keys<'a>(policy: &'a Policy, problems: &mut Vec<Problem>) -> BTreeMap<&'a str, ApiKeyRecord> {
    let mut records = BTreeMap::new();
    let mut twice = Vec::new();
    for key in &policy.api_keys {
        let record = ApiKeyRecord { source: (&key.source).into(), salt: key.salt.clone(), hash: key.hash };
        if records.insert(key.id.as_str(), record).is_some() {
            twice.push(key.id.as_str());
        }
    }
    for id in twice {
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
