//! The configuration's `consul` section, and the environment that Consul's own tools go by.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{error::ConsulError, kv::KvImport};
use crate::sync::{ConsulNodes, SyncOptions};

/// Where Consul's HTTP API is when nobody says so.
const DEFAULT_ADDRESS: &str = "127.0.0.1:8500";
/// Largest certificate or token file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// How Consul is reached. What is left out is taken from the environment (`CONSUL_HTTP_ADDR` …).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConsulConfig {
    /// `http://host:port`, `https://host:port` or `host:port` (default: `CONSUL_HTTP_ADDR`, then `127.0.0.1:8500`).
    pub address: Option<String>,
    /// The ACL token (default: `CONSUL_HTTP_TOKEN`). `tokenFile` keeps it out of this file.
    pub token: Option<Secret>,
    /// A file with the ACL token, read again for each call (default: `CONSUL_HTTP_TOKEN_FILE`).
    pub token_file: Option<PathBuf>,
    /// Certificates of the authorities that may have signed Consul's (default: `CONSUL_CACERT`, then the system's).
    pub ca_file: Option<PathBuf>,
    /// The datacenter (default: the agent's own).
    pub datacenter: Option<String>,
    /// Of our instances, how many a pass may remove before it waits for a person, in per cent; 100 is no limit (default: 50).
    pub max_removal_percent: u8,
    /// With this, Consul turns the synthetic node critical once nobody has kept it for so long, up to twice (default: never).
    pub dead_man_seconds: Option<u32>,
    /// Say what would change and write nothing (default: no).
    pub dry_run: bool,
    /// Every service as a JSON value in the key-value store (default: none is written).
    pub kv_import: Option<KvImport>,
}

/// A text that no log shows.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

/// Where the token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Anonymous,
    Given(Secret),
    File(PathBuf),
}

/// Everything a client needs.
#[derive(Debug, Clone)]
pub(super) struct Access {
    pub(super) base: reqwest::Url,
    pub(super) token: Token,
    /// PEM; `None` for the system's authorities.
    pub(super) authorities: Option<Vec<u8>>,
    pub(super) datacenter: Option<String>,
}

/// The environment's variables, as a function so that tests bring their own.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

// === impl ConsulConfig ===

impl Default for ConsulConfig {
    fn default() -> Self {
        Self {
            address: None,
            token: None,
            token_file: None,
            ca_file: None,
            datacenter: None,
            max_removal_percent: 50,
            dead_man_seconds: None,
            dry_run: false,
            kv_import: None,
        }
    }
}

