//! The gate tags of one service, read once all its instances agree on them.

use std::collections::{BTreeMap, BTreeSet};

use super::{RouterSpec, closed};
use crate::sync::{
    annotations::go_bool,
    exposure::{GATE_PREFIX, key_below},
    note::Notes,
    registration::Registration,
};

const RULE_HINT: &str = "add traefik.http.routers.<name>.rule";

/// What a service's gate tags say.
#[derive(Debug, Default)]
pub(super) struct GateTags {
    enable: Option<bool>,
    /// By name; field names are folded, router names are not.
    routers: BTreeMap<String, RouterSpec>,
    /// Scheme of the service's servers.
    pub(super) scheme: Option<String>,
}

impl GateTags {
    /// Reads the tags, or says why they cannot be used. `None` without a note: the service has no gate tags, or is
    /// switched off.
    pub(super) fn read(instances: &[&Registration], notes: &mut Notes) -> Option<Self> {
        let of = |instance: &Registration| -> BTreeSet<String> {
            let tags = instance.service.tags.iter();
            tags.filter(|tag| key_below(tag, GATE_PREFIX).is_some()).cloned().collect()
        };
        let mut sets = instances.iter().map(|instance| of(instance));
        let tags = sets.next()?;
        if sets.any(|other| other != tags) {
            let what = closed("its instances carry different routing tags");
            notes.error("tags", what, "give all instances, in all clusters, the same routing annotations");
            return None;
        }
        let mut pairs: BTreeMap<String, (&str, &str)> = BTreeMap::new();
        for tag in &tags {
            let (key, value) = tag[GATE_PREFIX.len()..].split_once('=').unwrap_or((&tag[GATE_PREFIX.len()..], ""));
            // Two spellings of one key are one key to Traefik, so they may not differ in value either.
            if pairs.insert(key.to_ascii_lowercase(), (key, value)).is_some() {
                let what = closed("the key stands there twice");
                notes.error(&format!("{GATE_PREFIX}{key}"), what, "keep one of them");
                return None;
            }
        }
        // Nothing else matters then, and nothing needs to be said.
        if pairs.get("enable").is_some_and(|(_, value)| go_bool(value.trim()) == Some(false)) {
            return None;
        }
        let mut read = Self::default();
        for (key, value) in pairs.values() {
            if let Err((what, hint)) = read.take(key, value.trim()) {
                notes.error(&format!("{GATE_PREFIX}{key}"), closed(&what), hint);
                return None;
            }
        }
        Some(read)
    }

    /// The routers to build: every one has a rule.
    pub(super) fn routers(&self, notes: &mut Notes) -> Option<Vec<RouterSpec>> {
        // Without `enable`, only a router says that the service wants to be reached.
        if !self.enable.unwrap_or(!self.routers.is_empty()) {
            return None;
        }
        if self.routers.is_empty() {
            notes.error(&format!("{GATE_PREFIX}enable"), closed("it is enabled but has no router"), RULE_HINT);
            return None;
        }
        if let Some(router) = self.routers.values().find(|router| router.rule.is_empty()) {
            let key = format!("{GATE_PREFIX}http.routers.{}.rule", router.name);
            notes.error(&key, closed("the router has no rule"), RULE_HINT);
            return None;
        }
        Some(self.routers.values().cloned().collect())
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), (String, &'static str)> {
        let parts: Vec<&str> = key.split('.').collect();
        let folded: Vec<String> = parts.iter().map(|part| part.to_ascii_lowercase()).collect();
        let folded: Vec<&str> = folded.iter().map(String::as_str).collect();
        match folded.as_slice() {
            ["enable"] => self.enable = Some(boolean(value)?),
            ["http", "routers", _, field] => self.router(parts[2])?.take(field, value)?,
            ["http", "services", _, "loadbalancer", "server", "scheme"] => {
                if self.scheme.as_deref().is_some_and(|other| other != value) {
                    return Err(("two services with different schemes".to_owned(), "keep one of them"));
                }
                self.scheme = Some(value.to_owned());
            }
            _ => return Err(("the key is not supported yet".to_owned(), SUPPORTED)),
        }
        Ok(())
    }

    fn router(&mut self, name: &str) -> Result<&mut RouterSpec, (String, &'static str)> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if name.is_empty() || !name.bytes().all(plain) {
            return Err((format!("{name:?} is no router name"), "use only A-Z a-z 0-9 _ -"));
        }
        // Traefik folds two spellings into one router and takes the name of either.
        if self.routers.keys().any(|other| other != name && other.eq_ignore_ascii_case(name)) {
            return Err((format!("router {name} is spelled in two ways"), "spell it in one way"));
        }
        let new = || RouterSpec { name: name.to_owned(), ..RouterSpec::default() };
        Ok(self.routers.entry(name.to_owned()).or_insert_with(new))
    }
}

const SUPPORTED: &str = "supported are enable, http.routers.<name>.rule, .entrypoints, .priority, .tls and \
                         http.services.<name>.loadbalancer.server.scheme";

impl RouterSpec {
    fn take(&mut self, field: &str, value: &str) -> Result<(), (String, &'static str)> {
        match field {
            "rule" if value.is_empty() => return Err(("the rule is empty".to_owned(), RULE_HINT)),
            "rule" => value.clone_into(&mut self.rule),
            "entrypoints" => {
                let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                self.entry_points = names.map(str::to_owned).collect();
                if self.entry_points.is_empty() {
                    return Err(("no entry point is named".to_owned(), "name them, or leave the key out"));
                }
            }
            "priority" => {
                let number = value.parse().map_err(|_| (format!("{value:?} is no integer"), "write an integer"))?;
                self.priority = Some(number);
            }
            "tls" => self.tls = Some(boolean(value)?),
            _ => return Err(("the key is not supported yet".to_owned(), SUPPORTED)),
        }
        Ok(())
    }
}

fn boolean(value: &str) -> Result<bool, (String, &'static str)> {
    go_bool(value).ok_or_else(|| (format!("{value:?} is no boolean"), "write true or false"))
}
