//! Text (YAML with several documents, or JSON) → Kubernetes objects.
//!
//! Lists are opened (`kind: List` and typed ones such as `ServiceList`); kinds that the sync has no use for are counted
//! and left out. Nothing is guessed: a document that is no Kubernetes object, or an object of a kind we need in a
//! version we do not know, is an error that names the file and the document, and never a silently missing endpoint.
//! Input is bounded, since manifests may come from a directory that others write.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::{
    Metadata,
    api::{
        core::v1::{Node, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::sources::{MAX_FILE_BYTES, SourceError as ManifestError};

/// Most documents in one file; a list counts as one.
pub const MAX_DOCUMENTS: usize = 100_000;
/// Most nodes (maps, lists, scalars) of the YAML in one file.
const MAX_YAML_NODES: usize = 8_000_000;
/// Most parts that YAML aliases may repeat in one file.
const MAX_REPLAYED: usize = 200_000;
/// `List` inside `List` is legal for kubectl; deeper than this it is an attack or a mistake.
const MAX_LIST_DEPTH: usize = 4;

/// One object of a kind that the sync reads.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// `v1` Service.
    Service(Box<Service>),
    /// `v1` Node.
    Node(Box<Node>),
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice(Box<EndpointSlice>),
}

/// What one text held.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// The objects with the place each was found at, in reading order.
    pub objects: Vec<(Place, Object)>,
    /// Kinds that were left out (`apiVersion/kind`) and how many of each.
    pub ignored: BTreeMap<String, usize>,
}

/// Where an object stands, for messages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// File name as given by the caller.
    pub file: String,
    /// Document in the file, counted from 1; empty documents are not counted.
    pub document: usize,
    /// Item numbers, counted from 1, of the lists around the object, outermost first.
    pub items: Vec<usize>,
}

// === impl Manifests ===

