//! The task that keeps Consul in step: as the leader it compares, writes what differs, and waits for a reason to look again.
//!
//! Level-triggered like the rest of the sidecar. What was read of the catalog is kept and carried on with our own writes, so
//! that one change costs one transaction and no reading; any doubt throws it away, and everything is read again.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle, time::Instant};

use super::{
    brake::{Hold, brake},
    client::{Client, Fence, TxnError},
    config::ConsulConfig,
    diff::{Difference, Kind, ServiceChange},
    drift::Drift,
    error::ConsulError,
    heartbeat,
    known::Known,
    kv::{self, Changed, Guard, Keeper, Kept},
    live::{Origin, Scope},
    lock,
    operation::Operation,
    permission,
    progress::{self, Progress},
    read,
    said::Said,
    status,
    told::{Book, Inbox, Source, Wanted},
    transactions::{Transaction, batches, transactions},
};
use crate::sync::{Group, SyncOptions};

/// Everything is read again after this long, whatever the watch says.
const SAFETY: Duration = Duration::from_secs(300);
/// How soon something that waits for a person is looked at again.
const WAITING: Duration = Duration::from_secs(5);
/// After failures, doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// How often one pass reads anew because somebody else wrote meanwhile.
const ROUNDS: usize = 4;

/// The running task.
#[derive(Debug)]
pub struct Follower {
    inbox: Arc<Inbox>,
    /// Rings when something was put into the inbox; `true` once there was anything.
    bell: watch::Sender<bool>,
    status: status::Shared,
    leads: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

struct Task {
    client: Arc<Client>,
    scope: Scope,
    config: ConsulConfig,
    inbox: Arc<Inbox>,
    bell: watch::Receiver<bool>,
    book: Book,
    fence: Option<Fence>,
    /// Whether there is one, for others.
    leads: watch::Sender<bool>,
    /// By service: what Consul did not take. It is not asked again until it is something else.
    refused: BTreeMap<String, (ServiceChange, String)>,
    said: Said,
    status: status::Shared,
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
        Self::start_in(config, Scope::new(options))
    }

    /// The same for another part of the catalog.
    pub fn start_in(config: &ConsulConfig, scope: Scope) -> Result<Self, ConsulError> {
        let client = Arc::new(Client::new(config)?);
        let (inbox, status) = (Arc::<Inbox>::default(), status::Shared::default());
        let (sender, bell) = watch::channel(false);
        let (leads, is_leader) = watch::channel(false);
        let task = Task {
            client,
            keys: config.kv_import.as_ref().map(|import| Keeper::new(import, &scope)),
            scope,
            config: config.clone(),
            inbox: Arc::clone(&inbox),
            bell,
            book: Book::default(),
            fence: None,
            leads,
            refused: BTreeMap::new(),
            said: Said::default(),
            status: status.clone(),
            backoff: FIRST_BACKOFF,
        };
        Ok(Self { inbox, bell: sender, status, leads: is_leader, task: tokio::spawn(task.run()) })
    }

    /// From now on this is what Consul should hold. Only to be told when the source was read whole.
    pub fn want(&self, wanted: Wanted) {
        self.inbox.replace(wanted);
        self.bell.send_replace(true);
    }

    /// The same for the services that changed: under these Consul names this is wanted, `None` for nothing, and all others
    /// stay as they were told. The first call is everything there is; only to be made when the source was read whole.
    pub fn change(&self, changes: impl IntoIterator<Item = (Arc<str>, Option<Group>)>, source: Source) {
        self.inbox.change(changes, source);
        self.bell.send_replace(true);
    }

    /// How it stands.
    pub fn status(&self) -> &status::Shared {
        &self.status
    }

    /// Whether this sidecar holds the lock: what must be done once by all of them is then its to do.
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }

    /// Gives back the lock, so that a standby takes over at once, and ends.
    pub async fn stop(self) {
        drop(self.bell);
        // It ends by itself; a panic in it was printed.
        let _ = self.task.await;
    }
}

