//! A first sync of many services: what is said while it lasts, and a note in Consul itself that makes it fast.
//!
//! For each instance that a transaction changes, Consul reads all checks of the instance's node (1.22: `getNodeAndChecks`,
//! for its event stream), so that a thousand services on one node cost it a million times three. Where a transaction changes
//! the node itself, it goes through that node's instances once instead. The note, a passing check of the node that says how
//! far we are, is such a change, and is taken away at the end. Measured with 3,000 instances on one node: 1.7 s of Consul's
//! processor time instead of 4.7 s.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    live::{LiveCheck, LiveNode, Scope},
    operation::Operation,
};

/// So many instances in one pass are worth the note, which wakes everybody who waits for services of the node.
const MANY: usize = 500;
/// With so many operations in a transaction there is no place left for the note.
const MOST_BESIDE: usize = 127;
/// Between two lines in the log.
const PERIOD: Duration = Duration::from_secs(2);

/// How far a pass has come.
#[derive(Debug)]
pub(super) struct Progress {
    written: usize,
    services: usize,
    /// Whether it is worth telling.
    is_noted: bool,
    said: Instant,
}

impl Progress {
    /// At the beginning of a pass that changes so much.
    pub(super) fn new(services: usize, instances: usize) -> Self {
        Self { written: 0, services, is_noted: instances >= MANY, said: Instant::now() }
    }

    /// So many services more are written.
    pub(super) fn written(&mut self, services: usize) {
        self.written += services;
        if self.is_noted && self.said.elapsed() >= PERIOD {
            self.said = Instant::now();
            tracing::info!("{self} services written");
        }
    }

    /// Adds the note to a transaction that changes many instances of the synthetic node.
    pub(super) fn note(&self, scope: &Scope, services: usize, operations: &mut Vec<Operation>) {
        let is_there = |it: &Operation| matches!(it, Operation::SetService { node, .. } if *node == scope.node);
        if !self.is_noted || operations.len() >= MOST_BESIDE || operations.iter().filter(|it| is_there(it)).count() < 2
        {
            return;
        }
        let written = self.written + services;
        let check = LiveCheck {
            check_id: id(scope).into(),
            name: "Portcullis writes services".into(),
            status: "passing".into(),
            output: format!("{written} of {}", self.services).into(),
            ..LiveCheck::default()
        };
        operations.push(Operation::SetCheck { node: scope.node.clone(), check: Box::new(check), kind: String::new() });
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.written, self.services)
    }
}

/// What takes away a note that is over, or that somebody left behind who died meanwhile.
pub(super) fn removal(scope: &Scope, node: Option<&LiveNode>) -> Option<Operation> {
    let check_id = id(scope);
    node.is_some_and(|node| node.checks.contains_key(check_id.as_str()))
        .then(|| Operation::DeleteCheck { node: scope.node.clone(), check_id })
}

fn id(scope: &Scope) -> String {
    format!("portcullis-progress-{}", scope.cluster)
}
