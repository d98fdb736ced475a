//! The middleware's settings: what an operator may say, what holds when nothing is said, and what is refused.
//!
//! A configuration that cannot be understood is never guessed at: [`read`] answers [`Misconfigured`], and the guard then
//! denies every request with that reason. Nothing here runs in start code, where a failure would disable every plugin.

use crate::{headers, inline::Inline, lenient};
use portcullis_policy::decide::MAX_DESTINATION_LEN;
use serde_json::{Map, Value};

/// How long a snapshot is used before the file is looked at again: with the sidecar's own delay, a change of policy is
/// in force within half a second, and a look costs three system calls.
const DEFAULT_RELOAD_MS: u64 = 200;
/// More than this and an operator would take the gate for broken.
const MAX_RELOAD_MS: u64 = 3_600_000;
/// Longest configuration that is read, in bytes; inline policies are for small set-ups.
const MAX_CONFIG_BYTES: usize = 1 << 20;

/// Everything an operator can set.
#[derive(Debug, PartialEq)]
pub struct Settings {
    /// Where the policy is.
    pub policy: PolicyFrom,
    /// How the destination of a request is known.
    pub destination: DestinationFrom,
    /// Whether the certificate header is an identity. Off by default: whether Traefik verified the certificate cannot be
    /// seen from here (traefik §4.3), so the operator has to say so.
    pub client_certificate: ClientCertificate,
    /// Whether the backend gets the certificate header, where certificates are an identity. Off by default: the backend
    /// is told the verified source, and a header of some hundred bytes costs every request.
    pub forward_certificate: bool,
    /// The header that carries API keys, in lower case; none means that there are no API keys.
    pub api_key_header: Option<String>,
    /// Milliseconds of wall time between two looks at the snapshot file.
    pub reload_ms: u64,
    /// The level of the line that each denied request logs; `None` is silent.
    pub log_denied: Option<Level>,
    /// Whether a refusal tells the caller which rule refused and why. Off by default: it would map the policy out.
    pub reveal_rule: bool,
    /// What policy calls the entry point of this middleware's requests; empty when it has nothing to say about it.
    pub entry_point: String,
    /// The directory in which instances share what they verified, by its path inside the guest; `None`: each instance
    /// verifies for itself.
    pub state: Option<String>,
    /// By which headers callers are told how their limits stand.
    pub rate_limit_headers: RateLimitHeaders,
}

/// Where the policy comes from.
#[derive(Debug, PartialEq)]
pub enum PolicyFrom {
    /// A snapshot file, by its path inside the guest.
    Snapshot(String),
    /// The configuration itself.
    Inline(Inline),
}

/// How the destination of a request is known.
#[derive(Debug, PartialEq)]
pub enum DestinationFrom {
    /// The same for every request of this middleware.
    Fixed(String),
    /// The gate's header, by its lower-case name.
    Header(String),
}

/// What the certificate header is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Nothing: it is not read.
    Off,
    /// Traefik verified the certificate against the right CA (`RequireAndVerifyClientCert` or `VerifyClientCertIfGiven`),
    /// and `passTLSClientCert` with `pem: true` stands before this middleware.
    VerifiedByTraefik,
    /// Traefik asks for certificates without judging them (`RequireAnyClientCert`, `RequestClientCert`), and the chain is
    /// verified here against the CA roots in the policy; `passTLSClientCert` stands before this middleware all the same.
    Verify,
}

/// By which headers callers are told how their limits stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimitHeaders {
    /// `RateLimit-Policy` and `RateLimit`.
    Standard,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
    Legacy,
    /// All of them.
    Both,
    /// None; the names of limits stay inside.
    Off,
}