impl ConsulConfig {
    /// What types alone do not guarantee: the faulty key with what it allows.
    pub(crate) fn validate(&self, options: &SyncOptions) -> Result<(), &'static str> {
        if !(1..=100).contains(&self.max_removal_percent) {
            return Err("maxRemovalPercent is 1 to 100");
        }
        self.kv_import.as_ref().map_or(Ok(()), KvImport::validate)?;
        match self.dead_man_seconds {
            Some(_) if options.consul_nodes == ConsulNodes::PerNode => {
                Err("deadManSeconds needs consulNodes: synthetic")
            }
            // Consul's limits of a session.
            Some(seconds) if !(10..=86_400).contains(&seconds) => Err("deadManSeconds is 10 to 86400"),
            _ => Ok(()),
        }
    }

    /// Files are relative to the configuration file.
    pub(crate) fn resolve(&mut self, base: &Path) {
        for file in [&mut self.token_file, &mut self.ca_file].into_iter().flatten() {
            *file = base.join(&*file);
        }
    }

    /// This section and the process's environment together.
    pub(super) fn access(&self) -> Result<Access, ConsulError> {
        self.access_with(&|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn access_with(&self, environment: Environment<'_>) -> Result<Access, ConsulError> {
        for name in ["CONSUL_HTTP_AUTH", "CONSUL_CLIENT_CERT", "CONSUL_TLS_SERVER_NAME", "CONSUL_CAPATH"] {
            if environment(name).is_some() {
                let hint = "unset it; CONSUL_CACERT, CONSUL_HTTP_ADDR and CONSUL_HTTP_TOKEN are";
                return Err(ConsulError::standing(name, "is not supported", hint));
            }
        }
        let verify = switch("CONSUL_HTTP_SSL_VERIFY", environment)?.unwrap_or(true);
        if !verify {
            let hint = "name the authority in CONSUL_CACERT: whoever answers would be given the token";
            return Err(ConsulError::standing("CONSUL_HTTP_SSL_VERIFY", "an unverified Consul is not supported", hint));
        }
        let authorities = self.ca_file.clone().or_else(|| environment("CONSUL_CACERT").map(PathBuf::from));
        let token = match (&self.token, &self.token_file) {
            (Some(_), Some(_)) => {
                return Err(ConsulError::standing("consul", "both token and tokenFile are given", "keep tokenFile"));
            }
            (Some(token), None) => Token::Given(token.clone()),
            (None, Some(file)) => Token::File(file.clone()),
            // A file before a text, as Consul's own tools have it.
            (None, None) => match (environment("CONSUL_HTTP_TOKEN_FILE"), environment("CONSUL_HTTP_TOKEN")) {
                (Some(file), _) => Token::File(PathBuf::from(file)),
                (None, Some(token)) => Token::Given(Secret(token)),
                (None, None) => Token::Anonymous,
            },
        };
        let access = Access {
            base: self.base(environment)?,
            token,
            authorities: authorities.map(|file| read(&file)).transpose()?,
            datacenter: self.datacenter.clone(),
        };
        access.token.read()?;
        Ok(access)
    }

    fn base(&self, environment: Environment<'_>) -> Result<reqwest::Url, ConsulError> {
        let from_environment = || environment("CONSUL_HTTP_ADDR");
        let address = self.address.clone().or_else(from_environment).unwrap_or_else(|| DEFAULT_ADDRESS.to_owned());
        let ssl = switch("CONSUL_HTTP_SSL", environment)?.unwrap_or(false);
        let bad = |what: &str| {
            let hint = "write it as http://host:port, https://host:port or host:port";
            ConsulError::standing("consul.address", format!("{address:?} {what}"), hint)
        };
        let text = match address.split_once("://") {
            Some(("http" | "https", _)) => address.clone(),
            Some(_) => return Err(bad("has a scheme that is not supported")),
            None => format!("{}://{address}", if ssl { "https" } else { "http" }),
        };
        let url = reqwest::Url::parse(&text).map_err(|error| bad(&format!("is no address ({error})")))?;
        let plain = url.path() == "/" && url.query().is_none() && url.username().is_empty() && url.password().is_none();
        if plain { Ok(url) } else { Err(bad("has more than a host and a port")) }
    }
}

/// A boolean variable, as Go reads it.
fn switch(name: &str, environment: Environment<'_>) -> Result<Option<bool>, ConsulError> {
    environment(name).map_or(Ok(None), |text| match crate::traefik::value::go_bool(&text) {
        Some(value) => Ok(Some(value)),
        None => Err(ConsulError::standing(name, format!("{text:?} is no boolean"), "write true or false")),
    })
}

fn read(file: &Path) -> Result<Vec<u8>, ConsulError> {
    let at = file.display().to_string();
    let fault = |what: String| ConsulError::standing(&at, what, "check the path and its rights");
    let length = fs::metadata(file).map_err(|error| fault(error.to_string()))?.len();
    if length > MAX_FILE {
        return Err(fault(format!("{length} bytes are no certificate and no token")));
    }
    fs::read(file).map_err(|error| fault(error.to_string()))
}

// === impl Token ===

impl Token {
    /// The token as it is now; empty for nobody.
    pub(super) fn read(&self) -> Result<Secret, ConsulError> {
        match self {
            Self::Anonymous => Ok(Secret(String::new())),
            Self::Given(token) => Ok(token.clone()),
            Self::File(file) => {
                let text = String::from_utf8_lossy(&read(file)?).trim().to_owned();
                if text.is_empty() {
                    let at = file.display().to_string();
                    return Err(ConsulError::standing(&at, "the token file is empty", "write the token into it"));
                }
                Ok(Secret(text))
            }
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(config: &ConsulConfig, variables: &[(&str, &str)]) -> Result<Access, ConsulError> {
        config.access_with(&|name| variables.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned()))
    }

    fn base(address: Option<&str>, variables: &[(&str, &str)]) -> String {
        let config = ConsulConfig { address: address.map(str::to_owned), ..ConsulConfig::default() };
        access(&config, variables).unwrap().base.to_string()
    }

    #[test]
    fn the_address_is_the_files_then_the_environments_then_the_local_agent() {
        assert_eq!(base(None, &[]), "http://127.0.0.1:8500/");
        assert_eq!(base(None, &[("CONSUL_HTTP_ADDR", "consul:1")]), "http://consul:1/");
        assert_eq!(base(None, &[("CONSUL_HTTP_ADDR", "consul:1"), ("CONSUL_HTTP_SSL", "true")]), "https://consul:1/");
        assert_eq!(base(Some("https://a:2"), &[("CONSUL_HTTP_ADDR", "b:1")]), "https://a:2/");
        assert_eq!(base(Some("http://[::1]:8500"), &[("CONSUL_HTTP_SSL", "1")]), "http://[::1]:8500/");
    }

    #[test]
    fn what_cannot_be_used_says_so() {
        for address in ["unix:///run/consul.sock", "http://a/consul", "http://user:word@a", "http://"] {
            let config = ConsulConfig { address: Some(address.to_owned()), ..ConsulConfig::default() };
            assert!(access(&config, &[]).unwrap_err().to_string().starts_with("consul.address"), "{address}");
        }
        for (name, value) in [
            ("CONSUL_HTTP_SSL_VERIFY", "false"),
            ("CONSUL_HTTP_SSL", "perhaps"),
            ("CONSUL_CLIENT_CERT", "x.pem"),
            ("CONSUL_CACERT", "/nowhere"),
            ("CONSUL_HTTP_TOKEN_FILE", "/nowhere"),
        ] {
            let error = access(&ConsulConfig::default(), &[(name, value)]).unwrap_err();
            assert!(!error.transient && !error.hint.is_empty(), "{error}");
        }
    }

    #[test]
    fn a_token_is_taken_from_the_file_or_the_environment_and_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "  from-file\n").unwrap();
        let path = file.path().to_str().unwrap();
        let both = [("CONSUL_HTTP_TOKEN_FILE", path), ("CONSUL_HTTP_TOKEN", "from-environment")];
        let token = |config: &ConsulConfig, variables: &[(&str, &str)]| {
            access(config, variables).unwrap().token.read().unwrap().0
        };
        assert_eq!(token(&ConsulConfig::default(), &both), "from-file");
        assert_eq!(token(&ConsulConfig::default(), &both[1..]), "from-environment");
        let given = ConsulConfig { token: Some(Secret("from-config".to_owned())), ..ConsulConfig::default() };
        assert_eq!(token(&given, &both), "from-config");
        assert!(!format!("{given:?} {:?}", access(&given, &[]).unwrap()).contains("from-config"));
        fs::write(file.path(), "rotated").unwrap();
        assert_eq!(token(&ConsulConfig::default(), &both), "rotated");
    }
}
