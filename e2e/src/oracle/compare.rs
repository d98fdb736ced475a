//! Our verdict beside the sidecar's.

use portcullis_policy::{Decision, Verdict};

use super::ask::Ask;
use super::callers::Caller;
use super::echo::Arrived;
use super::mesh::Seen;
use super::ours::{forwarded, forwarded_values};
use super::policy::World;
use super::provider::Provider;
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
    /// Both let it pass, and the service gets another path or query; or both send the caller elsewhere, to another one.
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
        let same = |theirs: &str| {
            // The digits of escapes mean the same in either case (RFC 3986 §6.2.2.1).
            target::with_upper_escapes(&forwarded(self.ask, self.ours)) == target::with_upper_escapes(theirs)
        };
        match (self.ours.verdict, self.seen) {
            (Verdict::Deny, Seen::Passed(_)) => Some(Difference::Stricter),
            (Verdict::Allow, Seen::Refused(_) | Seen::Redirected(_)) => Some(Difference::Milder),
            (Verdict::Allow, Seen::Passed(arrived)) => (!same(&arrived.target)
                || !self.headers_forwarded_differently(arrived).is_empty())
            .then_some(Difference::Forwarded),
            // Who is not sent to the other path does not come to it, which is stricter than to be asked again there.
            (Verdict::Deny, Seen::Redirected(_)) if self.ours.status != 307 => None,
            (Verdict::Deny, Seen::Redirected(to)) => (!same(path_of(to))).then_some(Difference::Forwarded),
            (Verdict::Deny, Seen::Refused(_)) => (self.ours.status == 307).then_some(Difference::Forwarded),
        }
    }
}

impl Case<'_> {
    /// The headers that have to do with tokens and that the service gets otherwise by us.
    pub fn headers_forwarded_differently(&self, arrived: &Arrived) -> Vec<String> {
        let names = self.world.providers.iter().flat_map(Provider::headers);
        let differs = |name: &String| {
            let theirs = arrived.headers.iter().filter(|(it, _)| it.eq_ignore_ascii_case(name));
            let theirs: Vec<_> = theirs.map(|(_, value)| value.clone()).collect();
            forwarded_values(self.ask, self.ours, name) != theirs
        };
        names.filter(differs).collect()
    }
}

/// Path and query of a location.
fn path_of(location: &str) -> &str {
    let rest = location.split_once("://").map_or(location, |(_, rest)| rest);
    rest.find('/').map_or("", |at| &rest[at..])
}
