//! Reads the keys of the import, keeps what was read, writes what differs, and notices when somebody else did.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    time::Duration,
};

use tokio::time::Instant;

use super::{Entries, Entry, KeyDifference, KvImport, diff, digest, key, wanted};
use crate::consul::{
    client::{Client, Fence, TxnError},
    diff::{Difference, Kind},
    error::ConsulError,
    live::{Live, Scope},
    operation::Operation,
    pairs, permission,
    transactions::{alone, transactions},
};

/// Between two reads because of others, at least.
const PAUSE: Duration = Duration::from_secs(1);
/// With a look at everything they are read again after this long, whatever the watch says.
const SAFETY: Duration = Duration::from_secs(300);
/// After a failed query.
const RETRY: Duration = Duration::from_secs(5);
/// How often one look reads anew because somebody else wrote meanwhile.
const ROUNDS: usize = 4;

/// What is known of the keys.
#[derive(Debug)]
pub(in crate::consul) struct Keeper {
    folder: String,
    /// `None`: to be read.
    entries: Option<Entries>,
    /// Index of the folder as it was last seen, and of our own last write.
    index: u64,
    written: u64,
    read_at: Instant,
    /// Whether everything has to be looked at: the last look did not come to its end.
    whole: bool,
    /// Keys whose services were taken out of the catalog by us, until a look has come to its end.
    explained: BTreeSet<String>,
    /// By key: the value that Consul did not take, and why. It is not asked again until it is another one.
    refused: BTreeMap<String, ([u8; 32], String)>,
    /// By key: why it stays as it is.
    notes: BTreeMap<String, String>,
}

/// How a look ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::consul) enum Kept {
    /// The keys are as wanted, but for what stays so until somebody changes it.
    InStep,
    /// Something is to be tried again soon.
    Waiting,
    /// Somebody else has the lock, or nobody.
    NotLeader,
}

/// Which services a pass has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::consul) struct Changed {
    /// Names; `None` for all that there are.
    services: Option<BTreeSet<String>>,
    /// Those that instances were taken from.
    removed: BTreeSet<String>,
}

/// What keeps a broken source from taking keys away.
#[derive(Clone, Copy, Debug)]
pub(in crate::consul) struct Guard {
    pub(in crate::consul) source_is_empty: bool,
    pub(in crate::consul) max_removal_percent: u8,
}

/// What would be done to the keys after the catalog has been changed so. Nothing is written.
pub async fn would(
    client: &Client,
    import: &KvImport,
    scope: &Scope,
    live: &Live,
    difference: &Difference,
) -> Result<KeyDifference, ConsulError> {
    let folder = import.folder(&scope.lock());
    let mut live = live.clone();
    for transaction in transactions(difference) {
        live.apply(&transaction.operations, 0);
    }
    let (entries, _) = read(client, &folder).await?;
    Ok(diff(&wanted(&live, scope, &folder, None), &entries, None))
}

// === impl Changed ===

impl Changed {
    /// From what a pass wrote. Where the catalog was read anew, others may have changed more.
    pub(in crate::consul) fn new(difference: &Difference, was_read: bool) -> Self {
        // An instance with another name has left a service that is not told here.
        let renamed = |kind: &Kind| matches!(kind, Kind::Update(parts) if parts.contains(&"name"));
        let is_known = !was_read && !difference.instances().any(|it| renamed(&it.kind));
        let names = difference.services.iter().map(|it| it.service.clone());
        let removed =
            difference.instances().filter(|it| it.kind == Kind::Remove).map(|it| it.service.service.to_string());
        Self { services: is_known.then(|| names.collect()), removed: removed.collect() }
    }
}

// === impl Keeper ===

impl Keeper {
    pub(in crate::consul) fn new(import: &KvImport, scope: &Scope) -> Self {
        Self {
            folder: import.folder(&scope.lock()),
            entries: None,
            index: 0,
            written: 0,
            read_at: Instant::now(),
            whole: true,
            explained: BTreeSet::new(),
            refused: BTreeMap::new(),
            notes: BTreeMap::new(),
        }
    }

