//! The rows of the live view: one a key, nearest to its limit first.

use std::{cmp::Ordering, collections::HashMap};

use portcullis_limiter::Rule;
use serde::Serialize;

use crate::limits::{Follower, Names};

/// What keys are called for which a bucket had no room.
const SHARED: &str = "(all others)";

/// All keys at one time.
pub(super) struct View {
    /// When, by the logs' time, in nanoseconds.
    pub(super) now_ns: u64,
    pub(super) rows: Vec<Row>,
}

/// How one key of one limit stands.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    /// The limit's name, or its tag.
    pub(super) limit: String,
    /// The bucket, 16 hex digits.
    key: String,
    /// What the key is made of, as far as the log still says.
    label: Option<String>,
    /// What is allowed, for people.
    pub(super) allowed: String,
    /// Most units that there can be.
    capacity: u64,
    /// Units that are left.
    pub(super) remaining: u64,
    /// Milliseconds until all units are back.
    pub(super) reset_ms: u64,
    /// Units admitted here in a second, over the last interval; absent where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) admitted_per_second: Option<f64>,
    #[serde(skip)]
    bucket: (u64, u32),
}

// === impl View ===

impl View {
    /// The keys whose bucket is not full.
    pub(super) fn of(follower: &Follower, names: &Names) -> Self {
        let now = follower.now();
        let mut known = HashMap::new();
        let row = |entry: portcullis_limiter::Entry| {
            let standing = entry.standing(now.steady_ns, now.wall_ns);
            let limit: &String = known.entry(entry.tag).or_insert_with(|| names.of(entry.tag));
            entry.is_live(now.steady_ns).then(|| Row {
                limit: limit.clone(),
                key: format!("{:016x}", entry.key),
                label: if entry.shared { Some(SHARED.to_owned()) } else { entry.label.as_deref().map(printable) },
                allowed: allowed(&entry.rule),
                capacity: capacity(&entry.rule),
                remaining: standing.remaining,
                reset_ms: standing.reset_ns.div_ceil(1_000_000),
                admitted_per_second: None,
                bucket: (entry.key, entry.tag),
            })
        };
        let rows = follower.entries().filter_map(row).collect();
        let mut view = Self { now_ns: now.steady_ns, rows };
        view.sort();
        view
    }

    /// Fills in the units that were admitted in the last interval, by key and tag.
    pub(super) fn rate(&mut self, admitted: &HashMap<(u64, u32), u64>, seconds: f64) {
        for row in &mut self.rows {
            let units = admitted.get(&row.bucket).copied().unwrap_or(0);
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            let rate = units as f64 / seconds;
            row.admitted_per_second = Some((rate * 10.0).round() / 10.0);
        }
        self.sort();
    }

    fn sort(&mut self) {
        self.rows.sort_by(|a, b| {
            a.left()
                .total_cmp(&b.left())
                .then_with(|| b.admitted_per_second.partial_cmp(&a.admitted_per_second).unwrap_or(Ordering::Equal))
                .then_with(|| (&a.limit, &a.key).cmp(&(&b.limit, &b.key)))
        });
    }
}

// === impl Row ===

impl Row {
    /// The bucket, 16 hex digits.
    pub(super) fn id(&self) -> &str {
        &self.key
    }

    /// What to call the key.
    pub(super) fn label(&self) -> &str {
        match self.label.as_deref() {
            Some("") => "(all)",
            Some(label) => label,
            None => &self.key,
        }
    }

    /// How much of the limit is left, 0 to 1.
    pub(super) fn left(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let left = self.remaining as f64 / self.capacity.max(1) as f64;
        left
    }
}

/// A caller chooses what a label says; it must not move anybody's cursor.
fn printable(label: &str) -> String {
    label.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

fn capacity(rule: &Rule) -> u64 {
    match *rule {
        Rule::Rate { burst, .. } => burst.into(),
        Rule::Quota { units, .. } => units,
        Rule::Concurrency { units, .. } => units.into(),
    }
}

fn allowed(rule: &Rule) -> String {
    match *rule {
        Rule::Rate { interval_ns, burst } => format!("{}, burst {burst}", rate(interval_ns)),
        Rule::Quota { units, begin_ns, end_ns } => {
            let hours = end_ns.saturating_sub(begin_ns) / 3_600_000_000_000;
            let window = match hours {
                0 | 1 => "hour",
                2..=25 => "day",
                _ => "month",
            };
            format!("{units} a {window}")
        }
        Rule::Concurrency { units, .. } => format!("{units} at once"),
    }
}

/// The rate whose interval this is, in the first unit in which it is a whole number, else at least one.
fn rate(interval_ns: u64) -> String {
    const UNITS: [(&str, f64); 4] = [("s", 1e9), ("min", 6e10), ("h", 3.6e12), ("d", 8.64e13)];
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let interval = interval_ns.max(1) as f64;
    // The interval was rounded up to whole nanoseconds, which is taken back.
    let rates = UNITS.map(|(name, period)| (name, (period / interval * 100.0).round() / 100.0));
    let at_least_one = || rates.iter().filter(|(_, rate)| *rate >= 1.0);
    let (name, rate) =
        at_least_one().find(|(_, rate)| rate.fract() == 0.0).or(at_least_one().next()).unwrap_or(&rates[3]);
    format!("{rate}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_said_in_the_unit_in_which_they_are_written() {
        for (interval_ns, text) in [
            (10_000_000, "100/s"),
            (333_333_334, "3/s"),
            (1_000_000_000, "1/s"),
            (6_000_000_000, "10/min"),
            (36_000_000_000, "100/h"),
            (864_000_000_000, "100/d"),
            (800_000_000, "75/min"),
            (700_000_000, "1.43/s"),
            (86_400_000_000_000 * 2, "0.5/d"),
        ] {
            assert_eq!(rate(interval_ns), text);
        }
    }

    #[test]
    fn a_label_cannot_move_the_cursor() {
        assert_eq!(printable("web/ä\u{1b}[2J\n"), "web/ä\\u{1b}[2J\\n");
    }
}
