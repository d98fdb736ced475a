//! `portcullis plan`: the registrations that manifests and live clusters lead to, and what put each tag there, without
//! touching anything.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::Parser;

use super::Outcome;
use crate::{
    config::Config,
    consul::{self, Client, ConsulConfig, Origin, Scope, Source, Wanted},
    external,
    kube::Cluster,
    sources::SourceErrors,
    sync::{Desired, Note, Reason, Registration, Severity, SyncOptions, desired, routes},
};

/// Options of `portcullis plan`.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// A configuration file, for `manifests`, `clusters` and `sync`
    #[arg(short, long, value_name = "FILE", required_unless_present = "manifests")]
    config: Option<PathBuf>,
    /// A directory of Kubernetes manifests, or one file, instead of what the configuration names
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,
    /// A sync option, e.g. `nodePortSync=InternalOnly`; may be repeated, lists as JSON
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print a JSON array in the shape of Consul's catalog register payload
    #[arg(long)]
    json: bool,
    /// Compare with the Consul of the configuration, or of CONSUL_HTTP_ADDR, and print what would change there
    #[arg(long, conflicts_with = "json")]
    diff: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let config = args.config.as_deref().map(Config::load).transpose()?;
    let mut options = config.as_ref().map(|config| config.sync.clone()).unwrap_or_default();
    apply(&mut options, &args.set)?;
    let clusters = match (&args.manifests, &config) {
        (Some(manifests), _) => vec![(options.clone(), Cluster::load_directory(manifests).map_err(SourceErrors)?)],
        (None, Some(config)) => super::clusters::read(&Config { sync: options.clone(), ..config.clone() })?,
        (None, None) => anyhow::bail!("one of --config and --manifests is needed"),
    };
    let (mut all, mut notes, mut why, mut wanted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (options, cluster) in clusters {
        let Desired { registrations, notes: said, reasons } = desired(&cluster, &options);
        all.extend(registrations.clone());
        notes.extend(said);
        why.extend(reasons);
        let source_is_empty = cluster.services.is_empty() && cluster.nodes.is_empty();
        wanted.push((Scope::new(&options), Wanted { registrations, source_is_empty }));
    }
    if let Some(external) = config.as_ref().and_then(|config| config.external.as_ref()) {
        let external::Desired { registrations, notes: said, .. } = external::of(external, &options)?;
        all.extend(registrations.clone());
        notes.extend(said);
        let source_is_empty = registrations.is_empty();
        wanted.push((Scope::external(&external.name), Wanted { registrations, source_is_empty }));
    }
    // Conflicts between services are seen only when the gate's routes are made.
    let (_, conflicts) = routes(&all);
    let mut outcome = report_notes(notes.iter().chain(&conflicts));
    if args.diff {
        let consul = config.and_then(|config| config.consul).unwrap_or_default();
        for (scope, wanted) in wanted {
            outcome = outcome.and(compare(&consul, &scope, wanted)?);
        }
        return Ok(outcome);
    }
    if args.json {
        super::print_json(&all)?;
    } else {
        table(&all)?;
        reasons(&why)?;
    }
    Ok(outcome)
}

/// Notes to stderr; an error among them means that something is not exposed as its author meant.
pub(super) fn report_notes<'a>(notes: impl IntoIterator<Item = &'a Note>) -> Outcome {
    let mut outcome = Outcome::Holds;
    for note in notes {
        let is_error = note.severity == Severity::Error;
        super::message(if is_error { "error" } else { "warning" }, &note.to_string());
        if is_error {
            outcome = Outcome::DoesNotHold;
        }
    }
    outcome
}

fn apply(options: &mut SyncOptions, set: &[String]) -> anyhow::Result<()> {
    for pair in set {
        let Some((key, value)) = pair.split_once('=') else { anyhow::bail!("--set {pair}: write it as KEY=VALUE") };
        options.set(key, value)?;
    }
    Ok(options.validate()?)
}

/// One line a change; holds if there is none.
fn compare(config: &ConsulConfig, scope: &Scope, mut wanted: Wanted) -> anyhow::Result<Outcome> {
    let client = Client::new(config)?;
    let nodes = wanted.registrations.iter().map(|registration| registration.node.clone()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let live = runtime.block_on(consul::read::live(&client, scope, nodes))?;
    if scope.origin == Origin::External {
        // Nothing is probed here.
        for registration in &mut wanted.registrations {
            let node = live.nodes.get(&registration.node);
            if let Some(found) = node.and_then(|node| node.checks.get(registration.check.check_id.as_str())) {
                let check = &mut registration.check;
                (check.status, check.output) = (found.status.to_string(), found.output.to_string());
            }
        }
    }
    let difference = consul::diff(&wanted.registrations, &live, scope);
    let source = Source { is_empty: wanted.source_is_empty, is_broken: false };
    if let Some(hold) = consul::brake(&difference, || live.n_owned(scope), source, config.max_removal_percent) {
        super::message("warning", &format!("{hold}: `portcullis run` would remove nothing until a person lets it"));
    }
    let keys = match &config.kv_import {
        Some(import) => runtime.block_on(consul::kv::would(&client, import, scope, &live, &difference))?,
        None => consul::kv::KeyDifference::default(),
    };
    for note in keys.notes.values() {
        super::message("error", note);
    }
    for conflict in &difference.conflicts {
        super::message("error", &conflict.to_string());
    }
    let mut stdout = io::stdout().lock();
    for node in difference.nodes.iter().chain(&difference.empty_nodes) {
        writeln!(stdout, "{node}")?;
    }
    for instance in difference.instances() {
        writeln!(stdout, "{instance}")?;
    }
    write!(stdout, "{keys}")?;
    let is_told = difference.conflicts.is_empty() && keys.notes.is_empty();
    let holds = difference.is_empty() && keys.is_empty() && is_told;
    Ok(if holds { Outcome::Holds } else { Outcome::DoesNotHold })
}

/// One line an instance, in columns.
fn table(registrations: &[Registration]) -> io::Result<()> {
    let mut rows = vec![["SERVICE", "ADDRESS", "CHECK", "ID", "TAGS"].map(str::to_owned)];
    rows.extend(registrations.iter().map(|it| {
        let address = format!("{}:{}", it.service.address, it.service.port);
        [it.service.service.clone(), address, it.check.status.clone(), it.service.id.clone(), it.service.tags.join(" ")]
    }));
    columns(&rows)
}

/// One line a tag.
fn reasons(reasons: &[Reason]) -> io::Result<()> {
    let mut rows = vec![["SERVICE", "FROM", "TAG"].map(str::to_owned)];
    rows.extend(reasons.iter().map(|it| [it.service.clone(), it.from.clone(), it.tag.clone()]));
    writeln!(io::stdout().lock())?;
    columns(&rows)
}

/// Every column as wide as its widest cell, but for the last.
fn columns<const N: usize>(rows: &[[String; N]]) -> io::Result<()> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let mut stdout = io::stdout().lock();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(stdout, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
