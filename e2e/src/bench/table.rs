//! The measured turns as a table, and whether the budget holds.

use std::fmt;

use super::rows::{FRONT_GUARDED, FRONT_LIMITED, FRONT_REFUSED, MTLS_GUARDED, MTLS_LIMITED, MTLS_PASSED, baseline};
use super::{ROWS, Rounds, Turn};

/// The promise: processor time per request of the guarded route over the plain one, at most.
const MOST_CPU: f64 = 1.35;
/// The same with an exact limit.
const MOST_LIMITED_CPU: f64 = 1.50;
/// The same of a request that a limit refuses.
const MOST_REFUSED_CPU: f64 = 0.50;
/// The promise for the 99th percentile of latency.
const MOST_P99: f64 = 1.5;

/// Medians over all rounds.
#[derive(Debug, Clone)]
pub struct Table {
    lines: Vec<Line>,
    /// Processor time by mTLS over a plain router that hands the certificate on as well.
    mtls_cpu_to_passed: f64,
    /// The same with an exact limit.
    mtls_limited_cpu_to_passed: f64,
}

/// One row: medians, and for processor time the lower quartile, because whatever else the machine does only ever adds to
/// it. Ratios are to the plain router of the same way: of quartiles, or medians of the rounds' own ratios.
#[derive(Debug, Clone)]
struct Line {
    name: &'static str,
    cpu_microseconds: f64,
    cpu_ratio: f64,
    throughput: f64,
    throughput_ratio: f64,
    p50_milliseconds: f64,
    p99_milliseconds: f64,
    p99_ratio: f64,
}

/// What the budget says and what was measured.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Behind a front, over a plain router.
    cpu: f64,
    p99: f64,
    /// By mTLS, over a plain router that hands the certificate on: `passTLSClientCert` is Traefik's own cost.
    mtls_cpu: f64,
    mtls_p99: f64,
    /// With an exact limit, behind a front and by mTLS.
    limited_cpu: f64,
    mtls_limited_cpu: f64,
    /// Refused by a limit, behind a front.
    refused_cpu: f64,
    /// By mTLS, over a plain router that knows nothing of the certificate. Shown, not promised.
    mtls_cpu_to_plain: f64,
}

impl Table {
    /// From all rounds; they hold at least one.
    pub fn new(rounds: &Rounds) -> Table {
        let lines =
            ROWS.iter().enumerate().map(|(index, row)| Line::new(row.name, index, baseline(row), rounds)).collect();
        let to_passed = |index| cpu(rounds, index) / cpu(rounds, MTLS_PASSED);
        Table {
            mtls_cpu_to_passed: to_passed(MTLS_GUARDED),
            mtls_limited_cpu_to_passed: to_passed(MTLS_LIMITED),
            lines,
        }
    }

    /// The guarded routes against the budget.
    pub fn budget(&self) -> Budget {
        let (front, mtls) = (&self.lines[FRONT_GUARDED], &self.lines[MTLS_GUARDED]);
        Budget {
            cpu: front.cpu_ratio,
            p99: front.p99_ratio,
            mtls_cpu: self.mtls_cpu_to_passed,
            mtls_p99: mtls.p99_ratio,
            limited_cpu: self.lines[FRONT_LIMITED].cpu_ratio,
            mtls_limited_cpu: self.mtls_limited_cpu_to_passed,
            refused_cpu: self.lines[FRONT_REFUSED].cpu_ratio,
            mtls_cpu_to_plain: mtls.cpu_ratio,
        }
    }
}

impl Line {
    fn new(name: &'static str, index: usize, plain: usize, rounds: &Rounds) -> Line {
        let values = |value: fn(&Turn) -> f64| median(rounds.iter().map(|round| value(&round[index])));
        let ratios = |value: fn(&Turn) -> f64| median(rounds.iter().map(|r| value(&r[index]) / value(&r[plain])));
        Line {
            name,
            cpu_microseconds: cpu(rounds, index),
            cpu_ratio: cpu(rounds, index) / cpu(rounds, plain),
            throughput: values(|turn| turn.throughput),
            throughput_ratio: ratios(|turn| turn.throughput),
            p50_milliseconds: values(|turn| turn.p50.as_secs_f64() * 1e3),
            p99_milliseconds: values(|turn| turn.p99.as_secs_f64() * 1e3),
            p99_ratio: ratios(|turn| turn.p99.as_secs_f64()),
        }
    }
}

