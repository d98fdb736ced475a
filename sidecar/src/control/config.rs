//! The configuration's `policy.consul`: what of Consul is policy, and how it is reached where that differs from the section `consul`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::consul::ConsulConfig;

/// What is read from Consul. Where it is, and as whom it is read, is said by the section `consul` (or the environment) unless it
/// is said here.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConsulPolicy {
    /// Whether config entries are policy: `service-intentions`, `jwt-provider`, `mesh`, `service-defaults` and
    /// `proxy-defaults` (default: yes).
    pub intentions: bool,
    /// Whether the CA's roots and trust domain are read (default: yes).
    pub ca_roots: bool,
    /// Below this prefix, each key is a document of our own kinds (default: no key is read).
    pub keys: Option<String>,
    /// The datacenters that are read, the first before the next where both speak of the same (default: one, that of the
    /// section `consul`, or the agent's own).
    pub datacenters: Vec<String>,
    /// Address of the HTTP API (default: `consul.address`).
    pub address: Option<String>,
    /// A file with the ACL token, for one that may do nothing but read policy (default: that of the section `consul`).
    pub token_file: Option<PathBuf>,
    /// Certificates of the authorities that may have signed Consul's (default: `consul.caFile`).
    pub ca_file: Option<PathBuf>,
}

/// Most datacenters: each takes connections of its own.
const MAX_DATACENTERS: usize = 16;
/// Longest prefix and name, in bytes.
const MAX_NAME: usize = 255;

// === impl ConsulPolicy ===

impl Default for ConsulPolicy {
    fn default() -> Self {
        Self {
            intentions: true,
            ca_roots: true,
            keys: None,
            datacenters: Vec::new(),
            address: None,
            token_file: None,
            ca_file: None,
        }
    }
}

impl ConsulPolicy {
    /// What types alone do not guarantee.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if !self.intentions && !self.ca_roots && self.keys.is_none() {
            return Err("nothing is to be read: one of intentions, caRoots and keys is needed".to_owned());
        }
        if let Some(prefix) = &self.keys {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
            let fits = prefix.len() <= MAX_NAME && prefix.ends_with('/') && !prefix.starts_with('/');
            if !fits || !prefix.bytes().all(plain) || prefix.split('/').any(|part| part == "." || part == "..") {
                return Err(format!("keys: {prefix:?} is no prefix; write it as portcullis/policy/"));
            }
        }
        if self.datacenters.len() > MAX_DATACENTERS {
            return Err(format!("more than {MAX_DATACENTERS} datacenters"));
        }
        let distinct: BTreeSet<_> = self.datacenters.iter().collect();
        if distinct.len() < self.datacenters.len() {
            return Err("a datacenter is named twice".to_owned());
        }
        // As Consul has it for its own name.
        let is_name = |name: &&String| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain)
        };
        self.datacenters
            .iter()
            .find(|name| !is_name(name))
            .map_or(Ok(()), |bad| Err(format!("{bad:?} is no datacenter")))
    }

    /// Files are relative to the configuration file.
    pub(crate) fn resolve(&mut self, base: &Path) {
        for file in [&mut self.token_file, &mut self.ca_file].into_iter().flatten() {
            *file = base.join(&*file);
        }
    }

    /// How each datacenter is reached, with its name if it is named.
    pub(super) fn ways(&self, consul: Option<&ConsulConfig>) -> Vec<ConsulConfig> {
        let mut way = consul.cloned().unwrap_or_default();
        if self.address.is_some() {
            way.address.clone_from(&self.address);
        }
        if self.token_file.is_some() {
            (way.token, way.token_file) = (None, self.token_file.clone());
        }
        if self.ca_file.is_some() {
            way.ca_file.clone_from(&self.ca_file);
        }
        if self.datacenters.is_empty() {
            return vec![way];
        }
        let of = |name: &String| ConsulConfig { datacenter: Some(name.clone()), ..way.clone() };
        self.datacenters.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ConsulPolicy, String> {
        let config: ConsulPolicy = serde_json::from_str(text).map_err(|error| error.to_string())?;
        config.validate()?;
        Ok(config)
    }

    #[test]
    fn intentions_and_roots_are_read_unless_told_otherwise() {
        let config = read("{}").unwrap();
        assert!(config.intentions && config.ca_roots && config.keys.is_none());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, what) in [
            (r#"{"intentions": false, "caRoots": false}"#, "nothing is to be read"),
            (r#"{"keys": "portcullis/policy"}"#, "is no prefix"),
            (r#"{"keys": "/portcullis/"}"#, "is no prefix"),
            (r#"{"keys": "a/../b/"}"#, "is no prefix"),
            (r#"{"keys": "a?b/"}"#, "is no prefix"),
            (r#"{"datacenters": ["dc1", "dc1"]}"#, "named twice"),
            (r#"{"datacenters": ["a b"]}"#, "is no datacenter"),
            (r#"{"intention": true}"#, "unknown field"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn a_token_of_its_own_takes_the_place_of_the_sections() {
        let section: ConsulConfig = serde_json::from_str(r#"{"address": "a:1", "token": "secret"}"#).unwrap();
        let config = read(r#"{"tokenFile": "t", "datacenters": ["east", "west"]}"#).unwrap();
        let ways = config.ways(Some(&section));
        assert_eq!(ways.iter().map(|it| it.datacenter.as_deref().unwrap()).collect::<Vec<_>>(), ["east", "west"]);
        assert!(
            ways.iter().all(|it| it.token.is_none() && it.token_file.is_some() && it.address.as_deref() == Some("a:1"))
        );
    }
}