impl Manifests {
    /// Reads `text`; `file` only names it in messages. All errors are returned, not the first one only.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<ManifestError>> {
        if text.len() > MAX_FILE_BYTES {
            let what = format!("{} bytes are more than the limit of {MAX_FILE_BYTES}", text.len());
            return Err(vec![ManifestError::new(file, what, "split the file")]);
        }
        // The Unicode mark at the start is legal YAML, but not JSON.
        let text = text.trim_start_matches('\u{feff}');
        let documents: Vec<Result<Value, String>> =
            if text.trim_start().starts_with('{') && !text.contains("\n---") { json(text) } else { yaml(text) };
        Self::collect(file, documents)
    }

    /// Takes objects that are parsed already, such as the lists inside a test case; `file` only names them.
    pub fn from_values(file: &str, values: Vec<Value>) -> Result<Self, Vec<ManifestError>> {
        Self::collect(file, values.into_iter().map(Ok).collect())
    }

    fn collect(file: &str, documents: Vec<Result<Value, String>>) -> Result<Self, Vec<ManifestError>> {
        let mut read = Self::default();
        let mut errors = Vec::new();
        for (index, document) in documents.into_iter().enumerate() {
            let place = Place { file: file.to_owned(), document: index + 1, items: Vec::new() };
            if index >= MAX_DOCUMENTS {
                errors.push(place.error(format!("more than {MAX_DOCUMENTS} documents"), "split the file"));
                break;
            }
            match document {
                Ok(Value::Null) => {}
                Ok(value) => read.take(value, &place, None, &mut errors),
                Err(what) => errors.push(place.error(what, "correct the syntax; nothing of this file is used")),
            }
        }
        if errors.is_empty() { Ok(read) } else { Err(errors) }
    }

    /// Sorts one value in. `inherited` is what a typed list says about items that do not say it themselves, as
    /// answers of the API server do.
    fn take(&mut self, value: Value, place: &Place, inherited: Option<(&str, &str)>, errors: &mut Vec<ManifestError>) {
        let Value::Object(map) = &value else {
            errors.push(place.error("not a mapping", "a manifest has apiVersion, kind and metadata"));
            return;
        };
        let text = |key: &str| map.get(key).and_then(Value::as_str);
        let kind = text("kind").or(inherited.map(|(_, kind)| kind));
        let version = text("apiVersion").or(inherited.map(|(version, _)| version));
        let (Some(kind), Some(version)) = (kind, version) else {
            let missing = if kind.is_none() { "kind" } else { "apiVersion" };
            let hint = "move files that are no Kubernetes manifests out of the directory";
            errors.push(place.error(format!("{missing} is missing or not a text"), hint));
            return;
        };
        let (kind, version) = (kind.to_owned(), version.to_owned());
        match (version.as_str(), kind.as_str()) {
            ("v1", "Service") => self.keep(value, place, errors, |object| Object::Service(Box::new(object))),
            ("v1", "Node") => self.keep(value, place, errors, |object| Object::Node(Box::new(object))),
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                self.keep(value, place, errors, |object| Object::EndpointSlice(Box::new(object)));
            }
            (other, "EndpointSlice") if other.starts_with("discovery.k8s.io/") => {
                // Leaving it out would make live backends vanish.
                let what = format!("EndpointSlice of the unsupported version {other}");
                errors.push(place.error(what, "write it as discovery.k8s.io/v1"));
            }
            (_, kind) if map.contains_key("items") && kind.ends_with("List") => {
                let of = kind.strip_suffix("List").filter(|kind| !kind.is_empty()).map(str::to_owned);
                self.open(value, place, of.as_deref().map(|kind| (version.as_str(), kind)), errors);
            }
            _ => *self.ignored.entry(format!("{version}/{kind}")).or_default() += 1,
        }
    }

    fn open(
        &mut self,
        mut list: Value,
        place: &Place,
        inherited: Option<(&str, &str)>,
        errors: &mut Vec<ManifestError>,
    ) {
        let items = match list.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            Some(Value::Null) => return,
            _ => return errors.push(place.error("items is not a list", "write the list's objects below items")),
        };
        if place.items.len() >= MAX_LIST_DEPTH {
            return errors.push(place.error("lists are nested too deep", "flatten the list"));
        }
        for (index, item) in items.into_iter().enumerate() {
            let mut inner = place.clone();
            inner.items.push(index + 1);
            self.take(item, &inner, inherited, errors);
        }
    }

    fn keep<T>(&mut self, value: Value, place: &Place, errors: &mut Vec<ManifestError>, wrap: impl FnOnce(T) -> Object)
    where
        T: DeserializeOwned + Metadata<Ty = ObjectMeta>,
    {
        match serde_json::from_value::<T>(value) {
            Ok(object) if object.metadata().name.as_deref().is_none_or(str::is_empty) => {
                errors.push(place.error(format!("{} without metadata.name", T::KIND), "give the object a name"));
            }
            Ok(object) => self.objects.push((place.clone(), wrap(object))),
            Err(error) => {
                let what = format!("not a valid {}: {error}", T::KIND);
                errors.push(place.error(what, "annotation and label values must be quoted texts, ports numbers"));
            }
        }
    }
}

fn json(text: &str) -> Vec<Result<Value, String>> {
    serde_json::Deserializer::from_str(text)
        .into_iter::<Value>()
        .take(MAX_DOCUMENTS + 1)
        .map(|document| document.map_err(|error| format!("not valid JSON: {error}")))
        .collect()
}

fn yaml(text: &str) -> Vec<Result<Value, String>> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: MAX_DOCUMENTS + 1,
            max_nodes: MAX_YAML_NODES,
            max_events: MAX_YAML_NODES * 2,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED },
        // `name: n` is a name, as YAML 1.2 has it.
        strict_booleans: true,
        // Snippets repeat the input, which may be somebody's secret in the wrong directory.
        with_snippet: false,
    };
    serde_saphyr::read_with_options::<_, Value>(&mut text.as_bytes(), options)
        .map(|document| document.map_err(|error| format!("not valid YAML: {error}").replace('\n', " ")))
        .collect()
}

