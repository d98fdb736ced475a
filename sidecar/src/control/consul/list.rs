//! One of Consul's lists: where it is, what of its answer counts, and which right it takes.

use std::fmt;

use serde_json::{Value, json};

use crate::{
    consul::{ConsulError, pairs::Pair},
    control::config::ConsulPolicy,
    documents::{self, Document},
    sources::SourceError,
};

/// Kinds of config entries that say something about who may call whom.
const KINDS: [&str; 5] = ["service-intentions", "jwt-provider", "mesh", "service-defaults", "proxy-defaults"];
/// Kinds that keys may hold: ours. Whoever may write a key must not be able to write intentions by it.
const KEY_KINDS: [&str; 4] = ["rate-limits", "api-key", "identity", "network"];
/// Most keys.
const MAX_KEYS: usize = 10_000;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) enum List {
    /// Config entries of a kind.
    Entries(&'static str),
    /// The CA's roots with the trust domain.
    Roots,
    /// Everything below a prefix, which ends with a slash.
    Keys(String),
}

/// The list of keys, if they are read.
pub(in crate::control) fn keys(policy: &ConsulPolicy) -> Vec<List> {
    policy.keys.iter().cloned().map(List::Keys).collect()
}

/// All other lists that are read.
pub(in crate::control) fn entries(policy: &ConsulPolicy) -> Vec<List> {
    let entries = KINDS.into_iter().filter(|_| policy.intentions).map(List::Entries);
    entries.chain(policy.ca_roots.then_some(List::Roots)).collect()
}

// === impl List ===

impl List {
    pub(super) fn path(&self) -> String {
        match self {
            Self::Entries(kind) => format!("/v1/config/{kind}"),
            Self::Roots => "/v1/connect/ca/roots".to_owned(),
            Self::Keys(prefix) => format!("/v1/kv/{prefix}"),
        }
    }

    pub(super) fn query(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Entries(_) | Self::Roots => &[],
            Self::Keys(_) => &[("recurse", "")],
        }
    }

    /// What an answer says; `None` was a 404. `name` is Consul's.
    pub(super) fn documents(&self, name: &str, answer: Option<Value>) -> Result<Vec<Document>, ConsulError> {
        match self {
            Self::Entries(kind) => self.entries(name, kind, answer),
            Self::Roots => self.roots(name, answer),
            Self::Keys(prefix) => self.keys(name, prefix, answer),
        }
    }

    /// A fault with what to do about it here.
    pub(super) fn explain(&self, error: ConsulError) -> ConsulError {
        if error.transient { error } else { ConsulError { hint: self.right(), ..error } }
    }

    fn right(&self) -> &'static str {
        match self {
            Self::Entries("jwt-provider") => {
                "check the token; it needs mesh = \"read\" (deploy/consul/policy-read.hcl)"
            }
            Self::Entries("service-intentions") => {
                "check the token; it needs service_prefix \"\" with intentions = \"read\" (deploy/consul/policy-read.hcl)"
            }
            Self::Entries("service-defaults") => {
                "the token needs service_prefix \"\" with policy = \"read\" (deploy/consul/policy-read.hcl)"
            }
            Self::Entries(_) | Self::Roots => "check the token",
            Self::Keys(_) => {
                "check the token; it needs key_prefix with policy = \"read\" for the prefix (deploy/consul/policy-read.hcl)"
            }
        }
    }

    fn entries(&self, name: &str, kind: &str, answer: Option<Value>) -> Result<Vec<Document>, ConsulError> {
        let entries = match answer {
            Some(Value::Array(entries)) => entries,
            Some(Value::Null) => Vec::new(),
            _ => return Err(self.garbage("no list")),
        };
        let place = |entry: &Value| {
            let text = |key: &str| entry.get(key).and_then(Value::as_str);
            // There is one mesh, and it has no name.
            let own = text("Name").or((kind == "mesh").then_some("mesh"));
            own.filter(|_| text("Kind") == Some(kind)).map(|it| format!("{name}: {kind}/{it}"))
        };
        let documents = entries.into_iter().map(|entry| {
            // Consul gives all of them a kind and a name.
            place(&entry).map(|place| (place, entry)).ok_or_else(|| self.garbage(format!("an entry that is no {kind}")))
        });
        documents.collect()
    }

    fn roots(&self, name: &str, answer: Option<Value>) -> Result<Vec<Document>, ConsulError> {
        let Some(Value::Object(answer)) = answer else { return Err(self.garbage("no roots")) };
        let domain = answer.get("TrustDomain").and_then(Value::as_str).filter(|domain| !domain.is_empty());
        let roots = answer.get("Roots").filter(|it| it.as_array().is_some_and(|roots| !roots.is_empty()));
        let (Some(domain), Some(roots)) = (domain, roots) else {
            return Err(self.garbage("no trust domain, or no root of it"));
        };
        let certificates = roots.as_array().into_iter().flatten();
        let certificates: Vec<_> = certificates.map(|it| json!({"RootCert": it.get("RootCert")})).collect();
        let document = json!({"Kind": "ca-roots", "TrustDomain": domain, "Roots": certificates});
        Ok(vec![(format!("{name}: ca-roots/{domain}"), document)])
    }

    fn keys(&self, name: &str, prefix: &str, answer: Option<Value>) -> Result<Vec<Document>, ConsulError> {
        let Some(answer) = answer else { return Ok(Vec::new()) };
        let pairs: Vec<Pair> = serde_json::from_value(answer).map_err(|error| self.garbage(error.to_string()))?;
        if pairs.len() > MAX_KEYS {
            return Err(self.standing(
                format!("{} keys, more than {MAX_KEYS}", pairs.len()),
                "put several documents into one key",
            ));
        }
        let (mut documents, mut faults) = (Vec::new(), Vec::new());
        for pair in pairs {
            if !pair.key.starts_with(prefix) {
                return Err(self.garbage("a key of another folder"));
            }
            // Consul's own page makes folders as keys that end so.
            if pair.key.ends_with('/') {
                continue;
            }
            match self::value(&format!("{name}: {}", pair.key), &pair) {
                Ok(found) => documents.extend(found),
                Err(fault) => faults.push(fault.to_string()),
            }
        }
        if faults.is_empty() { Ok(documents) } else { Err(self.standing(faults.join("; "), "correct the key")) }
    }

    fn garbage(&self, what: impl Into<String>) -> ConsulError {
        ConsulError::passing(&self.path(), what, "check that the address is Consul's HTTP API; tried again")
    }

    fn standing(&self, what: String, hint: &'static str) -> ConsulError {
        ConsulError::standing(&self.path(), what, hint)
    }
}

