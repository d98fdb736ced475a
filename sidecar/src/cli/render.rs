//! `portcullis render`: the gate's Traefik file, as `run` would write it.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::Parser;

use super::Outcome;
use crate::{
    config::Config,
    external::{self, Desired},
    gate,
    kube::Cluster,
    sources::SourceErrors,
    sync,
};

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
    let cluster = Cluster::load_directory(&config.manifests).map_err(SourceErrors)?;
    let desired = sync::desired(&cluster, &config.sync);
    let external = config.external.as_ref().map(|external| external::of(external, &config.sync)).transpose()?;
    let Desired { registrations, notes: more, .. } = external.unwrap_or_default();
    let all: Vec<_> = desired.registrations.into_iter().chain(registrations).collect();
    let (routes, notes) = sync::routes(&all);
    let holds = super::plan::report_notes(desired.notes.iter().chain(&more).chain(&notes));
    if args.json {
        super::print_json(&gate::configuration(&routes, &config.gate))?;
    } else {
        io::stdout().lock().write_all(gate::render(&routes, &config.gate).as_bytes())?;
    }
    Ok(holds)
}
