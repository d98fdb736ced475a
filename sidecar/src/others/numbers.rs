//! Numbers about services beside Kubernetes, for Prometheus. No label is anybody's to choose.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};

/// What is known, shared with whoever shows it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Numbers(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    is_whole: AtomicU64,
    services: AtomicU64,
    bypasses: AtomicU64,
    declared: AtomicU64,
    external: AtomicU64,
    critical: AtomicU64,
}

// === impl Numbers ===

impl Numbers {
    /// Whether the catalog can be read whole at the moment.
    pub fn catalog(&self, is_whole: bool) {
        self.0.is_whole.store(is_whole.into(), Relaxed);
    }

    /// Services of others with routing tags; those with a way around the gate, and of these such as say so themselves.
    pub fn services(&self, services: usize, bypasses: usize, declared: usize) {
        for (number, value) in
            [(&self.0.services, services), (&self.0.bypasses, bypasses), (&self.0.declared, declared)]
        {
            number.store(value as u64, Relaxed);
        }
    }

    /// Instances of external services, and those of them that are known to be critical.
    pub fn external(&self, instances: usize, critical: usize) {
        self.0.external.store(instances as u64, Relaxed);
        self.0.critical.store(critical as u64, Relaxed);
    }
}

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let inner = &self.0;
        for (name, help, value) in [
            ("catalog_whole", "1 if the catalog could be read whole at the last attempt", &inner.is_whole),
            ("catalog_services", "Services of others that carry routing tags", &inner.services),
            ("catalog_bypasses", "Services that Traefik's catalog provider would route past the gate", &inner.bypasses),
            ("catalog_bypasses_declared", "Those of them that say so themselves", &inner.declared),
            ("external_instances", "Instances of external services", &inner.external),
            ("external_instances_critical", "Those of them that are critical", &inner.critical),
        ] {
            let gauge = ConstGauge::new(value.load(Relaxed));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}
