//! The task that keeps the gate's keys in step: as the leader it reads, writes what differs, and waits for a reason to look again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::de::IgnoredAny;
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use super::{Entry, GateKv, Tree, changes};
use crate::consul::{
    Client, ConsulConfig, ConsulError,
    client::{Fence, TxnError},
    lock, pairs,
};

/// After failures, and between two looks because of others.
const PAUSE: Duration = Duration::from_secs(1);
/// After failures that nobody but a person mends.
const LONG_PAUSE: Duration = Duration::from_secs(10);

/// The running task.
#[derive(Debug)]
pub struct Keeper {
    wanted: watch::Sender<Option<Arc<Tree>>>,
    task: JoinHandle<()>,
}

struct Task {
    client: Client,
    prefix: String,
    dry_run: bool,
    wanted: watch::Receiver<Option<Arc<Tree>>>,
    fence: Option<Fence>,
    /// What was logged last.
    fault: Option<String>,
}

// === impl Keeper ===

impl Keeper {
    /// Starts it. Nothing is asked of Consul before something is wanted.
    pub fn start(consul: &ConsulConfig, kv: &GateKv) -> Result<Self, ConsulError> {
        let (sender, wanted) = watch::channel(None);
        let client = Client::new(consul)?;
        let (prefix, dry_run) = (kv.prefix.clone(), consul.dry_run);
        let task = Task { client, prefix, dry_run, wanted, fence: None, fault: None };
        Ok(Self { wanted: sender, task: tokio::spawn(task.run()) })
    }

    /// From now on this is what the tree should hold. Only to be told when all is known.
    pub fn want(&self, tree: Tree) {
        self.wanted.send_if_modified(|present| {
            let differs = present.as_deref() != Some(&tree);
            if differs {
                *present = Some(Arc::new(tree));
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
        lock::while_owned(self.wanted.clone(), self.forever()).await;
        if let Some(fence) = self.fence.take() {
            lock::goodbye(&self.client, &fence).await;
        }
    }

    async fn forever(&mut self) {
        // Fails only when everything is over, which `run` sees as well.
        let _ = self.wanted.wait_for(Option::is_some).await;
        if self.dry_run {
            tracing::info!(prefix = %self.prefix, "dry run: the gate is not written to Consul's key-value store");
            std::future::pending::<()>().await;
        }
        // No name of a cluster holds a slash.
        let name = format!("gate/{}", self.prefix);
        loop {
            match lock::acquire(&self.client, &name).await {
                Ok(fence) => {
                    tracing::info!(key = %fence.key, "this sidecar writes the gate to Consul's key-value store");
                    self.fence = Some(fence.clone());
                    let client = self.client.clone();
                    tokio::select! {
                        () = lock::keep(&client, &fence) => {}
                        () = self.lead(&fence) => {}
                    }
                    tracing::warn!(key = %fence.key, "the lock is lost");
                    lock::release(&self.client, &fence).await;
                    self.fence = None;
                }
                Err(error) => {
                    self.say(Some(error.to_string()));
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Looks until the lock is lost.
    async fn lead(&mut self, fence: &Fence) {
        let mut source = self.wanted.clone();
        loop {
            let Some(wanted) = source.borrow_and_update().clone() else { return };
            match self.look(fence, &wanted).await {
                Ok(index) => {
                    self.say(None);
                    tokio::select! {
                        // An error is the end, which `run` sees as well.
                        _ = source.changed() => {}
                        () = self.moved(index) => {}
                    }
                }
                Err(TxnError::NotLeader) => return,
                Err(TxnError::Stale(why)) => {
                    tracing::debug!(why, "others wrote the gate's keys meanwhile");
                    sleep(PAUSE).await;
                }
                Err(TxnError::Failed(error)) => {
                    self.say(Some(error.to_string()));
                    sleep(PAUSE).await;
                }
                Err(TxnError::Refused(why)) => {
                    self.say(Some(why));
                    tokio::select! {
                        _ = source.changed() => {}
                        () = sleep(LONG_PAUSE) => {}
                    }
                }
            }
        }
    }

    /// Reads the tree and writes what differs; the index of the tree as it was read, or of our last write.
    async fn look(&self, fence: &Fence, wanted: &Tree) -> Result<u64, TxnError> {
        let (live, mut index) = self.read().await.map_err(TxnError::Failed)?;
        let transactions = changes(wanted, &live, &self.prefix).map_err(|key| {
            TxnError::Refused(format!(
                "key {key} stands inside the gate and is not ours: nothing is written; remove it, or choose another gate.kv.prefix"
            ))
        })?;
        let (n_transactions, mut n_keys) = (transactions.len(), 0);
        for operations in transactions {
            index = self.client.txn(fence, &operations).await?.max(index);
            n_keys += operations.len();
        }
        if n_keys > 0 {
            tracing::info!(transactions = n_transactions, keys = n_keys, prefix = %self.prefix, "gate written to Consul");
        }
        Ok(index)
    }

    async fn read(&self) -> Result<(BTreeMap<String, Entry>, u64), ConsulError> {
        let folder = format!("{}/", self.prefix);
        let (pairs, index) = pairs::read(&self.client, &folder).await?;
        let mut live = BTreeMap::new();
        for pair in pairs {
            let value = pair.bytes().ok().and_then(|bytes| String::from_utf8(bytes).ok());
            if let Some(key) = pair.key.strip_prefix(&folder) {
                live.insert(key.to_owned(), Entry { value, flags: pair.flags, modify_index: pair.modify_index });
            }
        }
        Ok((live, index))
    }

    /// Returns when somebody has changed the tree since.
    async fn moved(&self, index: u64) {
        sleep(PAUSE).await;
        let path = format!("/v1/kv/{}/", self.prefix);
        loop {
            match self.client.get_after::<IgnoredAny>(&path, &[("keys", "")], index).await {
                Ok(answer) if answer.index == index => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::debug!(%error, "the watch on the gate's keys failed");
                    sleep(LONG_PAUSE).await;
                }
            }
        }
    }

    /// A standing fault is logged once, and its end too.
    fn say(&mut self, fault: Option<String>) {
        match (&fault, &self.fault) {
            (Some(text), present) if present.as_ref() != Some(text) => tracing::error!("{text}"),
            (None, Some(_)) => tracing::info!("the gate can be written to Consul's key-value store again"),
            _ => {}
        }
        self.fault = fault;
    }
}
