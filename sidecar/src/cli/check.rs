//! `portcullis check`: lints policy, of files or of a configuration's sources; all problems at once, with their place and a hint.

use std::path::PathBuf;

use clap::Parser;
use portcullis_policy::PolicySettings;

use super::{Outcome, policy_source::of_configuration};
use crate::{config::Config, documents, policy};

/// Options of `portcullis check`.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// Policy files or directories; `-` reads stdin
    #[arg(required_unless_present = "config", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Read every source of policy that this configuration names, and compare them
    #[arg(short, long, value_name = "FILE", conflicts_with = "paths")]
    config: Option<PathBuf>,
    /// Print the problems as a JSON array
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let (n_documents, loaded) = match &args.config {
        Some(config) => of_configuration(&Config::load(config)?)?,
        None => {
            let mut documents = Vec::new();
            for path in &args.paths {
                documents.append(&mut documents::read(path)?);
            }
            // The trust domain is a setting of the gateway, not of the files: its absence is no problem of theirs.
            let settings = PolicySettings { trust_domains: vec!["any".to_owned()], ..PolicySettings::default() };
            (documents.len(), policy::from_documents(&documents, settings))
        }
    };
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
            n_documents,
            loaded.policy.intentions.len(),
            loaded.policy.api_keys.len(),
            super::n_errors(&loaded.problems),
            loaded.problems.len() - super::n_errors(&loaded.problems),
        ),
    );
    Ok(if loaded.is_faulty() { Outcome::DoesNotHold } else { Outcome::Holds })
}
