//! Resources that are policy: `ServiceIntentions` and `JWTProvider` as consul-k8s defines them, and our `RateLimits`.
//!
//! Watched as they are, for the reader of policy judges them; only what controllers note on them is left out. A kind that the
//! cluster does not know is an empty list, and that is told: it may be installed later. One that was known and is no more is
//! doubted for a while, because resources that are gone may have been denies.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    marker::PhantomData,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    cluster::ObjectKey,
    config::ClusterConfig,
    connection::Connection,
    kinds::Kind,
    packed::Packed,
    watch::{Told, Watcher},
};
use crate::{control, documents::Document, input::Change};

/// The lists of a cluster, in this order for each scope.
pub const RESOURCES: [&str; 3] = ["serviceintentions", "jwtproviders", "ratelimits"];

/// How long changes that come together are gathered.
const GATHER: Duration = Duration::from_millis(8);
/// What may wait for us.
const WAITING: usize = 64;
/// How long a kind that was known has to be unknown before its resources are taken to be gone.
const DOUBT: Duration = Duration::from_secs(300);
/// Where kubectl keeps the whole manifest a second time.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A resource as it is written, without its status.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(bound = "")]
struct Resource<D> {
    metadata: ObjectMeta,
    #[serde(flatten)]
    rest: Map<String, Value>,
    #[serde(skip)]
    definition: PhantomData<fn() -> D>,
}

/// What an API server calls a kind.
trait Definition: Default + Send + Sync + 'static {
    const GROUP: &'static str;
    const KIND: &'static str;
    const PLURAL: &'static str;
}

macro_rules! definition {
    ($name:ident, $group:literal, $kind:literal, $plural:expr) => {
        #[derive(Debug, Clone, Default)]
        struct $name;

        impl Definition for $name {
            const GROUP: &'static str = $group;
            const KIND: &'static str = $kind;
            const PLURAL: &'static str = $plural;
        }
    };
}

definition!(ServiceIntentions, "consul.hashicorp.com", "ServiceIntentions", RESOURCES[0]);
definition!(JwtProvider, "consul.hashicorp.com", "JWTProvider", RESOURCES[1]);
definition!(RateLimits, "portcullis.io", "RateLimits", RESOURCES[2]);

impl<D: Definition> kube::Resource for Resource<D> {
    type DynamicType = ();
    type Scope = kube::core::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        D::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        D::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1alpha1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        D::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<D: Definition> Kind for Resource<D> {
    fn slim(&mut self) {
        let mut annotations = self.metadata.annotations.take().unwrap_or_default();
        annotations.remove(LAST_APPLIED);
        self.metadata = ObjectMeta {
            name: self.metadata.name.take(),
            namespace: self.metadata.namespace.take(),
            annotations: Some(annotations).filter(|it| !it.is_empty()),
            ..ObjectMeta::default()
        };
        self.rest.remove("status");
        // In lists an object does not say what it is.
        self.rest.insert("apiVersion".to_owned(), format!("{}/v1alpha1", D::GROUP).into());
        self.rest.insert("kind".to_owned(), D::KIND.into());
    }

    fn change(key: Arc<ObjectKey>, object: Option<Packed<Self>>) -> Change {
        // What was written as JSON can be read as such.
        let value = object.and_then(|object| serde_json::from_slice(object.text()).ok());
        Change::Resource(Arc::unwrap_or_clone(key), value)
    }
}

/// Tells what the lists of a cluster hold, now and after every change, until nobody listens. `source` is the cluster's number
/// among the sources.
pub async fn follow(config: ClusterConfig, source: usize, ears: control::Ears) {
    let (name, scopes) = (config.name.clone(), config.scopes());
    let connection = Arc::new(Connection::new(config));
    let (sender, mut told) = mpsc::channel(WAITING);
    // Dropped with this future, which ends them.
    let (mut watchers, mut lists) = (JoinSet::new(), Vec::new());
    for scope in &scopes {
        let scope = scope.as_deref();
        for kind in RESOURCES {
            let number = lists.len();
            match kind {
                "serviceintentions" => watchers
                    .spawn(Watcher::<Resource<ServiceIntentions>>::new(&connection, scope, number, &sender).run()),
                "jwtproviders" => {
                    watchers.spawn(Watcher::<Resource<JwtProvider>>::new(&connection, scope, number, &sender).run())
                }
                _ => watchers.spawn(Watcher::<Resource<RateLimits>>::new(&connection, scope, number, &sender).run()),
            };
            lists.push(List::new(format!("cluster {name}: {kind}")));
        }
    }
    drop(sender);
    while let Some((number, first)) = told.recv().await {
        let mut concerned = BTreeSet::from([number]);
        if let Some(list) = lists.get_mut(number) {
            list.take(first, Instant::now());
        }
        let end = Instant::now() + GATHER;
        while let Ok(Some((number, more))) = timeout_at(end, told.recv()).await {
            concerned.insert(number);
            if let Some(list) = lists.get_mut(number) {
                list.take(more, Instant::now());
            }
        }
        for number in concerned {
            let Some(says) = lists.get(number).and_then(List::say) else { continue };
            if ears.send(control::Told { part: (source, number), says }).await.is_err() {
                return;
            }
        }
    }
}

/// What a watch has told.
#[derive(Debug)]
struct List {
    name: String,
    known: BTreeMap<ObjectKey, Value>,
    state: State,
    /// Since when the kind is unknown.
    missing: Option<Instant>,
}

#[derive(Debug)]
enum State {
    /// Its list is not complete yet.
    Listing,
    /// It is known.
    Stands,
    /// It is not, and why.
    Broken(String),
    /// There is no such kind.
    Missing,
}

// === impl List ===

impl List {
    fn new(name: String) -> Self {
        Self { name, known: BTreeMap::new(), state: State::Listing, missing: None }
    }

