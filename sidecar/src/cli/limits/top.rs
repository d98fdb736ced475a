//! `portcullis limits top`.

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _, Write as _},
    thread::sleep,
    time::{Duration, Instant},
};

use clap::Parser;

use super::{Outcome, Place, table, view::View};

/// Rows of a table in a pipe or a file, unless it is said.
const ROWS: usize = 100;
/// Rows of a terminal that does not say.
const TERMINAL_ROWS: usize = 24;

/// Options of `portcullis limits top`.
#[derive(Debug, Parser)]
pub(in super::super) struct Args {
    #[command(flatten)]
    place: Place,
    /// Only limits whose name contains this
    #[arg(long, value_name = "NAME")]
    limit: Option<String>,
    /// Seconds between two views
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=3600))]
    interval: u32,
    /// Most keys in a view [default: what fits on the terminal, else 100]
    #[arg(long, value_name = "NUMBER")]
    rows: Option<usize>,
    /// Print one view, of the first interval, and end
    #[arg(long)]
    once: bool,
    /// Print each view as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let (mut follower, names) = args.place.open()?;
    let terminal = io::stdout().is_terminal() && !args.json;
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    follower.look(|_| {});
    let mut since = Instant::now();
    let mut first = true;
    loop {
        // The first view comes at once to those who watch; to others only with its rates.
        if !(first && terminal && !args.once) {
            sleep(Duration::from_secs(args.interval.into()));
        }
        let mut admitted: HashMap<(u64, u32), u64> = HashMap::new();
        follower.look(|seen| {
            if seen.admitted && !seen.foreign {
                *admitted.entry((seen.key, seen.tag)).or_default() += u64::from(seen.cost);
            }
        });
        let elapsed = std::mem::replace(&mut since, Instant::now()).elapsed();
        let mut view = View::of(&follower, &names);
        if let Some(limit) = &args.limit {
            view.rows.retain(|row| row.limit.contains(limit.as_str()));
        }
        if !first || !terminal || args.once {
            view.rate(&admitted, elapsed.as_secs_f64());
        }
        first = false;
        print(args, &view, terminal, colour)?;
        if args.once {
            return Ok(Outcome::Holds);
        }
    }
}

fn print(args: &Args, view: &View, terminal: bool, colour: bool) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let n_rows = args.rows.unwrap_or_else(|| if terminal { fitting() } else { ROWS });
    if args.json {
        let rows = view.rows.get(..n_rows.min(view.rows.len())).unwrap_or_default();
        let value = serde_json::json!({ "timeNs": view.now_ns, "keys": view.rows.len(), "rows": rows });
        writeln!(stdout, "{value}")?;
        return Ok(stdout.flush()?);
    }
    let text = table::render(view, n_rows, colour);
    if terminal && !args.once {
        // To the top, each line to its end, and the rest of the screen: no flicker.
        write!(stdout, "\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))?;
    } else {
        write!(stdout, "{text}")?;
        if !args.once {
            writeln!(stdout)?;
        }
    }
    Ok(stdout.flush()?)
}

/// Keys for which the terminal has room, besides the heading, the line of those that are left out, and the cursor's.
fn fitting() -> usize {
    let rows = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_row));
    if rows == 0 { TERMINAL_ROWS } else { rows }.saturating_sub(3).max(1)
}
