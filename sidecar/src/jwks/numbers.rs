//! How fetching stands, for Prometheus. Labels are the remote providers of the policy, at most a hundred.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet},
    metrics::{MetricType, gauge::ConstGauge},
};

use super::held::{Counts, Held};

/// The numbers, shared by who sets them and who shows them.
#[derive(Clone, Debug, Default)]
pub struct Numbers(Arc<Mutex<BTreeMap<String, Arc<Held>>>>);

// === impl Numbers ===

impl Numbers {
    /// These are the providers now.
    pub(super) fn set(&self, providers: BTreeMap<String, Arc<Held>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = providers;
    }

    /// Writes them.
    pub fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let providers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if providers.is_empty() {
            return Ok(());
        }
        let counts: Vec<(&str, Counts)> = providers.iter().map(|(name, held)| (name.as_str(), held.counts())).collect();
        let help = "Whether the provider has keys that are in force";
        let mut family = encoder.encode_descriptor("jwks_up", help, None, MetricType::Gauge)?;
        for (provider, counts) in &counts {
            family.encode_family(&[("provider", *provider)])?.encode_gauge(&u64::from(counts.is_good))?;
        }
        let help = "Time since the provider's keys were fetched";
        let mut family = encoder.encode_descriptor("jwks_age_seconds", help, None, MetricType::Gauge)?;
        for (provider, counts) in &counts {
            if let Some(age) = counts.age {
                ConstGauge::new(age.as_secs_f64()).encode(family.encode_family(&[("provider", *provider)])?)?;
            }
        }
        let help = "Fetches of the provider's keys since the sidecar started";
        let mut family = encoder.encode_descriptor("jwks_fetches", help, None, MetricType::Counter)?;
        for (provider, counts) in &counts {
            for (result, number) in [("good", counts.fetched), ("failed", counts.failed)] {
                let labels = [("provider", *provider), ("result", result)];
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&number, None)?;
            }
        }
        Ok(())
    }
}
