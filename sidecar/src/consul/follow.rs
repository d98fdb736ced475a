//! The task that keeps Consul in step: as the leader it compares, writes what differs, and waits for a reason to look again.
//!
//! Level-triggered like the rest of the sidecar. What was read of the catalog is kept and carried on with our own writes, so
//! that one change costs one transaction and no reading; any doubt throws it away, and everything is read again.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    brake::brake,
    client::{Client, Fence, TxnError},
    config::ConsulConfig,
    diff::{Difference, Kind, ServiceChange, diff},
    drift::Drift,
    error::ConsulError,
    heartbeat,
    kv::{self, Changed, Guard, Keeper, Kept},
    live::{Live, Scope},
    lock, permission, read,
    said::Said,
    transactions::{Transaction, transactions},
};
use crate::sync::{Registration, SyncOptions};

/// Everything is read again after this long, whatever the watch says.
const SAFETY: Duration = Duration::from_secs(300);
/// How soon something that waits for a person is looked at again.
const WAITING: Duration = Duration::from_secs(5);
/// After failures, doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// How often one pass reads anew because somebody else wrote meanwhile.
const ROUNDS: usize = 4;
/// How long giving back the lock may take at the end.
const GOODBYE: Duration = Duration::from_secs(2);

/// What Consul should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// All registrations of our cluster.
    pub registrations: Vec<Registration>,
    /// Whether the source held neither a Service nor a Node: then nothing is removed.
    pub source_is_empty: bool,
}

/// The running task.
#[derive(Debug)]
pub struct Follower {
    wanted: watch::Sender<Option<Arc<Wanted>>>,
    task: JoinHandle<()>,
}

struct Task {
    client: Arc<Client>,
    scope: Scope,
    config: ConsulConfig,
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    fence: Option<Fence>,
    /// By service: what Consul did not take. It is not asked again until it is something else.
    refused: BTreeMap<String, (ServiceChange, String)>,
    said: Said,
    backoff: Duration,
    /// With `kvImport`.
    keys: Option<Keeper>,
}

/// How a pass ended.
enum Passed {
    /// The catalog is as wanted.
    InStep,
    /// But for what waits for a person.
    Waiting,
    /// Somebody else has the lock, or nobody.
    NotLeader,
}

// === impl Follower ===

impl Follower {
    /// Starts it. Nothing is asked of Consul before something is wanted.
    pub fn start(config: &ConsulConfig, options: &SyncOptions) -> Result<Self, ConsulError> {
        let client = Arc::new(Client::new(config)?);
        let (sender, wanted) = watch::channel(None);
        let scope = Scope::new(options);
        let task = Task {
            client,
            keys: config.kv_import.as_ref().map(|import| Keeper::new(import, &scope)),
            scope,
            config: config.clone(),
            wanted,
            fence: None,
            refused: BTreeMap::new(),
            said: Said::default(),
            backoff: FIRST_BACKOFF,
        };
        Ok(Self { wanted: sender, task: tokio::spawn(task.run()) })
    }

    /// From now on this is what Consul should hold. Only to be told when the source was read whole.
    pub fn want(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|present| {
            let differs = present.as_deref() != Some(&wanted);
            if differs {
                *present = Some(Arc::new(wanted));
            }
            differs
        });
    }

    /// Gives back the lock, so that a standby takes over at once, and ends.
    pub async fn stop(self) {
        drop(self.wanted);
        // It ends by itself; a panic in it was printed.
        let _ = self.task.await;
    }
}

// === impl Task ===

impl Task {
    async fn run(mut self) {
        let mut wanted = self.wanted.clone();
        let end = async move { while wanted.changed().await.is_ok() {} };
        tokio::select! {
            () = end => {}
            () = self.forever() => {}
        }
        if let Some(fence) = self.fence.take() {
            // Out of time is fine: the session ends by itself.
            let _ = timeout(GOODBYE, lock::release(&self.client, &fence)).await;
        }
    }

