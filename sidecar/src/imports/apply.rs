//! Writing a difference: what is refused or stale is not tried again at once, and never written over.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::{
    desired::Desired,
    diff::{Act, Change, Difference, Of, left},
    keeper::Keeper,
    object::{LiveService, LiveSlice},
    state::{State, Stuck},
};
use crate::kube::{
    fault::Fault,
    objects::{Objects, Written},
};

/// Services that are written at once.
const AT_ONCE: usize = 8;
/// When something is tried again: that somebody else changed meanwhile, that was refused (both doubled each time), that the API
/// server took and keeps as something else.
const STALE: Duration = Duration::from_millis(500);
const REFUSED: Duration = Duration::from_secs(1);
const UNSETTLED: Duration = Duration::from_secs(300);
/// So often somebody else may be faster before it is told.
const PATIENT: u32 = 4;

/// What became of one change.
enum Outcome {
    Service(Written<LiveService>),
    Slice(Written<LiveSlice>),
}

// === impl Keeper ===

impl Keeper {
    /// Writes a difference, but for what is stuck. An error is one of the way to the API server.
    pub(super) async fn apply(
        &self,
        state: &mut State,
        difference: Difference,
        desired: &Desired,
    ) -> Result<(), Fault> {
        let now = Instant::now();
        state.forget(&difference);
        let is_stuck = |change: &Change| {
            let stuck = state.stuck.get(&(change.kind, change.name.clone()));
            stuck.is_some_and(|stuck| stuck.until > now)
        };
        let mut waiting = Vec::new();
        for changes in difference.services.into_values() {
            let mut left = Vec::new();
            for change in changes {
                match (is_stuck(&change), &change) {
                    (false, _) => left.push(change),
                    // Without the Service nothing of it is made.
                    (true, Change { kind: Of::Service, act: Act::Create(_), .. }) => break,
                    (true, _) => {}
                }
            }
            if !left.is_empty() {
                waiting.push(left);
            }
        }
        let mut done = stream::iter(waiting).map(|changes| self.write(changes)).buffer_unordered(AT_ONCE);
        let (mut created, mut changed, mut removed, mut failures) = (0, 0, 0, 0);
        let mut failed = None;
        while let Some(outcomes) = done.next().await {
            for (change, outcome) in outcomes {
                let is_done = match outcome {
                    Ok(outcome) => self.settle(state, &change, outcome, desired),
                    Err(fault) => {
                        failed = Some(fault);
                        continue;
                    }
                };
                match change.act {
                    _ if !is_done => failures += 1,
                    Act::Create(_) => created += 1,
                    Act::Patch { .. } => changed += 1,
                    Act::Delete { .. } => removed += 1,
                }
            }
            if failed.is_some() {
                break;
            }
        }
        drop(done);
        if created + changed + removed > 0 {
            tracing::info!(cluster = %self.cluster.name, created, changed, removed, "written to Kubernetes");
        }
        self.numbers.update(&self.cluster.name, |it| {
            it.created += created;
            it.changed += changed;
            it.removed += removed;
            it.failures += failures;
        });
        if let Some(until) = state.stuck.values().map(|stuck| stuck.until).min() {
            state.look_again(until);
        }
        failed.map_or(Ok(()), Err)
    }

    /// Writes the changes of one Service in their order.
    async fn write(&self, changes: Vec<Change>) -> Vec<(Change, Result<Outcome, Fault>)> {
        let mut outcomes = Vec::new();
        for change in changes {
            let outcome = match change.kind {
                Of::Service => one(&self.services, &change).await.map(Outcome::Service),
                Of::Slice => one(&self.slices, &change).await.map(Outcome::Slice),
            };
            let is_end = match &outcome {
                Err(_) => true,
                // Slices beside a Service that is not ours would send its requests elsewhere.
                Ok(Outcome::Service(written)) => !matches!(written, Written::Done(_)),
                Ok(Outcome::Slice(_)) => false,
            };
            outcomes.push((change, outcome));
            if is_end {
                break;
            }
        }
        outcomes
    }

    /// Takes what a write has led to; whether it was done.
    fn settle(&self, state: &mut State, change: &Change, outcome: Outcome, desired: &Desired) -> bool {
        let name = &change.name;
        let (mut is_done, mut refused) = (true, None);
        match outcome {
            Outcome::Service(Written::Done(Some(live))) => state.present.put_service(live, &self.marks),
            Outcome::Slice(Written::Done(Some(live))) => state.present.put_slice(live),
            Outcome::Service(Written::Done(None)) => drop(state.present.services.remove(name)),
            Outcome::Slice(Written::Done(None)) => drop(state.present.slices.remove(name)),
            Outcome::Service(Written::Stale) | Outcome::Slice(Written::Stale) => is_done = false,
            Outcome::Service(Written::Refused(fault)) | Outcome::Slice(Written::Refused(fault)) => {
                (is_done, refused) = (false, Some(fault));
            }
        }
        let key = (change.kind, name.clone());
        let now = Instant::now();
        if is_done {
            match left(change, desired, &state.present, &self.marks) {
                None => drop(state.stuck.remove(&key)),
                // As an admission webhook may do it.
                Some(again) => {
                    let why = "the API server keeps something else than what was written; tried again".to_owned();
                    let until = now + UNSETTLED;
                    state.stuck.insert(key, Stuck { change: again, until, tries: 0, why: Some(why) });
                }
            }
            return true;
        }
        let tries = state.stuck.get(&key).map_or(0, |stuck| stuck.tries) + 1;
        let (pause, why) = match refused {
            Some(fault) => (doubled(REFUSED, tries), Some(fault.to_string())),
            None => {
                let why =
                    "one of this name is there that is not ours, or somebody else changes it all the time; tried again";
                (doubled(STALE, tries), (tries > PATIENT).then(|| why.to_owned()))
            }
        };
        state.stuck.insert(key, Stuck { change: change.clone(), until: now + pause, tries, why });
        false
    }
}

async fn one<T: serde::de::DeserializeOwned>(objects: &Objects, change: &Change) -> Result<Written<T>, Fault> {
    match &change.act {
        Act::Create(body) => objects.create(body).await,
        Act::Patch { uid, version, body } => objects.patch(&change.name, uid, version, body).await,
        Act::Delete { uid, version } => objects.delete(&change.name, uid, version).await,
    }
}

/// With each try twice as long, up to a minute or so.
fn doubled(first: Duration, tries: u32) -> Duration {
    first * 2_u32.saturating_pow(tries.min(6))
}
