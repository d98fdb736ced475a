//! Policy from a directory: read, checked, and compared with what is in force.

use std::path::Path;

use portcullis_authoring::{compile, read};
use portcullis_policy::{Policy, PolicySettings, Problem, Severity};

use crate::{documents, sources::SourceErrors};

mod key_files;

/// A policy that was read, with everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What could be read. Parts that could not deny their own scope.
    pub policy: Policy,
    /// All problems, those of compiling included.
    pub problems: Vec<Problem>,
}

/// Reads every document below a path.
pub fn load(path: &Path, settings: PolicySettings) -> Result<Loaded, SourceErrors> {
    Ok(from_documents(&documents::read(path)?, settings))
}

/// Reads documents that are there already.
pub fn from_documents(documents: &[documents::Document], settings: PolicySettings) -> Loaded {
    from_documents_with(documents, settings, &mut |_, _| {})
}

/// The same with more key sets: `keys` puts those into the policy that are not in files, and says what is wrong with them.
pub fn from_documents_with(
    documents: &[documents::Document],
    settings: PolicySettings,
    keys: &mut dyn FnMut(&mut Policy, &mut Vec<Problem>),
) -> Loaded {
    let (mut policy, mut problems) = read::entries(documents, settings);
    key_files::read(&mut policy, &mut problems);
    keys(&mut policy, &mut problems);
    // Compiled once for its problems only; the bytes need a generation, which is the publisher's.
    problems.extend(compile(&policy, 0, 0).1);
    problems.sort_by(|left, right| right.severity.cmp(&left.severity).then_with(|| left.at.cmp(&right.at)));
    Loaded { policy, problems }
}

/// The names of all limits, as the logs' tags are made of them.
pub fn limit_names(policy: &Policy) -> Vec<String> {
    policy.limits.iter().flat_map(|limits| &limits.limits).map(|limit| limit.rule.clone()).collect()
}

impl Loaded {
    /// Whether a part has an unknown scope, so that none of it may be published.
    pub fn is_fatal(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Fatal)
    }

    /// Whether anything is denied because it could not be read.
    pub fn is_faulty(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity >= Severity::Error)
    }
}
