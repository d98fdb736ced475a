//! The configuration's `jwks` section.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Name of the folder beside the snapshot.
const BESIDE: &str = ".jwks";
/// What `staleForSeconds` may be: a minute to a month.
const STALE_FOR: std::ops::RangeInclusive<u64> = 60..=2_592_000;

/// How key sets are fetched.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JwksConfig {
    /// A folder for the last good key sets (default: `.jwks` beside the snapshot).
    pub cache: Option<PathBuf>,
    /// How long the last good keys are used while no others can be fetched, in seconds (default: a day).
    pub stale_for_seconds: u64,
    /// Certificates (PEM) of the authorities that may have signed issuers' certificates, for providers that name none
    /// (default: the system's).
    pub ca_file: Option<PathBuf>,
    /// Whether `http` URIs are fetched: whoever is between can then sign for everybody (default: no).
    pub allow_http: bool,
}

impl Default for JwksConfig {
    fn default() -> Self {
        Self { cache: None, stale_for_seconds: 86_400, ca_file: None, allow_http: false }
    }
}

impl JwksConfig {
    /// Checks, and makes paths absolute: relative ones are relative to `base`, the default one to the snapshot.
    pub(crate) fn resolve(&mut self, base: &Path, snapshot: &Path) -> Result<(), &'static str> {
        if !STALE_FOR.contains(&self.stale_for_seconds) {
            return Err("staleForSeconds is 60 to 2592000");
        }
        self.cache = Some(match &self.cache {
            Some(cache) => base.join(cache),
            None => snapshot.parent().unwrap_or(Path::new("")).join(BESIDE),
        });
        if let Some(file) = &mut self.ca_file {
            *file = base.join(&*file);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_file_and_the_cache_is_beside_the_snapshot() {
        let mut config = JwksConfig::default();
        config.resolve(Path::new("/etc/p"), Path::new("/run/p/policy.snapshot")).unwrap();
        assert_eq!(config.cache.as_deref(), Some(Path::new("/run/p/.jwks")));
        let mut config: JwksConfig = serde_saphyr::from_str("{cache: keys, caFile: ca.pem}").unwrap();
        config.resolve(Path::new("/etc/p"), Path::new("/run/p/policy.snapshot")).unwrap();
        assert_eq!(config.cache.as_deref(), Some(Path::new("/etc/p/keys")));
        assert_eq!(config.ca_file.as_deref(), Some(Path::new("/etc/p/ca.pem")));
        let mut config: JwksConfig = serde_saphyr::from_str("{staleForSeconds: 5}").unwrap();
        assert!(config.resolve(Path::new(""), Path::new("s")).is_err());
        assert!(serde_saphyr::from_str::<JwksConfig>("{stale: 5}").is_err());
    }
}
