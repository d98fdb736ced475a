//! `portcullis check`: lints policy files; all problems at once, with their place and a hint.

use std::path::PathBuf;

use clap::Parser;
use portcullis_policy::PolicySettings;

use super::Outcome;
use crate::{documents, policy};

/// Options of `portcullis check`.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// Policy files or directories; `-` reads stdin
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print the problems as a JSON array
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut documents = Vec::new();
    for path in &args.paths {
        documents.append(&mut documents::read(path)?);
    }
    // The trust domain is a setting of the gateway, not of the files: its absence is no problem of theirs.
    let settings = PolicySettings { trust_domains: vec!["any".to_owned()], ..PolicySettings::default() };
    let loaded = policy::from_documents(&documents, settings);
    if args.json {
        super::print_json(&loaded.problems.iter().map(super::problem_json).collect::<Vec<_>>())?;
    } else {
        super::report(&loaded.problems);
    }
    let sources: usize = loaded.policy.intentions.iter().map(|intention| intention.sources.len()).sum();
    let limits: usize = loaded.policy.limits.iter().map(|entry| entry.limits.len()).sum();
    super::message(
        "checked",
        &format!(
            "{} documents: {} intentions with {sources} sources, {} API keys, {limits} limits, {} errors, {} warnings",
            documents.len(),
            loaded.policy.intentions.len(),
            loaded.policy.api_keys.len(),
            super::n_errors(&loaded.problems),
            loaded.problems.len() - super::n_errors(&loaded.problems),
        ),
    );
    Ok(if loaded.is_faulty() { Outcome::DoesNotHold } else { Outcome::Holds })
}
