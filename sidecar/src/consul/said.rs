//! What was logged already: a standing fault is logged once, and its end too.

use std::collections::BTreeSet;

/// The faults that stand.
#[derive(Debug, Default)]
pub(super) struct Said {
    fault: Option<String>,
    lines: BTreeSet<String>,
    would: BTreeSet<String>,
}

impl Said {
    /// Consul cannot be read or written.
    pub(super) fn fault(&mut self, error: &impl ToString) {
        let text = error.to_string();
        if self.fault.as_ref() != Some(&text) {
            tracing::error!("{text}");
        }
        self.fault = Some(text);
    }

    /// It can.
    pub(super) fn no_fault(&mut self) {
        if self.fault.take().is_some() {
            tracing::info!("Consul can be read and written again");
        }
    }

    /// What a dry run would write.
    pub(super) fn would(&mut self, lines: BTreeSet<String>) {
        for line in lines.difference(&self.would) {
            tracing::info!("dry run, not written: {line}");
        }
        self.would = lines;
    }

    /// Everything that waits for a person.
    pub(super) fn lines(&mut self, lines: BTreeSet<String>) {
        for line in lines.difference(&self.lines) {
            tracing::error!("{line}");
        }
        for line in self.lines.difference(&lines) {
            tracing::info!("no longer: {line}");
        }
        self.lines = lines;
    }
}
