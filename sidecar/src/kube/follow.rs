//! One cluster as a source: its watches together, told as a whole once all of them stand, and then as changes.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    cluster::Cluster,
    config::{ClusterConfig, Nodes},
    connection::Connection,
    watch::{Told, Watcher},
};
use crate::input::{Change, Input, Inputs, Said};

/// How long changes that come together are gathered.
const GATHER: Duration = Duration::from_millis(8);
/// What may wait for us: a watch that is faster waits.
const WAITING: usize = 64;

/// Tells what the cluster holds, now and after every change, until nobody listens.
pub async fn follow(config: ClusterConfig, inputs: Inputs) {
    let (name, scopes, nodes) = (config.name.clone(), config.scopes(), config.nodes);
    let connection = Arc::new(Connection::new(config));
    let (ears, mut told) = mpsc::channel(WAITING);
    // Dropped with this future, which ends them.
    let mut watchers = JoinSet::new();
    let mut whose = Vec::new();
    for scope in &scopes {
        let scope = scope.as_deref();
        let place = scope.map(|namespace| format!(" in {namespace}")).unwrap_or_default();
        watchers.spawn(Watcher::<Service>::new(&connection, scope, whose.len(), &ears).run());
        whose.push(format!("cluster {name}: services{place}"));
        watchers.spawn(Watcher::<EndpointSlice>::new(&connection, scope, whose.len(), &ears).run());
        whose.push(format!("cluster {name}: endpointslices{place}"));
    }
    if nodes == Nodes::Watch {
        watchers.spawn(Watcher::<Node>::new(&connection, None, whose.len(), &ears).run());
        whose.push(format!("cluster {name}: nodes"));
    }
    drop(ears);
    let mut gathering = Gathering::new(whose);
    while let Some((number, first)) = told.recv().await {
        gathering.take(number, first);
        let end = Instant::now() + GATHER;
        while let Ok(Some((number, more))) = timeout_at(end, told.recv()).await {
            gathering.take(number, more);
        }
        let said = gathering.say();
        // Together, so that nobody acts on the changes of one watch before hearing that another is broken.
        let Ok(room) = inputs.reserve_many(said.len()).await else { return };
        room.zip(said).for_each(|(room, said)| room.send(Input::Cluster(name.clone(), said)));
    }
}

/// What the watches have told and was not said yet.
struct Gathering {
    watches: Vec<Watch>,
    /// Until everything was told.
    whole: Option<Box<Cluster>>,
    changes: Vec<Change>,
    /// What was said to be broken.
    broken: BTreeSet<String>,
}

struct Watch {
    name: String,
    /// Whether it has ever stood: then its list is known.
    listed: bool,
    broken: Option<String>,
}

// === impl Gathering ===

impl Gathering {
    fn new(names: Vec<String>) -> Self {
        let watches = names.into_iter().map(|name| Watch { name, listed: false, broken: None }).collect();
        Self { watches, whole: Some(Box::default()), changes: Vec::new(), broken: BTreeSet::new() }
    }

    fn take(&mut self, number: usize, told: Told) {
        let Some(watch) = self.watches.get_mut(number) else { return };
        match (told, &mut self.whole) {
            (Told::Changes(changes), Some(whole)) => changes.into_iter().for_each(|change| change.apply(whole)),
            (Told::Changes(changes), None) => self.changes.extend(changes),
            (Told::Stands, _) => {
                watch.listed = true;
                watch.broken = None;
            }
            // Every cluster has these kinds.
            (Told::Broken(why) | Told::Missing(why), _) => watch.broken = Some(format!("{}: {why}", watch.name)),
        }
    }

    /// What is to be said now, in this order.
    fn say(&mut self) -> Vec<Said> {
        let broken: BTreeSet<_> = self.watches.iter().filter_map(|watch| watch.broken.clone()).collect();
        let before = std::mem::replace(&mut self.broken, broken.clone());
        let mut said = Vec::new();
        if self.watches.iter().all(|watch| watch.listed)
            && broken.is_empty()
            && let Some(whole) = self.whole.take()
        {
            said.push(Said::Whole(whole));
        } else if self.whole.is_none() {
            let is_mended = broken.is_empty() && !before.is_empty();
            if is_mended || !self.changes.is_empty() {
                // Even without any: that it is broken no more is told so.
                said.push(Said::Changes(std::mem::take(&mut self.changes)));
            }
        }
        // Changes say that all is well, so it is said again behind them.
        if !broken.is_empty() && (broken != before || !said.is_empty()) {
            said.push(Said::Broken(broken.into_iter().collect()));
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::{ObjectKey, Packed};

    fn gathering() -> Gathering {
        Gathering::new(["services", "slices", "nodes"].map(str::to_owned).to_vec())
    }

    fn service(name: &str) -> Told {
        let key = Arc::new(ObjectKey { namespace: "shop".to_owned(), name: name.to_owned() });
        Told::Changes(vec![Change::Service(key, Some(Packed::of(Service::default())))])
    }

    /// `W2`: a whole with two services; `C1`: one change; `B a,b`: broken.
    fn said(gathering: &mut Gathering) -> Vec<String> {
        let text = |said: &Said| match said {
            Said::Whole(whole) => format!("W{}", whole.services.len()),
            Said::Changes(changes) => format!("C{}", changes.len()),
            Said::Broken(lines) => format!("B {}", lines.join(",")),
        };
        gathering.say().iter().map(text).collect()
    }

    #[test]
    fn nothing_is_said_before_every_watch_stands() {
        let mut gathering = gathering();
        gathering.take(0, service("a"));
        gathering.take(0, Told::Stands);
        gathering.take(1, Told::Stands);
        assert_eq!(said(&mut gathering), [""; 0]);
        gathering.take(2, Told::Broken("no right".to_owned()));
        assert_eq!(said(&mut gathering), ["B nodes: no right"]);
        assert_eq!(said(&mut gathering), [""; 0], "a standing fault is said once");
        gathering.take(0, service("b"));
        gathering.take(2, Told::Stands);
        assert_eq!(said(&mut gathering), ["W2"]);
    }

    #[test]
    fn a_fault_is_said_again_behind_changes_and_its_end_without_any() {
        let mut gathering = gathering();
        (0..3).for_each(|number| gathering.take(number, Told::Stands));
        assert_eq!(said(&mut gathering), ["W0"]);
        gathering.take(0, service("a"));
        assert_eq!(said(&mut gathering), ["C1"]);
        gathering.take(1, Told::Broken("gone".to_owned()));
        assert_eq!(said(&mut gathering), ["B slices: gone"]);
        gathering.take(0, service("b"));
        assert_eq!(said(&mut gathering), ["C1", "B slices: gone"]);
        gathering.take(1, Told::Stands);
        assert_eq!(said(&mut gathering), ["C0"]);
        assert_eq!(said(&mut gathering), [""; 0]);
    }
}
