//! What Consul holds on the nodes that carry our instances, and who owns it (G1, G2).

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use serde::{Deserialize, Deserializer};

use super::operation::Operation;
use crate::sync::{CLUSTER_MARK, ConsulNodes, Definition, EXTERNAL_MARK, EXTERNAL_SOURCE, SOURCE_MARK, SyncOptions};

/// The check that every member of Consul's gossip has: such a node belongs to an agent, which removes what it does not know.
const AGENT_CHECK: &str = "serfHealth";

/// A text that many objects share: with ten thousand services, copies of the same would be most of the memory.
pub type Text = Arc<str>;

/// Texts that were met, so that equal ones are kept once.
#[derive(Debug, Default)]
pub struct Texts {
    texts: HashSet<Text>,
    lists: HashSet<Arc<[Text]>>,
}

/// Meta of an instance in one piece, as JSON with sorted keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta(Box<str>);

/// Which part of the catalog is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Where the instances come from, which decides the marks in their meta.
    pub origin: Origin,
    /// The Kubernetes cluster, or the name of the external services: the mark in the meta of our instances.
    pub cluster: String,
    /// The synthetic Consul node.
    pub node: String,
    /// Whether there may be Consul nodes of our own beside it.
    pub per_node: bool,
}

/// What our instances are registered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Services of a Kubernetes cluster.
    Kubernetes,
    /// External services, from files.
    External,
}

/// The nodes that were looked at, by name. A node that was looked at and does not exist is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// By name.
    pub nodes: BTreeMap<String, LiveNode>,
}

/// A Consul node with all its services and checks, whoever they belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LiveNode {
    /// UUID; may be empty.
    #[serde(rename = "ID")]
    pub id: String,
    /// Address.
    pub address: String,
    /// Meta.
    #[serde(deserialize_with = "or_default")]
    pub meta: BTreeMap<String, String>,
    /// For compare-and-set.
    pub modify_index: u64,
    /// By ID.
    #[serde(skip)]
    pub services: BTreeMap<Text, LiveService>,
    /// By ID.
    #[serde(skip)]
    pub checks: BTreeMap<Text, LiveCheck>,
}

/// A service instance as the catalog has it. Numbers are wide: Consul stores any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LiveService {
    /// Unique on its node.
    #[serde(rename = "ID")]
    pub id: Text,
    /// Name.
    pub service: Text,
    /// Tags, in their order.
    #[serde(deserialize_with = "or_default")]
    pub tags: Arc<[Text]>,
    /// Address.
    pub address: Text,
    /// Meta.
    #[serde(deserialize_with = "or_default")]
    pub meta: Meta,
    /// Port.
    pub port: i64,
    /// Weights for DNS.
    #[serde(deserialize_with = "or_default")]
    pub weights: LiveWeights,
    /// Whether others may change the tags.
    pub enable_tag_override: bool,
    /// For compare-and-set.
    pub modify_index: u64,
}

/// Weights of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LiveWeights {
    /// While passing.
    pub passing: i64,
    /// While warning.
    pub warning: i64,
}

/// A check as the catalog has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LiveCheck {
    /// Unique on its node.
    #[serde(rename = "CheckID")]
    pub check_id: Text,
    /// Shown by Consul's pages.
    pub name: Text,
    /// Any text.
    pub status: Text,
    /// Why.
    pub output: Text,
    /// Instance; empty for a check of the node.
    #[serde(rename = "ServiceID")]
    pub service_id: Text,
    /// The instance's name when the check was written.
    pub service_name: Text,
    /// What others shall probe, if anything.
    #[serde(deserialize_with = "definition")]
    pub definition: Option<Box<Definition>>,
}

/// Go writes empty lists and maps as `null`.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

// === impl Texts ===

impl Texts {
    /// The one that stands for all equal texts.
    pub fn text(&mut self, text: &str) -> Text {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let text = Text::from(text);
        self.texts.insert(Arc::clone(&text));
        text
    }

    /// The one that stands for all equal lists.
    pub fn list<'a>(&mut self, texts: impl Iterator<Item = &'a str>) -> Arc<[Text]> {
        let list: Vec<_> = texts.map(|text| self.text(text)).collect();
        if let Some(known) = self.lists.get(list.as_slice()) {
            return Arc::clone(known);
        }
        let list: Arc<[Text]> = list.into();
        self.lists.insert(Arc::clone(&list));
        list
    }
}

// === impl Meta ===

impl Meta {
    /// The pairs.
    pub fn pairs(&self) -> BTreeMap<String, String> {
        // It was made of such pairs.
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl Default for Meta {
    fn default() -> Self {
        Self::from(&BTreeMap::new())
    }
}

impl From<&BTreeMap<String, String>> for Meta {
    fn from(pairs: &BTreeMap<String, String>) -> Self {
        // Texts always have a JSON form.
        Self(serde_json::to_string(pairs).unwrap_or_default().into())
    }
}

impl<'de> Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(&BTreeMap::deserialize(deserializer)?))
    }
}

/// Consul writes an empty one where there is none.
fn definition<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<Definition>>, D::Error> {
    let found: Option<Definition> = Option::deserialize(deserializer)?;
    Ok(found.filter(|it| *it != Definition::default()).map(Box::new))
}

// === impl Scope ===

impl Scope {
    /// What these options make ours.
    pub fn new(options: &SyncOptions) -> Self {
        Self {
            origin: Origin::Kubernetes,
            cluster: options.cluster_name.clone(),
            node: options.consul_node_name.clone(),
            per_node: options.consul_nodes == ConsulNodes::PerNode,
        }
    }

