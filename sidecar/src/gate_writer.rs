//! Writes the gate's routers behind the changes: at once where nothing was written lately, and otherwise as often as Traefik
//! looks. Consul never waits for it.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use crate::{
    gate::Output,
    publish::PublishError,
    sync::{Foreign, Note, Registration, Route, RouteTable, foreign::without_rivals},
};

/// Between two writes at least this long, and so many times what the last one took, so that writing the routes of many
/// services never becomes the main thing that we do. Traefik's own throttle (`providersThrottleDuration`) is 2 s.
const PERIOD: Duration = Duration::from_millis(500);
const PERIOD_PER_WRITE: u32 = 10;
/// How often it is seen to that the file is still the one that was written.
const LOOK: Duration = Duration::from_secs(10);

/// The routes of all services, shared by who changes them and who writes them.
#[derive(Clone, Debug)]
pub struct Table {
    routes: Arc<Mutex<Routes>>,
    /// Rings at each change; `true` once the routes are whole.
    bell: Arc<watch::Sender<bool>>,
}

#[derive(Debug, Default)]
struct Routes {
    ours: RouteTable,
    /// Those of services that others registered under names that are not ours.
    others: Vec<Arc<Route>>,
}

/// A file as it was left: device, inode, length, time of change.
type Mark = (u64, u64, u64, i64, i64);

// === impl Table ===

impl Table {
    /// Without any route, and not to be written yet.
    pub fn new() -> Self {
        Self { routes: Arc::default(), bell: Arc::new(watch::Sender::new(false)) }
    }

    /// See [`RouteTable::set`].
    pub fn set(&self, name: &str, instances: &[&Registration]) -> bool {
        let differs = self.lock().ours.set(name, instances);
        if differs {
            self.bell.send_modify(|_| {});
        }
        differs
    }

    /// From now on the routes are whole and may be written.
    pub fn release(&self) {
        self.bell.send_if_modified(|is_whole| !std::mem::replace(is_whole, true));
    }

    /// Whether they are.
    pub fn is_released(&self) -> bool {
        *self.bell.borrow()
    }

    /// Why services have no route.
    pub fn notes(&self) -> Vec<Note> {
        self.lock().ours.notes().cloned().collect()
    }

    /// Every route that may be used, sorted by destination.
    pub fn routes(&self) -> Vec<Arc<Route>> {
        let routes = self.lock();
        let mut all = routes.ours.routes();
        all.extend(routes.others.iter().cloned());
        all.sort_by(|a, b| a.destination.cmp(&b.destination));
        all
    }

    /// See [`RouteTable::take_reclaimed`].
    pub fn take_reclaimed(&self) -> bool {
        self.lock().ours.take_reclaimed()
    }

    /// Puts the routes of others beside ours, as far as ours let them. Returns why some have none.
    pub fn join(&self, foreign: &Foreign) -> Vec<Note> {
        let mut routes = self.lock();
        let (theirs, mut notes) = foreign.apart(|name| routes.ours.spellings(name));
        let ours = routes.ours.routes();
        let (kept, more) = without_rivals(theirs, ours.iter().map(AsRef::as_ref));
        notes.extend(more);
        let others: Vec<_> = kept.into_iter().map(Arc::new).collect();
        if routes.others != others {
            routes.others = others;
            self.bell.send_modify(|_| {});
        }
        notes
    }

    fn lock(&self) -> MutexGuard<'_, Routes> {
        // A panic in it would be a fault of ours; what it holds is still the best that is known.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

/// Keeps what is written in step with the routes, once they are whole, until it is dropped.
pub async fn follow(table: Table, output: Arc<Output>) {
    let (mut bell, mut unfit) = (table.bell.subscribe(), BTreeSet::new());
    // The table is ours as well, so there is always somebody who could ring.
    let _ = bell.wait_for(|is_whole| *is_whole).await;
    loop {
        bell.borrow_and_update();
        let start = Instant::now();
        let mark = match write(&table, &output).await {
            Ok((mark, notes)) => {
                say(&notes, &mut unfit);
                mark
            }
            Err(error) => {
                tracing::error!(%error, "the gate's file cannot be written; the last one stays in force");
                None
            }
        };
        sleep(PERIOD.max(start.elapsed() * PERIOD_PER_WRITE)).await;
        while timeout(LOOK, bell.changed()).await.is_err() {
            if output.file().is_some_and(|file| mark.is_none() || self::mark(file) != mark) {
                break;
            }
        }
    }
}

/// Writes what differs. Returns the file as it is then, and why some routes cannot be written.
async fn write(table: &Table, output: &Arc<Output>) -> Result<(Option<Mark>, Vec<Note>), PublishError> {
    let (routes, output) = (table.routes(), Arc::clone(output));
    let written = spawn_blocking(move || {
        let (routes, notes) = output.fit(routes);
        if output.write(&routes)? {
            tracing::info!(services = routes.len(), "gate written");
        }
        Ok((output.file().and_then(mark), notes))
    });
    // A panic in it was printed, and is tried again.
    written.await.unwrap_or_else(|_| Ok((None, Vec::new())))
}

/// Each note once, for as long as it stands.
fn say(notes: &[Note], said: &mut BTreeSet<String>) {
    let lines: BTreeSet<_> = notes.iter().map(ToString::to_string).collect();
    lines.difference(said).for_each(|line| tracing::error!("{line}"));
    *said = lines;
}

fn mark(file: &Path) -> Option<Mark> {
    let file = fs::metadata(file).ok()?;
    Some((file.dev(), file.ino(), file.len(), file.ctime(), file.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn instance(address: &str) -> Registration {
        let json = json!({
            "Node": "k8s-sync", "Address": "127.0.0.1",
            "Service": {"ID": "web", "Service": "web", "Address": address, "Port": 30080,
                        "Tags": ["portcullis.http.routers.web.rule=Host(`web`)"]},
            "Check": {"CheckID": "web", "Name": "n", "Type": "t", "Status": "passing", "Output": "", "ServiceID": "web",
                      "Node": "k8s-sync"},
        });
        serde_json::from_value(json).unwrap()
    }

    async fn until(file: &Path, text: &str) -> Duration {
        let start = Instant::now();
        while !fs::read_to_string(file).is_ok_and(|found| found.contains(text)) {
            assert!(start.elapsed() < LOOK * 10, "waited for {text}");
            sleep(Duration::from_millis(1)).await;
        }
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_change_is_written_at_once_later_ones_together_and_a_lost_file_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gate.yml");
        let table = Table::new();
        let config =
            json!({"policy": {"directory": "policy"}, "snapshot": {"file": "snapshot"}, "gate": {"file": file}});
        let output = Output::start(&serde_json::from_value(config).unwrap()).unwrap();
        let writer = tokio::spawn(follow(table.clone(), Arc::new(output)));
        assert!(table.set("web", &[&instance("192.0.2.1")]));
        sleep(LOOK).await;
        assert!(!file.exists(), "the routes are not whole yet");
        table.release();
        until(&file, "192.0.2.1").await;
        for last in 2..250 {
            assert!(table.set("web", &[&instance(&format!("192.0.2.{last}"))]));
        }
        assert!(until(&file, "192.0.2.249").await <= PERIOD * 2);
        fs::remove_file(&file).unwrap();
        assert!(until(&file, "192.0.2.249").await <= LOOK * 2);
        writer.abort();
    }
}