// === impl Place ===

impl Place {
    fn error(&self, what: impl Into<String>, hint: &str) -> ManifestError {
        ManifestError::new(&self.to_string(), what, hint)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: document {}", self.file, self.document)?;
        self.items.iter().try_for_each(|item| write!(f, ", item {item}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(manifests: &Manifests) -> Vec<&'static str> {
        let kind = |object: &Object| match object {
            Object::Service(_) => "Service",
            Object::Node(_) => "Node",
            Object::EndpointSlice(_) => "EndpointSlice",
        };
        manifests.objects.iter().map(|(_, object)| kind(object)).collect()
    }

    #[test]
    fn reads_documents_lists_and_typed_lists_whose_items_do_not_name_their_kind() {
        let text = "---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\n# nothing\n---\n\
                    apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Node, metadata: {name: n}}\n---\n\
                    apiVersion: discovery.k8s.io/v1\nkind: EndpointSliceList\nitems:\n\
                    - {metadata: {name: s}, addressType: IPv4, endpoints: null, ports: null}\n";
        assert_eq!(kinds(&Manifests::parse("x.yaml", text).unwrap()), ["Service", "Node", "EndpointSlice"]);
        let json = r#"{"apiVersion":"v1","kind":"ServiceList","items":[{"metadata":{"name":"a"}}]}
                      {"apiVersion":"v1","kind":"Node","metadata":{"name":"n"}}"#;
        assert_eq!(kinds(&Manifests::parse("x.json", json).unwrap()), ["Service", "Node"]);
    }

    #[test]
    fn counts_other_kinds_and_other_groups_of_the_same_kind() {
        let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: serving.knative.dev/v1\n\
                    kind: Service\nmetadata: {name: b}\n";
        let read = Manifests::parse("x", text).unwrap();
        assert!(read.objects.is_empty());
        assert_eq!(
            read.ignored.into_iter().collect::<Vec<_>>(),
            [("serving.knative.dev/v1/Service".to_owned(), 1), ("v1/ConfigMap".to_owned(), 1)]
        );
    }

    #[test]
    fn reports_every_bad_document_with_its_place() {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a, annotations: {traefik.enable: true}}\n---\n\
                    replicas: 3\n---\napiVersion: v1\nkind: Service\nmetadata: {}\n---\n\
                    apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {name: s}\n---\n- 1\n";
        let errors = Manifests::parse("x.yaml", text).unwrap_err();
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 5, "{lines:#?}");
        assert!(lines[0].starts_with("x.yaml: document 1: not a valid Service: "), "{}", lines[0]);
        assert!(lines[1].starts_with("x.yaml: document 2: kind is missing"), "{}", lines[1]);
        assert!(lines[2].starts_with("x.yaml: document 3: Service without metadata.name"), "{}", lines[2]);
        assert!(lines[3].contains("discovery.k8s.io/v1beta1"), "{}", lines[3]);
        assert!(lines[4].starts_with("x.yaml: document 5: not a mapping"), "{}", lines[4]);
    }

    #[test]
    fn bounds_what_an_alias_bomb_can_make_of_a_small_file() {
        let mut lines = vec!["a0: &a0 [x, x, x, x, x, x, x, x, x, x]".to_owned()];
        for level in 1..12 {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            lines.push(format!("a{level}: &a{level} [{below}]"));
        }
        let errors = Manifests::parse("bomb.yaml", &lines.join("\n")).unwrap_err();
        assert!(errors[0].what.starts_with("not valid YAML: "), "{}", errors[0]);
    }

    #[test]
    fn broken_syntax_is_one_error_without_the_text() {
        let errors = Manifests::parse("x.yaml", "password: [hunter2\nkind: }").unwrap_err();
        assert_eq!(errors.len(), 1);
        assert!(!errors[0].to_string().contains("hunter2"), "{}", errors[0]);
        assert!(Manifests::parse("x.json", "{\"kind\": ").is_err());
    }
}
