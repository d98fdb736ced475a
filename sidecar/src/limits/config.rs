//! The part of the configuration that is about limits.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// Limits on this host and across hosts.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitsConfig {
    /// The state folder, as Traefik mounts it into the plugin (`docs/reference/state.md`).
    pub state: PathBuf,
    /// Where hosts tell each other their usage of limits with `Scope: global` (default: nowhere, so that each host counts
    /// for itself).
    #[serde(default)]
    pub redis: Option<RedisConfig>,
}

/// A Redis or Valkey server.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://`, `rediss://` (TLS) or `unix://`, with user, password and database where needed. Excludes `urlFile`.
    #[serde(default)]
    pub url: Option<String>,
    /// A file that holds the URL, for one with a password. Read again at every connection.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// A file that holds the password. Read again at every connection.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Certificates (PEM) of authorities that may vouch for the server (default: the system's).
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The channel that the hosts share (default: `portcullis:limits`).
    #[serde(default = "channel")]
    pub channel: String,
    /// What a host does while it cannot hear the others (default: `local`).
    #[serde(default)]
    pub store_down: StoreDown,
    /// How many hosts there are at least, this one included: for `share`, when none was heard yet (default: 1).
    #[serde(default = "one")]
    pub hosts: usize,
}

/// What a host does while it cannot hear the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StoreDown {
    /// It goes on with its own usage alone: nobody is refused too much, and N hosts may admit N times the limit.
    #[default]
    Local,
    /// It keeps to its part, one N-th: N hosts stay within the limit, and a busy host cannot use an idle one's part.
    Share,
}

/// Where the sidecar's numbers can be had.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetricsConfig {
    /// Address and port for `GET /metrics`, `/healthz` and `/readyz`, without TLS and for everyone who reaches it.
    pub listen: SocketAddr,
}

fn channel() -> String {
    "portcullis:limits".to_owned()
}

fn one() -> usize {
    1
}

// === impl LimitsConfig ===

impl LimitsConfig {
    /// Makes relative paths relative to `base`, and says what cannot be.
    pub fn resolve(&mut self, base: &Path) -> Result<(), String> {
        self.state = base.join(&self.state);
        let Some(redis) = &mut self.redis else { return Ok(()) };
        for file in [&mut redis.url_file, &mut redis.password_file, &mut redis.ca_file].into_iter().flatten() {
            *file = base.join(&*file);
        }
        if redis.url.is_some() == redis.url_file.is_some() {
            return Err("limits.redis: one of url and urlFile is needed".to_owned());
        }
        if redis.channel.is_empty() || redis.hosts == 0 {
            return Err("limits.redis: channel must not be empty, and hosts must be at least 1".to_owned());
        }
        Ok(())
    }
}

// === impl RedisConfig ===

/// Without the URL: it may hold a password.
impl std::fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { channel, store_down, hosts, .. } = self;
        f.debug_struct("RedisConfig")
            .field("channel", channel)
            .field("store_down", store_down)
            .field("hosts", hosts)
            .finish_non_exhaustive()
    }
}
