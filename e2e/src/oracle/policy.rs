//! A generated policy, typed so that it can be made smaller piece by piece, and its spelling as Consul's config entries.
//!
//! Both sides read the same documents: Consul over its API, our engine through its ordinary reader.

use portcullis_policy::Action;
use serde_json::{Map, Value, json};

use super::callers::CANARY;
use super::provider::{Provider, Requirement};

/// Everything that is in force at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// `default_intention_policy`.
    pub default: Action,
    /// How requests are normalised before rules are asked.
    pub normalization: Normalization,
    /// The token providers that intentions may refer to.
    pub providers: Vec<Provider>,
    /// The intentions, at most one entry for each destination.
    pub entries: Vec<Entry>,
}

/// `HTTP.Incoming.RequestNormalization` of the mesh entry; without it by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Normalization {
    /// `InsecureDisablePathNormalization`.
    pub disabled: bool,
    /// `MergeSlashes`.
    pub merge_slashes: bool,
    /// `PathWithEscapedSlashesAction`.
    pub escaped_slashes: Option<&'static str>,
    /// `HeadersWithUnderscoresAction`.
    pub underscores: Option<&'static str>,
}

/// A `service-intentions` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// A service or `*`.
    pub destination: String,
    /// What each of its sources must bring besides.
    pub jwt: Option<Requirement>,
    /// Distinct by name.
    pub sources: Vec<Source>,
}

/// One of its sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// A service or `*`.
    pub name: String,
    /// What it says.
    pub rule: Rule,
}

/// What an entry says of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// L4.
    Action(Action),
    /// L7; never empty.
    Permissions(Vec<Permission>),
}

/// One permission; has at least one criterion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// What it does.
    pub action: Action,
    /// The path criterion.
    pub path: Option<PathRule>,
    /// The methods; empty is any.
    pub methods: Vec<String>,
    /// The header criteria.
    pub headers: Vec<HeaderRule>,
    /// What an allowed request must bring besides.
    pub jwt: Option<Requirement>,
}

/// A path criterion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRule {
    /// `PathExact`.
    Exact(String),
    /// `PathPrefix`.
    Prefix(String),
    /// `PathRegex`.
    Regex(String),
}

/// A header criterion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderRule {
    /// The header's name as written.
    pub name: String,
    /// What it must be.
    pub test: HeaderTest,
    /// `IgnoreCase`.
    pub ignore_case: bool,
    /// `Invert`.
    pub invert: bool,
}

/// What a header must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderTest {
    /// `Present`.
    Present,
    /// `Exact`, `Prefix`, `Suffix`, `Contains` or `Regex`, and the text.
    Text(&'static str, String),
}

impl World {
    /// The config entries, ordered as they must be written: what others refer to first.
    pub fn documents(&self) -> Vec<Value> {
        let mesh = self.normalization.document().into_iter();
        let providers = self.providers.iter().map(Provider::document);
        mesh.chain(providers).chain(self.entries.iter().map(Entry::document)).collect()
    }

    /// Every requirement of every entry.
    pub fn requirements_mut(&mut self) -> impl Iterator<Item = &mut Requirement> {
        self.entries.iter_mut().flat_map(|entry| {
            let permissions = entry.sources.iter_mut().filter_map(|source| match &mut source.rule {
                Rule::Permissions(permissions) => Some(permissions),
                Rule::Action(_) => None,
            });
            entry.jwt.iter_mut().chain(permissions.flatten().filter_map(|it| it.jwt.as_mut()))
        })
    }

    /// The entry of a destination, by its name as written.
    pub fn entry(&self, destination: &str) -> Option<&Entry> {
        self.entries.iter().find(|it| it.destination == destination)
    }

    /// The same world, with a rule on each of `services` that shows that it is in force: the service [`CANARY`] gets the
    /// opposite of the default on a path that names the `generation`.
    /// Providers get the generation into their names: sidecars watch providers apart from intentions, and one that they
    /// do not know yet keeps the intentions back that refer to it.
    #[must_use]
    pub fn with_canaries(&self, services: &[String], generation: u64) -> World {
        let mut world = self.clone();
        for provider in &mut world.providers {
            provider.name = generation_name(&provider.name, generation);
        }
        for requirement in world.requirements_mut() {
            for (provider, _) in &mut requirement.0 {
                *provider = generation_name(provider, generation);
            }
        }
        for service in services {
            let rule = Rule::Permissions(vec![Permission {
                action: opposite(self.default),
                path: Some(PathRule::Exact(canary_path(generation))),
                methods: Vec::new(),
                headers: Vec::new(),
                jwt: None,
            }]);
            let canary = Source { name: CANARY.to_owned(), rule };
            match world.entries.iter_mut().find(|it| it.destination == *service) {
                Some(entry) => entry.sources.push(canary),
                None => {
                    world.entries.push(Entry { destination: service.clone(), jwt: None, sources: vec![canary] });
                }
            }
        }
        // The entry that covers all comes first: whoever sees the others sees it as well.
        world.entries.sort_by_key(|it| it.destination != "*");
        world
    }
}

