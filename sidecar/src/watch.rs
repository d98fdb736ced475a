//! Events of a directory: "look again", nothing more.
//!
//! A watch belongs to a directory's inode. When the directory is replaced (unpacked anew, a link that moved), its events
//! end without a word, so the owner asks [`Watch::renew`] now and then.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{
    Event, EventKind, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{sync::Notify, time::timeout};

/// A look even without an event: for file systems that tell nobody, and events that were lost.
const PERIOD: Duration = Duration::from_secs(10);
/// A burst of events is over after this long without one.
const QUIET: Duration = Duration::from_millis(30);
/// Under a storm of events, there is a look at least this often.
const LONGEST_WAIT: Duration = Duration::from_millis(300);
/// How often the watched directories are looked at themselves: one that is replaced takes its watch with it.
const LOOK: Duration = Duration::from_millis(500);
/// How often a directory is looked through where the system offers no events.
const POLL: Duration = Duration::from_millis(500);

/// One watched directory.
pub struct Watch {
    directory: PathBuf,
    wake: Arc<Notify>,
    /// What is watched, `None` while there is nothing; and its watcher, whose end would be the end of the events.
    watched: Option<(Inode, Option<Box<dyn Watcher + Send>>)>,
}

/// Device and inode.
type Inode = (u64, u64);

impl Watch {
    /// Watches a directory, whether it exists yet or not.
    pub fn start(directory: &Path, wake: &Arc<Notify>) -> Self {
        let mut watch = Self { directory: directory.to_owned(), wake: Arc::clone(wake), watched: None };
        watch.renew();
        watch
    }

    /// Watches anew when the directory is another one than before; says whether it is.
    pub fn renew(&mut self) -> bool {
        let present = fs::metadata(&self.directory).ok().map(|it| (it.dev(), it.ino()));
        if present == self.watched.as_ref().map(|(inode, _)| *inode) {
            return false;
        }
        self.watched = present.map(|inode| (inode, self.watcher()));
        true
    }

    fn watcher(&self) -> Option<Box<dyn Watcher + Send>> {
        let native = notify::recommended_watcher(handler(Arc::clone(&self.wake))).and_then(|mut native| {
            native.watch(&self.directory, RecursiveMode::Recursive)?;
            Ok(Box::new(native) as Box<dyn Watcher + Send>)
        });
        let any = native.or_else(|error| self.poller(&error));
        any.inspect_err(|error| tracing::warn!(%error, "no events at all, only the periodic look")).ok()
    }

    fn poller(&self, why: &notify::Error) -> notify::Result<Box<dyn Watcher + Send>> {
        let directory = self.directory.display();
        tracing::warn!(%directory, error = %why, "no file events here, looking every {POLL:?} instead");
        let config = notify::Config::default().with_poll_interval(POLL);
        let mut poll = notify::PollWatcher::new(handler(Arc::clone(&self.wake)), config)?;
        poll.watch(&self.directory, RecursiveMode::Recursive)?;
        Ok(Box::new(poll))
    }
}

/// Returns when it is time to look again: after the events of a burst, so that a file that is being written is read when it
/// is whole; when a watched directory is another one; and after a while without either.
pub async fn look_again(wake: &Notify, watches: &mut [Watch]) {
    tokio::select! {
        () = wake.notified() => settle(wake).await,
        () = tokio::time::sleep(PERIOD) => {}
        () = replaced(watches) => {}
    }
}

async fn settle(wake: &Notify) {
    let quiet = async { while timeout(QUIET, wake.notified()).await.is_ok() {} };
    // Running out of time is fine: the next look will see the rest.
    let _ = timeout(LONGEST_WAIT, quiet).await;
}

/// Returns when a watched directory is no longer the one that was watched.
async fn replaced(watches: &mut [Watch]) {
    loop {
        tokio::time::sleep(LOOK).await;
        let mut any = false;
        for watch in &mut *watches {
            any |= watch.renew();
        }
        if any {
            return;
        }
    }
}

fn handler(wake: Arc<Notify>) -> impl Fn(notify::Result<Event>) {
    move |event| {
        // Our own reading of the files shows up as access events. An error means lost events: look again.
        if event.map_or(true, |event| is_change(event.kind)) {
            wake.notify_one();
        }
    }
}

fn is_change(kind: EventKind) -> bool {
    !kind.is_access() || kind == EventKind::Access(AccessKind::Close(AccessMode::Write))
}
