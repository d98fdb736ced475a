//! The calls to an API server, each bounded in time and size: a page of a list, a watch, one that begins with a list, a new
//! object.
//!
//! kube's own calls read answers of any size into memory and print those that they cannot understand, so only its
//! requests and its connection are used here.

use std::{marker::PhantomData, time::Duration};

use http_body_util::BodyExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::{
    Client,
    api::{ListParams, PostParams, WatchEvent, WatchParams},
    client::Body,
    core::{Request, Status, watch::Bookmark},
};
use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::{cluster::ObjectKey, fault::Fault, kinds::Kind};

/// How long an answer may take to begin, and each of its parts.
const PATIENCE: Duration = Duration::from_secs(30);
/// Objects in a page: what one answer may cost in memory.
const PAGE: u32 = 250;
/// Largest page, event and error text that is read, in bytes. etcd keeps objects of at most 1.5 MB, twice that as JSON.
pub(super) const MAX_PAGE: usize = 64 << 20;
pub(super) const MAX_EVENT: usize = 4 << 20;
const MAX_ERROR: usize = 64 << 10;
/// Most objects of a kind.
pub(super) const MAX_OBJECTS: usize = 500_000;
/// The server ends a watch after this many seconds, with a bookmark before; one that does not is a connection that nobody
/// has at the other end.
pub(super) const WATCH: u32 = 60;
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// What a bookmark says at the end of a list that is streamed.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// A list that is read page by page, as of one moment.
pub(super) struct Pages<'a, K> {
    client: &'a Client,
    path: &'a str,
    token: Option<String>,
    version: Option<String>,
    read: usize,
    kind: PhantomData<K>,
}

/// What a server answers who is asked for a watch that begins with a list.
pub(super) enum Streamed<K> {
    /// It gives one.
    Begins(Watching<K>),
    /// It gives none, and why: it is too old for it, was told not to, or lets nobody watch.
    Refused(Fault),
}

/// A watch that stands.
pub(super) struct Watching<K> {
    body: Body,
    buffer: Vec<u8>,
    end: Instant,
    kind: PhantomData<K>,
}

#[derive(Deserialize)]
#[serde(bound = "K: Kind")]
struct Answer<K> {
    kind: String,
    metadata: ListMeta,
    items: Option<Vec<K>>,
}

// === impl Pages ===

impl<'a, K: Kind> Pages<'a, K> {
    /// The list at a path of the API; nothing is asked yet.
    pub(super) fn new(client: &'a Client, path: &'a str) -> Self {
        Self { client, path, token: None, version: None, read: 0, kind: PhantomData }
    }

    /// The next page, `None` behind the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<K>>, Fault> {
        if self.version.is_some() {
            return Ok(None);
        }
        let verb = format!("list {}", K::plural(&()));
        let mut parameters = ListParams::default().limit(PAGE);
        parameters.continue_token = self.token.take();
        let request = Request::new(self.path).list(&parameters).map_err(|error| Fault::configuration(&error))?;
        let mut body = send(self.client, &verb, request).await?;
        let bytes = whole(&mut body, MAX_PAGE).await?;
        let answer: Answer<K> = serde_json::from_slice(&bytes).map_err(|error| garbage(&verb, &error))?;
        if answer.kind != format!("{}List", K::kind(&())) {
            return Err(Fault::garbage(format!("cannot {verb}: the answer is a {:.40}", answer.kind)));
        }
        let items = answer.items.unwrap_or_default();
        // An empty page counts too: one that always names another one would be read for ever.
        self.read += items.len().max(1);
        if self.read > MAX_OBJECTS {
            return Err(Fault::garbage(format!("cannot {verb}: more than {MAX_OBJECTS} objects")));
        }
        self.token = answer.metadata.continue_.filter(|token| !token.is_empty());
        if self.token.is_none() {
            let version = answer.metadata.resource_version.filter(|version| !version.is_empty());
            let missing = || Fault::garbage(format!("cannot {verb}: the answer has no resourceVersion"));
            self.version = Some(version.ok_or_else(missing)?);
        }
        Ok(Some(items))
    }

    /// The moment that the list is of, once the last page was read: where a watch begins.
    pub(super) fn into_version(self) -> Option<String> {
        self.version
    }
}

// === impl Watching ===

impl<K: Kind> Watching<K> {
    /// Starts a watch behind a version.
    pub(super) async fn start(client: &Client, path: &str, version: &str) -> Result<Self, Fault> {
        let parameters = WatchParams::default().timeout(WATCH);
        let request = Request::new(path).watch(&parameters, version).map_err(|error| Fault::configuration(&error))?;
        let body = send(client, &verb::<K>(), request).await?;
        let end = Instant::now() + Duration::from_secs(WATCH.into()) + GRACE;
        Ok(Self { body, buffer: Vec::new(), end, kind: PhantomData })
    }

