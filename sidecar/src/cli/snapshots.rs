//! `portcullis snapshots` and `portcullis rollback`: what was in force, and going back to it.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::Parser;
use k8s_openapi::jiff::Timestamp;
use portcullis_policy::Snapshot;
use serde::Serialize;

use super::Outcome;
use crate::{
    config::Config,
    history::{History, HistoryError, Numbers, Pinned},
};

/// Options of `portcullis snapshots`.
#[derive(Debug, Parser)]
pub(super) struct ListArgs {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// Options of `portcullis rollback`.
#[derive(Debug, Parser)]
pub(super) struct RollbackArgs {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// The generation to go back to, as `portcullis snapshots` lists it [default: the one before]
    #[arg(conflicts_with = "unpin")]
    generation: Option<u64>,
    /// End a rollback: the sidecar publishes what the policy says now
    #[arg(long)]
    unpin: bool,
}

/// A line of the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    generation: u64,
    /// RFC 3339, UTC.
    created: Option<String>,
    bytes: u64,
    intentions: Option<u32>,
    providers: Option<u32>,
    api_keys: Option<u32>,
    limited_destinations: Option<u32>,
    /// Whether exactly this generation is in force.
    in_force: bool,
    /// Whether what is in force is this one under a later number.
    pinned: bool,
    /// Why it cannot be gone back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

fn history(config: &std::path::Path) -> anyhow::Result<History> {
    Ok(History::new(&Config::load(config)?.snapshot, Numbers::default()))
}

pub(super) fn list(args: &ListArgs) -> anyhow::Result<Outcome> {
    let history = history(&args.config)?;
    let (in_force, pinned) = (history.in_force(), history.pinned());
    let mut lines = Vec::new();
    for kept in history.list()? {
        let whole = kept.bytes().and_then(|bytes| {
            let snapshot = Snapshot::open(bytes.as_slice()).map_err(|error| error.to_string())?;
            snapshot
                .verify()
                .and_then(|()| snapshot.counts())
                .map_err(|error| error.to_string())
                .map(|counts| (snapshot.created_ms(), counts))
        });
        let counts = whole.as_ref().ok().map(|(_, counts)| *counts);
        lines.push(Line {
            generation: kept.generation,
            created: whole.as_ref().ok().map(|(created_ms, _)| time(*created_ms)),
            bytes: kept.size,
            intentions: counts.map(|it| it.intentions),
            providers: counts.map(|it| it.providers),
            api_keys: counts.map(|it| it.api_keys),
            limited_destinations: counts.map(|it| it.limited),
            in_force: in_force == Some(kept.generation),
            pinned: matches!(pinned, Pinned::To(pin) if pin.generation == kept.generation),
            fault: whole.err(),
        });
    }
    match pinned {
        Pinned::No => {}
        Pinned::To(pin) => super::message(
            "note",
            &format!(
                "generation {} is pinned since {}; `portcullis rollback --unpin` ends it",
                pin.generation,
                time(pin.since_ms)
            ),
        ),
        Pinned::Unreadable => super::message("warning", "the pin cannot be read; it holds what is in force"),
    }
    if args.json {
        super::print_json(&lines)?;
    } else {
        table(&lines)?;
    }
    let all_good = lines.iter().all(|line| line.fault.is_none());
    Ok(if all_good { Outcome::Holds } else { Outcome::DoesNotHold })
}

fn table(lines: &[Line]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:<15} {:<24} {:>10} {:>10} {:>9} {:>8}",
        "GENERATION", "CREATED", "BYTES", "INTENTIONS", "PROVIDERS", "API KEYS"
    )?;
    for line in lines {
        let number = |number: Option<u32>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        let mark = match line {
            Line { fault: Some(fault), .. } => format!("  {fault}"),
            Line { in_force: true, .. } => "  in force".to_owned(),
            Line { pinned: true, .. } => "  pinned: in force under a later number".to_owned(),
            _ => String::new(),
        };
        let created = line.created.as_deref().unwrap_or("?");
        let (intentions, providers, keys) = (number(line.intentions), number(line.providers), number(line.api_keys));
        writeln!(
            out,
            "{:<15} {created:<24} {:>10} {intentions:>10} {providers:>9} {keys:>8}{mark}",
            line.generation, line.bytes
        )?;
    }
    Ok(())
}

pub(super) fn roll_back(args: &RollbackArgs) -> anyhow::Result<Outcome> {
    let history = history(&args.config)?;
    if args.unpin {
        if !history.unpin()? {
            super::message("error", "nothing is pinned");
            return Ok(Outcome::DoesNotHold);
        }
        super::message("note", "unpinned; the sidecar publishes what the policy says within ten seconds");
        return Ok(Outcome::Holds);
    }
    match history.roll_back(args.generation) {
        Ok((generation, new)) => {
            let text = format!(
                "generation {generation} is in force as {new} and pinned: nothing is published until `portcullis rollback --unpin`, \
                 neither a new policy nor fetched keys nor a revoked API key"
            );
            super::message("note", &text);
            Ok(Outcome::Holds)
        }
        Err(error @ (HistoryError::Nothing(_) | HistoryError::Unusable { .. })) => {
            super::message("error", &error.to_string());
            Ok(Outcome::DoesNotHold)
        }
        Err(error) => Err(error.into()),
    }
}

/// RFC 3339 in UTC, from milliseconds since 1970.
fn time(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| "?".to_owned(), |time| format!("{time:.0}"))
}