/// A provider's name in a generation.
fn generation_name(name: &str, generation: u64) -> String {
    format!("{name}-{generation}")
}

/// The path on which the canary of a generation gets the opposite of the default.
pub fn canary_path(generation: u64) -> String {
    format!("/canary/{generation}")
}

/// Allow for deny, and deny for allow.
pub fn opposite(action: Action) -> Action {
    match action {
        Action::Allow => Action::Deny,
        Action::Deny => Action::Allow,
    }
}

impl Normalization {
    /// The mesh entry, if there is something to say.
    pub fn document(&self) -> Option<Value> {
        if *self == Normalization::default() {
            return None;
        }
        let mut rules = Map::new();
        rules.insert("InsecureDisablePathNormalization".to_owned(), json!(self.disabled));
        rules.insert("MergeSlashes".to_owned(), json!(self.merge_slashes));
        let words = [
            ("PathWithEscapedSlashesAction", self.escaped_slashes),
            ("HeadersWithUnderscoresAction", self.underscores),
        ];
        for (name, word) in words {
            rules.extend(word.map(|word| (name.to_owned(), json!(word))));
        }
        Some(json!({"Kind": "mesh", "HTTP": {"Incoming": {"RequestNormalization": rules}}}))
    }

    /// The same with one thing less.
    pub fn smaller(&self) -> [Normalization; 4] {
        let it = *self;
        [
            Normalization { disabled: false, ..it },
            Normalization { merge_slashes: false, ..it },
            Normalization { escaped_slashes: None, ..it },
            Normalization { underscores: None, ..it },
        ]
    }

    /// Whether an Envoy listener, as its configuration dump shows it, works by this.
    pub fn is_in_force(&self, listener: &Value) -> bool {
        let Some(manager) = http_manager(listener) else { return false };
        let truth = |name: &str| manager[name].as_bool().unwrap_or(false);
        let underscores = &manager["common_http_protocol_options"]["headers_with_underscores_action"];
        truth("normalize_path") != self.disabled
            && truth("merge_slashes") == self.merge_slashes
            && manager["path_with_escaped_slashes_action"].as_str() == self.escaped_slashes
            && underscores.as_str() == self.underscores
    }
}

/// The HTTP connection manager somewhere below.
fn http_manager(value: &Value) -> Option<&Value> {
    const TYPE: &str =
        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    match value {
        Value::Object(object) if object.get("@type").is_some_and(|it| it == TYPE) => Some(value),
        Value::Object(object) => object.values().find_map(http_manager),
        Value::Array(list) => list.iter().find_map(http_manager),
        _ => None,
    }
}

impl Entry {
    fn document(&self) -> Value {
        let sources: Vec<_> = self.sources.iter().map(Source::document).collect();
        let mut document = json!({"Kind": "service-intentions", "Name": self.destination, "Sources": sources});
        if let Some(requirement) = &self.jwt {
            document["JWT"] = requirement.document();
        }
        document
    }

    /// What the entry says of a source, by its name as written.
    pub fn source(&self, name: &str) -> Option<&Source> {
        self.sources.iter().find(|it| it.name == name)
    }
}

impl Source {
    fn document(&self) -> Value {
        match &self.rule {
            Rule::Action(action) => json!({"Name": self.name, "Action": action.as_str()}),
            Rule::Permissions(permissions) => {
                let permissions: Vec<_> = permissions.iter().map(Permission::document).collect();
                json!({"Name": self.name, "Permissions": permissions})
            }
        }
    }
}

impl Permission {
    /// Whether it has a criterion at all, without which Consul would refuse it.
    pub fn has_criterion(&self) -> bool {
        self.path.is_some() || !self.methods.is_empty() || !self.headers.is_empty()
    }

    fn document(&self) -> Value {
        let mut http = Map::new();
        if let Some(path) = &self.path {
            let (key, text) = match path {
                PathRule::Exact(text) => ("PathExact", text),
                PathRule::Prefix(text) => ("PathPrefix", text),
                PathRule::Regex(text) => ("PathRegex", text),
            };
            http.insert(key.to_owned(), json!(text));
        }
        if !self.methods.is_empty() {
            http.insert("Methods".to_owned(), json!(self.methods));
        }
        if !self.headers.is_empty() {
            http.insert("Header".to_owned(), self.headers.iter().map(HeaderRule::document).collect());
        }
        let mut document = json!({"Action": self.action.as_str(), "HTTP": http});
        if let Some(requirement) = &self.jwt {
            document["JWT"] = requirement.document();
        }
        document
    }
}

impl HeaderRule {
    fn document(&self) -> Value {
        let mut header = Map::new();
        header.insert("Name".to_owned(), json!(self.name));
        match &self.test {
            HeaderTest::Present => header.insert("Present".to_owned(), json!(true)),
            HeaderTest::Text(form, text) => header.insert((*form).to_owned(), json!(text)),
        };
        if self.ignore_case {
            header.insert("IgnoreCase".to_owned(), json!(true));
        }
        if self.invert {
            header.insert("Invert".to_owned(), json!(true));
        }
        Value::Object(header)
    }
}
