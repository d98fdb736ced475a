//! One kind in one scope: listed, then watched, for ever; told is what differs from what was told before.
//!
//! A list is streamed where the server does that (a watch that begins with all objects): then neither side has all of them in
//! memory at once, and the server answers from its cache. Where it does not, or does it badly, the list is read in pages.
//!
//! kube-runtime's watcher does the same but for what matters here: it does not say when a watch stands again after a
//! fault, it believes an empty list, and it has no bound.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use kube::{Client, api::WatchEvent, core::Status};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use super::{
    call::{MAX_OBJECTS, Pages, Streamed, Watching, is_end, key},
    cluster::ObjectKey,
    connection::Connection,
    fault::{Fault, Then},
    kinds::Kind,
    packed::Packed,
};
use crate::input::Change;

/// After failures, doubled each time, and shortened by up to a half so that not all come at once.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// A watch that lived for less without a word counts as a failure that is not worth one.
const SHORT: Duration = Duration::from_secs(1);
/// How long after an empty list the second one is asked for.
const SECOND_LOOK: Duration = Duration::from_secs(3);

/// How long the objects of a list that is streamed may come.
const STREAMED: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 45 });
/// How long a server that did not stream a list is not asked to.
const PAGED: Duration = Duration::from_secs(3_600);

/// What a watcher says.
#[derive(Debug)]
pub(super) enum Told {
    /// What differs from what was told before.
    Changes(Vec<Change>),
    /// Everything was told, and the watch stands.
    Stands,
    /// It does not, and why.
    Broken(String),
    /// The API server does not know the kind.
    Missing(String),
}

/// Where watchers say it, each under its own number.
pub(super) type Ears = mpsc::Sender<(usize, Told)>;

/// A kind in a scope.
pub(super) struct Watcher<K> {
    connection: Arc<Connection>,
    path: String,
    number: usize,
    ears: Ears,
    known: BTreeMap<Arc<ObjectKey>, Seen>,
    round: u64,
    keys: RandomState,
    doubted: Option<Instant>,
    backoff: Duration,
    /// Until when lists are read in pages.
    paged: Option<Instant>,
    kind: std::marker::PhantomData<fn() -> K>,
}

/// An object as it was told.
struct Seen {
    /// Its content as a number, by a secret of the process: nobody can write two objects that look alike.
    fingerprint: u64,
    /// The list that it was last in.
    round: u64,
}

// === impl Watcher ===

impl<K: Kind> Watcher<K> {
    /// Of all namespaces, or of one.
    pub(super) fn new(connection: &Arc<Connection>, namespace: Option<&str>, number: usize, ears: &Ears) -> Self {
        Self {
            connection: Arc::clone(connection),
            path: K::url_path(&(), namespace),
            number,
            ears: ears.clone(),
            known: BTreeMap::new(),
            round: 0,
            keys: RandomState::new(),
            doubted: None,
            backoff: FIRST_BACKOFF,
            paged: None,
            kind: std::marker::PhantomData,
        }
    }

    /// Until nobody listens.
    pub(super) async fn run(mut self) {
        let mut version = None;
        while !self.ears.is_closed() {
            let start = Instant::now();
            let Err(fault) = self.once(&mut version).await else {
                if start.elapsed() < SHORT {
                    self.back_off().await;
                } else {
                    self.backoff = FIRST_BACKOFF;
                }
                continue;
            };
            match fault.then {
                Then::Resume => {}
                Then::Renew => self.connection.renew().await,
                Then::Relist | Then::LookAgain | Then::Missing => version = None,
            }
            let why = fault.to_string();
            self.tell(if fault.then == Then::Missing { Told::Missing(why) } else { Told::Broken(why) }).await;
            if fault.then == Then::LookAgain {
                sleep(SECOND_LOOK).await;
            } else {
                self.back_off().await;
            }
        }
    }

