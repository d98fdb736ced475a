//! How the sync stands, in numbers: for Prometheus, and for whoever asks whether the sidecar is ready. Labels are the clusters
//! of the configuration and fixed words.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::{
    consul::status::{Shared, Status},
    history, imports, jwks,
};

/// Two periods of the look that a leader takes at the whole catalog, whatever happens.
const STALE: Duration = Duration::from_secs(600);

/// The numbers, shared by who sets them and who shows them.
#[derive(Clone, Debug, Default)]
pub struct Numbers(Arc<Mutex<All>>);

#[derive(Debug, Default)]
struct All {
    clusters: BTreeMap<String, Cluster>,
    imports: imports::Numbers,
    errors: usize,
    warnings: usize,
    jwks: jwks::Numbers,
    publishing: history::Numbers,
    policy: PolicyCounts,
}

/// How the sources of policy stand.
#[derive(Clone, Debug, Default)]
pub struct PolicyCounts {
    /// Each list by its name, and whether it was read and can be. Names come from the configuration.
    pub sources: Vec<(String, bool)>,
    /// Whether each was read once.
    pub is_whole: bool,
    /// Entries that do not count, since another source speaks of the same; and of these those that were stricter.
    pub conflicts: usize,
    /// Those that would have refused what passes now.
    pub stricter: usize,
}

#[derive(Debug, Default)]
struct Cluster {
    counts: Counts,
    consul: Option<Shared>,
}

/// What is known of a cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Whether it was read whole.
    pub is_whole: bool,
    /// Whether it cannot be read at the moment.
    pub is_broken: bool,
    /// Services, synced or not.
    pub services: usize,
    /// Registrations.
    pub instances: usize,
    /// Those that are not ready.
    pub critical: usize,
    /// Services that an error keeps from being synced or exposed: annotations, or a route that is another's as well.
    pub closed: usize,
}

/// How a cluster stands, the worst first: what one glance should show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It, or Consul, cannot be read or written at the moment.
    Broken,
    /// It was not read whole yet, or its first reconcile is under way.
    Starting,
    /// Removals wait, or something is not taken: a person has to look.
    Waiting,
    /// Another sidecar writes.
    Standby,
    /// Consul holds what it should.
    InStep,
}

const STATES: [(State, &str); 5] = [
    (State::Broken, "broken"),
    (State::Starting, "starting"),
    (State::Waiting, "waiting"),
    (State::Standby, "standby"),
    (State::InStep, "in_step"),
];

// === impl Numbers ===

impl Numbers {
    /// A cluster of the configuration; with what its follower says, if Consul is kept in step.
    pub fn add(&self, cluster: &str, consul: Option<Shared>) {
        self.lock().clusters.insert(cluster.to_owned(), Cluster { counts: Counts::default(), consul });
    }

    /// What is known of it now.
    pub fn set(&self, cluster: &str, counts: Counts) {
        if let Some(cluster) = self.lock().clusters.get_mut(cluster) {
            cluster.counts = counts;
        }
    }

    /// How what is imported from Consul stands, for who does it.
    pub fn imports(&self) -> imports::Numbers {
        self.lock().imports.clone()
    }

    /// How much there is to be said about authored input and sources.
    pub fn set_notes(&self, errors: usize, warnings: usize) {
        let mut all = self.lock();
        (all.errors, all.warnings) = (errors, warnings);
    }

    /// How fetching the keys of JWT providers stands: set by who fetches, shown with the rest.
    pub fn jwks(&self) -> jwks::Numbers {
        self.lock().jwks.clone()
    }

    /// Which snapshot is in force: set by who publishes.
    pub fn publishing(&self) -> history::Numbers {
        self.lock().publishing.clone()
    }

    /// How the sources of policy stand.
    pub fn set_policy(&self, counts: PolicyCounts) {
        self.lock().policy = counts;
    }

    /// How Consul is kept in step with a cluster; `None` if it is not.
    pub fn consul(&self, cluster: &str) -> Option<Status> {
        self.lock().clusters.get(cluster)?.consul.as_ref().map(Shared::get)
    }