/// A level of the host's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Shown when someone looks for something.
    Debug,
    /// An operation finished.
    Info,
    /// Something failed and was recovered from.
    Warn,
}

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misconfigured {
    /// The host gave no JSON object.
    #[error("the configuration is not a json object")]
    NotAnObject,
    /// The host gave more than is read.
    #[error("the configuration is larger than {MAX_CONFIG_BYTES} bytes")]
    TooLarge,
    /// One key in two spellings, or an alias of it.
    #[error("`{0}` is set twice in different spellings")]
    Twice(String),
    /// A value that cannot be what the key wants.
    #[error("`{key}` must be {expected}")]
    Unusable {
        /// The key.
        key: &'static str,
        /// What it accepts.
        expected: &'static str,
    },
    /// Neither policy source, or both.
    #[error("set one of `snapshot` and `policy`")]
    PolicySources,
    /// Two settings name the same header, or a setting names one that has another meaning.
    #[error("`{0}` names a header that has another meaning here")]
    HeaderTaken(&'static str),
    /// The inline policy holds an error.
    #[error("the inline policy cannot be used: {0}")]
    Policy(String),
}

/// The keys, as documented.
const KEYS: [&str; 13] = [
    "snapshot",
    "policy",
    "destination",
    "destinationHeader",
    "clientCertificate",
    "forwardCertificate",
    "apiKeyHeader",
    "reloadMilliseconds",
    "logDenied",
    "revealRule",
    "state",
    "entryPoint",
    "rateLimitHeaders",
];

/// Reads the configuration. Beside the settings come warnings, which are worth a log line and nothing more.
pub fn read(json: &[u8]) -> Result<(Settings, Vec<String>), Misconfigured> {
    if json.len() > MAX_CONFIG_BYTES {
        return Err(Misconfigured::TooLarge);
    }
    let Ok(Value::Object(given)) = serde_json::from_slice(json) else { return Err(Misconfigured::NotAnObject) };
    let mut warnings = Vec::new();
    let mut keys = Keys::new(given, &KEYS, &mut warnings)?;
    let destination_header = keys.header("destinationHeader")?;
    let destination = keys.text("destination", "a service name")?;
    let settings = Settings {
        policy: policy(&mut keys, &mut warnings)?,
        destination: match destination {
            Some(name) if is_destination(&name) => DestinationFrom::Fixed(name),
            Some(_) => return Err(unusable("destination", "a service name without blanks, at most 255 bytes")),
            None => {
                DestinationFrom::Header(destination_header.unwrap_or_else(|| headers::DESTINATION.to_ascii_lowercase()))
            }
        },
        client_certificate: match keys.text("clientCertificate", CERTIFICATE_WORDS)?.as_deref() {
            None | Some("off" | "false") => ClientCertificate::Off,
            Some("verifiedByTraefik") => ClientCertificate::VerifiedByTraefik,
            Some("verify") => ClientCertificate::Verify,
            Some(_) => return Err(unusable("clientCertificate", CERTIFICATE_WORDS)),
        },
        api_key_header: keys.header("apiKeyHeader")?,
        reload_ms: match keys.take("reloadMilliseconds") {
            None => DEFAULT_RELOAD_MS,
            Some(value) => lenient::whole(&value)
                .filter(|ms| *ms <= MAX_RELOAD_MS)
                .ok_or(unusable("reloadMilliseconds", "a whole number from 0 to 3600000"))?,
        },
        log_denied: match keys.text("logDenied", LEVEL_WORDS)?.as_deref() {
            Some("off" | "false") => None,
            Some("debug") => Some(Level::Debug),
            // One line for each refusal: an operator who cannot see why a request was denied will open the gate.
            None | Some("info") => Some(Level::Info),
            Some("warn") => Some(Level::Warn),
            Some(_) => return Err(unusable("logDenied", LEVEL_WORDS)),
        },
        forward_certificate: keys.switch("forwardCertificate")?,
        reveal_rule: keys.switch("revealRule")?,
        entry_point: keys.text("entryPoint", "the name of an entry point")?.unwrap_or_default(),
        state: match keys.text("state", STATE_WORDS)? {
            Some(path) if !path.starts_with('/') => return Err(unusable("state", STATE_WORDS)),
            path => path.map(|path| path.trim_end_matches('/').to_owned()),
        },
        rate_limit_headers: match keys.text("rateLimitHeaders", HEADERS_WORDS)?.as_deref() {
            None | Some("standard") => RateLimitHeaders::Standard,
            Some("legacy") => RateLimitHeaders::Legacy,
            Some("both") => RateLimitHeaders::Both,
            Some("off" | "false") => RateLimitHeaders::Off,
            Some(_) => return Err(unusable("rateLimitHeaders", HEADERS_WORDS)),
        },
    };
    check_headers(&settings)?;
    Ok((settings, warnings))
}

const CERTIFICATE_WORDS: &str = "`off`, `verifiedByTraefik` or `verify`";
const STATE_WORDS: &str = "the absolute path of a directory";
const HEADERS_WORDS: &str = "`standard`, `legacy`, `both` or `off`";
const LEVEL_WORDS: &str = "`off`, `debug`, `info` or `warn`";

impl Settings {
    /// The header with the caller's certificate, where that is an identity.
    pub fn certificate_header(&self) -> Option<&'static str> {
        (self.client_certificate != ClientCertificate::Off).then_some(headers::CERTIFICATE)
    }
}

