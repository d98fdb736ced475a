//! The live view as text.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use super::view::{Row, View};

/// Below this part of the limit, a row is coloured as a warning.
const SCARCE: f64 = 0.1;
/// Columns, and whether their cells are numbers.
const COLUMNS: [(&str, bool); 6] =
    [("LIMIT", false), ("KEY", false), ("ALLOWED", false), ("LEFT", true), ("ADMITTED/S", true), ("FULL IN", true)];

/// The table, at most `n_rows` keys of it.
pub(super) fn render(view: &View, n_rows: usize, colour: bool) -> String {
    let shown = view.rows.get(..n_rows.min(view.rows.len())).unwrap_or_default();
    let cells: Vec<[String; 6]> = shown.iter().map(cells).collect();
    let mut widths = COLUMNS.map(|(name, _)| name.len());
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |cells: [&str; 6]| {
        let mut line = String::new();
        for ((cell, width), (_, is_number)) in cells.into_iter().zip(widths).zip(COLUMNS) {
            // Writing to a string does not fail.
            let _ = if is_number { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:width$}  ") };
        }
        line.trim_end().to_owned()
    };
    let mut text = line(COLUMNS.map(|(name, _)| name)) + "\n";
    for (row, cells) in shown.iter().zip(&cells) {
        let line = line(cells.each_ref().map(String::as_str));
        let _ = match code(row).filter(|_| colour) {
            Some(code) => writeln!(text, "\x1b[{code}m{line}\x1b[0m"),
            None => writeln!(text, "{line}"),
        };
    }
    if view.rows.is_empty() {
        text.push_str("(every bucket is full)\n");
    }
    let n_more = view.rows.len() - shown.len();
    if n_more > 0 {
        let _ = writeln!(text, "… and {n_more} more");
    }
    text
}

/// Every row in full.
pub(super) fn details(view: &View) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    for (index, row) in view.rows.iter().enumerate() {
        if index > 0 {
            writeln!(stdout)?;
        }
        let [limit, key, allowed, left, _, full_in] = cells(row);
        writeln!(stdout, "limit    {limit}\nkey      {key}\nid       {}\nallowed  {allowed}", row.id())?;
        writeln!(stdout, "left     {left}\nfull in  {full_in}")?;
    }
    Ok(())
}

fn cells(row: &Row) -> [String; 6] {
    [
        row.limit.clone(),
        row.label().to_owned(),
        row.allowed.clone(),
        row.remaining.to_string(),
        row.admitted_per_second.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}")),
        duration(row.reset_ms),
    ]
}

fn code(row: &Row) -> Option<&'static str> {
    match row.remaining {
        0 => Some("31"),
        _ if row.left() < SCARCE => Some("33"),
        _ => None,
    }
}

/// The two largest units that matter.
fn duration(ms: u64) -> String {
    let seconds = ms.div_ceil(1000);
    match seconds {
        _ if ms < 10_000 => format!("{}.{} s", ms.div_ceil(100) / 10, ms.div_ceil(100) % 10),
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds.div_ceil(60)),
        7200..172_800 => format!("{} h", seconds.div_ceil(3600)),
        _ => format!("{} d", seconds.div_ceil(86_400)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_and_never_less_than_they_are() {
        for (ms, text) in [
            (0, "0.0 s"),
            (1250, "1.3 s"),
            (10_001, "11 s"),
            (120_000, "2 min"),
            (7_200_001, "3 h"),
            (30 * 86_400_000, "30 d"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }
}
