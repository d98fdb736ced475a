//! `Rate`, `Quota` and `Concurrency`: how much.

use portcullis_policy::limit::rule::{Allowance, Window};

use super::Reader;
use crate::read::{
    duration,
    node::{Node, Object, fold},
};

/// `Period` when it is not written, in milliseconds.
const DEFAULT_PERIOD: u64 = 1000;
/// `Lease` when it is not written, in seconds.
const DEFAULT_LEASE: u64 = 3600;
/// Longest period, and longest time that an empty bucket takes to fill, in milliseconds: a leap year.
const MAX_PERIOD: u64 = 366 * 24 * 3600 * 1000;
/// Highest rate, in requests a millisecond: a unit is at least a microsecond.
const MAX_RATE: u64 = 1000;
/// Largest quota: what JSON's numbers hold exactly everywhere.
const MAX_QUOTA: u64 = 1 << 53;
/// Most requests at once.
const MAX_CONCURRENCY: u64 = 100_000;
/// Longest lease, in seconds: a week.
const MAX_LEASE: u64 = 7 * 24 * 3600;

impl Reader<'_> {
    /// The allowance of a limit or a tier: exactly one of the three.
    pub(super) fn allowance(&mut self, object: &Object<'_>, node: &Node<'_>) -> Option<Allowance> {
        let parts = ["rate", "quota", "concurrency"];
        let mut found = parts.into_iter().filter_map(|part| Some((part, object.filled(part)?)));
        let (Some((kind, part)), None) = (found.next(), found.next()) else {
            self.fault(node, "exactly one of Rate, Quota and Concurrency is needed", "");
            return None;
        };
        let fields = self.object(&part)?;
        match kind {
            "rate" => self.rate(&fields, &part),
            "quota" => self.quota(&fields, &part),
            _ => self.concurrency(&fields, &part),
        }
    }

    fn rate(&mut self, fields: &Object<'_>, node: &Node<'_>) -> Option<Allowance> {
        self.only(fields, &["requests", "period", "burst"]);
        let requests = self.number(fields, "requests", None, u32::MAX.into(), node)?;
        let period_ms = match fields.filled("period") {
            None => DEFAULT_PERIOD,
            Some(it) => self.duration(&it, 1_000_000, MAX_PERIOD)?,
        };
        let burst = self.number(fields, "burst", Some(requests), u32::MAX.into(), node)?;
        self.checked_rate(requests, period_ms, burst, node)
    }

    /// A rate whose unit and whose bucket are of a size that can be counted.
    pub(super) fn checked_rate(
        &mut self,
        requests: u64,
        period_ms: u64,
        burst: u64,
        node: &Node<'_>,
    ) -> Option<Allowance> {
        if requests > period_ms.saturating_mul(MAX_RATE) {
            self.fault(node, "the rate is above 1000000 a second", "");
            return None;
        }
        if burst.saturating_mul(period_ms) / requests.max(1) > MAX_PERIOD {
            self.fault(node, "an empty bucket would take more than a year to fill", "lower Burst, or use a Quota");
            return None;
        }
        let (requests, burst) = (u32::try_from(requests).ok()?, u32::try_from(burst).ok()?);
        Some(Allowance::Rate { requests, period_ms, burst })
    }

    fn quota(&mut self, fields: &Object<'_>, node: &Node<'_>) -> Option<Allowance> {
        self.only(fields, &["requests", "window"]);
        let requests = self.number(fields, "requests", None, MAX_QUOTA, node);
        let window = fields.filled("window").and_then(|it| match fold(it.text()?).as_str() {
            "hour" => Some(Window::Hour),
            "day" => Some(Window::Day),
            "month" => Some(Window::Month),
            _ => None,
        });
        if window.is_none() {
            self.fault(node, "the quota's Window is none of `hour`, `day` and `month`", "");
        }
        Some(Allowance::Quota { requests: requests?, window: window? })
    }

    fn concurrency(&mut self, fields: &Object<'_>, node: &Node<'_>) -> Option<Allowance> {
        self.only(fields, &["requests", "lease"]);
        let requests = self.number(fields, "requests", None, MAX_CONCURRENCY, node)?;
        let lease = match fields.filled("lease") {
            None => DEFAULT_LEASE,
            Some(it) => self.duration(&it, 1_000_000_000, MAX_LEASE)?,
        };
        let (requests, lease_s) = (u32::try_from(requests).ok()?, u32::try_from(lease).ok()?);
        Some(Allowance::Concurrency { requests, lease_s })
    }

    fn number(
        &mut self,
        fields: &Object<'_>,
        key: &str,
        otherwise: Option<u64>,
        most: u64,
        node: &Node<'_>,
    ) -> Option<u64> {
        let written = fields.filled(key);
        let number = match &written {
            Some(it) => it.value().as_u64(),
            None => otherwise,
        };
        let number = number.filter(|number| (1..=most).contains(number));
        if number.is_none() {
            let what = format!("{key} must be a whole number from 1 to {most}");
            self.fault(written.as_ref().unwrap_or(node), &what, "");
        }
        number
    }

    /// A duration in whole units of so many nanoseconds.
    fn duration(&mut self, node: &Node<'_>, unit: u64, most: u64) -> Option<u64> {
        let units =
            node.text().and_then(duration::nanoseconds).filter(|it| it.is_multiple_of(unit)).map(|it| it / unit);
        let units = units.filter(|it| (1..=most).contains(it));
        if units.is_none() {
            let (unit, longest) = if unit == 1_000_000 { ("milliseconds", "8784h") } else { ("seconds", "168h") };
            let what = format!("a duration in whole {unit}, at most {longest}, was expected here");
            self.fault(node, &what, "such as `1s` or `1h30m`");
        }
        units
    }
}
