//! What the task of one cluster knows while it leads, and how that follows from what its sources say. Pure but for the clock.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::{
    config::ToKubernetes,
    desired::{Desired, desired},
    diff::{Change, Difference, Of, Present},
    object::{LiveService, LiveSlice, Marks},
};
use crate::{consul::Catalog, kube::objects::Seen, sync::Severity};

/// How many objects that are refused are named.
const NAMED: usize = 10;

/// What is known while we lead.
pub(super) struct State {
    /// What Consul leads to; `None` before its list was read whole.
    pub(super) desired: Option<Desired>,
    /// Why Consul cannot be read at the moment.
    pub(super) broken: Option<String>,
    pub(super) services: Half,
    pub(super) slices: Half,
    pub(super) present: Present,
    pub(super) stuck: BTreeMap<(Of, String), Stuck>,
    pub(super) said: BTreeSet<(Severity, String)>,
    /// When to look again although nothing is said.
    pub(super) due: Option<Instant>,
}

/// How reading one kind of objects stands.
#[derive(Default)]
pub(super) struct Half {
    is_whole: bool,
    broken: Option<String>,
}

/// A change that is not tried at the moment.
pub(super) struct Stuck {
    pub(super) change: Change,
    pub(super) until: Instant,
    pub(super) tries: u32,
    /// Worth a line.
    pub(super) why: Option<String>,
}

/// What the sources say.
pub(super) enum Said {
    Consul(Catalog),
    Services(Seen<LiveService>),
    Slices(Seen<LiveSlice>),
}

// === impl State ===

impl State {
    pub(super) fn new() -> Self {
        Self {
            desired: None,
            broken: None,
            services: Half::default(),
            slices: Half::default(),
            present: Present::default(),
            stuck: BTreeMap::new(),
            said: BTreeSet::new(),
            due: None,
        }
    }

    pub(super) fn take(&mut self, said: Said, cluster: &str, config: &ToKubernetes, marks: &Marks) {
        match said {
            Said::Consul(Catalog::Whole { registrations, unusable }) => {
                self.desired = Some(desired(&registrations, &unusable, cluster, config));
                self.broken = None;
            }
            Said::Consul(Catalog::Broken(why)) => {
                self.broken = Some(format!("{why}; what is in Kubernetes stays as it is"));
            }
            Said::Services(seen) => self.take_service(seen, marks),
            Said::Slices(seen) => self.take_slice(seen),
        }
    }

    fn take_service(&mut self, seen: Seen<LiveService>, marks: &Marks) {
        match seen {
            Seen::Whole(all) => {
                self.services = Half { is_whole: true, broken: None };
                self.present.services.clear();
                for live in all {
                    self.present.put_service(live, marks);
                }
            }
            Seen::There(live) => self.present.put_service(live, marks),
            Seen::Gone(live) => self.present.lose_service(&live),
            Seen::Broken(why) => self.services = Half { is_whole: false, broken: Some(why) },
        }
    }

    fn take_slice(&mut self, seen: Seen<LiveSlice>) {
        match seen {
            Seen::Whole(all) => {
                self.slices = Half { is_whole: true, broken: None };
                self.present.slices.clear();
                for live in all {
                    self.present.put_slice(live);
                }
            }
            Seen::There(live) => self.present.put_slice(live),
            Seen::Gone(live) => self.present.lose_slice(&live),
            Seen::Broken(why) => self.slices = Half { is_whole: false, broken: Some(why) },
        }
    }

    pub(super) fn broken_lines(&self) -> BTreeSet<(Severity, String)> {
        let all = [&self.broken, &self.services.broken, &self.slices.broken];
        all.into_iter().flatten().map(|line| (Severity::Error, line.clone())).collect()
    }

    pub(super) fn stuck_lines(&self) -> impl Iterator<Item = String> {
        let all: Vec<_> = self.stuck.values().filter_map(|it| Some((&it.change, it.why.as_ref()?))).collect();
        let more = all.len().saturating_sub(NAMED);
        let more = (more > 0).then(|| format!("{more} more objects are not as they should be"));
        let lines: Vec<_> = all.into_iter().take(NAMED).map(|(change, why)| format!("{change}: {why}")).collect();
        lines.into_iter().chain(more)
    }

    /// What is to be written no more is not stuck.
    pub(super) fn forget(&mut self, difference: &Difference) {
        let changes = difference.services.values().flatten();
        let changes: BTreeMap<_, _> = changes.map(|change| ((change.kind, change.name.as_str()), change)).collect();
        self.stuck.retain(|(kind, name), stuck| {
            changes.get(&(*kind, name.as_str())).is_some_and(|change| change.is_same(&stuck.change))
        });
    }

    pub(super) fn look_again(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

impl Half {
    pub(super) fn stands(&self) -> bool {
        self.is_whole && self.broken.is_none()
    }
}