// === impl Task ===

impl Task {
    async fn run(mut self) {
        lock::while_owned(self.bell.clone(), self.forever()).await;
        if let Some(fence) = self.fence.take() {
            lock::goodbye(&self.client, &fence).await;
        }
    }

    async fn forever(&mut self) {
        if self.scope.origin == Origin::Kubernetes {
            // Fails only when everything is over, which `run` sees as well.
            let _ = self.bell.wait_for(|rang| *rang).await;
        }
        loop {
            if self.config.dry_run {
                self.leads.send_replace(true);
                tracing::info!("dry run: nothing is written to Consul");
                self.work(None).await;
            }
            match lock::acquire(&self.client, &self.scope.lock()).await {
                Ok(fence) => {
                    self.said.no_fault();
                    self.lead(fence).await;
                }
                Err(error) => {
                    self.fault(&error);
                    self.back_off().await;
                }
            }
        }
    }

    async fn lead(&mut self, fence: Fence) {
        tracing::info!(key = %fence.key, "this sidecar keeps Consul in step");
        self.fence = Some(fence.clone());
        self.leads.send_replace(true);
        self.refused.clear();
        self.status.lock().leads = true;
        self.keys.iter_mut().for_each(Keeper::forget);
        let (client, scope, seconds) = (Arc::clone(&self.client), self.scope.clone(), self.config.dead_man_seconds);
        tokio::select! {
            () = lock::keep(&client, &fence) => {}
            () = heartbeat::keep(&client, &scope, seconds) => {}
            () = self.work(Some(&fence)) => {}
        }
        self.leads.send_replace(false);
        tracing::warn!("the lock is lost");
        {
            let mut status = self.status.lock();
            (status.leads, status.in_step) = (false, None);
        }
        lock::release(&self.client, &fence).await;
        self.fence = None;
    }

    /// Passes until the lock is lost.
    async fn work(&mut self, fence: Option<&Fence>) {
        let (mut known, mut drift) = (None, Drift::new(&self.client, &self.scope));
        let (client, mut bell) = (Arc::clone(&self.client), self.bell.clone());
        // The leader alone probes external services, so it leads before it knows what it wants.
        let _ = bell.wait_for(|rang| *rang).await;
        loop {
            bell.borrow_and_update();
            self.book.take(&self.inbox);
            let pause = match self.pass(fence, &mut known, &mut drift).await {
                Ok(Passed::NotLeader) => return,
                Ok(passed) => {
                    self.said.no_fault();
                    self.backoff = FIRST_BACKOFF;
                    if matches!(passed, Passed::InStep) { SAFETY } else { WAITING }
                }
                Err(error) => {
                    self.fault(&error);
                    known = None;
                    self.back_off().await;
                    continue;
                }
            };
            tokio::select! {
                // An error is the end, which `run` sees as well.
                _ = bell.changed() => {}
                () = drift.moved() => known = None,
                () = moved(self.keys.as_mut(), &client) => {}
                () = tokio::time::sleep(pause) => if pause == SAFETY { known = None },
            }
        }
    }

    fn fault(&mut self, error: &ConsulError) {
        self.said.fault(error);
        let mut status = self.status.lock();
        status.is_broken = true;
        status.failures += 1;
    }

    async fn back_off(&mut self) {
        tokio::time::sleep(self.backoff).await;
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
    }

