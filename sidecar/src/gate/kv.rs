//! The gate's routers as keys for Traefik's key-value provider: one key for each value, `<prefix>/http/routers/web-root/rule`.
//!
//! Traefik reads the whole tree in one read at one index, so it sees a transaction whole or not at all. What does not fit into
//! one is written in an order in which no router is ever seen without what guards it ([`changes`]).
//! The provider folds names that differ in case only, takes what ends in a number for a list, joins lists by commas, and
//! refuses the whole tree for one key that it cannot read: what it would misread is refused here, service by service ([`fit`]).

mod diff;
mod keeper;

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
};

use serde::Deserialize;
use serde_json::Value;

use super::configuration;
use crate::{
    config::GateConfig,
    sync::{Note, Route, Severity},
};

pub use self::{
    diff::{Entry, changes},
    keeper::Keeper,
};

/// Objects that Traefik lets be empty; written as a boolean.
const MAY_BE_EMPTY: [&str; 7] = ["tls", "sticky", "cookie", "healthCheck", "compress", "contentType", "ipStrategy"];
/// Most keys of one router or middleware: it is written in one transaction.
const MOST_KEYS: usize = 100;

/// Where the keys are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GateKv {
    /// The provider's `rootKey`, without slashes at its ends (default: `traefik`).
    #[serde(default = "root_key")]
    pub prefix: String,
}

/// Keys below the prefix, and their values.
pub type Pairs = BTreeMap<String, String>;

/// What the tree shall hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// The gate's own middlewares.
    pub guards: Pairs,
    /// By service: everything that is its own.
    pub services: BTreeMap<String, Pairs>,
    /// The gate router.
    pub gate: Pairs,
}

// === impl GateKv ===

impl GateKv {
    /// What types alone do not guarantee.
    pub(crate) fn validate(&self) -> Result<(), &'static str> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let part = |part: &str| !part.is_empty() && part.bytes().all(fits) && part.bytes().any(|byte| byte != b'.');
        if self.prefix.len() <= 200 && self.prefix.split('/').all(part) && !self.prefix.starts_with("portcullis/") {
            Ok(())
        } else {
            Err("kv.prefix is names of A-Z a-z 0-9 . _ - with slashes between them, and not below portcullis/")
        }
    }
}

fn root_key() -> String {
    "traefik".to_owned()
}

/// The routes that the provider can be given, and why others cannot.
pub fn fit<R: Borrow<Route>>(all: Vec<R>, gate: &GateConfig) -> (Vec<R>, Vec<Note>) {
    let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for route in all.iter().map(Borrow::borrow) {
        for router in &route.routers {
            owners.entry(router.name.to_lowercase()).or_default().insert(route.destination.clone());
        }
    }
    let (mut fitting, mut notes) = (Vec::new(), Vec::new());
    for whole in all {
        let route = whole.borrow();
        let shared = route.routers.iter().find(|router| owners[&router.name.to_lowercase()].len() > 1);
        let fault = match shared {
            Some(router) => Err(format!("router {} differs from one of another service in case only", router.name)),
            None => tree(std::slice::from_ref(route), gate).map(drop),
        };
        match fault {
            Ok(()) => fitting.push(whole),
            Err(what) => notes.push(Note {
                object: route.destination.clone(),
                key: "gate.kv".to_owned(),
                severity: Severity::Error,
                what: format!("{what}, which Traefik's key-value provider would misread; the service is not exposed"),
                hint: "say it otherwise, or let the gate be a file".to_owned(),
            }),
        }
    }
    (fitting, notes)
}

/// The keys of these routes; an error says what cannot be a key.
pub fn tree<R: Borrow<Route>>(routes: &[R], gate: &GateConfig) -> Result<Tree, String> {
    let mut found = Tree::default();
    let whole = flat(&configuration(routes.iter().map(Borrow::borrow), gate))?;
    for (key, value) in whole {
        match object(&key) {
            "http/routers/gate" => drop(found.gate.insert(key, value)),
            "http/middlewares/portcullis" | "http/middlewares/client-certificate" => {
                drop(found.guards.insert(key, value));
            }
            _ => {}
        }
    }
    for route in routes.iter().map(Borrow::borrow) {
        let mut own = flat(&configuration([route], gate))?;
        own.retain(|key, _| !found.gate.contains_key(key) && !found.guards.contains_key(key));
        found.services.insert(route.destination.clone(), own);
    }
    Ok(found)
}

/// The part of a key that names its object: `http/routers/web-root`.
fn object(key: &str) -> &str {
    let end = key.match_indices('/').nth(2).map_or(key.len(), |(at, _)| at);
    &key[..end]
}

fn flat(configuration: &Value) -> Result<Pairs, String> {
    let mut pairs = Pairs::new();
    add("", "", configuration, &mut pairs)?;
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for key in pairs.keys().filter(|key| !key.starts_with("http/services/")) {
        *sizes.entry(object(key)).or_default() += 1;
    }
    if let Some((object, size)) = sizes.into_iter().find(|(_, size)| *size > MOST_KEYS) {
        return Err(format!("{object} has {size} keys, more than {MOST_KEYS}"));
    }
    Ok(pairs)
}

fn add(path: &str, name: &str, value: &Value, pairs: &mut Pairs) -> Result<(), String> {
    let text = match value {
        Value::Null => return Ok(()),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Object(map) => {
            if map.is_empty() && !MAY_BE_EMPTY.contains(&name) {
                return Err(format!("{path} is empty"));
            }
            let mut seen = BTreeSet::new();
            for (key, value) in map {
                let is_number = key.bytes().all(|byte| byte.is_ascii_digit());
                if is_number || key.contains('/') || !seen.insert(key.to_ascii_lowercase()) {
                    return Err(format!("{path} holds {key:?}, a number, a slash or a name twice"));
                }
                let below = if path.is_empty() { key.clone() } else { format!("{path}/{key}") };
                add(&below, key, value, pairs)?;
            }
            if name == "loadBalancer" {
                // A service without servers answers 503; one without any key would not be there.
                pairs.entry(format!("{path}/passHostHeader")).or_insert_with(|| "true".to_owned());
            }
            if !map.is_empty() {
                return Ok(());
            }
            "true".to_owned()
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                add(&format!("{path}/{index}"), "", item, pairs)?;
            }
            return Ok(());
        }
        Value::Array(items) if items.is_empty() => return Ok(()),
        Value::Array(items) => {
            let text = |item: &Value| item.as_str().map_or_else(|| item.to_string(), str::to_owned);
            let items: Vec<_> = items.iter().map(text).collect();
            if let Some(item) = items.iter().find(|it| it.is_empty() || it.contains(',') || it.trim() != it.as_str()) {
                return Err(format!("{path} holds {item:?}, with a comma or blanks"));
            }
            items.join(",")
        }
    };
    pairs.insert(path.to_owned(), text);
    Ok(())
}

#[cfg(test)]
mod tests;