    /// The external services of this name: each on a node of its own making, `external-<name>-<node>`.
    pub fn external(name: &str) -> Self {
        Self { origin: Origin::External, cluster: name.to_owned(), node: "external".to_owned(), per_node: true }
    }

    /// Where the lock and the permissions are, below `portcullis/sync/`. No name of a cluster holds the slash.
    pub fn lock(&self) -> String {
        match self.origin {
            Origin::Kubernetes => self.cluster.clone(),
            Origin::External => format!("external/{}", self.cluster),
        }
    }

    /// The pair in a node's meta by which Consul finds our own nodes, as its `node-meta` takes it.
    pub fn node_mark(&self) -> String {
        format!("{}:{}", self.origin.marks().1, self.cluster)
    }

    /// Whether an instance carries our marks; its node must be ours as well ([`Self::may_carry`]).
    pub fn owns(&self, service: &LiveService) -> bool {
        self.marks(&service.meta.pairs())
    }

    /// Whether a node was made for our cluster alone.
    pub fn owns_node(&self, name: &str, node: &LiveNode) -> bool {
        name != self.node && name.starts_with(&self.own_nodes()) && self.marks(&node.meta)
    }

    /// Whether a node may carry our instances: the synthetic one, which other clusters may share, or one of our own.
    pub fn may_carry(&self, name: &str, node: &LiveNode) -> bool {
        !node.is_agent() && (name == self.node || self.owns_node(name, node))
    }

    /// How the names of our own nodes begin.
    pub fn own_nodes(&self) -> String {
        format!("{}-{}-", self.node, self.cluster)
    }

    /// Whether the meta of an instance or a node bears our marks.
    pub fn marks(&self, meta: &BTreeMap<String, String>) -> bool {
        let has = |key: &str, value: &str| meta.get(key).is_some_and(|found| found == value);
        let (source, cluster) = self.origin.marks();
        has(source.0, source.1) && has(cluster, &self.cluster)
    }
}

// === impl Origin ===

impl Origin {
    /// The pair that says so, and the key of the cluster's mark.
    fn marks(self) -> ((&'static str, &'static str), &'static str) {
        match self {
            Self::Kubernetes => (SOURCE_MARK, CLUSTER_MARK),
            Self::External => (EXTERNAL_SOURCE, EXTERNAL_MARK),
        }
    }
}

// === impl LiveNode ===

impl LiveNode {
    /// Whether a Consul agent runs on it, or did.
    pub fn is_agent(&self) -> bool {
        self.checks.contains_key(AGENT_CHECK)
    }
}

// === impl Live ===

impl Live {
    /// What the catalog holds after these operations were accepted at this Raft index.
    ///
    /// An operation that changed nothing leaves its object's index behind this one; the next compare-and-set then fails,
    /// and everything is read again.
    pub fn apply(&mut self, operations: &[Operation], index: u64) {
        for operation in operations {
            match operation {
                Operation::SetNode { name, node } => {
                    let present = self.nodes.entry(name.clone()).or_default();
                    let (services, checks) =
                        (std::mem::take(&mut present.services), std::mem::take(&mut present.checks));
                    *present = LiveNode { modify_index: index, services, checks, ..LiveNode::clone(node) };
                }
                Operation::DeleteNode { name, .. } => drop(self.nodes.remove(name)),
                Operation::SetService { node, service } => {
                    if let Some(node) = self.nodes.get_mut(node) {
                        let service = LiveService { modify_index: index, ..LiveService::clone(service) };
                        node.services.insert(service.id.clone(), service);
                    }
                }
                Operation::DeleteService { node, service } => {
                    if let Some(node) = self.nodes.get_mut(node) {
                        node.services.remove(&service.id);
                        node.checks.retain(|_, check| check.service_id != service.id);
                    }
                }
                Operation::SetCheck { node, check, .. } => {
                    if let Some(node) = self.nodes.get_mut(node) {
                        node.checks.insert(check.check_id.clone(), LiveCheck::clone(check));
                    }
                }
                Operation::DeleteCheck { node, check_id } => {
                    if let Some(node) = self.nodes.get_mut(node) {
                        node.checks.remove(check_id.as_str());
                    }
                }
                Operation::SetKey { .. } | Operation::DeleteKey { .. } => {}
            }
        }
    }

    /// Keeps equal texts once. Worth it after reading; what is written later brings its own.
    pub fn share_texts(&mut self) {
        let mut texts = Texts::default();
        for node in self.nodes.values_mut() {
            let mut checks = BTreeMap::new();
            for (id, service) in &mut node.services {
                service.id = Arc::clone(id);
                service.service = texts.text(&service.service);
                service.address = texts.text(&service.address);
                service.tags = texts.list(service.tags.iter().map(AsRef::as_ref));
            }
            for mut check in std::mem::take(&mut node.checks).into_values() {
                for text in [&mut check.name, &mut check.status, &mut check.service_name] {
                    *text = texts.text(text);
                }
                if let Some((id, _)) = node.services.get_key_value(&check.service_id) {
                    check.service_id = Arc::clone(id);
                }
                checks.insert(Arc::clone(&check.check_id), check);
            }
            node.checks = checks;
        }
    }

    /// How many instances are ours.
    pub fn n_owned(&self, scope: &Scope) -> usize {
        let ours = self.nodes.iter().filter(|(name, node)| scope.may_carry(name, node));
        ours.map(|(_, node)| node.services.values().filter(|service| scope.owns(service)).count()).sum()
    }
}
