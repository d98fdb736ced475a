//! The numbers about limits, for Prometheus. Labels are the limits of the policy and fixed words; never a key, which is a
//! caller's to choose.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};

use super::{beat, exchange::Exchange, follow::Follower, link::Health, names::Names};
use crate::{http::Report, others};

/// Most limits with a series of their own; what is counted under later ones is in [`OTHER`].
const MAX_LIMITS: usize = 1000;
/// The label of the rest.
const OTHER: &str = "other";

/// Everything that has a number.
pub(super) struct Numbers {
    /// Numbers that have nothing to do with limits.
    pub(super) beside: Option<others::Numbers>,
    /// Whose names the labels are.
    pub(super) names: Arc<Names>,
    /// The logs, where there is a state folder.
    pub(super) follower: Option<Mutex<Follower>>,
    /// Units admitted here.
    pub(super) admitted: Mutex<Admitted>,
    /// The clock, where it is written.
    pub(super) clock: Option<Arc<beat::Seen>>,
    /// Other hosts and their store, where there is one.
    pub(super) others: Option<Others>,
    /// How services are kept in step: another part of the sidecar, shown at the same place.
    pub(super) sync: crate::numbers::Numbers,
}

/// What is known of other hosts.
pub(super) struct Others {
    /// Who told what.
    pub(super) exchange: Mutex<Exchange>,
    /// The connection.
    pub(super) health: Arc<Health>,
    /// The time that the exchange goes by, in nanoseconds.
    pub(super) now_ns: fn() -> u64,
}

/// Units by limit, for a bounded number of limits.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    units: HashMap<u32, u64>,
    other: u64,
}

/// The same under the crate's trait, which asks for `Debug`.
struct Numbered(Arc<Numbers>);

// === impl Admitted ===

impl Admitted {
    /// Counts units; which limits are among the first [`MAX_LIMITS`] is decided by who comes first.
    pub(super) fn add(&mut self, tag: u32, units: u64) {
        let place = if self.units.len() < MAX_LIMITS || self.units.contains_key(&tag) {
            self.units.entry(tag).or_default()
        } else {
            &mut self.other
        };
        *place = place.saturating_add(units);
    }

    /// Sums by label of something that is had by tag.
    fn by_label(&self, names: &Names, numbers: impl IntoIterator<Item = (u32, u64)>) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for (tag, number) in numbers {
            let label = if self.units.contains_key(&tag) { names.of(tag) } else { OTHER.to_owned() };
            *sums.entry(label).or_default() += number;
        }
        sums
    }
}

// === impl Numbers ===

impl Report for Arc<Numbers> {
    fn metrics(&self) -> String {
        let mut registry = Registry::with_prefix("portcullis");
        registry.register_collector(Box::new(Numbered(self.clone())));
        registry.register_collector(Box::new(self.sync.clone()));
        if let Some(beside) = &self.beside {
            registry.register_collector(Box::new(beside.clone()));
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut text, &registry);
        text
    }

    fn ready(&self) -> Result<(), String> {
        self.sync.ready()
    }
}

/// Locks; a thread that panicked while it counted leaves numbers behind that are good enough.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Numbered ===

impl fmt::Debug for Numbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Numbered")
    }
}

