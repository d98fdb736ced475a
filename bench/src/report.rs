//! The figures as a Markdown table, each beside its budget.

use std::fmt;

/// A figure.
pub(crate) struct Line {
    /// What was measured.
    pub(crate) what: String,
    /// The figure with its unit.
    pub(crate) figure: String,
    /// What it may be at most, and whether it is; nothing is promised of some.
    pub(crate) budget: Option<(String, bool)>,
}

/// All figures.
#[derive(Default)]
pub(crate) struct Report(Vec<Line>);

impl Report {
    /// Adds a time in nanoseconds, shown in microseconds.
    pub(crate) fn time(&mut self, what: impl Into<String>, nanoseconds: f64, at_most: Option<f64>) {
        let microseconds = nanoseconds / 1000.0;
        let digits = if microseconds < 10.0 { 2 } else { 1 };
        let budget = at_most.map(|most| (format!("{} µs", most / 1000.0), nanoseconds <= most));
        self.0.push(Line { what: what.into(), figure: format!("{microseconds:.digits$} µs"), budget });
    }

    /// Adds a ratio.
    pub(crate) fn ratio(&mut self, what: impl Into<String>, ratio: f64, at_most: Option<f64>) {
        let budget = at_most.map(|most| (format!("{most}"), ratio <= most));
        self.0.push(Line { what: what.into(), figure: format!("{ratio:.2}"), budget });
    }

    /// Adds a size in bytes.
    pub(crate) fn size(&mut self, what: impl Into<String>, bytes: u64, at_most: u64) {
        let budget = Some((format!("{at_most} bytes"), bytes <= at_most));
        self.0.push(Line { what: what.into(), figure: format!("{bytes} bytes"), budget });
    }

    /// Whether every budget holds. A figure that is none (no rounds) holds none.
    pub(crate) fn holds(&self) -> bool {
        self.0.iter().all(|line| line.budget.as_ref().is_none_or(|(_, holds)| *holds))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | figure | budget | |\n|---|---:|---:|---|")?;
        for Line { what, figure, budget } in &self.0 {
            let (budget, mark) = match budget {
                Some((budget, true)) => (budget.as_str(), "holds"),
                Some((budget, false)) => (budget.as_str(), "**EXCEEDED**"),
                None => ("", ""),
            };
            writeln!(f, "| {what} | {figure} | {budget} | {mark} |")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_above_its_budget_is_marked_and_fails_the_whole() {
        let mut report = Report::default();
        report.time("native", 400.0, Some(1000.0));
        report.ratio("flat", 1.5, None);
        assert!(report.holds());
        assert!(report.to_string().contains("| native | 0.40 µs | 1 µs | holds |\n| flat | 1.50 |  |  |"));
        report.size("plugin", 400_001, 400_000);
        assert!(!report.holds() && report.to_string().contains("400001 bytes | 400000 bytes | **EXCEEDED** |"));
        let mut none = Report::default();
        none.time("nothing", f64::NAN, Some(1.0));
        assert!(!none.holds());
    }
}