    /// One look: what differs is written, what must wait is told. Without a fence nothing is written.
    ///
    /// What is known of the catalog is compared where something changed or was not settled; what was just read, everywhere.
    async fn pass(
        &mut self,
        fence: Option<&Fence>,
        place: &mut Option<Known>,
        drift: &mut Drift,
    ) -> Result<Passed, ConsulError> {
        let mut stale = String::new();
        for _ in 0..ROUNDS {
            let was_read = place.is_none();
            let (mut known, names) = match place.take() {
                Some(known) => (known, fence.is_some().then(|| self.book.open.clone())),
                None => (self.read(drift).await?, None),
            };
            let mut difference = self.book.look(&known, &self.scope, names.as_ref());
            let mut lines: BTreeSet<String> = difference.conflicts.iter().map(ToString::to_string).collect();
            let owned = || known.live.n_owned(&self.scope);
            let mut hold = brake(&difference, owned, self.book.source, self.config.max_removal_percent);
            let Some(fence) = fence else {
                lines.extend(hold.iter().map(ToString::to_string));
                let mut would: BTreeSet<_> = difference.instances().map(ToString::to_string).collect();
                if let Some(import) = &self.config.kv_import {
                    let keys = kv::would(&self.client, import, &self.scope, &known.live, &difference).await?;
                    would.extend(keys.operations.iter().map(ToString::to_string));
                    lines.extend(keys.notes.into_values());
                }
                self.said.lines(lines);
                self.said.would(would);
                *place = Some(known);
                self.stands(None, difference.contested.len());
                return Ok(Passed::InStep);
            };
            if let Some(held) = hold {
                match permission::take(&self.client, fence, &self.scope.lock(), held).await? {
                    Ok(()) => hold = None,
                    Err(line) => {
                        lines.insert(line);
                        difference = difference.without_removals();
                    }
                }
            }
            match self.apply(fence, &difference, &mut known, drift).await {
                Ok(0) => {}
                Ok(transactions) => self.wrote(&difference, transactions),
                Err(TxnError::NotLeader) => return Ok(Passed::NotLeader),
                Err(TxnError::Failed(error)) => return Err(error),
                Err(TxnError::Stale(why) | TxnError::Refused(why)) => {
                    stale = why;
                    continue;
                }
            }
            let left = self.book.look(&known, &self.scope, names.as_ref());
            let (source_is_empty, max_removal_percent) = (self.book.source.is_empty, self.config.max_removal_percent);
            let keys = match &mut self.keys {
                Some(keys) => {
                    let changed = Changed::new(&difference, was_read);
                    let guard = Guard { source_is_empty, max_removal_percent };
                    keys.keep(&self.client, fence, (&known.live, &self.scope), &changed, guard, &mut lines).await
                }
                None => Kept::InStep,
            };
            *place = Some(known);
            if keys == Kept::NotLeader {
                return Ok(Passed::NotLeader);
            }
            self.refused.retain(|name, _| left.services.iter().any(|it| it.service == *name));
            lines.extend(self.refused.iter().map(|(name, (_, why))| {
                format!("Consul does not take the registrations of {name}: {why}; correct its annotations")
            }));
            let settled = left.is_empty();
            self.book.leave_open(&left);
            let waits = hold.is_some() || !self.refused.is_empty();
            if settled || waits {
                self.said.lines(lines);
                self.stands(hold, left.contested.len());
                let in_step = settled && keys == Kept::InStep;
                return Ok(if in_step { Passed::InStep } else { Passed::Waiting });
            }
        }
        Err(ConsulError::passing("/v1/txn", format!("others write the same instances: {stale}"), "tried again"))
    }

    async fn read(&self, drift: &mut Drift) -> Result<Known, ConsulError> {
        drift.reads();
        let start = Instant::now();
        let live = read::live(&self.client, &self.scope, self.book.nodes()).await?;
        drift.was_read(start.elapsed());
        Ok(Known::new(live))
    }

