//! How publishing stands, for Prometheus.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use prometheus_client::{encoding::DescriptorEncoder, metrics::MetricType};

/// The numbers, shared by who sets them and who shows them.
#[derive(Clone, Debug, Default)]
pub struct Numbers(Arc<All>);

#[derive(Debug, Default)]
struct All {
    generation: AtomicU64,
    pinned: AtomicBool,
    held_back: AtomicBool,
}

// === impl Numbers ===

impl Numbers {
    pub(super) fn set_published(&self, generation: u64) {
        self.0.generation.store(generation, Ordering::Relaxed);
        self.0.held_back.store(false, Ordering::Relaxed);
    }

    pub(super) fn set_pinned(&self, pinned: bool) {
        self.0.pinned.store(pinned, Ordering::Relaxed);
    }

    pub(super) fn set_held_back(&self, held_back: bool) {
        self.0.held_back.store(held_back, Ordering::Relaxed);
    }

    /// Writes them.
    pub fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let All { generation, pinned, held_back } = &*self.0;
        let numbers = [
            (
                "snapshot_generation",
                "The generation that this sidecar published last",
                generation.load(Ordering::Relaxed),
            ),
            (
                "snapshot_pinned",
                "Whether a person holds an older snapshot in force",
                pinned.load(Ordering::Relaxed).into(),
            ),
            (
                "snapshot_held_back",
                "Whether the policy that was read is another one than the pinned",
                held_back.load(Ordering::Relaxed).into(),
            ),
        ];
        for (name, help, number) in numbers {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&number)?;
        }
        Ok(())
    }
}
