//! The measured rows as a table, and whether the budgets hold.

use std::fmt;
use std::time::Duration;

use crate::report::mebibytes;

/// What was measured with a number of services.
#[derive(Debug, Clone)]
pub struct Row {
    /// How many services.
    pub services: usize,
    /// From the objects to a catalog that holds them all.
    pub first_sync: Duration,
    /// Our processor time for it.
    pub first_sync_cpu: Duration,
    /// Consul's.
    pub first_sync_consul_cpu: Duration,
    /// Transactions while nothing changed.
    pub idle_transactions: u64,
    /// From a change to the answer of Consul that shows it: half of them.
    pub p50: Duration,
    /// The same for 99 of 100.
    pub p99: Duration,
    /// The same while the gate's file is written behind the changes.
    pub p99_with_gate: Duration,
    /// Our processor time for a change, without the gate's file.
    pub change_cpu: Duration,
    /// Consul's.
    pub change_consul_cpu: Duration,
    /// Resident memory before the gate's file was written, in bytes.
    pub resident_before_gate: u64,
    /// Resident memory at the end, in bytes.
    pub resident: u64,
    /// The most that ever was resident, in bytes.
    pub resident_most: u64,
}

/// All rows, by the number of services.
#[derive(Debug, Clone)]
pub struct Table(pub Vec<Row>);

/// One promise.
struct Budget {
    what: String,
    figure: String,
    most: String,
    holds: bool,
}

impl Table {
    /// Whether every budget holds of which there is a row.
    pub fn holds(&self) -> bool {
        self.budgets().iter().all(|budget| budget.holds)
    }

    fn budgets(&self) -> Vec<Budget> {
        let mut all = Vec::new();
        let row = |services| self.0.iter().find(|row| row.services == services);
        if let Some(row) = row(1000) {
            all.push(Budget::time("1,000 services: first sync", row.first_sync, Duration::from_secs(3)));
            all.push(Budget::time("1,000 services: a change, p50", row.p50, Duration::from_millis(150)));
            all.push(Budget::time(
                "1,000 services: a change, p99",
                row.p99.max(row.p99_with_gate),
                Duration::from_millis(500),
            ));
            all.push(Budget::memory("1,000 services: resident", row.resident, 40));
        }
        if let Some(row) = row(10_000) {
            all.push(Budget::memory("10,000 services: resident", row.resident, 150));
        }
        if let (Some(few), Some(many)) = (self.0.first(), self.0.last())
            && few.services < many.services
        {
            let ratio = many.change_cpu.as_secs_f64() / few.change_cpu.as_secs_f64();
            all.push(Budget {
                what: format!("our processor time for a change, {} over {} services", many.services, few.services),
                figure: format!("{ratio:.2}"),
                most: "1.5".to_owned(),
                holds: ratio <= 1.5,
            });
        }
        let idle = self.0.iter().map(|row| row.idle_transactions).sum::<u64>();
        all.push(Budget {
            what: "transactions while nothing changes".to_owned(),
            figure: idle.to_string(),
            most: "0".to_owned(),
            holds: idle == 0,
        });
        all
    }
}

impl Budget {
    fn time(what: &str, figure: Duration, most: Duration) -> Self {
        Self { what: what.to_owned(), figure: shown(figure), most: shown(most), holds: figure <= most }
    }

    fn memory(what: &str, bytes: u64, most_mebibytes: u64) -> Self {
        let most = most_mebibytes << 20;
        Self { what: what.to_owned(), figure: mebibytes(bytes), most: mebibytes(most), holds: bytes <= most }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| services | first sync | CPU, ours / Consul's | a change p50 / p99 | p99 with the gate's file | CPU of a change, ours / Consul's | resident (with the gate's file, at most) | idle writes |"
        )?;
        writeln!(f, "|---:|---:|---:|---:|---:|---:|---:|---:|")?;
        for row in &self.0 {
            writeln!(
                f,
                "| {} | {} | {} / {} | {} / {} | {} | {} / {} | {} ({}, {}) | {} |",
                row.services,
                shown(row.first_sync),
                shown(row.first_sync_cpu),
                shown(row.first_sync_consul_cpu),
                shown(row.p50),
                shown(row.p99),
                shown(row.p99_with_gate),
                shown(row.change_cpu),
                shown(row.change_consul_cpu),
                mebibytes(row.resident_before_gate),
                mebibytes(row.resident),
                mebibytes(row.resident_most),
                row.idle_transactions,
            )?;
        }
        writeln!(f)?;
        for Budget { what, figure, most, holds } in self.budgets() {
            let verdict = if holds { "holds" } else { "DOES NOT HOLD" };
            writeln!(f, "Budget: {what}: {figure}, at most {most}: {verdict}")?;
        }
        Ok(())
    }
}

/// For people.
fn shown(time: Duration) -> String {
    if time >= Duration::from_secs(1) {
        format!("{:.2} s", time.as_secs_f64())
    } else {
        format!("{:.2} ms", time.as_secs_f64() * 1e3)
    }
}