    async fn forever(&mut self) {
        // Fails only when everything is over, which `run` sees as well.
        let _ = self.wanted.wait_for(Option::is_some).await;
        loop {
            if self.config.dry_run {
                tracing::info!("dry run: nothing is written to Consul");
                self.work(None).await;
            }
            match lock::acquire(&self.client, &self.scope.cluster).await {
                Ok(fence) => {
                    self.said.no_fault();
                    self.lead(fence).await;
                }
                Err(error) => {
                    self.said.fault(&error);
                    self.back_off().await;
                }
            }
        }
    }

    async fn lead(&mut self, fence: Fence) {
        tracing::info!(key = %fence.key, "this sidecar keeps Consul in step");
        self.fence = Some(fence.clone());
        self.refused.clear();
        self.keys.iter_mut().for_each(Keeper::forget);
        let (client, scope, seconds) = (Arc::clone(&self.client), self.scope.clone(), self.config.dead_man_seconds);
        tokio::select! {
            () = lock::keep(&client, &fence) => {}
            () = heartbeat::keep(&client, &scope, seconds) => {}
            () = self.work(Some(&fence)) => {}
        }
        tracing::warn!("the lock is lost");
        lock::release(&self.client, &fence).await;
        self.fence = None;
    }

    /// Passes until the lock is lost.
    async fn work(&mut self, fence: Option<&Fence>) {
        let (mut live, mut drift) = (None, Drift::new(&self.scope));
        let (client, mut source) = (Arc::clone(&self.client), self.wanted.clone());
        loop {
            let Some(wanted) = source.borrow_and_update().clone() else { return };
            let pause = match self.pass(fence, &wanted, &mut live, &mut drift).await {
                Ok(Passed::NotLeader) => return,
                Ok(passed) => {
                    self.said.no_fault();
                    self.backoff = FIRST_BACKOFF;
                    if matches!(passed, Passed::InStep) { SAFETY } else { WAITING }
                }
                Err(error) => {
                    self.said.fault(&error);
                    live = None;
                    self.back_off().await;
                    continue;
                }
            };
            tokio::select! {
                // An error is the end, which `run` sees as well.
                _ = source.changed() => {}
                () = drift.moved(&client) => live = None,
                () = moved(self.keys.as_mut(), &client) => {}
                () = tokio::time::sleep(pause) => if pause == SAFETY { live = None },
            }
        }
    }

    async fn back_off(&mut self) {
        tokio::time::sleep(self.backoff).await;
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
    }