impl Budget {
    /// Whether all promises hold.
    pub fn holds(&self) -> bool {
        let limits = self.limited_cpu <= MOST_LIMITED_CPU
            && self.mtls_limited_cpu <= MOST_LIMITED_CPU
            && self.refused_cpu <= MOST_REFUSED_CPU;
        limits && self.cpu <= MOST_CPU && self.mtls_cpu <= MOST_CPU && self.p99 <= MOST_P99 && self.mtls_p99 <= MOST_P99
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| route | gateway CPU µs/request | CPU ratio | requests/s | ratio | p50 ms | p99 ms | p99 ratio |"
        )?;
        writeln!(f, "|---|---:|---:|---:|---:|---:|---:|---:|")?;
        for line in &self.lines {
            writeln!(
                f,
                "| {} | {:.1} | {:.2} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} |",
                line.name,
                line.cpu_microseconds,
                line.cpu_ratio,
                line.throughput,
                line.throughput_ratio,
                line.p50_milliseconds,
                line.p99_milliseconds,
                line.p99_ratio,
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |what: &str, ratio: f64, most: f64| {
            format!(
                "Budget: {what}: {ratio:.2}, at most {most}: {}",
                if ratio <= most { "holds" } else { "DOES NOT HOLD" }
            )
        };
        writeln!(f, "{}", line("CPU over a plain router", self.cpu, MOST_CPU))?;
        writeln!(f, "{}", line("p99 over a plain router's", self.p99, MOST_P99))?;
        writeln!(f, "{}", line("mTLS: CPU over a plain router + passTLSClientCert", self.mtls_cpu, MOST_CPU))?;
        writeln!(f, "{}", line("mTLS: p99 over a plain router's", self.mtls_p99, MOST_P99))?;
        writeln!(f, "{}", line("CPU with an exact limit over a plain router", self.limited_cpu, MOST_LIMITED_CPU))?;
        let mtls = "mTLS: CPU with an exact limit over a plain router + passTLSClientCert";
        writeln!(f, "{}", line(mtls, self.mtls_limited_cpu, MOST_LIMITED_CPU))?;
        writeln!(f, "{}", line("CPU refused by a limit over a plain router", self.refused_cpu, MOST_REFUSED_CPU))?;
        write!(
            f,
            "For comparison, no promise: mTLS: CPU over a plain router that hands no certificate on: {:.2}",
            self.mtls_cpu_to_plain
        )
    }
}

/// A row's processor time for a request: the lower quartile of its turns.
fn cpu(rounds: &Rounds, index: usize) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(|round| round[index].cpu_microseconds).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 4).copied().unwrap_or(f64::NAN)
}

/// The middle value; NaN without values, which no budget accepts.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn turn(cpu: f64, p99: u64) -> Turn {
        let (p50, p99) = (Duration::from_millis(1), Duration::from_millis(p99));
        Turn { cpu_microseconds: cpu, throughput: 1e3, p50, p99 }
    }

    fn rounds(row: usize, cpu: f64, p99: u64) -> Rounds {
        let other = |index| if index == FRONT_REFUSED { turn(40.0, 10) } else { turn(100.0, 10) };
        let round: Vec<Turn> = (0..ROWS.len()).map(|i| if i == row { turn(cpu, p99) } else { other(i) }).collect();
        vec![round; 3]
    }

    #[test]
    fn the_budget_holds_up_to_its_bounds_and_not_beyond() {
        for row in [FRONT_GUARDED, MTLS_GUARDED] {
            for (cpu, p99, holds) in [(134.9, 15, true), (136.0, 10, false), (100.0, 16, false)] {
                assert_eq!(Table::new(&rounds(row, cpu, p99)).budget().holds(), holds, "{row} {cpu} {p99}");
            }
        }
        for (row, cpu, holds) in [
            (FRONT_LIMITED, 149.0, true),
            (FRONT_LIMITED, 151.0, false),
            (MTLS_LIMITED, 151.0, false),
            (FRONT_REFUSED, 49.0, true),
            (FRONT_REFUSED, 51.0, false),
        ] {
            assert_eq!(Table::new(&rounds(row, cpu, 10)).budget().holds(), holds, "{row} {cpu}");
        }
        assert!(!Table::new(&Vec::new()).budget().holds(), "nothing measured");
    }

    #[test]
    fn the_cost_of_handing_the_certificate_on_is_not_ours() {
        let mut rounds = rounds(MTLS_GUARDED, 160.0, 10);
        assert!(!Table::new(&rounds).budget().holds());
        for round in &mut rounds {
            round[MTLS_PASSED].cpu_microseconds = 125.0;
        }
        assert!(Table::new(&rounds).budget().holds());
    }

    #[test]
    fn what_else_the_machine_does_in_single_turns_does_not_count() {
        let mut rounds = rounds(FRONT_GUARDED, 120.0, 12);
        for (number, round) in rounds.iter_mut().enumerate() {
            round[number].cpu_microseconds *= 3.0;
            round[FRONT_GUARDED].cpu_microseconds *= if number == 1 { 5.0 } else { 1.0 };
        }
        assert!((Table::new(&rounds).budget().cpu - 1.2).abs() < 1e-9);
    }
}
