//! Objects that we write into an API server: watched with their versions, made, patched, removed.
//!
//! Unlike what the sync reads ([`super::watch`]), these are kept with their versions, since every write names the one that it was
//! decided on: an object that somebody has changed meanwhile is looked at again instead of being written over.

use std::time::Duration;

use http_body_util::BodyExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::{
    Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent, WatchParams},
    client::Body,
    core::Request,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use super::{
    call::{GRACE, MAX_EVENT, MAX_OBJECTS, MAX_PAGE, WATCH, ask, garbage, refusal, send, whole},
    config::ClusterConfig,
    connection::Connection,
    fault::{Fault, Then},
};

/// Who writes, as the API server keeps it for each field.
const MANAGER: &str = "portcullis";
/// Objects in a page.
const PAGE: u32 = 250;
/// After failures, doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_secs(1);
const RIGHTS: &str = "grant it as deploy/kubernetes/rbac-imports.yaml does";

/// One kind in one namespace, perhaps with one label only.
pub(crate) struct Objects {
    connection: Connection,
    path: String,
    plural: &'static str,
    label: Option<String>,
}

/// What a watch on them says.
#[derive(Debug)]
pub(crate) enum Seen<T> {
    /// These are all; they replace what was known.
    Whole(Vec<T>),
    /// One is there, or another than before.
    There(T),
    /// One is gone; as it was.
    Gone(T),
    /// They cannot be read, and why. A [`Seen::Whole`] follows once they can.
    Broken(String),
}

/// What became of a write.
#[derive(Debug)]
pub(crate) enum Written<T> {
    /// Done; the object as it is now, unless it is gone.
    Done(Option<T>),
    /// It is not as it was seen: it has another version, it is there already or not any more.
    Stale,
    /// The API server does not take it, or we may not; the same again would be refused again.
    Refused(Fault),
}

#[derive(Deserialize)]
struct Answer {
    metadata: ListMeta,
    items: Option<Vec<Value>>,
}

// === impl Objects ===

impl Objects {
    /// Nothing is asked yet. `path` is that of the collection; `label` as `key=value`.
    pub(crate) fn new(config: &ClusterConfig, path: String, plural: &'static str, label: Option<String>) -> Self {
        Self { connection: Connection::new(config.clone()), path, plural, label }
    }

    /// Tells what there is, now and after every change, until nobody listens.
    pub(crate) async fn follow<T: DeserializeOwned>(&self, ears: mpsc::Sender<Seen<T>>) {
        let (mut version, mut backoff) = (None, FIRST_BACKOFF);
        while !ears.is_closed() {
            let start = Instant::now();
            match self.once(&mut version, &ears).await {
                // A watch that ends as soon as it has begun is a failure that is not worth a word.
                Ok(()) if start.elapsed() < SHORT => {
                    sleep(backoff).await;
                    backoff = (backoff * 2).min(LONGEST_BACKOFF);
                }
                Ok(()) => backoff = FIRST_BACKOFF,
                Err(fault) => {
                    if fault.then == Then::Renew {
                        self.connection.renew().await;
                    }
                    // What is ours is little: it is read again whole.
                    version = None;
                    // Without ears the loop ends.
                    let _ = ears.send(Seen::Broken(fault.to_string())).await;
                    sleep(backoff).await;
                    backoff = (backoff * 2).min(LONGEST_BACKOFF);
                }
            }
        }
    }

    /// Makes one.
    pub(crate) async fn create<T: DeserializeOwned>(&self, body: &Value) -> Result<Written<T>, Fault> {
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let body = serde_json::to_vec(body).map_err(|error| Fault::garbage(error.to_string()))?;
        let request = Request::new(&self.path).create(&parameters, body);
        self.write("create", request.map_err(|error| Fault::configuration(&error))?).await
    }