    /// Whether every source was read whole, and every catalog that is ours to keep was looked at lately; else why not.
    pub fn ready(&self) -> Result<(), String> {
        let all = self.lock();
        // Before anybody has said anything there is no source that could be waited for.
        if !all.policy.sources.is_empty() && !all.policy.is_whole {
            return Err("not every source of policy was read yet".to_owned());
        }
        for (name, cluster) in &all.clusters {
            if !cluster.counts.is_whole {
                return Err(format!("cluster {name} was not read whole yet"));
            }
            let status = cluster.status();
            match status.in_step {
                Some(at) if at.elapsed() > STALE => {
                    return Err(format!("Consul was in step with cluster {name} {} s ago", at.elapsed().as_secs()));
                }
                None if status.leads => return Err(format!("Consul is not in step with cluster {name} yet")),
                _ => {}
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        // Numbers have no state that could be half.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Cluster ===

impl Cluster {
    fn status(&self) -> Status {
        self.consul.as_ref().map(Shared::get).unwrap_or_default()
    }

    fn state(&self) -> State {
        let status = self.status();
        let waits = status.held + status.refused + status.contested > 0;
        match () {
            () if self.counts.is_broken || status.is_broken => State::Broken,
            () if !self.counts.is_whole => State::Starting,
            () if self.consul.is_none() => State::InStep,
            () if !status.leads && status.in_step.is_none() => State::Standby,
            () if status.in_step.is_none() => State::Starting,
            () if waits => State::Waiting,
            () => State::InStep,
        }
    }
}

// === impl Collector ===

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.lock();
        all.imports.encode(&mut encoder)?;
        let mut out = Out { encoder, clusters: &all.clusters };
        out.states()?;
        out.gauge("sync_source_up", "Whether the source was read whole and can be read", |it| {
            u64::from(it.counts.is_whole && !it.counts.is_broken)
        })?;
        out.gauge("sync_services", "Services of the cluster, synced or not", |it| it.counts.services as u64)?;
        out.gauge("sync_closed_services", "Services that an error keeps from being synced or exposed", |it| {
            it.counts.closed as u64
        })?;
        out.registrations()?;
        out.notes(all.errors, all.warnings)?;
        out.policy(&all.policy)?;
        out.gauge("consul_leader", "Whether this sidecar writes", |it| it.status().leads.into())?;
        out.gauge("consul_held_removals", "Instances whose removal waits", |it| it.status().held as u64)?;
        out.gauge("consul_refused_services", "Services that Consul does not take", |it| it.status().refused as u64)?;
        out.gauge("consul_contested_services", "Services whose place is taken by somebody else", |it| {
            it.status().contested as u64
        })?;
        out.counter("consul_transactions", "Transactions that Consul took", |it| it.transactions)?;
        out.counter("consul_failures", "Passes that failed", |it| it.failures)?;
        out.writes()?;
        out.ages()?;
        all.publishing.encode(&mut out.encoder)?;
        all.jwks.encode(&mut out.encoder)
    }
}

/// Writes one metric after the other.
struct Out<'a, 'b> {
    encoder: DescriptorEncoder<'a>,
    clusters: &'b BTreeMap<String, Cluster>,
}

impl Out<'_, '_> {
    fn gauge(&mut self, name: &str, help: &str, number: impl Fn(&Cluster) -> u64) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (name, cluster) in self.clusters {
            family.encode_family(&[("cluster", name.as_str())])?.encode_gauge(&number(cluster))?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, number: impl Fn(&Status) -> u64) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (name, cluster) in self.clusters {
            let number = number(&cluster.status());
            let labels = [("cluster", name.as_str())];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&number, None)?;
        }
        Ok(())
    }

    fn states(&mut self) -> fmt::Result {
        let help = "1 at how the cluster stands";
        let mut family = self.encoder.encode_descriptor("sync_state", help, None, MetricType::Gauge)?;
        for (name, cluster) in self.clusters {
            let present = cluster.state();
            for (state, word) in STATES {
                let labels = [("cluster", name.as_str()), ("state", word)];
                family.encode_family(&labels)?.encode_gauge(&u64::from(state == present))?;
            }
        }
        Ok(())
    }

    fn registrations(&mut self) -> fmt::Result {
        let help = "Registrations that are wanted";
        let mut family = self.encoder.encode_descriptor("sync_registrations", help, None, MetricType::Gauge)?;
        for (name, Cluster { counts, .. }) in self.clusters {
            let passing = counts.instances - counts.critical;
            for (status, number) in [("passing", passing), ("critical", counts.critical)] {
                let labels = [("cluster", name.as_str()), ("status", status)];
                family.encode_family(&labels)?.encode_gauge(&(number as u64))?;
            }
        }
        Ok(())
    }

    fn notes(&mut self, errors: usize, warnings: usize) -> fmt::Result {
        let help = "What is wrong with authored input or sources, as in the log";
        let mut family = self.encoder.encode_descriptor("sync_notes", help, None, MetricType::Gauge)?;
        for (severity, number) in [("error", errors), ("warning", warnings)] {
            family.encode_family(&[("severity", severity)])?.encode_gauge(&(number as u64))?;
        }
        Ok(())
    }

    fn policy(&mut self, counts: &PolicyCounts) -> fmt::Result {
        let help = "Whether the list was read and can be";
        let mut family = self.encoder.encode_descriptor("policy_source_up", help, None, MetricType::Gauge)?;
        for (name, is_up) in &counts.sources {
            family.encode_family(&[("source", name.as_str())])?.encode_gauge(&u64::from(*is_up))?;
        }
        let help = "Entries of policy that another source's entry hides; stricter: it refused more";
        let mut family = self.encoder.encode_descriptor("policy_conflicts", help, None, MetricType::Gauge)?;
        for (word, number) in [("stricter", counts.stricter), ("other", counts.conflicts)] {
            family.encode_family(&[("hidden", word)])?.encode_gauge(&(number as u64))?;
        }
        Ok(())
    }

