//! Policy tests: a policy, requests and what must come of them, in one file that the command line, CI and every engine run.
//!
//! The format is documented in `docs/reference/policy-tests.md`; this module knows its shape and runs it on [`portcullis_policy::decide()`].
//! Other engines (the built plugin) take the same [`CaseFile`] and put the same requests to themselves.

mod charged;

use std::{collections::BTreeMap, net::IpAddr};

use serde::Deserialize;
use serde_json::Value;

pub use self::charged::{Charged, Expectation, charge_json, mode_word, scope_word};
use crate::{compile, read};
use portcullis_policy::{
    certificate::TrustBundle,
    decide::{Decision, Request, Verdict, decide},
    headers::HeaderList,
    identity::{Certified, PresentedKey},
    model::{Action, DEFAULT_TENANCY, Policy, PolicySettings, Underscores},
    problem::Problem,
    snapshot::{Snapshot, SnapshotError},
};

/// A policy test file.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CaseFile {
    /// What happens when no intention applies.
    #[serde(default = "deny")]
    pub default: Action,
    /// The trust domain of the callers.
    #[serde(default)]
    pub trust_domain: Option<String>,
    /// Protocols of destinations that are not `http`.
    #[serde(default)]
    pub protocols: BTreeMap<String, String>,
    /// Peers whose callers are known.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// The policy, as config entries.
    #[serde(default)]
    pub policy: Vec<Value>,
    /// A file or directory with the policy, relative to the test file; its reader fills `policy`.
    #[serde(default)]
    pub policy_from: Option<String>,
    /// The header that carries API keys in `headers`.
    #[serde(default = "api_key_header")]
    pub api_key_header: String,
    /// The requests, in order.
    pub requests: Vec<Case>,
}

/// A peer: the cluster peering's name, and whose IDs it vouches for.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Peer {
    /// The peering's name, as in `Sources[].Peer`.
    pub name: String,
    /// The trust domain of its callers.
    pub trust_domain: String,
    /// The partition that it exports from.
    #[serde(default = "default_tenancy")]
    pub partition: String,
}

/// One request and what must come of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// The caller's verified SPIFFE ID; absent for a caller without a certificate.
    #[serde(default)]
    pub source: Option<String>,
    /// The service that is called.
    pub destination: String,
    /// Its namespace.
    #[serde(default)]
    pub destination_namespace: Option<String>,
    /// Where the connection comes from.
    #[serde(default)]
    pub source_address: Option<IpAddr>,
    /// The entry point that it comes in by.
    #[serde(default)]
    pub entry_point: String,
    /// Host and port as sent.
    #[serde(default = "localhost")]
    pub host: String,
    /// When it comes, in seconds since the Unix epoch.
    #[serde(default)]
    pub at: u64,
    /// Claims by provider, of tokens that were verified already. With this field no token is read from `headers`.
    #[serde(default)]
    pub jwt: Option<BTreeMap<String, Value>>,
    /// HTTP method.
    #[serde(default = "get")]
    pub method: String,
    /// Path and query.
    #[serde(default = "root")]
    pub path: String,
    /// Request headers, each a value or a list of values.
    #[serde(default)]
    pub headers: BTreeMap<String, Values>,
    /// The verdict that must come.
    pub expect: Expected,
    /// The rule that must decide, when given.
    #[serde(default)]
    pub rule: Option<String>,
    /// The status that must come, when given.
    #[serde(default)]
    pub status: Option<u16>,
    /// The rule in shadow that must have decided otherwise, when given; empty for none.
    #[serde(default)]
    pub shadow: Option<String>,
    /// The limits that it must be charged to, in their order, when given; empty for none.
    #[serde(default)]
    pub limits: Option<Vec<Charged>>,
}

/// One value or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Values {
    /// One.
    One(String),
    /// Several header lines.
    Many(Vec<String>),
}

/// `allow` or `deny`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// The request must pass.
    Allow,
    /// It must not.
    Deny,
}

/// A file made ready to run.
#[derive(Debug)]
pub struct Runner {
    /// The compiled policy.
    pub snapshot: Snapshot<Vec<u8>>,
    /// What is wrong with the policy.
    pub problems: Vec<Problem>,
}

// === impl Values ===

impl Values {
    /// The values as a slice.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

// === impl CaseFile ===

impl CaseFile {
    /// The settings that its policy is compiled with.
    pub fn settings(&self) -> PolicySettings {
        PolicySettings {
            default: self.default,
            trust_domains: self.trust_domain.iter().cloned().collect(),
            protocols: self.protocols.clone(),
        }
    }

