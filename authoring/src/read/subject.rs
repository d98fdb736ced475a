//! What an entry is about, so that sources of policy can be told apart where they speak of the same thing.

use std::fmt;

use serde_json::{Map, Value, json};

use super::{
    intention::service_name,
    node::{Node, Object, fold},
};
use portcullis_policy::{
    model::{DEFAULT_TENANCY, ServiceName},
    problem::Severity,
};

/// Kind and name of an entry; the same for its spelling as a config entry and as a Kubernetes resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The kind as Consul's API spells it.
    pub kind: &'static str,
    /// The name; empty where there can be only one.
    pub name: String,
    /// The destination, where the entry is about one.
    destination: Option<ServiceName>,
}

/// What an entry is about; `None` for what has no name of its own, or cannot be read: that is for the reader to judge.
pub fn subject(entry: &Value) -> Option<Subject> {
    let node = Node::new(entry, String::new());
    let object = node.try_object()?;
    let kind = fold(object.get("kind")?.text()?);
    let inner = |key: &str| object.filled(key).and_then(|it| it.try_object());
    let text = |object: &Object<'_>, key: &str| object.filled(key)?.text().map(str::to_owned);
    let named = |kind, name| Some(Subject { kind, name, destination: None });
    match kind.as_str() {
        "serviceintentions" => about("service-intentions", &object, &node),
        "ratelimits" => about("rate-limits", &object, &node),
        "jwtprovider" => named("jwt-provider", own_name(&object)?),
        "servicedefaults" if object.filled("spec").is_some() => named("service-defaults", own_name(&object)?),
        "servicedefaults" => about("service-defaults", &object, &node),
        "mesh" => named("mesh", String::new()),
        "proxydefaults" => named("proxy-defaults", String::new()),
        "apikey" => named("api-key", text(&object, "name")?),
        "network" => named("network", text(&object, "name")?),
        "identity" => {
            let scope = ["destination", "entrypoint"].map(|key| text(&object, key).map(|name| format!("{key}/{name}")));
            named("identity", scope.into_iter().flatten().collect::<Vec<_>>().join("/"))
        }
        "caroots" => named("ca-roots", text(&object, "trustdomain")?.to_ascii_lowercase()),
        "peertrustbundle" => named("peer-trust-bundle", text(&object, "name").or_else(|| text(&object, "peername"))?),
        "list" | "" => None,
        _ => {
            let name = inner("metadata").map_or_else(|| text(&object, "name"), |it| text(&it, "name"))?;
            let kind = super::OTHER_KINDS.iter().find(|other| **other == kind)?;
            named(kind, name)
        }
    }
}

/// The entries of documents one by one: out of lists and Kubernetes' `List`, each with its place.
pub fn entries_of(documents: &[(String, Value)]) -> Vec<(String, Value)> {
    let mut entries = Vec::new();
    for (place, document) in documents {
        flatten(place, document, 0, &mut entries);
    }
    entries
}

/// Lists in lists; the reader knows no deeper ones either.
const MAX_DEPTH: usize = 8;

fn flatten(place: &str, value: &Value, depth: usize, entries: &mut Vec<(String, Value)>) {
    let items = match value {
        Value::Null => return,
        Value::Array(list) => Some(list),
        Value::Object(object) => items(object),
        _ => None,
    };
    match items {
        Some(items) if depth < MAX_DEPTH => {
            for (index, item) in items.iter().enumerate() {
                flatten(&format!("{place}: [{index}]"), item, depth + 1, entries);
            }
        }
        _ => entries.push((place.to_owned(), value.clone())),
    }
}

fn items(object: &Map<String, Value>) -> Option<&Vec<Value>> {
    let is_list =
        object.iter().any(|(key, value)| fold(key) == "kind" && value.as_str().is_some_and(|it| fold(it) == "list"));
    let mut found = object.iter().filter(|(key, _)| is_list && fold(key) == "items");
    // Two spellings of one key count as none, as everywhere.
    found.next().filter(|_| found.next().is_none())?.1.as_array()
}

