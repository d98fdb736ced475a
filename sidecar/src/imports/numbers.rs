//! How the imports stand, in numbers. The one label is the cluster of the configuration, and fixed words.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

/// What is known of the import into one cluster; counters are since the start of the process.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Whether this sidecar writes.
    pub leads: bool,
    /// Whether the last pass found Consul and the API server readable and left nothing to do.
    pub in_step: bool,
    /// Services that are wanted.
    pub services: usize,
    /// Endpoints that are wanted.
    pub endpoints: usize,
    /// Those of them that are ready.
    pub ready: usize,
    /// Services of Consul that cannot appear.
    pub left_out: usize,
    /// Names that Services of others have.
    pub taken: usize,
    /// Services whose removal waits.
    pub held: usize,
    /// Objects that the API server does not take.
    pub refused: usize,
    /// Objects that were made.
    pub created: u64,
    /// Objects that were changed.
    pub changed: u64,
    /// Objects that were removed.
    pub removed: u64,
    /// Writes that failed or were refused.
    pub failures: u64,
}

/// One of them.
type Number = fn(&Status) -> usize;

/// Of all clusters; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Numbers(Arc<Mutex<BTreeMap<String, Status>>>);

// === impl Numbers ===

impl Numbers {
    /// Changes those of one cluster.
    pub(super) fn update(&self, cluster: &str, change: impl FnOnce(&mut Status)) {
        change(self.lock().entry(cluster.to_owned()).or_default());
    }

    /// Those of one cluster.
    pub fn get(&self, cluster: &str) -> Option<Status> {
        self.lock().get(cluster).cloned()
    }

    /// For Prometheus; nothing where nothing is imported.
    pub(crate) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.lock();
        if all.is_empty() {
            return Ok(());
        }
        let gauges: [(&str, &str, Number); 9] = [
            ("imports_leader", "Whether this sidecar writes services of Consul into the cluster", |it| it.leads.into()),
            ("imports_in_step", "Whether the cluster holds what it should of Consul", |it| it.in_step.into()),
            ("imports_services", "Services of Consul that are to be in the cluster", |it| it.services),
            ("imports_endpoints", "Their endpoints", |it| it.endpoints),
            ("imports_endpoints_ready", "Those of them that are ready", |it| it.ready),
            ("imports_left_out", "Services of Consul whose names Kubernetes does not take", |it| it.left_out),
            ("imports_taken", "Those whose names other Services have", |it| it.taken),
            ("imports_held_removals", "Services whose removal waits", |it| it.held),
            ("imports_refused", "Objects that the API server does not take", |it| it.refused),
        ];
        for (name, help, number) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (cluster, status) in &*all {
                let number = u64::try_from(number(status)).unwrap_or(u64::MAX);
                family.encode_family(&[("cluster", cluster.as_str())])?.encode_gauge(&number)?;
            }
        }
        let help = "Objects that were written";
        let mut family = encoder.encode_descriptor("imports_writes", help, None, MetricType::Counter)?;
        for (cluster, it) in &*all {
            let kinds =
                [("created", it.created), ("changed", it.changed), ("removed", it.removed), ("failed", it.failures)];
            for (kind, number) in kinds {
                let labels = [("cluster", cluster.as_str()), ("kind", kind)];
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&number, None)?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Status>> {
        // Numbers have no state that could be half.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    #[test]
    fn nothing_is_shown_where_nothing_is_imported_and_every_number_has_its_cluster() {
        let numbers = crate::numbers::Numbers::default();
        let show = || {
            let (mut registry, mut text) = (Registry::with_prefix("portcullis"), String::new());
            registry.register_collector(Box::new(numbers.clone()));
            text::encode(&mut text, &registry).unwrap();
            text
        };
        assert!(!show().contains("imports"));
        numbers.imports().update("east", |it| (it.services, it.removed) = (3, 2));
        let text = show();
        for line in [
            "portcullis_imports_services{cluster=\"east\"} 3",
            "portcullis_imports_writes_total{cluster=\"east\",kind=\"removed\"} 2",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in:\n{text}");
        }
    }
}
