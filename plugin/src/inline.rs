//! Inline mode: the whole policy inside the middleware's configuration, for set-ups without a sidecar.
//!
//! It goes the same way as any policy: read, compiled into a snapshot, decided on from the snapshot's bytes. Only where
//! the bytes lie differs.

use crate::{
    config::{Keys, Misconfigured},
    lenient,
};
use portcullis_authoring::{compile, read};
use portcullis_policy::{Action, PolicySettings, Severity};
use serde_json::Value;
use std::collections::BTreeMap;

/// What problems name as the place.
const PLACE: &str = "policy";

/// An inline policy as the configuration gives it, not yet compiled.
#[derive(Debug, PartialEq)]
pub struct Inline {
    settings: PolicySettings,
    entries: Vec<Value>,
}

impl Inline {
    /// Reads the `policy` setting: a text that holds JSON, or the structure itself.
    pub(crate) fn read(policy: Value, warnings: &mut Vec<String>) -> Result<Self, Misconfigured> {
        let policy = match policy {
            // The exact form: what is inside a text keeps its types whatever the provider does to scalars.
            // (Read from bytes like the configuration itself, so that the module holds one JSON reader and not two.)
            Value::String(text) => {
                serde_json::from_slice(text.as_bytes()).map_err(|error| unusable(&error.to_string()))?
            }
            mut structure => {
                lenient::restore(&mut structure);
                structure
            }
        };
        let Value::Object(given) = policy else { return Err(unusable("it is not an object")) };
        let mut keys = Keys::new(given, &["default", "trustDomains", "protocols", "entries"], warnings)?;
        let default = match keys.take("default").as_ref().map(lenient::text) {
            None => Action::Deny,
            Some(Some(word)) if word == Action::Deny.as_str() => Action::Deny,
            Some(Some(word)) if word == Action::Allow.as_str() => Action::Allow,
            Some(_) => return Err(unusable("`default` must be `allow` or `deny`")),
        };
        let trust_domains = match keys.take("trustDomains").as_ref().map(lenient::list) {
            None => Vec::new(),
            Some(Some(domains)) => domains.into_iter().map(|domain| domain.to_ascii_lowercase()).collect(),
            Some(None) => return Err(unusable("`trustDomains` must be a list of texts")),
        };
        let mut protocols = BTreeMap::new();
        match keys.take("protocols") {
            None => {}
            Some(Value::Object(given)) => {
                for (name, protocol) in given {
                    let text = lenient::text(&protocol).ok_or_else(|| unusable("`protocols` must hold texts"))?;
                    protocols.insert(name, text);
                }
            }
            Some(_) => return Err(unusable("`protocols` must map names to texts")),
        }
        let entries = match keys.take("entries") {
            None => Vec::new(),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err(unusable("`entries` must be a list of config entries")),
        };
        Ok(Self { settings: PolicySettings { default, trust_domains, protocols }, entries })
    }

    /// Compiles the policy. What is broken denies its own scope and is worth a line each (the second value); what has no
    /// known scope makes the whole unusable.
    pub fn compile(&self) -> Result<(Vec<u8>, Vec<String>), Misconfigured> {
        let values: Vec<_> = self
            .entries
            .iter()
            .enumerate()
            .map(|(n, entry)| (format!("{PLACE}.entries[{n}]"), entry.clone()))
            .collect();
        let (policy, mut problems) = read::entries(&values, self.settings.clone());
        // There is one generation only: a changed configuration is a new middleware with new instances.
        let (bytes, more) = compile(&policy, 1, 0);
        problems.extend(more);
        if let Some(fatal) = problems.iter().find(|problem| problem.severity == Severity::Fatal) {
            return Err(unusable(&fatal.to_string()));
        }
        Ok((bytes, problems.iter().map(ToString::to_string).collect()))
    }
}

fn unusable(what: &str) -> Misconfigured {
    Misconfigured::Policy(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn inline(policy: Value) -> Result<Inline, Misconfigured> {
        Inline::read(policy, &mut Vec::new())
    }

    #[test]
    fn a_text_and_a_structure_mean_the_same() {
        let policy = json!({"default": "allow", "trustDomains": ["A.consul", "b.consul"],
            "entries": [{"Kind": "service-intentions", "Name": "db"}]});
        let text = inline(Value::String(policy.to_string())).unwrap();
        assert_eq!(inline(policy).unwrap(), text);
        assert_eq!(text.settings.default, Action::Allow);
        assert_eq!(text.settings.trust_domains, ["a.consul", "b.consul"]);
        assert_eq!(text.entries.len(), 1);
        let leaked = json!({"DEFAULT": "allow", "trustdomains": "║24║a.consul║b.consul",
            "entries": [{"Kind": "service-intentions", "Name": "db"}]});
        assert_eq!(inline(leaked).unwrap(), text);
    }

    #[test]
    fn what_is_not_said_denies() {
        assert_eq!(inline(json!({})).unwrap(), Inline { settings: PolicySettings::default(), entries: Vec::new() });
    }

    #[test]
    fn another_shape_is_refused() {
        for bad in
            [json!("{"), json!([]), json!({"default": "Allow"}), json!({"entries": {}}), json!({"trustDomains": {}})]
        {
            assert!(inline(bad.clone()).is_err(), "{bad}");
        }
    }
}
