//! `sync [--services N,N…] [--changes N] [--idle S] [--write PATH]`: what it costs to keep many services in a real Consul, as a
//! Markdown table on standard output. Ends with 0 if the budgets hold, 1 if they do not, 2 if it could not be measured.

// What it prints is what it is for.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use portcullis_e2e::parts::RegistryParts;
use portcullis_e2e::report::write_section;
use portcullis_e2e::sync::{Plan, Table, measure, serve};

/// What the section is called in the file that `--write` names.
const SECTION: &str = "sync";

struct Arguments {
    services: Vec<usize>,
    plan: Plan,
    write: Option<PathBuf>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.as_slice() {
        [child, address, consul, services, gate] if child == "--child" => as_child(address, consul, services, gate),
        _ => as_parent(words),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sync: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// On one thread, as `portcullis run`.
fn as_child(address: &str, consul: &str, services: &str, gate: &str) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(address.parse()?, consul.to_owned(), services.parse()?, gate.as_ref()))?;
    Ok(true)
}

fn as_parent(words: Vec<String>) -> Result<bool> {
    tokio::runtime::Runtime::new()?.block_on(async {
        tokio::select! {
            result = run(words) => result,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        }
    })
}

async fn run(words: Vec<String>) -> Result<bool> {
    let Arguments { services, plan, write } = read(words.into_iter())?;
    let parts = RegistryParts::find()?;
    let mut rows = Vec::new();
    for services in services {
        let folder = tempfile::tempdir()?;
        let row = measure(&parts, folder.path(), services, plan).await?;
        eprintln!("{row:?}");
        rows.push(row);
    }
    let table = Table(rows);
    let text = format!("{}\n{table}", conditions(plan));
    print!("{text}");
    if let Some(path) = write {
        write_section(&path, SECTION, &text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(table.holds())
}

fn conditions(plan: Plan) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let build = if cfg!(debug_assertions) { ", UNOPTIMIZED" } else { "" };
    format!(
        "One Consul server with its data on disk, {cores} cores shared with it, 3 endpoints for each service on 6 nodes, one synthetic \
         Consul node; {} changes, {} s of doing nothing{build}.\n",
        plan.changes,
        plan.idle.as_secs(),
    )
}

fn read(mut words: impl Iterator<Item = String>) -> Result<Arguments> {
    let plan = Plan { changes: 400, idle: Duration::from_secs(10) };
    let mut arguments = Arguments { services: vec![100, 1_000, 10_000], plan, write: None };
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--services" => {
                let numbers = value()?.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>();
                arguments.services = numbers.context("not a list of numbers")?;
            }
            "--changes" => arguments.plan.changes = value()?.parse()?,
            "--idle" => arguments.plan.idle = Duration::from_secs(value()?.parse()?),
            "--write" => arguments.write = Some(PathBuf::from(value()?)),
            _ => bail!("unknown argument {word}"),
        }
    }
    if arguments.plan.changes == 0 || arguments.services.contains(&0) {
        bail!("numbers must be positive");
    }
    arguments.services.sort_unstable();
    Ok(arguments)
}