    /// One look: what differs is written, what must wait is told. Without a fence nothing is written.
    async fn pass(
        &mut self,
        fence: Option<&Fence>,
        wanted: &Wanted,
        known: &mut Option<Live>,
        drift: &mut Drift,
    ) -> Result<Passed, ConsulError> {
        let mut stale = String::new();
        for _ in 0..ROUNDS {
            let was_read = known.is_none();
            let mut live = match known.take() {
                Some(live) => live,
                None => self.read(wanted, drift).await?,
            };
            let mut difference = diff(&wanted.registrations, &live, &self.scope);
            let mut lines: BTreeSet<String> = difference.conflicts.iter().map(ToString::to_string).collect();
            let owned = live.n_owned(&self.scope);
            let mut hold = brake(&difference, owned, wanted.source_is_empty, self.config.max_removal_percent);
            let Some(fence) = fence else {
                lines.extend(hold.iter().map(ToString::to_string));
                let mut would: BTreeSet<_> = difference.instances().map(ToString::to_string).collect();
                if let Some(import) = &self.config.kv_import {
                    let keys = kv::would(&self.client, import, &self.scope, &live, &difference).await?;
                    would.extend(keys.operations.iter().map(ToString::to_string));
                    lines.extend(keys.notes.into_values());
                }
                self.said.lines(lines);
                self.said.would(would);
                *known = Some(live);
                return Ok(Passed::InStep);
            };
            if let Some(held) = hold {
                match permission::take(&self.client, fence, &self.scope.cluster, held).await? {
                    Ok(()) => hold = None,
                    Err(line) => {
                        lines.insert(line);
                        difference = difference.without_removals();
                    }
                }
            }
            match self.apply(fence, &difference, &mut live).await {
                Ok(0) => {}
                Ok(transactions) => say_written(&difference, transactions),
                Err(TxnError::NotLeader) => return Ok(Passed::NotLeader),
                Err(TxnError::Failed(error)) => return Err(error),
                Err(TxnError::Stale(why) | TxnError::Refused(why)) => {
                    stale = why;
                    continue;
                }
            }
            let left = diff(&wanted.registrations, &live, &self.scope);
            let (source_is_empty, max_removal_percent) = (wanted.source_is_empty, self.config.max_removal_percent);
            let keys = match &mut self.keys {
                Some(keys) => {
                    let changed = Changed::new(&difference, was_read);
                    let guard = Guard { source_is_empty, max_removal_percent };
                    keys.keep(&self.client, fence, (&live, &self.scope), &changed, guard, &mut lines).await
                }
                None => Kept::InStep,
            };
            *known = Some(live);
            if keys == Kept::NotLeader {
                return Ok(Passed::NotLeader);
            }
            self.refused.retain(|name, _| left.services.iter().any(|it| it.service == *name));
            lines.extend(self.refused.iter().map(|(name, (_, why))| {
                format!("Consul does not take the registrations of {name}: {why}; correct its annotations")
            }));
            let settled = left.is_empty();
            let waits = hold.is_some() || !self.refused.is_empty();
            if settled || waits {
                self.said.lines(lines);
                let in_step = settled && keys == Kept::InStep;
                return Ok(if in_step { Passed::InStep } else { Passed::Waiting });
            }
        }
        Err(ConsulError::passing("/v1/txn", format!("others write the same instances: {stale}"), "tried again"))
    }

    async fn read(&self, wanted: &Wanted, drift: &mut Drift) -> Result<Live, ConsulError> {
        let start = Instant::now();
        let live = read::live(&self.client, &self.scope, &wanted.registrations).await?;
        drift.was_read(start.elapsed());
        Ok(live)
    }

    /// Writes a difference; returns how many transactions Consul took. On an error, what is known of the catalog is no
    /// longer true.
    async fn apply(&mut self, fence: &Fence, difference: &Difference, live: &mut Live) -> Result<usize, TxnError> {
        let mut asked = difference.clone();
        asked.services.retain(|change| self.refused.get(&change.service).is_none_or(|(refused, _)| refused != change));
        let (mut waiting, mut n_taken) = (VecDeque::from(transactions(&asked)), 0);
        while let Some(transaction) = waiting.pop_front() {
            let Transaction { services, operations } = &transaction;
            match self.client.txn(fence, operations).await {
                Ok(index) => {
                    live.apply(operations, index);
                    n_taken += 1;
                }
                Err(TxnError::Refused(why)) if services.is_empty() => {
                    return Err(TxnError::Failed(ConsulError::standing("/v1/txn", why, "see Consul's own log")));
                }
                Err(TxnError::Refused(why)) => {
                    let is_alone = services.len() == 1;
                    let changes = asked.services.iter().rev().filter(|it| services.contains(&it.service));
                    for change in changes {
                        if is_alone {
                            self.refused.insert(change.service.clone(), (change.clone(), why.clone()));
                        } else {
                            // One of them is at fault: each for itself.
                            let alone = Difference { services: vec![change.clone()], ..Difference::default() };
                            transactions(&alone).into_iter().rev().for_each(|it| waiting.push_front(it));
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(n_taken)
    }
}

/// Never, where there is no import.
async fn moved(keys: Option<&mut Keeper>, client: &Client) {
    match keys {
        Some(keys) => keys.moved(client).await,
        None => std::future::pending().await,
    }
}

fn say_written(difference: &Difference, transactions: usize) {
    let (added, removed) = difference.n_added_and_removed();
    let updated = difference.instances().filter(|it| matches!(it.kind, Kind::Update(_))).count();
    tracing::info!(transactions, added, updated, removed, "written to Consul");
}