    /// Compiles the policy; `name` is what problems call the file.
    pub fn runner(&self, name: &str) -> Result<Runner, SnapshotError> {
        let (policy, mut problems) = self.policy(name);
        let (bytes, more) = compile(&policy, 1, 0);
        problems.extend(more);
        Ok(Runner { snapshot: Snapshot::open(bytes)?, problems })
    }

    /// The policy as it was read; `name` is what problems call the file.
    pub fn policy(&self, name: &str) -> (Policy, Vec<Problem>) {
        let documents: Vec<_> = self
            .policy
            .iter()
            .enumerate()
            .map(|(index, it)| (format!("{name}: policy[{index}]"), it.clone()))
            .collect();
        let (mut policy, problems) = read::entries(&documents, self.settings());
        policy.trust_bundles.extend(self.peers.iter().map(|peer| TrustBundle {
            trust_domain: peer.trust_domain.to_ascii_lowercase(),
            peer: Some(peer.name.clone()),
            partition: peer.partition.clone(),
            roots: Vec::new(),
        }));
        (policy, problems)
    }

    /// Runs one case natively.
    pub fn run(&self, runner: &Runner, case: &Case) -> Decision {
        self.with_request(runner, case, |request| decide(&runner.snapshot, request))
    }

    /// Makes the request of a case, and does something with it.
    pub fn with_request<T>(&self, runner: &Runner, case: &Case, then: impl FnOnce(&Request<'_>) -> T) -> T {
        let is_key = |name: &str| name.eq_ignore_ascii_case(&self.api_key_header);
        let values = |(name, values): (&String, &Values)| {
            values.as_slice().iter().map(|value| (name.clone(), value.clone())).collect::<Vec<_>>()
        };
        let mut headers = HeaderList::new(case.headers.iter().filter(|(name, _)| !is_key(name)).flat_map(values));
        if runner.snapshot.settings().underscores == Underscores::DropHeader {
            headers = headers.without_underscores();
        }
        let key = case.headers.iter().find(|(name, _)| is_key(name)).map(|(_, values)| values.as_slice());
        let destination = case.full_destination();
        then(&Request {
            destination: &destination,
            method: &case.method,
            uri: &case.path,
            host: &case.host,
            headers: &headers,
            certificate: case.source.as_deref().map_or(Certified::Absent, Certified::Spiffe),
            api_key: match key {
                None => PresentedKey::Absent,
                Some([key]) => PresentedKey::Text(key),
                Some(_) => PresentedKey::Invalid("the API key header does not hold exactly one value"),
            },
            source_address: case.source_address,
            entry_point: &case.entry_point,
            claims: case.jwt.as_ref(),
            memory: &(),
            now: case.at,
        })
    }
}

// === impl Case ===

impl Case {
    /// The destination in Consul's spelling.
    pub fn full_destination(&self) -> String {
        match &self.destination_namespace {
            Some(namespace) => format!("{namespace}/{}", self.destination),
            None => self.destination.clone(),
        }
    }

    /// What differs between this case's expectations and a decision; empty when it holds.
    pub fn differences(&self, decision: &Decision) -> Vec<String> {
        let mut differences = Vec::new();
        let verdict = match self.expect {
            Expected::Allow => Verdict::Allow,
            Expected::Deny => Verdict::Deny,
        };
        if verdict != decision.verdict {
            differences.push(format!("expected {}, got {}", verdict.as_str(), decision.verdict.as_str()));
        }
        if let Some(rule) = self.rule.as_ref().filter(|rule| **rule != decision.rule) {
            differences.push(format!("expected rule {rule}, got {}", decision.rule));
        }
        if let Some(status) = self.status.filter(|status| *status != decision.status) {
            differences.push(format!("expected status {status}, got {}", decision.status));
        }
        let shadow = decision.shadow.as_deref().unwrap_or_default();
        if let Some(expected) = self.shadow.as_ref().filter(|expected| *expected != shadow) {
            differences.push(format!("expected in shadow {expected:?}, got {shadow:?}"));
        }
        if let Some(expected) = &self.limits {
            differences.extend(charged::differences(expected, &decision.charges));
        }
        differences
    }
}

fn localhost() -> String {
    "localhost".to_owned()
}

fn default_tenancy() -> String {
    DEFAULT_TENANCY.to_owned()
}

fn deny() -> Action {
    Action::Deny
}

fn get() -> String {
    "GET".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

fn api_key_header() -> String {
    "x-api-key".to_owned()
}
