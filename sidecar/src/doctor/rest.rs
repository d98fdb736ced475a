//! What is wrong beside Traefik: the snapshot, clocks, rights in Consul, and what differs there.

use super::{Facts, Finding};

/// Clocks that are further apart are said, in seconds: `Date` has whole ones.
const SKEW: i64 = 5;
/// And are an error: tokens are judged with 30 seconds of grace.
const WRONG: i64 = 30;
/// How many differences are shown.
const SHOWN: usize = 3;

/// The snapshot in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SnapshotState {
    /// It was not looked at.
    #[default]
    Unknown,
    /// It cannot be used.
    Broken(String),
    /// It is whole.
    Good {
        /// The generation in force.
        generation: u64,
        /// Whether the policy leads to another one now.
        is_stale: bool,
        /// Whether a person holds it in force.
        is_pinned: bool,
    },
}

/// How many problems the policy has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Problems {
    /// Parts that deny because they could not be read, or that publish nothing.
    pub errors: usize,
    /// The others.
    pub warnings: usize,
}

/// Another clock.
#[derive(Debug, Clone)]
pub struct Clock {
    /// Whose.
    pub whose: String,
    /// How far it is ahead of ours, in seconds.
    pub ahead: i64,
}

/// A right that a token should have.
#[derive(Debug, Clone)]
pub struct Right {
    /// As a rule of a policy.
    pub rule: String,
    /// Whether it has it.
    pub is_given: bool,
}

/// What would be written to Consul for one source.
#[derive(Debug, Clone)]
pub struct Changes {
    /// The source.
    pub source: String,
    /// One line each; or why it is not known.
    pub lines: Result<Vec<String>, String>,
}

pub(super) fn check(facts: &Facts, findings: &mut Vec<Finding>) {
    snapshot(&facts.snapshot, findings);
    if facts.problems.errors > 0 {
        let what = format!("it has {} errors: parts of it deny, or nothing new is published", facts.problems.errors);
        findings.push(Finding::error(
            "policy",
            "the policy",
            what,
            "`portcullis check` on the policy directory names them",
        ));
    }
    if facts.problems.warnings > 0 {
        let what = format!("it has {} warnings", facts.problems.warnings);
        findings.push(Finding::warning(
            "policy",
            "the policy",
            what,
            "`portcullis check` on the policy directory names them",
        ));
    }
    for Clock { whose, ahead } in &facts.clocks {
        let at = format!("the clock of {whose}");
        let what = format!("it is {} s {} this host's", ahead.abs(), if *ahead < 0 { "behind" } else { "ahead of" });
        let hint = "keep all hosts' clocks in step (chrony, systemd-timesyncd)";
        if ahead.abs() > WRONG {
            let what = format!("{what}: tokens and certificates that are good are refused, or ended ones are not");
            findings.push(Finding::error("clock", at, what, hint));
        } else if ahead.abs() > SKEW {
            findings.push(Finding::warning("clock", at, what, hint));
        }
    }
    match &facts.rights {
        Some(Ok(rights)) => findings.extend(rights.iter().filter(|right| !right.is_given).map(|right| {
            let what = "the token lacks this right; what needs it stands still, and nothing is removed meanwhile";
            let hint = format!("add to its policy: {} (deploy/consul/policy.hcl)", right.rule);
            Finding::error("acl", right.rule.clone(), what, hint)
        })),
        Some(Err(why)) => findings.push(Finding::error(
            "consul",
            "Consul",
            why.clone(),
            "see the section consul of the configuration",
        )),
        None => {}
    }
    for Changes { source, lines } in &facts.changes {
        match lines {
            Ok(lines) if lines.is_empty() => {}
            Ok(lines) => {
                let shown = lines.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
                let what = format!("{} changes are due there: {shown}", lines.len());
                let hint = "is `portcullis run` running, and does it lead? `portcullis plan --diff` shows all";
                findings.push(Finding::warning("plan", format!("Consul, of {source}"), what, hint));
            }
            Err(why) => {
                let what = format!("what is due there is not known: {why}");
                findings.push(Finding::error(
                    "plan",
                    format!("Consul, of {source}"),
                    what,
                    "see what the message names",
                ));
            }
        }
    }
}

fn snapshot(state: &SnapshotState, findings: &mut Vec<Finding>) {
    let hint = "is `portcullis run` running, with the right to write there?";
    match state {
        SnapshotState::Broken(why) => findings.push(Finding::error(
            "snapshot",
            "the snapshot",
            format!("{why}: instances of the plugin without a last good policy answer 503"),
            hint,
        )),
        SnapshotState::Good { generation, is_pinned: true, .. } => findings.push(Finding::warning(
            "pinned",
            format!("generation {generation}"),
            "a person holds an older policy in force; no new policy, fetched key or revoked API key is published",
            "`portcullis rollback --unpin` ends it",
        )),
        SnapshotState::Good { generation, is_stale: true, .. } => findings.push(Finding::error(
            "stale",
            format!("generation {generation}"),
            "the policy's files lead to another one than is in force",
            hint,
        )),
        SnapshotState::Unknown | SnapshotState::Good { .. } => {}
    }
}