    /// Reads everything again and asks again for what was refused: for a new leader.
    pub(in crate::consul) fn forget(&mut self) {
        self.entries = None;
        self.refused.clear();
    }

    /// Lets the keys follow the catalog as it is now; `lines` gets what a person has to see to.
    pub(in crate::consul) async fn keep(
        &mut self,
        client: &Client,
        fence: &Fence,
        catalog: (&Live, &Scope),
        changed: &Changed,
        guard: Guard,
        lines: &mut BTreeSet<String>,
    ) -> Kept {
        let mut kept = Err(TxnError::Stale(String::new()));
        for _ in 0..ROUNDS {
            kept = self.look(client, fence, catalog, changed, guard, lines).await;
            if !matches!(kept, Err(TxnError::Stale(_))) {
                break;
            }
        }
        lines.extend(self.notes.values().cloned());
        lines.extend(self.refused.iter().map(|(key, (_, why))| format!("Consul does not take key {key}: {why}")));
        match kept {
            Ok(kept) => kept,
            Err(TxnError::NotLeader) => Kept::NotLeader,
            Err(TxnError::Failed(error)) => {
                lines.insert(format!("the KV import waits: {error}"));
                Kept::Waiting
            }
            Err(TxnError::Stale(why) | TxnError::Refused(why)) => {
                lines.insert(format!("the KV import waits: others write the same keys: {why}; tried again"));
                Kept::Waiting
            }
        }
    }

