//! `portcullis doctor`: what is wrong with a set-up as it runs, and how to mend it.
//!
//! ```text
//!  Traefik's API, its files, Consul, the snapshot ──► gather ──► Facts ──► check ──► findings
//! ```
//!
//! [`gather`] asks; the checks are pure and see nothing else than [`Facts`]. What could not be asked is a finding itself: a doctor that
//! sees nothing must not call anybody healthy. Nothing is written anywhere.

mod gate;
pub mod gather;
mod rest;
mod traefik;

use serde::Serialize;

pub use self::{
    rest::{Changes, Clock, Problems, Right, SnapshotState},
    traefik::{EntryPoint, Raw, Router, TlsOptions, Traefik},
};
use crate::config::ClientCertificate;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody may get in, or is kept out.
    Error,
    /// It may become one, or could not be seen.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A word that does not change, for scripts.
    pub check: &'static str,
    /// Where.
    pub at: String,
    /// What is wrong, and what it means.
    pub what: String,
    /// What to do.
    pub hint: String,
}

/// What the configuration leads to expect.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// The plugin's name in Traefik's static configuration.
    pub plugin: String,
    /// How far client certificates are an identity.
    pub client_certificate: ClientCertificate,
    /// Whether there are services to guard.
    pub has_services: bool,
}

/// Everything that was seen. `None`: it was not to be looked at.
#[derive(Debug, Default)]
pub struct Facts {
    /// From the configuration.
    pub expected: Expected,
    /// Traefik, or why it could not be asked.
    pub traefik: Option<Result<Traefik, String>>,
    /// TLS options in the files beside the gate's, by their name with `@file`.
    pub tls_options: TlsOptions,
    /// The snapshot in force.
    pub snapshot: SnapshotState,
    /// Problems of the policy.
    pub problems: Problems,
    /// Whose clock says what.
    pub clocks: Vec<Clock>,
    /// Rights in Consul; or why it could not be asked.
    pub rights: Option<Result<Vec<Right>, String>>,
    /// What would be written to Consul.
    pub changes: Vec<Changes>,
}

/// Everything that is wrong, the worst first.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &facts.traefik {
        Some(Ok(traefik)) => {
            traefik::check(traefik, &mut findings);
            gate::check(&facts.expected, traefik, &facts.tls_options, &mut findings);
        }
        Some(Err(why)) => findings.push(Finding::error(
            "traefik",
            "Traefik's API",
            format!("it cannot be asked ({why}), so nothing is known of what Traefik does"),
            "give its address by --traefik or doctor.traefik, and route `api@internal` at an entry point that is not public",
        )),
        None => {}
    }
    rest::check(facts, &mut findings);
    findings
        .sort_by(|left, right| (left.severity, left.check, &left.at).cmp(&(right.severity, right.check, &right.at)));
    findings.dedup();
    findings
}

impl Finding {
    fn error(check: &'static str, at: impl Into<String>, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { severity: Severity::Error, check, at: at.into(), what: what.into(), hint: hint.into() }
    }

    fn warning(check: &'static str, at: impl Into<String>, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(check, at, what, hint) }
    }
}

#[cfg(test)]
mod tests;
