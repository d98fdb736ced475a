//! Policy tests: a policy, requests and what must come of them, in one file that the command line, CI and every engine run.
//!
//! The format is documented in `docs/reference/policy-tests.md`; this module knows its shape and runs it on [`crate::decide()`].
//! Other engines (the built plugin) take the same [`CaseFile`] and put the same requests to themselves.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    compile,
    decide::{Decision, Request, Verdict, decide},
    identity::Credential,
    model::{Action, PolicySettings},
    problem::Problem,
    read,
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

/// One request and what must come of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// The caller's verified SPIFFE ID; absent for a caller without a certificate.
    #[serde(default)]
    pub source: Option<String>,
    /// The service that is called.
    pub destination: String,
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
        let documents: Vec<_> = self
            .policy
            .iter()
            .enumerate()
            .map(|(index, it)| (format!("{name}: policy[{index}]"), it.clone()))
            .collect();
        let (policy, mut problems) = read::entries(&documents, self.settings());
        let (bytes, more) = compile(&policy, 1, 0);
        problems.extend(more);
        Ok(Runner { snapshot: Snapshot::open(bytes)?, problems })
    }

    /// The credential that a case presents.
    pub fn credential<'a>(&self, case: &'a Case) -> Credential<'a> {
        if let Some(id) = &case.source {
            return Credential::Spiffe(id);
        }
        let key = case.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(&self.api_key_header));
        match key.map(|(_, values)| values.as_slice()) {
            None => Credential::None,
            Some([key]) => Credential::ApiKey(key),
            Some(_) => Credential::Invalid("the API key header does not hold exactly one value"),
        }
    }

    /// Runs one case natively.
    pub fn run(&self, runner: &Runner, case: &Case) -> Decision {
        let request = Request {
            destination: &case.destination,
            method: &case.method,
            uri: &case.path,
            credential: self.credential(case),
            now: 0,
        };
        decide(&runner.snapshot, &request)
    }
}

// === impl Case ===

impl Case {
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
        differences
    }
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