    fn writes(&mut self) -> fmt::Result {
        let help = "Instances that were written";
        let mut family = self.encoder.encode_descriptor("consul_writes", help, None, MetricType::Counter)?;
        for (name, cluster) in self.clusters {
            let status = cluster.status();
            let kinds = [("added", status.added), ("updated", status.updated), ("removed", status.removed)];
            for (kind, number) in kinds {
                let labels = [("cluster", name.as_str()), ("kind", kind)];
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&number, None)?;
            }
        }
        Ok(())
    }

    /// Only where there was a reconcile: an age that nobody knows is no number.
    fn ages(&mut self) -> fmt::Result {
        let help = "Time since Consul was in step, or all was done that may be";
        let mut family = self.encoder.encode_descriptor("consul_in_step_age_seconds", help, None, MetricType::Gauge)?;
        for (name, cluster) in self.clusters {
            if let Some(at) = cluster.status().in_step {
                let labels = [("cluster", name.as_str())];
                ConstGauge::new(at.elapsed().as_secs_f64()).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;

    fn lines(numbers: &Numbers) -> Vec<String> {
        let mut registry = Registry::with_prefix("portcullis");
        registry.register_collector(Box::new(numbers.clone()));
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn state(numbers: &Numbers) -> String {
        let found = lines(numbers)
            .into_iter()
            .filter(|line| line.starts_with("portcullis_sync_state{") && line.ends_with(" 1"));
        let [line] = <[String; 1]>::try_from(found.collect::<Vec<_>>()).unwrap();
        line.split("state=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    }

    #[test]
    fn one_state_at_a_time_says_what_is_the_matter() {
        let (numbers, status) = (Numbers::default(), Shared::default());
        numbers.add("east", Some(status.clone()));
        assert_eq!((state(&numbers).as_str(), numbers.ready().is_ok()), ("starting", false));
        let counts = Counts { is_whole: true, is_broken: false, services: 3, instances: 5, critical: 2, closed: 1 };
        numbers.set("east", counts);
        assert_eq!((state(&numbers).as_str(), numbers.ready().is_ok()), ("standby", true));
        status.lock().leads = true;
        assert_eq!((state(&numbers).as_str(), numbers.ready().is_ok()), ("starting", false));
        status.lock().in_step = Some(std::time::Instant::now());
        assert_eq!((state(&numbers).as_str(), numbers.ready().is_ok()), ("in_step", true));
        status.lock().held = 4;
        assert_eq!(state(&numbers), "waiting");
        status.lock().is_broken = true;
        assert_eq!(state(&numbers), "broken");
        status.lock().is_broken = false;
        numbers.set("east", Counts { is_broken: true, ..counts });
        assert_eq!(state(&numbers), "broken");
    }

    #[test]
    fn every_number_is_there_with_its_cluster() {
        let (numbers, status) = (Numbers::default(), Shared::default());
        numbers.add("east", Some(status.clone()));
        numbers.add("west", None);
        numbers.set(
            "east",
            Counts { is_whole: true, is_broken: false, services: 3, instances: 5, critical: 2, closed: 1 },
        );
        numbers.set_notes(1, 2);
        let sources = vec![("consul: mesh".to_owned(), false)];
        numbers.set_policy(PolicyCounts { sources, is_whole: true, conflicts: 2, stricter: 1 });
        status.lock().removed = 7;
        let found = lines(&numbers);
        for line in [
            "portcullis_sync_source_up{cluster=\"east\"} 1",
            "portcullis_sync_source_up{cluster=\"west\"} 0",
            "portcullis_sync_services{cluster=\"east\"} 3",
            "portcullis_sync_registrations{cluster=\"east\",status=\"passing\"} 3",
            "portcullis_sync_registrations{cluster=\"east\",status=\"critical\"} 2",
            "portcullis_sync_notes{severity=\"error\"} 1",
            "portcullis_sync_closed_services{cluster=\"east\"} 1",
            "portcullis_policy_source_up{source=\"consul: mesh\"} 0",
            "portcullis_policy_conflicts{hidden=\"stricter\"} 1",
            "portcullis_consul_leader{cluster=\"east\"} 0",
            "portcullis_consul_writes_total{cluster=\"east\",kind=\"removed\"} 7",
            "portcullis_consul_transactions_total{cluster=\"east\"} 0",
            "portcullis_consul_held_removals{cluster=\"east\"} 0",
        ] {
            assert!(found.iter().any(|it| it == line), "{line} in:\n{}", found.join("\n"));
        }
        assert!(!found.iter().any(|line| line.starts_with("portcullis_consul_in_step_age_seconds{")));
    }
}
