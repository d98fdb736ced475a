//! The configuration's `clusters`: which API servers are read, as whom, and what differs from `sync` for each.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{imports::ToKubernetes, sync::SyncOptions};

/// One Kubernetes cluster that is read from its API server.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterConfig {
    /// Its `clusterName`: part of every ID and the mark of what is ours (D1, G1). Unique among all sources.
    pub name: String,
    /// A kubeconfig file, read again after every failure (default: `KUBECONFIG`, then `~/.kube/config`).
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    /// The context in it (default: its current one).
    #[serde(default)]
    pub context: Option<String>,
    /// The service account of the pod we run in, instead of a kubeconfig (default: no).
    #[serde(default)]
    pub in_cluster: bool,
    /// Namespaced mode: Services and EndpointSlices are read in these namespaces only, so that rights there will do
    /// (default: the whole cluster).
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Where Nodes come from (default: the API server, which needs a right on the whole cluster).
    #[serde(default)]
    pub nodes: Nodes,
    /// Whether what is wrong with a Service is told as an Event on it, by the leader (default: yes).
    #[serde(default = "yes")]
    pub events: bool,
    /// Services of Consul that appear in this cluster (default: none do).
    #[serde(default)]
    pub to_kubernetes: Option<ToKubernetes>,
    /// Whether its `ServiceIntentions`, `JWTProvider` and `RateLimits` are policy (default: no).
    #[serde(default)]
    pub policy: bool,
    /// Keys of `sync` that are others for this cluster.
    #[serde(default)]
    pub sync: Map<String, Value>,
}

/// Where the Nodes of a cluster come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Nodes {
    /// They are watched.
    #[default]
    Watch,
    /// They are not read: for namespaced mode without any right on the whole cluster. NodePort services then have no
    /// address to be reached at and yield nothing.
    None,
}

/// Most clusters, and most namespaces of one in namespaced mode: each takes watches of its own.
const MAX_CLUSTERS: usize = 64;
const MAX_NAMESPACES: usize = 256;

// === impl ClusterConfig ===

impl ClusterConfig {
    /// The sync's options for this cluster: `sync`, with what this cluster has of its own.
    pub fn options(&self, sync: &SyncOptions) -> Result<SyncOptions, String> {
        if self.sync.contains_key("clusterName") {
            return Err("clusterName of a cluster is its name".to_owned());
        }
        let mut whole = serde_json::to_value(sync).map_err(|error| error.to_string())?;
        if let Some(whole) = whole.as_object_mut() {
            whole.extend(self.sync.clone());
            whole.insert("clusterName".to_owned(), Value::String(self.name.clone()));
        }
        let options: SyncOptions = serde_json::from_value(whole).map_err(|error| format!("sync: {error}"))?;
        options.validate().map_err(|error| format!("sync: {error}"))?;
        Ok(options)
    }

    /// The namespaces that are read one by one; `None` for the whole cluster.
    pub fn scopes(&self) -> Vec<Option<String>> {
        if self.namespaces.is_empty() { vec![None] } else { self.namespaces.iter().cloned().map(Some).collect() }
    }

    fn validate(&self, sync: &SyncOptions) -> Result<(), String> {
        self.options(sync)?;
        if let Some(imports) = &self.to_kubernetes {
            imports.validate(&self.name).map_err(|what| format!("toKubernetes: {what}"))?;
        }
        if self.in_cluster && (self.kubeconfig.is_some() || self.context.is_some()) {
            return Err("inCluster excludes kubeconfig and context".to_owned());
        }
        if self.namespaces.len() > MAX_NAMESPACES {
            return Err(format!("more than {MAX_NAMESPACES} namespaces: leave them out and use sync.allowNamespaces"));
        }
        if let Some(bad) = self.namespaces.iter().find(|name| !is_label(name)) {
            return Err(format!("{bad:?} is no namespace"));
        }
        let distinct: BTreeSet<_> = self.namespaces.iter().collect();
        if distinct.len() < self.namespaces.len() { Err("a namespace is named twice".to_owned()) } else { Ok(()) }
    }
}

/// What each cluster alone cannot know, and paths that are relative to the configuration file. `taken` is the name
/// of the cluster that the manifests stand for, if there are any.
pub(crate) fn prepare(
    clusters: &mut [ClusterConfig],
    sync: &SyncOptions,
    taken: Option<&str>,
    base: &Path,
) -> Result<(), String> {
    if clusters.len() > MAX_CLUSTERS {
        return Err(format!("clusters: more than {MAX_CLUSTERS}"));
    }
    let mut names: BTreeSet<String> = taken.map(str::to_owned).into_iter().collect();
    for cluster in clusters {
        cluster.validate(sync).map_err(|what| format!("clusters: {}: {what}", cluster.name))?;
        if !names.insert(cluster.name.clone()) {
            let name = &cluster.name;
            return Err(format!("clusters: two sources are called {name}: each would remove what the other adds"));
        }
        if let Some(file) = &mut cluster.kubeconfig {
            *file = base.join(&*file);
        }
    }
    Ok(())
}

fn yes() -> bool {
    true
}

/// A name that may stand in a path: Kubernetes' own rule for namespaces.
fn is_label(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<ClusterConfig>, String> {
        let mut clusters: Vec<ClusterConfig> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        prepare(&mut clusters, &SyncOptions::default(), Some("files"), Path::new("/etc/portcullis"))?;
        Ok(clusters)
    }

    #[test]
    fn a_cluster_has_the_common_options_but_for_its_own() {
        let text = r#"[{"name": "east", "kubeconfig": "east.yml", "sync": {"k8sTag": "east"}}, {"name": "west"}]"#;
        let clusters = read(text).unwrap();
        let common = SyncOptions { default_sync: false, ..SyncOptions::default() };
        let options = clusters[0].options(&common).unwrap();
        assert_eq!((options.cluster_name.as_str(), options.k8s_tag.as_str()), ("east", "east"));
        assert!(!options.default_sync);
        assert_eq!(clusters[1].options(&common).unwrap().k8s_tag, "k8s");
        assert_eq!(clusters[0].kubeconfig.as_deref(), Some(Path::new("/etc/portcullis/east.yml")));
        assert_eq!(clusters[0].scopes(), [None]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_clusters_name() {
        for (text, what) in [
            (r#"[{"name": "a"}, {"name": "a"}]"#, "two sources are called a"),
            (r#"[{"name": "files"}]"#, "two sources are called files"),
            (r#"[{"name": "a", "sync": {"clusterName": "b"}}]"#, "clusterName of a cluster is its name"),
            (r#"[{"name": "a", "sync": {"k8sTags": "b"}}]"#, "unknown field"),
            (r#"[{"name": "a", "sync": {"consulNodeName": "a b"}}]"#, "consulNodeName"),
            (r#"[{"name": "a b"}]"#, "clusterName"),
            (r#"[{"name": "a", "inCluster": true, "context": "c"}]"#, "inCluster excludes"),
            (r#"[{"name": "a", "namespaces": ["../x"]}]"#, "is no namespace"),
            (r#"[{"name": "a", "namespaces": ["x", "x"]}]"#, "named twice"),
            (r#"[{"name": "a", "nodes": "some"}]"#, "unknown variant"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