    fn take(&mut self, told: Told, now: Instant) {
        match told {
            Told::Changes(changes) => {
                for change in changes {
                    match change {
                        Change::Resource(key, Some(object)) => drop(self.known.insert(key, *object)),
                        Change::Resource(key, None) => drop(self.known.remove(&key)),
                        // Of other watches.
                        Change::Service(..) | Change::Slice(..) | Change::Node(..) => {}
                    }
                }
            }
            Told::Stands => (self.state, self.missing) = (State::Stands, None),
            Told::Broken(why) => self.state = State::Broken(why),
            Told::Missing(why) => {
                let since = *self.missing.get_or_insert(now);
                let is_doubted = !self.known.is_empty() && now.duration_since(since) < DOUBT;
                self.state = if is_doubted {
                    State::Broken(format!("{why}, and there were resources of it"))
                } else {
                    State::Missing
                };
                if !is_doubted && since == now {
                    tracing::warn!("{}: {why}; taken for an empty list", self.name);
                }
            }
        }
    }

    /// What it holds now; nothing is said of a list that is being read.
    fn say(&self) -> Option<Result<Vec<Document>, String>> {
        match &self.state {
            State::Listing => None,
            State::Broken(why) => Some(Err(why.clone())),
            State::Missing => Some(Ok(Vec::new())),
            State::Stands => {
                let place = |key: &ObjectKey| format!("{} {}/{}", self.name, key.namespace, key.name);
                Some(Ok(self.known.iter().map(|(key, object)| (place(key), object.clone())).collect()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resource(text: &Value) -> Value {
        let mut resource: Resource<ServiceIntentions> = serde_json::from_value(text.clone()).unwrap();
        resource.slim();
        serde_json::to_value(&resource).unwrap()
    }

    #[test]
    fn a_resource_keeps_what_its_author_wrote_and_nothing_else() {
        let text = json!({"metadata": {"name": "db", "namespace": "shop", "resourceVersion": "7", "managedFields": [{}],
            "annotations": {"portcullis.io/mode": "shadow", LAST_APPLIED: "{}"}},
            "spec": {"destination": {"name": "db"}, "unknown": 1}, "status": {"conditions": []}});
        assert_eq!(
            resource(&text),
            json!({"apiVersion": "consul.hashicorp.com/v1alpha1", "kind": "ServiceIntentions",
                "metadata": {"name": "db", "namespace": "shop", "annotations": {"portcullis.io/mode": "shadow"}},
                "spec": {"destination": {"name": "db"}, "unknown": 1}})
        );
    }

    fn change(name: &str, object: Option<Value>) -> Told {
        let key = ObjectKey { namespace: "shop".to_owned(), name: name.to_owned() };
        Told::Changes(vec![Change::Resource(key, object.map(Box::new))])
    }

    fn said(list: &List) -> String {
        match list.say() {
            None => "-".to_owned(),
            Some(Ok(documents)) => documents.into_iter().map(|(place, _)| place).collect::<Vec<_>>().join(","),
            Some(Err(why)) => format!("! {why}"),
        }
    }

    #[test]
    fn a_list_is_told_when_it_is_whole_and_a_kind_that_is_gone_is_doubted() {
        let (mut list, now) = (List::new("east: x".to_owned()), Instant::now());
        list.take(change("a", Some(json!({}))), now);
        assert_eq!(said(&list), "-");
        list.take(Told::Stands, now);
        assert_eq!(said(&list), "east: x shop/a");
        list.take(Told::Broken("gone".to_owned()), now);
        list.take(change("b", Some(json!({}))), now);
        assert_eq!(said(&list), "! gone");
        list.take(Told::Stands, now);
        assert_eq!(said(&list), "east: x shop/a,east: x shop/b");
        list.take(Told::Missing("404".to_owned()), now);
        assert_eq!(said(&list), "! 404, and there were resources of it");
        list.take(Told::Missing("404".to_owned()), now + DOUBT);
        assert_eq!(said(&list), "");
        list.take(change("a", None), now);
        list.take(Told::Stands, now);
        assert_eq!(said(&list), "east: x shop/b");
    }

    #[test]
    fn a_kind_that_was_never_known_is_an_empty_list() {
        let (mut list, now) = (List::new("x".to_owned()), Instant::now());
        list.take(Told::Missing("404".to_owned()), now);
        assert_eq!(said(&list), "");
    }
}