impl Collector for Numbered {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        let Numbers { names, follower, admitted, clock, others, .. } = &*self.0;
        if let Some(follower) = follower {
            let follower = lock(follower);
            let now = follower.now();
            let mut keys: BTreeMap<u32, u64> = BTreeMap::new();
            for entry in follower.entries().filter(|entry| entry.is_live(now.steady_ns)) {
                *keys.entry(entry.tag).or_default() += 1;
            }
            let mut admitted = lock(admitted);
            for tag in keys.keys() {
                admitted.add(*tag, 0);
            }
            let units = admitted.units.iter().map(|(tag, units)| (*tag, *units));
            let mut units = admitted.by_label(names, units);
            if admitted.other > 0 {
                units.insert(OTHER.to_owned(), admitted.other);
            }
            out.counters(
                "limit_admitted_units",
                "Units admitted on this host since the sidecar started",
                "limit",
                units,
            )?;
            out.gauges("limit_keys", "Keys whose bucket is not full", "limit", admitted.by_label(names, keys))?;
            drop(admitted);
            let size = follower.size();
            out.gauge("limit_buckets", "Buckets of keys in the state folder", size.buckets)?;
            out.gauge("limit_state_files", "Files in the state folder's limits", size.files)?;
            out.gauge("limit_state_bytes", "Bytes of the files in the state folder's limits", size.bytes)?;
            out.counter("limit_log_errors", "Logs that could not be read or written", follower.errors())?;
        }
        if let Some(clock) = clock {
            out.gauge(
                "clock_written",
                "Whether the last beat of the clock could be written",
                clock.is_written().into(),
            )?;
            out.counter("clock_steps", "How often somebody set the wall clock", clock.steps())?;
            #[expect(clippy::cast_precision_loss, reason = "for people, in seconds")]
            let offset = clock.offset_ns() as f64 / 1e9;
            out.seconds("clock_offset_seconds", "What is added to the wall clock", offset)?;
        }
        if let Some(Others { exchange, health, now_ns }) = others {
            let exchange = lock(exchange);
            let counts = exchange.counts();
            out.gauge("store_up", "Whether this host hears itself through the store", exchange.is_up(now_ns()).into())?;
            out.gauge("store_connected", "Whether the connection stands", health.is_connected().into())?;
            out.counter("store_connections", "Connections made to the store", health.connections())?;
            out.gauge("store_hosts", "Hosts that share global limits, this one included", exchange.hosts() as u64)?;
            #[expect(clippy::cast_precision_loss, reason = "for people, in seconds")]
            let lag = counts.lag_ns as f64 / 1e9;
            out.seconds("store_lag_seconds", "How long the last message to oneself was under way", lag)?;
            out.counter("store_told_units", "Units admitted here that others were told", counts.told_units)?;
            out.counter("store_received_units", "Units admitted elsewhere that were charged", counts.received_units)?;
            out.counter("store_lost_messages", "Messages of others that never came", counts.lost)?;
            let labelled = |counts: &BTreeMap<&'static str, u64>| {
                counts.iter().map(|(why, number)| ((*why).to_owned(), *number)).collect::<BTreeMap<_, _>>()
            };
            out.counters(
                "store_refused_messages",
                "Messages that were not taken",
                "reason",
                labelled(&counts.refused),
            )?;
            let mut dropped = labelled(&counts.dropped);
            dropped.insert("unsent".to_owned(), health.unsent());
            out.counters("store_dropped", "Usages or messages that were too old or too many", "reason", dropped)?;
        }
        Ok(())
    }
}

/// Writes one metric after the other.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn counter(&mut self, name: &str, help: &str, number: u64) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        count(encoder, number)
    }

    fn gauge(&mut self, name: &str, help: &str, number: u64) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        encoder.encode_gauge(&number)
    }

    fn seconds(&mut self, name: &str, help: &str, seconds: f64) -> fmt::Result {
        ConstGauge::new(seconds).encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    fn counters(&mut self, name: &str, help: &str, label: &str, numbers: BTreeMap<String, u64>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value, number) in numbers {
            count(family.encode_family(&[(label, value)])?, number)?;
        }
        Ok(())
    }

    fn gauges(&mut self, name: &str, help: &str, label: &str, numbers: BTreeMap<String, u64>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (value, number) in numbers {
            family.encode_family(&[(label, value)])?.encode_gauge(&number)?;
        }
        Ok(())
    }
}

fn count(mut encoder: MetricEncoder<'_>, number: u64) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, _, u64>(&number, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::config::StoreDown;

    fn numbers(admitted: Admitted) -> Arc<Numbers> {
        let exchange = Mutex::new(Exchange::new(1, StoreDown::Local, 2));
        let state = tempfile::tempdir().unwrap();
        let folder = crate::limits::folder::StateFolder::new(state.path());
        Arc::new(Numbers {
            beside: None,
            names: Arc::default(),
            follower: Some(Mutex::new(Follower::new(folder))),
            admitted: Mutex::new(admitted),
            clock: Some(Arc::default()),
            others: Some(Others { exchange, health: Arc::default(), now_ns: || 0 }),
            sync: crate::numbers::Numbers::default(),
        })
    }

    #[test]
    fn every_number_is_there_with_its_prefix() {
        let text = numbers(Admitted::default()).metrics();
        for line in [
            "portcullis_limit_buckets 0",
            "portcullis_clock_steps_total 0",
            "portcullis_clock_offset_seconds 0.0",
            "portcullis_store_up 0",
            "portcullis_store_hosts 2",
            "portcullis_store_dropped_total{reason=\"unsent\"} 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in:\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_limits_with_a_label_are_bounded_and_nothing_is_lost() {
        let mut admitted = Admitted::default();
        for tag in 0..5000 {
            admitted.add(tag, 2);
        }
        admitted.add(0, 1);
        let text = numbers(admitted).metrics();
        let lines = text.lines().filter(|line| line.starts_with("portcullis_limit_admitted_units_total{"));
        let values: Vec<u64> = lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        assert_eq!((values.len(), values.iter().sum::<u64>()), (MAX_LIMITS + 1, 10_001));
        assert!(text.contains("{limit=\"other\"} 8000\n"));
    }
}