    /// Starts a watch that first tells of everything there is, and of where that ends by a bookmark ([`is_end`]).
    pub(super) async fn streamed(client: &Client, path: &str) -> Result<Streamed<K>, Fault> {
        let parameters = WatchParams::streaming_lists().timeout(WATCH);
        // Without a version: at least as new as this moment, as a list is.
        let request = Request::new(path).watch(&parameters, "").map_err(|error| Fault::configuration(&error))?;
        let response = ask(client, request).await?;
        let code = response.status();
        let body = response.into_body();
        if code.is_success() {
            let end = Instant::now() + Duration::from_secs(WATCH.into()) + GRACE;
            return Ok(Streamed::Begins(Self { body, buffer: Vec::new(), end, kind: PhantomData }));
        }
        let fault = refusal(&verb::<K>(), code.as_u16(), body).await;
        if matches!(code.as_u16(), 400 | 403 | 404 | 405 | 406 | 422) {
            Ok(Streamed::Refused(fault))
        } else {
            Err(fault)
        }
    }

    /// The next events, at least one; `None` when the server has ended the watch.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<WatchEvent<K>>>, Fault> {
        loop {
            let frame = timeout_at(self.end, self.body.frame()).await.map_err(|_| Fault::silence())?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| Fault::connection(&error))?;
            let Some(bytes) = frame.data_ref() else { continue };
            let searched = self.buffer.len();
            self.buffer.extend_from_slice(bytes);
            let Some(last) = self.buffer[searched..].iter().rposition(|byte| *byte == b'\n') else {
                if self.buffer.len() > MAX_EVENT {
                    return Err(Fault::garbage(format!("cannot {}: an event without an end", verb::<K>())));
                }
                continue;
            };
            let rest = self.buffer.split_off(searched + last + 1);
            let lines = std::mem::replace(&mut self.buffer, rest);
            let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let events = lines.map(|line| serde_json::from_slice(line).map_err(|error| garbage(&verb::<K>(), &error)));
            let events = events.collect::<Result<Vec<_>, _>>()?;
            if !events.is_empty() {
                return Ok(Some(events));
            }
        }
    }
}

/// Whether a bookmark says that everything there is has been told.
pub(super) fn is_end(bookmark: &Bookmark) -> bool {
    bookmark.metadata.annotations.get(INITIAL_EVENTS_END).is_some_and(|value| value == "true")
}

/// The key of an object that an API server tells of. One without a name is nothing that it would tell.
pub(super) fn key<K: Kind>(object: &K) -> Result<ObjectKey, Fault> {
    let key = ObjectKey::of(object.meta());
    if key.name.is_empty() {
        return Err(Fault::garbage(format!("one of the {} has no name", K::plural(&()))));
    }
    Ok(key)
}

fn verb<K: Kind>() -> String {
    format!("watch {}", K::plural(&()))
}

/// What became of an object that was to be made.
pub(super) enum Created {
    /// It is there now.
    Made,
    /// It was there.
    Present,
    /// We may not.
    Forbidden(Fault),
}

/// Makes an object. `verb` is for messages.
pub(super) async fn create(client: &Client, path: &str, verb: &str, body: Vec<u8>) -> Result<Created, Fault> {
    let request = Request::new(path).create(&PostParams::default(), body);
    let request = request.map_err(|error| Fault::configuration(&error))?;
    let response = ask(client, request).await?;
    let code = response.status().as_u16();
    match code {
        200..300 => Ok(Created::Made),
        409 => Ok(Created::Present),
        _ => {
            let fault = refusal(verb, code, response.into_body()).await;
            if code == 403 { Ok(Created::Forbidden(fault)) } else { Err(fault) }
        }
    }
}

/// The body of a successful answer.
pub(super) async fn send(client: &Client, verb: &str, request: hyper::Request<Vec<u8>>) -> Result<Body, Fault> {
    let response = ask(client, request).await?;
    let code = response.status();
    let body = response.into_body();
    if code.is_success() { Ok(body) } else { Err(refusal(verb, code.as_u16(), body).await) }
}

pub(super) async fn ask(client: &Client, request: hyper::Request<Vec<u8>>) -> Result<hyper::Response<Body>, Fault> {
    let sent = timeout(PATIENCE, client.send(request.map(Body::from))).await.map_err(|_| Fault::silence())?;
    sent.map_err(|error| match error {
        // What stands around the reason says nothing to people.
        kube::Error::Service(reason) => Fault::connection(&*reason),
        error => Fault::connection(&error),
    })
}

/// Without a readable reason the number has to do.
pub(super) async fn refusal(verb: &str, code: u16, mut body: Body) -> Fault {
    let text = whole(&mut body, MAX_ERROR).await.unwrap_or_default();
    Fault::status(verb, code, serde_json::from_slice::<Status>(&text).ok().as_ref())
}

pub(super) async fn whole(body: &mut Body, limit: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    while let Some(frame) = timeout(PATIENCE, body.frame()).await.map_err(|_| Fault::silence())? {
        let frame = frame.map_err(|error| Fault::connection(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(Fault::garbage(format!("an answer of more than {limit} bytes")));
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}

pub(super) fn garbage(verb: &str, error: &serde_json::Error) -> Fault {
    Fault::garbage(format!("cannot {verb}: an answer that cannot be read: {error}"))
}
