//! `portcullis test`: runs policy tests (`docs/reference/policy-tests.md`).

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Parser;
use portcullis_authoring::cases::{CaseFile, Expected, charge_json};
use portcullis_policy::Severity;

use super::Outcome;
use crate::documents;

/// Options of `portcullis test`.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// Policy test files or directories of them; `-` reads stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print one JSON object a request
    #[arg(long)]
    json: bool,
}

/// Counts over all files.
#[derive(Debug, Default)]
struct Totals {
    requests: usize,
    failed: usize,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut totals = Totals::default();
    for path in &args.files {
        for (place, value) in documents::read(path)? {
            let mut file: CaseFile = serde_json::from_value(value).with_context(|| place.clone())?;
            if let Some(from) = file.policy_from.take() {
                let base = if path.is_dir() { Path::new(&place) } else { path }.parent();
                let policy = documents::read(&base.unwrap_or(Path::new("")).join(from))?;
                file.policy.extend(policy.into_iter().map(|(_, value)| value));
            }
            run_file(&place, &file, args.json, &mut totals)?;
        }
    }
    let Totals { requests, failed } = totals;
    super::message("tested", &format!("{} passed, {failed} failed", requests - failed));
    if requests == 0 {
        anyhow::bail!("there was nothing to test");
    }
    Ok(if failed == 0 { Outcome::Holds } else { Outcome::DoesNotHold })
}

fn run_file(place: &str, file: &CaseFile, json: bool, totals: &mut Totals) -> anyhow::Result<()> {
    let runner = file.runner(place)?;
    super::report(&runner.problems);
    if runner.problems.iter().any(|problem| problem.severity == Severity::Fatal) {
        anyhow::bail!("{place}: the policy could not be read as a whole");
    }
    let mut stdout = io::stdout().lock();
    for (index, case) in file.requests.iter().enumerate() {
        let decision = file.run(&runner, case);
        let differences = case.differences(&decision);
        totals.requests += 1;
        totals.failed += usize::from(!differences.is_empty());
        if json {
            let expect = if case.expect == Expected::Allow { "allow" } else { "deny" };
            let mut line = serde_json::json!({
                "file": place, "index": index, "expect": expect, "verdict": decision.verdict.as_str(),
                "rule": decision.rule, "status": decision.status,
            });
            if !decision.charges.is_empty() {
                line["limits"] = decision.charges.iter().map(charge_json).collect();
            }
            writeln!(stdout, "{line}")?;
        } else if !differences.is_empty() {
            let caller = case.source.as_deref().unwrap_or("no certificate");
            writeln!(
                stdout,
                "FAILED {place} requests[{index}]: {} {} to {} from {caller}",
                case.method, case.path, case.destination
            )?;
            for difference in differences {
                writeln!(stdout, "  {difference}")?;
            }
            writeln!(stdout, "  because {}", decision.reason)?;
        }
    }
    Ok(())
}
