//! Our verdict beside the sidecar's.

use portcullis_policy::{Decision, Verdict};

use super::ask::Ask;
use super::callers::Caller;
use super::mesh::Seen;
use super::ours::forwarded;
use super::policy::World;
use super::target;

/// One request with both verdicts.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The policy in force.
    pub world: &'a World,
    /// The trust domain of the mesh.
    pub trust_domain: &'a str,
    /// The request.
    pub ask: &'a Ask,
    /// Who made it.
    pub caller: &'a Caller,
    /// What we decided.
    pub ours: &'a Decision,
    /// What the sidecar did.
    pub seen: &'a Seen,
}

/// How two verdicts differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Difference {
    /// We refuse what passes there.
    Stricter,
    /// We let pass what is refused there.
    Milder,
    /// Both let it pass, and the service gets another path or query.
    Forwarded,
}

impl Difference {
    /// One word for reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Difference::Stricter => "stricter",
            Difference::Milder => "milder",
            Difference::Forwarded => "forwarded differently",
        }
    }
}

impl Case<'_> {
    /// The difference, if there is one.
    pub fn difference(&self) -> Option<Difference> {
        match (self.ours.verdict, self.seen) {
            (Verdict::Deny, Seen::Passed(_)) => Some(Difference::Stricter),
            (Verdict::Allow, Seen::Refused(_)) => Some(Difference::Milder),
            (Verdict::Deny, Seen::Refused(_)) => None,
            (Verdict::Allow, Seen::Passed(arrived)) => {
                let (ours, theirs) = (forwarded(self.ask, self.ours), &arrived.target);
                // The digits of escapes mean the same in either case (RFC 3986 §6.2.2.1).
                (target::with_upper_escapes(&ours) != target::with_upper_escapes(theirs))
                    .then_some(Difference::Forwarded)
            }
        }
    }
}
