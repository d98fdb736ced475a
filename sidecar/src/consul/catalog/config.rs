//! The configuration's `catalog` section.

use serde::Deserialize;

use crate::sync::{GATE_PREFIX, TRAEFIK_PREFIX};

/// Whose services the gate guards beside our own. Consul is that of the section `consul`; without one, there are none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CatalogConfig {
    /// Whether services that others registered are looked at (default: yes).
    pub watch: bool,
    /// Names of services that may have routes; a `*` at the end stands for any rest (default: `*`).
    pub services: Vec<String>,
    /// Names of those that may not, whatever `services` says (default: none).
    pub except: Vec<String>,
    /// The prefix of Traefik's own catalog provider, without the dot; empty if that provider is off (default: `traefik`).
    pub traefik_prefix: String,
}

// === impl CatalogConfig ===

impl Default for CatalogConfig {
    fn default() -> Self {
        Self {
            watch: true,
            services: vec!["*".to_owned()],
            except: Vec::new(),
            // Traefik's own default: whoever has set another one, or has switched the provider off, says so.
            traefik_prefix: TRAEFIK_PREFIX.trim_end_matches('.').to_owned(),
        }
    }
}

impl CatalogConfig {
    /// What types alone do not guarantee: the faulty key with what it allows.
    pub(crate) fn validate(&self) -> Result<(), String> {
        for (key, list) in [("services", &self.services), ("except", &self.except)] {
            let is_pattern = |text: &str| !text.is_empty() && !text.trim_end_matches('*').contains('*');
            if let Some(text) = list.iter().find(|text| !is_pattern(text)) {
                return Err(format!(
                    "{key} cannot hold {text:?}: it takes names, and beginnings of names with * at the end"
                ));
            }
        }
        let prefix = &self.traefik_prefix;
        if format!("{prefix}.").eq_ignore_ascii_case(GATE_PREFIX) {
            return Err(format!("traefikPrefix cannot be {prefix}: Traefik would read what only the gate may read"));
        }
        Ok(())
    }

    /// Whether a service may have a route.
    pub(super) fn selects(&self, name: &str) -> bool {
        let any = |list: &[String]| {
            list.iter().any(|text| match text.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == text,
            })
        };
        any(&self.services) && !any(&self.except)
    }

    /// The prefix that Traefik's provider reads, if it reads any.
    pub fn traefik_prefix(&self) -> Option<&str> {
        Some(self.traefik_prefix.as_str()).filter(|prefix| !prefix.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<CatalogConfig, String> {
        let config: CatalogConfig = serde_json::from_str(text).map_err(|error| error.to_string())?;
        config.validate().map(|()| config)
    }

    #[test]
    fn names_and_beginnings_of_names_select() {
        let config = read(r#"{"services": ["shop-*", "billing"], "except": ["shop-test*"]}"#).unwrap();
        let selected: Vec<_> = ["shop-web", "billing", "billing2", "shop-test-1", "other"]
            .into_iter()
            .filter(|name| config.selects(name))
            .collect();
        assert_eq!(selected, ["shop-web", "billing"]);
        assert!(CatalogConfig::default().selects("anything"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert!(read(r#"{"services": ["a*b"]}"#).unwrap_err().contains("services"));
        assert!(read(r#"{"except": [""]}"#).unwrap_err().contains("except"));
        assert!(read(r#"{"traefikPrefix": "Portcullis"}"#).unwrap_err().contains("only the gate"));
        assert!(read(r#"{"wach": true}"#).is_err());
        assert_eq!(read(r#"{"traefikPrefix": ""}"#).unwrap().traefik_prefix(), None);
    }
}
