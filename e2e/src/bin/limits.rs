//! `limits [--short] [--only SCENARIO] [--limiter NAME] [--write PATH]`: attacks on limits, ours and Traefik's own, as a
//! Markdown table on standard output. Ends with 0 if ours holds, 1 if it does not, 2 if it could not be measured.

// What it prints is what it is for.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use portcullis_e2e::limits::clock::Clock;
use portcullis_e2e::limits::scenarios::{CONNECTIONS, Limiter, SCENARIOS, Scenario, attack, stand};
use portcullis_e2e::limits::table::Table;
use portcullis_e2e::parts::{self, Parts};
use portcullis_e2e::redis::Redis;
use portcullis_e2e::report::write_section;

/// What the section is called in the file that `--write` names.
const SECTION: &str = "limits";

struct Arguments {
    long: bool,
    only: Option<String>,
    limiter: Option<String>,
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
            eprintln!("limits: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<bool> {
    let arguments = read(std::env::args().skip(1))?;
    let parts = Parts::find()?;
    let redis = Redis::start(&parts::redis()?).await?;
    let clock = Clock::allowed();
    let limiters = [
        ("portcullis", Limiter::Portcullis),
        ("alone", Limiter::Alone),
        ("memory", Limiter::Memory),
        ("redis", Limiter::Redis(redis.address())),
    ];
    let wanted = |filter: &Option<String>, name: &str| filter.as_ref().is_none_or(|only| only == name);
    let mut table = Table::default();
    for (_, limiter) in limiters.into_iter().filter(|(name, _)| wanted(&arguments.limiter, name)) {
        let mut stand = stand(&parts, limiter).await.with_context(|| limiter.name())?;
        for scenario in SCENARIOS.into_iter().filter(|scenario| wanted(&arguments.only, scenario.name())) {
            // Without the sidecar a step of the clock is a gap in time like any other: nothing is promised.
            if scenario == Scenario::ClockStep && (clock.is_none() || limiter == Limiter::Alone) {
                continue;
            }
            let outcome = attack(&mut stand, scenario, arguments.long, clock.as_ref()).await?;
            eprintln!(
                "{} on {}: {:?}, {:?}, {} failures ({:?})",
                scenario.name(),
                limiter.name(),
                outcome.tally,
                outcome.report.statuses(),
                outcome.report.failures,
                outcome.report.first_failure
            );
            table.add(limiter, &outcome);
        }
    }
    let text = format!("{}\n{table}\n", conditions(&parts.traefik_version()?, clock.is_some()));
    print!("{text}");
    if let Some(path) = arguments.write {
        write_section(&path, SECTION, &text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(table.holds())
}

fn conditions(traefik: &str, clock: bool) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let build = if cfg!(debug_assertions) { ", load generator UNOPTIMIZED" } else { "" };
    let clock = if clock { "" } else { "; the clock was not set (`PORTCULLIS_CLOCK=1`)" };
    format!(
        "Traefik {traefik}, {cores} cores shared with load generator and backend, {CONNECTIONS} keep-alive connections \
         (HTTP/1.1) as fast as they go, Go's collector at 5 %{clock}{build}.\n"
    )
}

fn read(mut words: impl Iterator<Item = String>) -> Result<Arguments> {
    let mut arguments = Arguments { long: true, only: None, limiter: None, write: None };
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--short" => arguments.long = false,
            "--only" => arguments.only = Some(value()?),
            "--limiter" => arguments.limiter = Some(value()?),
            "--write" => arguments.write = Some(PathBuf::from(value()?)),
            _ => bail!("unknown argument {word}"),
        }
    }
    Ok(arguments)
}