/// The documents at a key.
fn value(place: &str, pair: &Pair) -> Result<Vec<Document>, SourceError> {
    let bytes = pair.bytes().map_err(|error| SourceError::new(place, error.to_string(), "write it again"))?;
    let text = String::from_utf8(bytes).map_err(|_| SourceError::new(place, "no UTF-8 text", "write YAML or JSON"))?;
    let found = documents::parse(place, &text)?;
    for (place, entry) in portcullis_authoring::read::entries_of(&found) {
        let kind = portcullis_authoring::read::subject(&entry).map(|about| about.kind);
        if !kind.is_some_and(|kind| KEY_KINDS.contains(&kind)) {
            let what = format!("a key holds {} only, with a name", KEY_KINDS.join(", "));
            return Err(SourceError::new(&place, what, "intentions belong into Consul's config entries"));
        }
    }
    Ok(found)
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entries(kind) => f.write_str(kind),
            Self::Roots => f.write_str("CA roots"),
            Self::Keys(prefix) => write!(f, "keys {prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;

    fn pair(key: &str, text: &str) -> Value {
        json!({"Key": key, "Value": STANDARD.encode(text), "ModifyIndex": 1, "Flags": 0})
    }

    fn keys(pairs: Value) -> Result<Vec<Document>, String> {
        let list = List::Keys("p/".to_owned());
        list.documents("consul", Some(pairs)).map_err(|error| error.to_string())
    }

    #[test]
    fn each_key_is_a_document_of_our_own_kinds() {
        let limits = "Kind: rate-limits\nName: api\nLimits: []\n";
        let found = keys(json!([pair("p/", ""), pair("p/limits", limits)])).unwrap();
        assert_eq!(found[0].0, "consul: p/limits");
        assert_eq!(found.len(), 1);
        assert_eq!(List::Keys("p/".to_owned()).documents("consul", None).unwrap(), []);
        for (value, what) in [
            ("Kind: service-intentions\nName: api\n", "a key holds rate-limits"),
            ("[{Kind: rate-limits, Name: a}, {Kind: ca-roots, TrustDomain: x}]", "a key holds rate-limits"),
            ("Kind: nothing", "a key holds rate-limits"),
            ("", "the file is empty"),
            ("{a", "correct the syntax"),
        ] {
            let error = keys(json!([pair("p/limits", limits), pair("p/x", value)])).unwrap_err();
            assert!(error.contains(what) && error.contains("p/x"), "{value}: {error}");
        }
        assert!(keys(json!([{"Key": "p/x", "Value": "//8=", "ModifyIndex": 1}])).unwrap_err().contains("no UTF-8"));
        assert!(keys(json!([pair("q/x", limits)])).unwrap_err().contains("another folder"));
        assert!(keys(json!([pair("p/x", limits), 7])).is_err());
        let many: Vec<_> = (0..=MAX_KEYS).map(|number| pair(&format!("p/{number}"), limits)).collect();
        assert!(keys(Value::Array(many)).unwrap_err().contains("more than 10000"));
    }

    #[test]
    fn an_answer_that_is_no_list_of_its_kind_is_garbage() {
        let list = List::Entries("service-intentions");
        let entry = json!({"Kind": "service-intentions", "Name": "a", "Hash": 18_446_744_073_709_551_615_u64});
        assert_eq!(list.documents("consul", Some(json!([entry]))).unwrap()[0].0, "consul: service-intentions/a");
        assert_eq!(list.documents("consul", Some(Value::Null)).unwrap(), []);
        for answer in
            [None, Some(json!({})), Some(json!([{}])), Some(json!([{"Kind": "mesh", "Name": "a"}])), Some(json!(["a"]))]
        {
            assert!(list.documents("consul", answer.clone()).unwrap_err().transient, "{answer:?}");
        }
    }

    #[test]
    fn roots_without_a_root_are_no_answer() {
        let read = |answer: Value| List::Roots.documents("consul", Some(answer));
        let found =
            read(json!({"ActiveRootID": "x", "TrustDomain": "a.consul", "Roots": [{"ID": "x", "RootCert": "pem"}]}))
                .unwrap();
        assert_eq!(
            found,
            [(
                "consul: ca-roots/a.consul".to_owned(),
                json!({"Kind": "ca-roots", "TrustDomain": "a.consul", "Roots": [{"RootCert": "pem"}]})
            )]
        );
        for answer in [
            json!([]),
            json!({}),
            json!({"TrustDomain": "a", "Roots": []}),
            json!({"TrustDomain": "", "Roots": [{}]}),
            json!({"TrustDomain": "a", "Roots": null}),
        ] {
            assert!(read(answer).is_err());
        }
    }
}
