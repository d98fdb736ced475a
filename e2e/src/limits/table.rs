//! The outcomes of attacks as a table.

use std::fmt;
use std::time::Duration;

use super::scenarios::{Limiter, Outcome};

/// Attacks on several limiters.
#[derive(Debug, Default)]
pub struct Table {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    attack: &'static str,
    limiter: &'static str,
    offered: f64,
    admitted: u64,
    allowed: f64,
    due: f64,
    ratio: f64,
    worst: f64,
    admitted_p50: Duration,
    admitted_p99: Duration,
    refused_p50: Duration,
    refused_p99: Duration,
    other: u64,
    collections: Option<u64>,
    ours: bool,
    sound: bool,
}

impl Table {
    /// One more attack.
    #[allow(clippy::cast_precision_loss)] // counts far below 2^52
    pub fn add(&mut self, limiter: Limiter, outcome: &Outcome) {
        let Outcome { tally, report, .. } = outcome;
        let quantile = |status, share| report.quantile(status, share).unwrap_or_default();
        let other: u64 =
            report.statuses().iter().filter(|(status, _)| !matches!(status, 200 | 429)).map(|(_, count)| count).sum();
        self.lines.push(Line {
            attack: outcome.scenario.name(),
            limiter: limiter.name(),
            offered: tally.answered as f64 / outcome.lasted.as_secs_f64(),
            admitted: tally.admitted,
            allowed: tally.allowed,
            due: tally.due,
            ratio: tally.ratio(),
            worst: tally.worst,
            admitted_p50: quantile(200, 0.5),
            admitted_p99: quantile(200, 0.99),
            refused_p50: quantile(429, 0.5),
            refused_p99: quantile(429, 0.99),
            other,
            collections: outcome.collections,
            ours: matches!(limiter, Limiter::Portcullis | Limiter::Alone),
            sound: tally.holds() && tally.suffices() && other == 0,
        });
    }

    /// Whether all that is ours is as promised.
    pub fn holds(&self) -> bool {
        self.lines.iter().all(|line| line.sound || !line.ours)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| attack | limiter | requests/s | due | admitted | allowed | admitted/allowed | worst window | p50, p99 ms admitted | p50, p99 ms refused | other answers | collections |"
        )?;
        writeln!(f, "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")?;
        for line in &self.lines {
            let pair = |a: Duration, b: Duration| format!("{:.1}, {:.1}", a.as_secs_f64() * 1e3, b.as_secs_f64() * 1e3);
            writeln!(
                f,
                "| {} | {} | {:.0} | {:.0} | {} | {:.0} | {:.3} | {:.3} | {} | {} | {} | {} |",
                line.attack,
                line.limiter,
                line.offered,
                line.due,
                line.admitted,
                line.allowed,
                line.ratio,
                line.worst,
                pair(line.admitted_p50, line.admitted_p99),
                pair(line.refused_p50, line.refused_p99),
                line.other,
                line.collections.map_or("-".to_owned(), |count| count.to_string()),
            )?;
        }
        Ok(())
    }
}