    /// Returns when somebody else has changed the keys; from then on they count as not read. May be dropped and called again.
    pub(in crate::consul) async fn moved(&mut self, client: &Client) {
        tokio::time::sleep_until(self.read_at + PAUSE).await;
        let path = format!("/v1/kv/{}", self.folder);
        loop {
            // Names only: it answers to each of our own writes too.
            match client.get_after::<Vec<String>>(&path, &[("keys", ""), ("separator", "/")], self.index).await {
                Ok(answer) if self.is_known(answer.index, answer.value.as_deref().unwrap_or_default()) => {
                    self.index = answer.index;
                }
                Ok(_) => break,
                Err(error) => {
                    tracing::debug!(%error, "the watch on the imported keys failed");
                    self.index = 0;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        self.entries = None;
    }

    /// Whether these names at this index are what we have read or written. A change of a value just before a write of ours
    /// is seen with the next reading.
    fn is_known(&self, index: u64, names: &[String]) -> bool {
        let of_folder = names.iter().filter(|name| !name.ends_with('/'));
        (index == self.index || index == self.written)
            && self.entries.as_ref().is_some_and(|entries| entries.keys().eq(of_folder))
    }

    async fn look(
        &mut self,
        client: &Client,
        fence: &Fence,
        (live, scope): (&Live, &Scope),
        changed: &Changed,
        guard: Guard,
        lines: &mut BTreeSet<String>,
    ) -> Result<Kept, TxnError> {
        // Whatever goes wrong below, the next look is at everything.
        let whole = mem::replace(&mut self.whole, true) || self.entries.is_none();
        let only = if whole { None } else { changed.services.as_ref() };
        if only.is_none() && self.read_at.elapsed() >= SAFETY {
            self.entries = None;
        }
        let entries = match self.entries.take() {
            Some(entries) => entries,
            None => {
                let (entries, index) = read(client, &self.folder).await.map_err(TxnError::Failed)?;
                (self.index, self.read_at) = (index, Instant::now());
                entries
            }
        };
        let keys = |names: &BTreeSet<String>| names.iter().map(|name| key(&self.folder, name)).collect();
        let (looked_at, removed): (Option<BTreeSet<_>>, BTreeSet<_>) = (only.map(keys), keys(&changed.removed));
        self.explained.extend(removed);
        let mut found = diff(&wanted(live, scope, &self.folder, only), &entries, looked_at.as_ref());
        self.learn(&mut found, looked_at.as_ref());
        let mut waits = false;
        if let Some(hold) = found.hold(&self.explained, &entries, guard.source_is_empty, guard.max_removal_percent) {
            let permission = permission::take(client, fence, &scope.lock(), hold).await.map_err(TxnError::Failed)?;
            if let Err(line) = permission {
                waits = true;
                lines.insert(line);
                found = found.without_removals(&self.explained);
            }
        }
        self.entries = Some(self.write(client, fence, &found, entries).await?);
        self.explained.clear();
        self.whole = waits;
        Ok(if waits { Kept::Waiting } else { Kept::InStep })
    }

    /// Leaves out what Consul has refused already, and remembers the notes.
    fn learn(&mut self, found: &mut KeyDifference, looked_at: Option<&BTreeSet<String>>) {
        let is_old = |key: &String| looked_at.is_none_or(|keys| keys.contains(key));
        self.notes.retain(|key, _| !is_old(key));
        self.notes.append(&mut found.notes);
        let mut still = BTreeMap::new();
        found.operations.retain(|operation| {
            let Operation::SetKey { key, value, .. } = operation else { return true };
            let known = self.refused.remove_entry(key).filter(|(_, (refused, _))| *refused == digest(value));
            let is_new = known.is_none();
            still.extend(known);
            is_new
        });
        self.refused.retain(|key, _| !is_old(key));
        self.refused.append(&mut still);
    }

    /// Fenced like everything; gives back what the keys hold then.
    async fn write(
        &mut self,
        client: &Client,
        fence: &Fence,
        difference: &KeyDifference,
        mut entries: Entries,
    ) -> Result<Entries, TxnError> {
        let mut waiting = VecDeque::from(alone(&difference.operations));
        let mut n_written = 0;
        while let Some(operations) = waiting.pop_front() {
            match (client.txn(fence, &operations).await, operations.as_slice()) {
                (Ok(index), _) => {
                    self.written = self.written.max(index);
                    for operation in &operations {
                        apply(&mut entries, operation, index);
                    }
                    n_written += operations.len();
                }
                (Err(TxnError::Refused(why)), [Operation::SetKey { key, value, .. }]) => {
                    self.refused.insert(key.clone(), (digest(value), why));
                }
                // One of them is at fault: each for itself.
                (Err(TxnError::Refused(_)), [_, _, ..]) => {
                    operations.iter().rev().for_each(|it| waiting.push_front(vec![it.clone()]));
                }
                (Err(error), _) => return Err(error),
            }
        }
        if n_written > 0 {
            tracing::info!(keys = n_written, "written to Consul's key-value store");
        }
        Ok(entries)
    }
}

/// The keys directly in a folder, with the folder's index.
async fn read(client: &Client, folder: &str) -> Result<(Entries, u64), ConsulError> {
    let (pairs, index) = pairs::read(client, folder).await?;
    let mut entries = Entries::new();
    for pair in pairs {
        // What is in a further folder is none of ours.
        if pair.key.strip_prefix(folder).is_some_and(|name| !name.contains('/')) {
            let garbage =
                |error: base64::DecodeError| ConsulError::garbage(&format!("/v1/kv/{folder}"), error.to_string());
            let digest = digest(&pair.bytes().map_err(garbage)?);
            entries.insert(pair.key, Entry { flags: pair.flags, modify_index: pair.modify_index, digest });
        }
    }
    Ok((entries, index))
}

/// What the keys hold once Consul has accepted an operation.
fn apply(entries: &mut Entries, operation: &Operation, index: u64) {
    match operation {
        Operation::SetKey { key, value, flags, .. } => {
            entries.insert(key.clone(), Entry { flags: *flags, modify_index: index, digest: digest(value) });
        }
        Operation::DeleteKey { key, .. } => drop(entries.remove(key)),
        _ => {}
    }
}
