//! `portcullis render`: the gate's Traefik file, as `run` would write it.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::Parser;

use super::Outcome;
use crate::{config::Config, external, gate, sync};

/// Options of `portcullis render`.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let config = Config::load(&args.config)?;
    let (mut registrations, mut notes) = (Vec::new(), Vec::new());
    for (options, cluster) in super::clusters::read(&config)? {
        let desired = sync::desired(&cluster, &options);
        registrations.extend(desired.registrations);
        notes.extend(desired.notes);
    }
    if let Some(external) = &config.external {
        let external::Desired { registrations: more, notes: said, .. } = external::of(external, &config.sync)?;
        registrations.extend(more);
        notes.extend(said);
    }
    let (routes, conflicts) = sync::routes(&registrations);
    let holds = super::plan::report_notes(notes.iter().chain(&conflicts));
    if args.json {
        super::print_json(&gate::configuration(&routes, &config.gate))?;
    } else {
        io::stdout().lock().write_all(gate::render(&routes, &config.gate).as_bytes())?;
    }
    Ok(holds)
}