impl RateLimitHeaders {
    /// Whether the headers of the IETF's draft are sent.
    pub fn standard(self) -> bool {
        matches!(self, Self::Standard | Self::Both)
    }

    /// Whether the older ones are sent.
    pub fn legacy(self) -> bool {
        matches!(self, Self::Legacy | Self::Both)
    }
}

impl DestinationFrom {
    /// The header that names the destination, if one does.
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::Header(name) => Some(name),
            Self::Fixed(_) => None,
        }
    }
}

/// Whether a text can name a destination: printable ASCII without blanks, of bounded length.
pub fn is_destination(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_DESTINATION_LEN && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn policy(keys: &mut Keys, warnings: &mut Vec<String>) -> Result<PolicyFrom, Misconfigured> {
    let inline = keys.take("policy");
    match (keys.text("snapshot", "the path of a file")?, inline) {
        (Some(path), None) => Ok(PolicyFrom::Snapshot(path)),
        (None, Some(policy)) => Inline::read(policy, warnings).map(PolicyFrom::Inline),
        (None, None) | (Some(_), Some(_)) => Err(Misconfigured::PolicySources),
    }
}

/// No header may carry two meanings: what is read as one thing would be removed or overwritten as the other.
fn check_headers(settings: &Settings) -> Result<(), Misconfigured> {
    let reserved = |name: &str| {
        ["connection", "host", headers::CERTIFICATE].iter().any(|taken| headers::same(name, taken))
            || (headers::begins(name, headers::OWN_PREFIX) && !name.eq_ignore_ascii_case(headers::DESTINATION))
    };
    let destination = settings.destination.header();
    if destination.is_some_and(reserved) {
        return Err(Misconfigured::HeaderTaken("destinationHeader"));
    }
    if let Some(name) = &settings.api_key_header {
        let is_destination = destination.is_some_and(|destination| headers::same(name, destination));
        if reserved(name) || headers::same(name, headers::DESTINATION) || is_destination {
            return Err(Misconfigured::HeaderTaken("apiKeyHeader"));
        }
    }
    Ok(())
}

const fn unusable(key: &'static str, expected: &'static str) -> Misconfigured {
    Misconfigured::Unusable { key, expected }
}

/// An object's known keys, whatever their capitals: labels and tags often lose them.
pub(crate) struct Keys(Vec<(&'static str, Value)>);

impl Keys {
    /// Sorts the given fields by the known keys; unknown ones become one warning.
    pub(crate) fn new(
        given: Map<String, Value>,
        known: &[&'static str],
        warnings: &mut Vec<String>,
    ) -> Result<Self, Misconfigured> {
        let mut keys = Self(Vec::with_capacity(given.len()));
        let mut unknown = Vec::new();
        for (name, value) in given {
            let Some(key) = known.iter().find(|key| key.eq_ignore_ascii_case(&name)) else {
                unknown.push(name);
                continue;
            };
            if keys.0.iter().any(|(taken, _)| taken == key) {
                return Err(Misconfigured::Twice((*key).to_owned()));
            }
            // An empty text is how a tag says "not set".
            if !matches!(&value, Value::Null) && value.as_str() != Some("") {
                keys.0.push((key, value));
            }
        }
        if !unknown.is_empty() {
            warnings.push(format!("unknown settings are ignored: {}", unknown.join(", ")));
        }
        Ok(keys)
    }

    /// The value of a key, if it is set.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|(name, _)| *name == key)?;
        Some(self.0.swap_remove(at).1)
    }

    fn text(&mut self, key: &'static str, expected: &'static str) -> Result<Option<String>, Misconfigured> {
        self.take(key).map(|value| lenient::text(&value).ok_or(unusable(key, expected))).transpose()
    }

    /// A switch that is off unless set.
    fn switch(&mut self, key: &'static str) -> Result<bool, Misconfigured> {
        self.take(key).map_or(Ok(false), |value| lenient::switch(&value).ok_or(unusable(key, "true or false")))
    }

    fn header(&mut self, key: &'static str) -> Result<Option<String>, Misconfigured> {
        let name = self.text(key, "the name of a header")?;
        match name {
            Some(name) if !headers::is_token(&name) => Err(unusable(key, "the name of a header")),
            name => Ok(name.map(|name| name.to_ascii_lowercase())),
        }
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
