//! What is wrong with a Service, as a Kubernetes Event on it: its author sees it without access to our log.
//!
//! Said once for each bad value: an Event's name is made of what it says, so that a restarted or another sidecar that says
//! the same is told by the API server that it is there. Only the leader says anything.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Service},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::Resource as _;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{interval, sleep, timeout},
};

use super::{
    call::{self, Created},
    cluster::ObjectKey,
    config::ClusterConfig,
    connection::Connection,
    fault::Fault,
};
use crate::sync::{Note, Severity};

/// Who says it.
const CONTROLLER: &str = "portcullis.io/sidecar";
/// Longest text that an Event takes, in bytes.
const MAX_NOTE: usize = 1024;
/// Least time between two Events: a broken template over a thousand Services is no reason to flood the API server.
const PACE: Duration = Duration::from_millis(200);
/// After a failure, and after a missing right.
const RETRY: Duration = Duration::from_secs(30);
const FORBIDDEN: Duration = Duration::from_secs(600);

/// The task that says it for one cluster. It ends when this is dropped.
#[derive(Debug)]
pub struct Events {
    notes: watch::Sender<Vec<Bad>>,
    task: JoinHandle<()>,
}

/// A note about a Service that exists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bad {
    service: ObjectKey,
    uid: Option<String>,
    note: Note,
}

struct Task {
    connection: Connection,
    cluster: String,
    notes: watch::Receiver<Vec<Bad>>,
    leads: Option<watch::Receiver<bool>>,
    said: BTreeSet<Bad>,
    complaint: Option<String>,
}

// === impl Events ===

impl Events {
    /// Starts it. It is silent while `leads` says so; without one it always speaks.
    pub fn start(config: &ClusterConfig, leads: Option<watch::Receiver<bool>>) -> Self {
        let (sender, notes) = watch::channel(Vec::new());
        let task = Task {
            connection: Connection::new(config.clone()),
            cluster: config.name.clone(),
            notes,
            leads,
            said: BTreeSet::new(),
            complaint: None,
        };
        Self { notes: sender, task: tokio::spawn(task.run()) }
    }

    /// From now on this is what is wrong; what is not about a Service that `service` finds in this cluster is left out.
    pub fn tell(&self, notes: impl IntoIterator<Item = Note>, service: impl Fn(&ObjectKey) -> Option<Service>) {
        let bad = notes.into_iter().filter_map(|note| {
            let key = key(&note.object)?;
            let uid = service(&key)?.metadata.uid;
            Some(Bad { service: key, uid, note })
        });
        let bad: Vec<_> = bad.collect();
        self.notes.send_if_modified(|present| {
            let differs = *present != bad;
            *present = bad;
            differs
        });
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn key(object: &str) -> Option<ObjectKey> {
    let (namespace, name) = object.split_once('/')?;
    Some(ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() })
}

// === impl Task ===

impl Task {
    async fn run(mut self) {
        let mut pace = interval(PACE);
        loop {
            if let Some(leads) = &mut self.leads
                && leads.wait_for(|leads| *leads).await.is_err()
            {
                return;
            }
            let notes = self.notes.borrow_and_update().clone();
            self.said.retain(|said| notes.contains(said));
            let mut pause = None;
            for bad in notes {
                if self.said.contains(&bad) {
                    continue;
                }
                pace.tick().await;
                match self.create(&bad).await {
                    Ok(Created::Made | Created::Present) => {
                        self.complaint = None;
                        self.said.insert(bad);
                    }
                    Ok(Created::Forbidden(fault)) => {
                        self.complain(&fault);
                        pause = Some(FORBIDDEN);
                        break;
                    }
                    Err(fault) => {
                        self.complain(&fault);
                        self.connection.renew().await;
                        pause = Some(RETRY);
                        break;
                    }
                }
            }
            match pause {
                Some(pause) => sleep(pause).await,
                // Nothing to do until something is new; looking now and then costs nothing.
                None => {
                    if let Ok(Err(_)) = timeout(FORBIDDEN, self.notes.changed()).await {
                        return;
                    }
                }
            }
        }
    }

    async fn create(&self, bad: &Bad) -> Result<Created, Fault> {
        let client = self.connection.client().await?;
        let path = Event::url_path(&(), Some(&bad.service.namespace));
        let body = serde_json::to_vec(&event(bad)).map_err(|error| Fault::garbage(error.to_string()))?;
        call::create(&client, &path, "create events", body).await
    }

    fn complain(&mut self, fault: &Fault) {
        let line = format!("cluster {}: events: {fault}", self.cluster);
        if self.complaint.as_ref() != Some(&line) {
            tracing::warn!("{line}");
        }
        self.complaint = Some(line);
    }
}

fn event(bad: &Bad) -> Event {
    let Bad { service, uid, note } = bad;
    let reason = match note.severity {
        Severity::Error => "NotExposed",
        Severity::Warning => "ValueIgnored",
    };
    let mut text = format!("{}: {}; {}", note.key, note.what, note.hint);
    if text.len() > MAX_NOTE {
        let mut end = MAX_NOTE - '…'.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    let parts = [uid.as_deref().unwrap_or_default(), &note.key, &note.what].join("\0");
    let digest = Sha256::digest(parts).into_iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(byte));
    let name = format!("{}.{digest:016x}", service.name);
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(service.namespace.clone()), ..ObjectMeta::default() },
        action: Some("Sync".to_owned()),
        event_time: Some(MicroTime(Timestamp::now())),
        note: Some(text),
        reason: Some(reason.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            name: Some(service.name.clone()),
            namespace: Some(service.namespace.clone()),
            uid: uid.clone(),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some("portcullis".to_owned()),
        type_: Some("Warning".to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(what: &str) -> Bad {
        let note = Note {
            object: "shop/web".to_owned(),
            key: "service-port".to_owned(),
            severity: Severity::Warning,
            what: what.to_owned(),
            hint: "write a number".to_owned(),
        };
        Bad { service: key("shop/web").unwrap(), uid: Some("u".to_owned()), note }
    }

    #[test]
    fn an_event_is_called_after_what_it_says_and_fits() {
        let (one, same, other) = (event(&bad("a")), event(&bad("a")), event(&bad("b")));
        assert_eq!(one.metadata.name, same.metadata.name);
        assert_ne!(one.metadata.name, other.metadata.name);
        assert_eq!(one.regarding.unwrap().uid.as_deref(), Some("u"));
        let long = event(&bad(&"ü".repeat(2_000))).note.unwrap();
        assert!(long.len() <= MAX_NOTE && long.ends_with('…'), "{}", long.len());
    }

    #[tokio::test]
    async fn only_notes_about_services_of_the_cluster_are_events() {
        let web = Service::default();
        let service = |wanted: &ObjectKey| (*wanted == key("shop/web").unwrap()).then(|| web.clone());
        let note = |object: &str| Note { object: object.to_owned(), ..bad("a").note };
        let (sender, mut notes) = watch::channel(Vec::new());
        let events = Events { notes: sender, task: tokio::spawn(std::future::pending()) };
        events.tell([note("shop/web"), note("shop/gone"), note("web")], service);
        assert_eq!(notes.borrow_and_update().len(), 1);
        events.tell([note("shop/web")], service);
        assert!(!notes.has_changed().unwrap(), "nothing new");
    }
}
