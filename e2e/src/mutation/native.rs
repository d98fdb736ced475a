//! The same variants against the policy core alone: no gateway cleans them, and there can be millions.

use std::fmt;

use anyhow::{Context as _, Result, ensure};
use portcullis_authoring::cases::{Case, CaseFile, Runner, Values};
use portcullis_policy::Verdict;
use portcullis_policy::change::Change;
use portcullis_policy::headers::is_token;

use crate::mutation::scenario::Scenario;
use crate::mutation::vary;
use crate::wire::Head;

/// A scenario's policy, compiled.
pub struct Core {
    file: CaseFile,
    runner: Runner,
    case: Case,
}

/// A forbidden request that was allowed.
#[derive(Debug)]
pub struct Allowed {
    /// The request.
    pub head: Head,
    /// The reading of it that is forbidden.
    pub reading: String,
}

impl Core {
    /// Compiles it. What the policy core does not understand of it is an error here: it would deny everything.
    pub fn new(scenario: &Scenario) -> Result<Core> {
        let file = scenario.policy()?.context("the scenario has no policy")?;
        let runner = file.runner(scenario.name)?;
        ensure!(runner.problems.is_empty(), "{:?}", runner.problems);
        let case = file.requests.first().cloned().context("one request")?;
        Ok(Core { file, runner, case })
    }

    /// What is forwarded of the request, if the policy allows it as it was sent: nobody has looked at its target before.
    pub fn forwards(&mut self, head: &Head) -> Option<Head> {
        if !is_taken_by_go(head) {
            return None;
        }
        // What is not text never reaches the policy: the plugin refuses it.
        let (method, target) = (str::from_utf8(&head.method).ok()?, str::from_utf8(&head.target).ok()?);
        method.clone_into(&mut self.case.method);
        target.clone_into(&mut self.case.path);
        self.case.headers.clear();
        for (name, value) in head.unfolded() {
            let name = String::from_utf8_lossy(&name).to_lowercase();
            let value = String::from_utf8_lossy(&value).into_owned();
            match self.case.headers.entry(name).or_insert_with(|| Values::Many(Vec::new())) {
                Values::Many(values) => values.push(value),
                Values::One(_) => {}
            }
        }
        let decision = self.file.run(&self.runner, &self.case);
        if decision.verdict == Verdict::Deny {
            return None;
        }
        // Nobody forwards folded lines as they are.
        let lines = head.unfolded().into_iter().map(|(name, value)| [name, value].join(&b": "[..])).collect();
        let mut forwarded = Head { lines, ..head.clone() };
        for change in decision.changes {
            if let Change::SetUri(uri) = change {
                forwarded.target = uri.into_bytes();
            }
        }
        Some(forwarded)
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("case", &self.case).finish_non_exhaustive()
    }
}

/// Whether Go's server makes anything of the header lines; it answers 400 to the others.
fn is_taken_by_go(head: &Head) -> bool {
    let is_value = |value: &[u8]| value.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
    let is_name = |name: &[u8]| str::from_utf8(name).is_ok_and(is_token);
    head.unfolded().iter().all(|(name, value)| is_name(name) && is_value(value))
}

/// Puts variants to `forwards`: how many were forwarded, and the first forbidden one of them.
pub fn attack(
    scenario: &Scenario,
    seed: u64,
    numbers: impl Iterator<Item = u64>,
    mut forwards: impl FnMut(&Head) -> Option<Head>,
) -> (u64, Option<Allowed>) {
    let mut allowed = 0;
    for number in numbers {
        let head = vary::variant(scenario, seed, number);
        if let Some(forwarded) = forwards(&head) {
            allowed += 1;
            if let Some(reading) = scenario.forbidden.reading(&forwarded) {
                return (allowed, Some(Allowed { head, reading }));
            }
        }
    }
    (allowed, None)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::mutation::scenario;
    use crate::mutation::scenario::Forbidden;

    /// Variants in all; `PORTCULLIS_VARIANTS` for more.
    const VARIANTS: u64 = 1_000_000;

    fn setting(name: &str, default: u64) -> u64 {
        std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
    }

    #[test]
    fn the_policy_core_allows_no_spelling_of_what_it_forbids() {
        let seed = setting("PORTCULLIS_SEED", 1);
        let scenarios = scenario::guarded();
        let each = setting("PORTCULLIS_VARIANTS", VARIANTS) / scenarios.len() as u64;
        thread::scope(|scope| {
            for scenario in &scenarios {
                scope.spawn(move || {
                    let mut core = Core::new(scenario).unwrap();
                    for head in &scenario.harmless {
                        assert!(core.forwards(head).is_some(), "{}: {head:?}", scenario.name);
                    }
                    for head in &scenario.targets {
                        assert!(core.forwards(head).is_none(), "{}: {head:?}", scenario.name);
                    }
                    let (allowed, found) = attack(scenario, seed, 0..each, |head| core.forwards(head));
                    if let Some(found) = found {
                        panic!("{}", scenario.case(&found.head, &found.reading, seed));
                    }
                    // Otherwise nothing would have been tried.
                    assert!(allowed > each / 100, "{}: only {allowed} of {each} were allowed", scenario.name);
                });
            }
        });
    }

    fn first<'h>(head: &'h Head, name: &str) -> Option<&'h [u8]> {
        head.headers().find(|(it, _)| it.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    #[test]
    fn a_guard_that_reads_requests_as_they_are_written_is_got_around() {
        for scenario in scenario::guarded() {
            let naive = |head: &Head| match scenario.forbidden {
                Forbidden::PathPrefix(prefix) => !head.target.starts_with(prefix.as_bytes()),
                Forbidden::PathOutside(prefix) => head.target.starts_with(prefix.as_bytes()),
                Forbidden::Path(path) => head.target != path.as_bytes(),
                Forbidden::Method(method) | Forbidden::MethodOn(method, _) => head.method != method.as_bytes(),
                Forbidden::MethodOutside(methods) => methods.iter().any(|method| head.method == method.as_bytes()),
                Forbidden::Header(name, text) | Forbidden::HeaderContains(name, text) => {
                    first(head, name).is_none_or(|value| value != text.as_bytes())
                }
                Forbidden::HeaderOutside(name, text) => first(head, name).is_some_and(|value| value == text.as_bytes()),
            };
            let (_, found) = attack(&scenario, 1, 0..2_000, |head| naive(head).then(|| head.clone()));
            assert!(found.is_some(), "{}", scenario.name);
        }
    }
}
