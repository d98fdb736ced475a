//! From single probes to a status that does not flap: so many failures in a row, so many successes in a row. Pure.

use super::file::Check;

/// What one probe has found: `Err` says why it failed.
pub(super) type Outcome = Result<(), String>;

/// What is known of one probe's target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Health {
    /// `None` before the first probe.
    verdict: Option<Outcome>,
    /// Probes in a row that say otherwise than the verdict.
    against: u16,
}

// === impl Health ===

impl Health {
    /// Takes one outcome; whether the verdict is another one now. The first outcome is the verdict.
    pub(super) fn observe(&mut self, outcome: Outcome, check: &Check) -> bool {
        let Some(verdict) = &self.verdict else {
            self.verdict = Some(outcome);
            return true;
        };
        if verdict.is_ok() == outcome.is_ok() {
            self.against = 0;
            return false;
        }
        self.against += 1;
        if self.against < if outcome.is_ok() { check.successes } else { check.failures } {
            return false;
        }
        (self.verdict, self.against) = (Some(outcome), 0);
        true
    }

    /// What holds now; `None` before the first probe.
    pub(super) fn verdict(&self) -> Option<&Outcome> {
        self.verdict.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(outcomes: &str) -> String {
        let check: Check = serde_json::from_str(r#"{"tcp": true, "failures": 3, "successes": 2}"#).unwrap();
        let mut health = Health::default();
        let mut verdict = |outcome: char| {
            health.observe(if outcome == '+' { Ok(()) } else { Err("down".to_owned()) }, &check);
            if health.verdict().unwrap().is_ok() { '+' } else { '-' }
        };
        outcomes.chars().map(&mut verdict).collect()
    }

    #[test]
    fn one_lost_packet_changes_nothing_and_a_row_of_them_does() {
        assert_eq!(run("++-+--+---+--++"), "+++++++++-----+");
        assert_eq!(run("-+-++"), "----+");
    }

    #[test]
    fn the_first_probe_decides_at_once() {
        assert_eq!((run("+"), run("-")), ("+".to_owned(), "-".to_owned()));
    }
}
