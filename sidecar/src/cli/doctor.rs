//! `portcullis doctor`: what is wrong with the set-up as it runs.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::Parser;

use super::Outcome;
use crate::{
    config::Config,
    doctor::{self, Severity},
};

/// Options of `portcullis doctor`.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Where Traefik's API is, e.g. `http://127.0.0.1:8080`, instead of what the configuration names
    #[arg(long, value_name = "URL")]
    traefik: Option<String>,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let config = Config::load(&args.config)?;
    let traefik = args.traefik.clone().or_else(|| config.doctor.traefik.clone());
    if traefik.is_none() {
        super::message("note", "Traefik is not looked at: give its address by --traefik or doctor.traefik");
    }
    let clusters = super::clusters::read(&config).map_err(|error| format!("{error:#}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let facts = runtime.block_on(doctor::gather::facts(&config, traefik.as_deref(), clusters));
    let findings = doctor::check(&facts);
    if args.json {
        super::print_json(&findings)?;
    } else {
        let mut out = io::stdout().lock();
        for finding in &findings {
            let label = if finding.severity == Severity::Error { "error" } else { "warning" };
            writeln!(out, "{label} [{}] {}: {}; {}", finding.check, finding.at, finding.what, finding.hint)?;
        }
        drop(out);
        let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        super::message("doctor", &format!("{errors} errors, {} warnings", findings.len() - errors));
    }
    Ok(if findings.is_empty() { Outcome::Holds } else { Outcome::DoesNotHold })
}
