//! `bench [--rounds N] [--seconds S] [--connections N] [--rate N] [--write PATH]`: what the gate costs, as a Markdown
//! table on standard output. Ends with 0 if the budget holds, 1 if it does not, 2 if it could not be measured.

// What it prints is what it is for.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use portcullis_e2e::backend::Backend;
use portcullis_e2e::bench::{Beside, Plan, Table, measure, setup};
use portcullis_e2e::limits::stand::in_memory;
use portcullis_e2e::parts::{self, Parts};
use portcullis_e2e::redis::Redis;
use portcullis_e2e::report::write_section;
use portcullis_e2e::world::{Backends, World};

/// What the section is called in the file that `--write` names.
const SECTION: &str = "bench";

struct Arguments {
    plan: Plan,
    write: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = tokio::select! {
        result = run() => result,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<bool> {
    let Arguments { plan, write } = read(std::env::args().skip(1))?;
    let parts = Parts::find()?;
    let (backends, authorizer) = (Backends::start().await?, Backend::start("authorizer", "1").await?);
    let (folder, state) = (tempfile::tempdir()?, in_memory()?);
    let redis = Redis::start(&parts::redis()?).await?;
    let beside = Beside { authorizer: &authorizer, redis: redis.address(), folder: folder.path(), state: state.path() };
    let setup = setup(&backends, beside)?;
    let world = World::with(&parts, backends, setup).await?;
    let rounds = measure(&world, plan, |round, turns| {
        let cpu: Vec<String> = turns.iter().map(|turn| format!("{:.0}", turn.cpu_microseconds)).collect();
        let name = if round == 0 { "warm-up".to_owned() } else { format!("round {round} of {}", plan.rounds) };
        eprintln!("{name}: gateway CPU µs/request {}", cpu.join(" "));
    })
    .await?;
    let table = Table::new(&rounds);
    let text = format!("{}\n{table}\n{}\n", conditions(plan, &parts.traefik_version()?), table.budget());
    print!("{text}");
    if let Some(path) = write {
        write_section(&path, SECTION, &text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(table.budget().holds())
}

fn conditions(plan: Plan, traefik: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let rate = plan.rate.map_or("as fast as they go".to_owned(), |rate| format!("{rate} requests/s"));
    let build = if cfg!(debug_assertions) { ", load generator UNOPTIMIZED" } else { "" };
    format!(
        "Traefik {traefik}, {cores} cores shared with load generator and backend, {} keep-alive connections \
         (HTTP/1.1), {rate}, {} rounds of {} s for each row, taking turns; medians, for CPU lower quartiles{build}.\n",
        plan.connections,
        plan.rounds,
        plan.turn.as_secs_f64(),
    )
}

fn read(mut words: impl Iterator<Item = String>) -> Result<Arguments> {
    let plan = Plan { rounds: 20, turn: Duration::from_secs(1), connections: 16, rate: None };
    let mut arguments = Arguments { plan, write: None };
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        let plan = &mut arguments.plan;
        match word.as_str() {
            "--rounds" => plan.rounds = positive(&value()?)?,
            "--seconds" => plan.turn = Duration::from_secs(positive(&value()?)?),
            "--connections" => plan.connections = positive(&value()?)?,
            "--rate" => plan.rate = Some(f64::from(positive::<u32>(&value()?)?)),
            "--write" => arguments.write = Some(PathBuf::from(value()?)),
            _ => bail!("unknown argument {word}"),
        }
    }
    Ok(arguments)
}

fn positive<T: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<T> {
    match text.parse::<T>() {
        Ok(number) if number >= T::from(1) => Ok(number),
        _ => bail!("not a positive number: {text}"),
    }
}