    /// A watch from its beginning to its end, behind a list if there is no version to start from.
    async fn once(&mut self, version: &mut Option<String>) -> Result<(), Fault> {
        let client = self.connection.client().await?;
        let mut watching = match &*version {
            Some(version) => Watching::<K>::start(&client, &self.path, version).await?,
            None => self.list(&client, version).await?,
        };
        self.tell(Told::Stands).await;
        loop {
            match watching.next().await {
                Ok(Some(events)) => {
                    self.take(events, version).await?;
                    self.backoff = FIRST_BACKOFF;
                }
                Ok(None) => return Ok(()),
                // Nothing is missed yet: whether the server is gone shows when the watch is started again.
                Err(fault) if fault.then == Then::Renew => {
                    self.connection.renew().await;
                    return Ok(());
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Tells everything that differs; returns a watch from there on.
    async fn list(&mut self, client: &Client, version: &mut Option<String>) -> Result<Watching<K>, Fault> {
        if self.paged.is_none_or(|until| until <= Instant::now()) {
            match self.stream(client, version).await {
                Ok(Some(watching)) => return Ok(watching),
                Ok(None) => {}
                Err(fault) if fault.then == Then::Relist => self.page(&fault),
                Err(fault) => return Err(fault),
            }
        }
        let from = version.insert(self.pages(client).await?);
        Watching::start(client, &self.path, from).await
    }

    /// Lists by a watch that begins with everything. `None` if the server does not do that.
    async fn stream(&mut self, client: &Client, version: &mut Option<String>) -> Result<Option<Watching<K>>, Fault> {
        let mut watching = match Watching::streamed(client, &self.path).await? {
            Streamed::Begins(watching) => watching,
            Streamed::Refused(fault) => {
                // A right that is missing may be given.
                if fault.then == Then::Relist {
                    self.page(&fault);
                }
                return Ok(None);
            }
        };
        self.round += 1;
        let (mut n_told, until) = (0, Instant::now() + STREAMED);
        loop {
            // Only the waiting ends: what is known is told.
            let events = timeout_at(until, watching.next()).await;
            let events = events.map_err(|_| Fault::garbage("a streamed list without an end"))??;
            let events = events.ok_or_else(|| Fault::garbage("a streamed list that breaks off"))?;
            n_told += events.len();
            if n_told > MAX_OBJECTS {
                return Err(Fault::garbage(format!("a streamed list of more than {MAX_OBJECTS} objects")));
            }
            let (mut events, mut changes) = (events.into_iter(), Vec::new());
            let end = self.until_end(&mut events, &mut changes);
            self.changes(changes).await;
            let Some(end) = end? else { continue };
            self.ends("streamed").await?;
            *version = Some(end);
            self.take(events, version).await?;
            return Ok(Some(watching));
        }
    }

    /// Takes events of a list up to its end, and returns its version if that is among them. Nothing goes before the end.
    fn until_end(
        &mut self,
        events: &mut impl Iterator<Item = WatchEvent<K>>,
        changes: &mut Vec<Change>,
    ) -> Result<Option<String>, Fault> {
        for event in events {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => changes.extend(self.see(object)?),
                WatchEvent::Deleted(object) => {
                    if let Some(seen) = self.known.get_mut(&key(&object)?) {
                        seen.round = 0;
                    }
                }
                WatchEvent::Bookmark(bookmark) if is_end(&bookmark) => {
                    let version = Some(bookmark.metadata.resource_version).filter(|version| !version.is_empty());
                    return match version {
                        Some(version) => Ok(Some(version)),
                        None => Err(Fault::garbage("a streamed list without a resourceVersion")),
                    };
                }
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => return Err(failed::<K>(&status)),
            }
        }
        Ok(None)
    }

    /// Lists in pages; returns where to watch from.
    async fn pages(&mut self, client: &Client) -> Result<String, Fault> {
        self.round += 1;
        let path = self.path.clone();
        let mut pages = Pages::<K>::new(client, &path);
        while let Some(page) = pages.next().await? {
            let mut changes = Vec::new();
            let seen = page.into_iter().try_for_each(|object| {
                changes.extend(self.see(object)?);
                Ok(())
            });
            self.changes(changes).await;
            seen?;
        }
        let version = pages.into_version().ok_or_else(|| Fault::garbage("a list without an end"))?;
        self.ends("in pages").await?;
        Ok(version)
    }

    /// Behind a whole list: what was not in it is gone.
    async fn ends(&mut self, how: &str) -> Result<(), Fault> {
        let round = self.round;
        let n_listed = self.known.values().filter(|seen| seen.round == round).count();
        self.believe(n_listed)?;
        tracing::info!(kind = %K::plural(&()), objects = n_listed, "listed, {how}");
        let mut gone = Vec::new();
        self.known.retain(|key, seen| {
            let is_there = seen.round == round;
            if !is_there {
                gone.push(K::change(Arc::clone(key), None));
            }
            is_there
        });
        self.changes(gone).await;
        Ok(())
    }

    /// From now on lists are read in pages, for a time.
    fn page(&mut self, fault: &Fault) {
        tracing::info!(kind = %K::plural(&()), why = fault.what, "the API server does not stream lists, they are read in pages");
        self.paged = Some(Instant::now() + PAGED);
    }

    /// An empty list of what was not empty is what a broken server or a proxy gives, too: only a second one is believed.
    fn believe(&mut self, n_listed: usize) -> Result<(), Fault> {
        if n_listed > 0 || self.known.is_empty() {
            self.doubted = None;
            return Ok(());
        }
        let since = *self.doubted.get_or_insert_with(Instant::now);
        if since.elapsed() < SECOND_LOOK {
            return Err(Fault::empty(self.known.len()));
        }
        self.doubted = None;
        Ok(())
    }

    /// What to tell of an object that is there.
    fn see(&mut self, object: K) -> Result<Option<Change>, Fault> {
        let key = key(&object)?;
        let object = Packed::of(object);
        let (fingerprint, round) = (self.keys.hash_one(object.text()), self.round);
        let (key, before) = match self.known.remove_entry(&key) {
            Some((key, before)) => (key, Some(before.fingerprint)),
            None => (Arc::new(key), None),
        };
        self.known.insert(Arc::clone(&key), Seen { fingerprint, round });
        Ok((before != Some(fingerprint)).then(|| K::change(key, Some(object))))
    }

    /// Tells of events; the version moves on with them. What comes before a fault is told as well: it counts as told.
    async fn take(
        &mut self,
        events: impl IntoIterator<Item = WatchEvent<K>>,
        version: &mut Option<String>,
    ) -> Result<(), Fault> {
        let mut changes = Vec::new();
        let taken = events.into_iter().try_for_each(|event| self.take_one(event, version, &mut changes));
        self.changes(changes).await;
        taken
    }

    fn take_one(
        &mut self,
        event: WatchEvent<K>,
        version: &mut Option<String>,
        changes: &mut Vec<Change>,
    ) -> Result<(), Fault> {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let at = version_of(&object)?;
                changes.extend(self.see(object)?);
                *version = Some(at);
            }
            WatchEvent::Deleted(object) => {
                let (at, key) = (version_of(&object)?, key(&object)?);
                if let Some((key, _)) = self.known.remove_entry(&key) {
                    changes.push(K::change(key, None));
                }
                *version = Some(at);
            }
            WatchEvent::Bookmark(bookmark) => *version = Some(bookmark.metadata.resource_version),
            WatchEvent::Error(status) => return Err(failed::<K>(&status)),
        }
        Ok(())
    }

    async fn changes(&self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.tell(Told::Changes(changes)).await;
        }
    }

    async fn tell(&self, told: Told) {
        // Without ears the task is about to end.
        let _ = self.ears.send((self.number, told)).await;
    }

    async fn back_off(&mut self) {
        // Without entropy all come at once, which is no fault.
        let share = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
        sleep(self.backoff.mul_f64(1.0 - share / 2.0)).await;
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
    }
}

fn failed<K: Kind>(status: &Status) -> Fault {
    let verb = format!("watch {}", K::plural(&()));
    Fault { then: Then::Relist, ..Fault::status(&verb, status.code, Some(status)) }
}

fn version_of<K: Kind>(object: &K) -> Result<String, Fault> {
    let version = object.meta().resource_version.clone().filter(|version| !version.is_empty());
    version.ok_or_else(|| Fault::garbage(format!("one of the {} has no resourceVersion", K::plural(&()))))
}

#[cfg(test)]
mod tests;