    /// Changes one of this version, by a JSON merge patch.
    pub(crate) async fn patch<T: DeserializeOwned>(
        &self,
        name: &str,
        uid: &str,
        version: &str,
        patch: &Value,
    ) -> Result<Written<T>, Fault> {
        let mut patch = patch.clone();
        if let Some(metadata) = patch.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("uid".to_owned(), uid.into());
            metadata.insert("resourceVersion".to_owned(), version.into());
        }
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let request = Request::new(&self.path).patch(name, &parameters, &Patch::Merge(&patch));
        self.write("patch", request.map_err(|error| Fault::configuration(&error))?).await
    }

    /// Removes one of this version.
    pub(crate) async fn delete<T: DeserializeOwned>(
        &self,
        name: &str,
        uid: &str,
        version: &str,
    ) -> Result<Written<T>, Fault> {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: Some(version.to_owned()) };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let request = Request::new(&self.path).delete(name, &parameters);
        match self
            .write::<serde::de::IgnoredAny>("delete", request.map_err(|error| Fault::configuration(&error))?)
            .await?
        {
            Written::Done(_) => Ok(Written::Done(None)),
            Written::Stale => Ok(Written::Stale),
            Written::Refused(fault) => Ok(Written::Refused(fault)),
        }
    }

    async fn write<T: DeserializeOwned>(
        &self,
        verb: &'static str,
        request: hyper::Request<Vec<u8>>,
    ) -> Result<Written<T>, Fault> {
        let outcome = self.written(verb, request).await;
        if let Err(fault) = &outcome
            && fault.then == Then::Renew
        {
            self.connection.renew().await;
        }
        outcome
    }

    async fn written<T: DeserializeOwned>(
        &self,
        verb: &'static str,
        request: hyper::Request<Vec<u8>>,
    ) -> Result<Written<T>, Fault> {
        let client = self.connection.client().await?;
        let what = format!("{verb} {}", self.plural);
        let response = ask(&client, request).await?;
        let code = response.status().as_u16();
        match code {
            200..300 => {
                let bytes = whole(&mut response.into_body(), MAX_EVENT).await?;
                Ok(Written::Done(Some(serde_json::from_slice(&bytes).map_err(|error| garbage(&what, &error))?)))
            }
            409 => Ok(Written::Stale),
            // What is to be changed is gone; what is to be made has no namespace.
            404 if verb != "create" => Ok(Written::Stale),
            400 | 403 | 404 | 413 | 422 => {
                let fault = refusal(&what, code, response.into_body()).await;
                Ok(Written::Refused(if code == 404 {
                    Fault { hint: "make the namespace that toKubernetes.namespace names", ..fault }
                } else {
                    named(fault, code)
                }))
            }
            _ => Err(refusal(&what, code, response.into_body()).await),
        }
    }

    /// A watch from its beginning to its end, behind a list if there is no version to start from.
    async fn once<T: DeserializeOwned>(
        &self,
        version: &mut Option<String>,
        ears: &mpsc::Sender<Seen<T>>,
    ) -> Result<(), Fault> {
        let client = self.connection.client().await?;
        let from = match version.take() {
            Some(version) => version,
            None => self.list(&client, ears).await?,
        };
        let from = version.insert(from).clone();
        let parameters = self.label.iter().fold(WatchParams::default().timeout(WATCH), |it, label| it.labels(label));
        let request = Request::new(&self.path).watch(&parameters, &from);
        let request = request.map_err(|error| Fault::configuration(&error))?;
        let mut body = send(&client, &self.verb("watch"), request).await.map_err(right)?;
        let (end, mut buffer) = (Instant::now() + Duration::from_secs(WATCH.into()) + GRACE, Vec::new());
        loop {
            let frame = timeout_at(end, body.frame()).await.map_err(|_| Fault::silence())?;
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame.map_err(|error| Fault::connection(&error))?;
            let Some(bytes) = frame.data_ref() else { continue };
            let is_ended = bytes.contains(&b'\n');
            buffer.extend_from_slice(bytes);
            if is_ended && let Some(last) = buffer.iter().rposition(|byte| *byte == b'\n') {
                let rest = buffer.split_off(last + 1);
                let lines = std::mem::replace(&mut buffer, rest);
                for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    let Some(seen) = self.event(line, version)? else { continue };
                    // Without ears the caller ends.
                    let _ = ears.send(seen).await;
                }
            }
            if buffer.len() > MAX_EVENT {
                return Err(Fault::garbage(format!("cannot {}: an event without an end", self.verb("watch"))));
            }
        }
    }

    async fn list<T: DeserializeOwned>(&self, client: &Client, ears: &mpsc::Sender<Seen<T>>) -> Result<String, Fault> {
        let (mut token, mut all) = (None, Vec::new());
        let verb = self.verb("list");
        let mut n_pages = 0;
        loop {
            let mut parameters = ListParams { label_selector: self.label.clone(), ..ListParams::default() }.limit(PAGE);
            parameters.continue_token = token.take();
            let request = Request::new(&self.path).list(&parameters).map_err(|error| Fault::configuration(&error))?;
            let mut body: Body = send(client, &verb, request).await.map_err(right)?;
            let bytes = whole(&mut body, MAX_PAGE).await?;
            let answer: Answer = serde_json::from_slice(&bytes).map_err(|error| garbage(&verb, &error))?;
            for item in answer.items.unwrap_or_default() {
                all.push(serde_json::from_value(item).map_err(|error| garbage(&verb, &error))?);
            }
            // An empty page counts too: one that always names another one would be read for ever.
            n_pages += 1;
            if all.len() + n_pages > MAX_OBJECTS {
                return Err(Fault::garbage(format!("cannot {verb}: more than {MAX_OBJECTS} objects")));
            }
            token = answer.metadata.continue_.filter(|token| !token.is_empty());
            if token.is_none() {
                let version = answer.metadata.resource_version.filter(|version| !version.is_empty());
                let missing = || Fault::garbage(format!("cannot {verb}: the answer has no resourceVersion"));
                // Without ears the caller ends.
                let _ = ears.send(Seen::Whole(all)).await;
                return version.ok_or_else(missing);
            }
        }
    }

    /// What one line of a watch says; the version moves on with it.
    fn event<T: DeserializeOwned>(&self, line: &[u8], version: &mut Option<String>) -> Result<Option<Seen<T>>, Fault> {
        let verb = self.verb("watch");
        let event: WatchEvent<Value> = serde_json::from_slice(line).map_err(|error| garbage(&verb, &error))?;
        let (object, is_gone) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
            WatchEvent::Deleted(object) => (object, true),
            WatchEvent::Bookmark(bookmark) => {
                *version = Some(bookmark.metadata.resource_version);
                return Ok(None);
            }
            WatchEvent::Error(status) => return Err(Fault::status(&verb, status.code, Some(&status))),
        };
        let at = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        let missing = || Fault::garbage(format!("one of the {} has no resourceVersion", self.plural));
        *version = Some(at.ok_or_else(missing)?.to_owned());
        let object = serde_json::from_value(object).map_err(|error| garbage(&verb, &error))?;
        Ok(Some(if is_gone { Seen::Gone(object) } else { Seen::There(object) }))
    }

    fn verb(&self, verb: &str) -> String {
        format!("{verb} {}", self.plural)
    }
}

/// A missing right, with where ours are.
fn right(fault: Fault) -> Fault {
    if fault.what.starts_with("may not") && fault.then == Then::Resume { named(fault, 403) } else { fault }
}

fn named(fault: Fault, code: u16) -> Fault {
    if code == 403 { Fault { hint: RIGHTS, ..fault } } else { fault }
}