    /// Writes a difference; returns how many transactions Consul took. On an error, what is known of the catalog is no
    /// longer true.
    async fn apply(
        &mut self,
        fence: &Fence,
        difference: &Difference,
        known: &mut Known,
        drift: &mut Drift,
    ) -> Result<usize, TxnError> {
        let instances = difference.instances().count();
        let (mut progress, mut n_taken) = (Progress::new(difference.services.len(), instances), 0);
        let synthetic = self.scope.node.clone();
        for batch in batches(difference) {
            let mut waiting = VecDeque::from(batch);
            while let Some(Transaction { services, mut operations }) = waiting.pop_front() {
                let of = |name: &String| {
                    let at = difference.services.binary_search_by(|it| it.service.cmp(name)).ok()?;
                    difference.services.get(at)
                };
                let is_refused = |it: &&ServiceChange| self.refused.get(&it.service).is_some_and(|(no, _)| no == *it);
                if services.iter().filter_map(of).any(|it| is_refused(&it)) {
                    // It is not asked again; those beside it are, each for itself.
                    let others = services.iter().filter_map(of).filter(|it| !is_refused(it));
                    others.for_each(|it| alone(it).for_each(|it| waiting.push_front(it)));
                    continue;
                }
                progress.note(&self.scope, services.len(), &mut operations);
                self.must_be_empty(&operations).await?;
                match self.client.txn(fence, &operations).await {
                    Ok(index) => {
                        drift.wrote(index);
                        known.apply(&operations, index);
                        n_taken += 1;
                        progress.written(services.len());
                    }
                    Err(TxnError::Refused(why)) if services.is_empty() => {
                        return Err(TxnError::Failed(ConsulError::standing("/v1/txn", why, "see Consul's own log")));
                    }
                    Err(TxnError::Refused(why)) => {
                        let is_alone = services.len() == 1;
                        for change in services.iter().filter_map(of) {
                            if is_alone {
                                self.refused.insert(change.service.clone(), (change.clone(), why.clone()));
                            } else {
                                // One of them is at fault: each for itself.
                                alone(change).for_each(|it| waiting.push_front(it));
                            }
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        if let Some(removal) = progress::removal(&self.scope, known.live.nodes.get(&synthetic)) {
            let operations = [removal];
            drift.wrote(self.client.txn(fence, &operations).await?);
            known.apply(&operations, 0);
        }
        Ok(n_taken)
    }

    /// A node goes with everything on it, and no transaction can say "if it is empty": what somebody registered there since it
    /// was read would go too. So it is read once more just before.
    async fn must_be_empty(&self, operations: &[Operation]) -> Result<(), TxnError> {
        for operation in operations {
            let Operation::DeleteNode { name, .. } = operation else { continue };
            let node = read::node(&self.client, name).await.map_err(TxnError::Failed)?;
            if node.is_some_and(|node| !node.services.is_empty()) {
                return Err(TxnError::Stale(format!("Consul node {name} is not empty any more")));
            }
        }
        Ok(())
    }

    /// Counts what was written, and says it.
    fn wrote(&self, difference: &Difference, transactions: usize) {
        let (added, removed) = difference.n_added_and_removed();
        let updated = difference.instances().filter(|it| matches!(it.kind, Kind::Update(_))).count();
        tracing::info!(transactions, added, updated, removed, "written to Consul");
        let mut status = self.status.lock();
        status.transactions += transactions as u64;
        status.added += added as u64;
        status.updated += updated as u64;
        status.removed += removed as u64;
    }

    /// Tells how it stands after a pass that ended well.
    fn stands(&self, hold: Option<Hold>, contested: usize) {
        let mut status = self.status.lock();
        status.in_step = Some(std::time::Instant::now());
        status.is_broken = false;
        status.held = hold.map_or(0, Hold::removals);
        status.refused = self.refused.len();
        status.contested = contested;
    }
}

/// Never, where there is no import.
async fn moved(keys: Option<&mut Keeper>, client: &Client) {
    match keys {
        Some(keys) => keys.moved(client).await,
        None => std::future::pending().await,
    }
}

/// A service's transactions without those of others, the last one first.
fn alone(change: &ServiceChange) -> impl Iterator<Item = Transaction> {
    let alone = Difference { services: vec![change.clone()], ..Difference::default() };
    transactions(&alone).into_iter().rev()
}