fn about(kind: &'static str, object: &Object<'_>, node: &Node<'_>) -> Option<Subject> {
    let spec = object.filled("spec").and_then(|it| it.try_object());
    let destination = spec.as_ref().and_then(|spec| spec.filled("destination"));
    let target = destination.as_ref().and_then(Node::try_object);
    let named = match (&spec, &target) {
        (None, _) => object,
        (Some(_), Some(target)) => target,
        (Some(_), None) => return None,
    };
    let name = service_name(named, node, DEFAULT_TENANCY, DEFAULT_TENANCY, Severity::Warning, &mut Vec::new())?;
    Some(Subject { kind, name: name.to_string(), destination: Some(name) })
}

fn own_name(object: &Object<'_>) -> Option<String> {
    let metadata = object.get("metadata").and_then(|it| it.try_object());
    let named = if object.filled("spec").is_some() { metadata.as_ref()? } else { object };
    named.filled("name")?.text().map(str::to_owned)
}

// === impl Subject ===

impl Subject {
    /// An entry that closes what this one is about: for two that contradict each other. `None` where the reader itself sees two
    /// and closes it.
    pub fn closed(&self) -> Option<Value> {
        let ServiceName { name, namespace, partition, .. } = self.destination.as_ref()?;
        (self.kind == "service-intentions")
            .then(|| json!({"Kind": self.kind, "Name": name, "Namespace": namespace, "Partition": partition}))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, "/{}", self.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(entry: &Value) -> String {
        subject(entry).map(|it| it.to_string()).unwrap_or_default()
    }

    #[test]
    fn an_entry_and_its_resource_are_about_the_same() {
        let resource =
            json!({"kind": "ServiceIntentions", "metadata": {"name": "any"}, "spec": {"destination": {"name": "db"}}});
        for entry in [
            json!({"Kind": "service-intentions", "Name": "db"}),
            json!({"kind": "service_intentions", "name": "db", "Namespace": "default"}),
            resource,
        ] {
            assert_eq!(name(&entry), "service-intentions/db");
        }
        assert_eq!(
            name(&json!({"Kind": "service-intentions", "Name": "db", "Namespace": "a"})),
            "service-intentions/a/db"
        );
        assert_eq!(
            name(&json!({"kind": "JWTProvider", "metadata": {"name": "okta"}, "spec": {"issuer": "x"}})),
            "jwt-provider/okta"
        );
        assert_eq!(name(&json!({"Kind": "jwt-provider", "Name": "okta"})), "jwt-provider/okta");
        assert_eq!(name(&json!({"Kind": "rate-limits", "Name": "*"})), "rate-limits/*");
        assert_eq!(name(&json!({"Kind": "mesh"})), "mesh");
        assert_eq!(name(&json!({"Kind": "identity", "EntryPoint": "partners"})), "identity/entrypoint/partners");
        assert_eq!(name(&json!({"Kind": "ca-roots", "TrustDomain": "A.consul"})), "ca-roots/a.consul");
    }

    #[test]
    fn what_cannot_be_read_is_about_nothing() {
        for entry in [
            json!({}),
            json!([]),
            json!({"Kind": "service-intentions"}),
            json!({"Kind": "service-intention", "Name": "x"}),
            json!({"Kind": "service-intentions", "Name": "x", "name": "y"}),
        ] {
            assert_eq!(name(&entry), "", "{entry}");
        }
    }

    #[test]
    fn lists_are_taken_apart() {
        let documents = [
            ("f".to_owned(), json!([{"Kind": "mesh"}, {"kind": "List", "items": [{"Kind": "a"}, {"Kind": "b"}]}])),
            ("g".to_owned(), json!(null)),
        ];
        let places: Vec<_> = entries_of(&documents).into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, ["f: [0]", "f: [1]: [0]", "f: [1]: [1]"]);
    }

    #[test]
    fn a_closed_entry_denies_its_destination() {
        let about = subject(&json!({"Kind": "service-intentions", "Name": "db", "Namespace": "a"})).unwrap();
        let (policy, _) = super::super::entries(
            &[("x".to_owned(), about.closed().unwrap())],
            portcullis_policy::PolicySettings::default(),
        );
        assert!(policy.intentions[0].broken);
        assert_eq!(policy.intentions[0].destination.to_string(), "a/db");
    }
}
