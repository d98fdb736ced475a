//! A cluster's `toKubernetes`: which services of Consul appear in it, where, and as what.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::consul::CatalogConfig;

/// Longest prefix: of the 63 bytes of a name, some must be left.
const MAX_PREFIX: usize = 40;
/// Most labels of a user's own.
const MAX_LABELS: usize = 32;
/// What the label of an object begins with that is not a user's to set.
const RESERVED: [&str; 5] =
    ["app.kubernetes.io/managed-by", "portcullis.io/", "kubernetes.io/", "endpointslice.kubernetes.io/", "consul"];

/// Services of Consul that appear in a Kubernetes cluster as Services.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToKubernetes {
    /// The one namespace that they appear in. It must exist.
    pub namespace: String,
    /// Names of Consul services that appear; a `*` at the end stands for any rest (default: `*`).
    #[serde(default = "all")]
    pub services: Vec<String>,
    /// Names of those that do not, whatever `services` says (default: none).
    #[serde(default)]
    pub except: Vec<String>,
    /// Put before the Consul name (default: nothing).
    #[serde(default)]
    pub prefix: String,
    /// Labels of every object, beside ours (default: none).
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What a service becomes (default: endpoints).
    #[serde(default)]
    pub kind: Kind,
    /// The port of every Service of kind `endpoints`, 1-65535 (default: that of most of its instances, of several the lowest).
    #[serde(default)]
    pub port: Option<u16>,
    /// Consul's DNS domain, for kind `externalName`; with a datacenter, that goes before it (default: `consul`).
    #[serde(default = "domain")]
    pub domain: String,
    /// Most endpoints in one EndpointSlice, 1-1000 (default: 100).
    #[serde(default = "endpoints_per_slice")]
    pub endpoints_per_slice: usize,
    /// Whether services that Portcullis registered from other clusters appear (default: no). Those of this cluster never do.
    #[serde(default)]
    pub other_clusters: bool,
    /// Take away everything that was made for this cluster instead, however much it is (default: no).
    #[serde(default)]
    pub remove: bool,
}

/// What a service of Consul becomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A Service without a selector, and EndpointSlices with the addresses, ports and readiness of Consul's health.
    #[default]
    Endpoints,
    /// A Service of type `ExternalName` that leads to Consul's DNS.
    ExternalName,
}

// === impl ToKubernetes ===

impl ToKubernetes {
    /// What types alone do not guarantee: the faulty key with what it allows. `cluster` is its `clusterName`, which becomes a label.
    pub(crate) fn validate(&self, cluster: &str) -> Result<(), String> {
        if !is_label_part(cluster) {
            return Err(format!("the name {cluster:?} is to be a label: it begins and ends with a letter or digit"));
        }
        if !is_label(&self.namespace) {
            return Err(format!("{:?} is no namespace", self.namespace));
        }
        self.selection().validate()?;
        let prefix = &self.prefix;
        if !prefix.is_empty() && (prefix.len() > MAX_PREFIX || !is_name(&format!("{prefix}a"))) {
            return Err(format!(
                "prefix cannot be {prefix:?}: a-z, 0-9 and -, a letter first, at most {MAX_PREFIX} bytes"
            ));
        }
        if self.labels.len() > MAX_LABELS {
            return Err(format!("more than {MAX_LABELS} labels"));
        }
        for (key, value) in &self.labels {
            if let Some(reserved) = RESERVED.iter().find(|reserved| key.starts_with(**reserved)) {
                return Err(format!("labels cannot hold {key:?}: {reserved} is not a user's to set"));
            }
            if !is_label_key(key) || !(value.is_empty() || is_label_part(value)) {
                return Err(format!("labels cannot hold {key:?}: {value:?}: Kubernetes takes no such label"));
            }
        }
        if self.port == Some(0) {
            return Err("port is 1 to 65535".to_owned());
        }
        if self.domain.len() > 120 || !self.domain.split('.').all(is_label) {
            return Err(format!("domain cannot be {:?}: lower-case labels with dots between them", self.domain));
        }
        if !(1..=1000).contains(&self.endpoints_per_slice) {
            return Err("endpointsPerSlice is 1 to 1000".to_owned());
        }
        Ok(())
    }

    /// Which services are read of Consul.
    pub(crate) fn selection(&self) -> CatalogConfig {
        let (services, except) = (self.services.clone(), self.except.clone());
        CatalogConfig { services, except, ..CatalogConfig::default() }
    }
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

fn domain() -> String {
    "consul".to_owned()
}

fn endpoints_per_slice() -> usize {
    100
}

/// Whether a Service may be called so: RFC 1035's label, in lower case.
pub(super) fn is_name(name: &str) -> bool {
    is_label(name) && name.starts_with(|first: char| first.is_ascii_lowercase())
}

/// RFC 1123's label, in lower case.
fn is_label(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with('-') && !name.ends_with('-')
}

/// A label's key: a name, perhaps behind a domain.
fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((domain, name)) => domain.len() <= 253 && domain.split('.').all(is_label) && is_label_part(name),
        None => is_label_part(key),
    }
}

fn is_label_part(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let ends = |char: char| char.is_ascii_alphanumeric();
    (1..=63).contains(&text.len()) && text.bytes().all(fits) && text.starts_with(ends) && text.ends_with(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ToKubernetes, String> {
        let config: ToKubernetes = serde_json::from_str(text).map_err(|error| error.to_string())?;
        config.validate("east").map(|()| config)
    }

    #[test]
    fn a_namespace_is_enough() {
        let config = read(r#"{"namespace": "consul"}"#).unwrap();
        assert_eq!((config.kind, config.endpoints_per_slice, config.domain.as_str()), (Kind::Endpoints, 100, "consul"));
        assert!(config.selection().selects("anything") && !config.remove && !config.other_clusters);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (more, what) in [
            (r#""namespace": "a/b""#, "is no namespace"),
            (r#""namespace": "a", "services": ["a*b"]"#, "services cannot hold"),
            (r#""namespace": "a", "prefix": "-x""#, "prefix cannot be"),
            (r#""namespace": "a", "prefix": "Vm-""#, "prefix cannot be"),
            (r#""namespace": "a", "labels": {"portcullis.io/cluster": "x"}"#, "not a user's to set"),
            // consul-k8s would remove what Consul does not know.
            (r#""namespace": "a", "labels": {"consul": "true"}"#, "not a user's to set"),
            (r#""namespace": "a", "labels": {"a b": "x"}"#, "no such label"),
            (r#""namespace": "a", "labels": {"a": "x/y"}"#, "no such label"),
            (r#""namespace": "a", "port": 0"#, "port is 1"),
            (r#""namespace": "a", "domain": "a..b""#, "domain cannot be"),
            (r#""namespace": "a", "endpointsPerSlice": 1001"#, "1 to 1000"),
            (r#""namespace": "a", "kind": "ExternalName""#, "unknown variant"),
            (r#""namespace": "a", "deny": []"#, "unknown field"),
        ] {
            let error = read(&format!("{{{more}}}")).unwrap_err();
            assert!(error.contains(what), "{more}: {error}");
        }
        assert!(read(r#"{"namespace": "a", "prefix": "vm-", "labels": {"team.example.com/x": ""}}"#).is_ok());
    }
}
