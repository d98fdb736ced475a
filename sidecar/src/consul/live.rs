//! What Consul holds on the nodes that carry our instances, and who owns it (G1, G2).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::operation::Operation;
use crate::sync::{CLUSTER_MARK, ConsulNodes, SOURCE_MARK, SyncOptions};

/// The check that every member of Consul's gossip has: such a node belongs to an agent, which removes what it does not know.
const AGENT_CHECK: &str = "serfHealth";

/// Which part of the catalog is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The Kubernetes cluster: the mark in the meta of our instances.
    pub cluster: String,
    /// The synthetic Consul node.
    pub node: String,
    /// Whether there may be Consul nodes of our own beside it.
    pub per_node: bool,
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
    pub services: BTreeMap<String, LiveService>,
    /// By ID.
    #[serde(skip)]
    pub checks: BTreeMap<String, LiveCheck>,
}

/// A service instance as the catalog has it. Numbers are wide: Consul stores any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LiveService {
    /// Unique on its node.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name.
    pub service: String,
    /// Tags, in their order.
    #[serde(deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// Address.
    pub address: String,
    /// Meta.
    #[serde(deserialize_with = "or_default")]
    pub meta: BTreeMap<String, String>,
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
    pub check_id: String,
    /// Shown by Consul's pages.
    pub name: String,
    /// Any text.
    pub status: String,
    /// Why.
    pub output: String,
    /// Instance; empty for a check of the node.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// The instance's name when the check was written.
    pub service_name: String,
}

/// Go writes empty lists and maps as `null`.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

// === impl Scope ===

impl Scope {
    /// What these options make ours.
    pub fn new(options: &SyncOptions) -> Self {
        Self {
            cluster: options.cluster_name.clone(),
            node: options.consul_node_name.clone(),
            per_node: options.consul_nodes == ConsulNodes::PerNode,
        }
    }

    /// Whether an instance carries our marks; its node must be ours as well ([`Self::may_carry`]).
    pub fn owns(&self, service: &LiveService) -> bool {
        self.is_marked(&service.meta)
    }

    /// Whether a node was made for our cluster alone.
    pub fn owns_node(&self, name: &str, node: &LiveNode) -> bool {
        name != self.node && name.starts_with(&self.own_nodes()) && self.is_marked(&node.meta)
    }

    /// Whether a node may carry our instances: the synthetic one, which other clusters may share, or one of our own.
    pub fn may_carry(&self, name: &str, node: &LiveNode) -> bool {
        !node.is_agent() && (name == self.node || self.owns_node(name, node))
    }

    /// How the names of our own nodes begin.
    pub fn own_nodes(&self) -> String {
        format!("{}-{}-", self.node, self.cluster)
    }

    fn is_marked(&self, meta: &BTreeMap<String, String>) -> bool {
        let has = |key: &str, value: &str| meta.get(key).is_some_and(|found| found == value);
        has(SOURCE_MARK.0, SOURCE_MARK.1) && has(CLUSTER_MARK, &self.cluster)
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
                Operation::SetKey { .. } | Operation::DeleteKey { .. } => {}
            }
        }
    }

    /// How many instances are ours.
    pub fn n_owned(&self, scope: &Scope) -> usize {
        let ours = self.nodes.iter().filter(|(name, node)| scope.may_carry(name, node));
        ours.map(|(_, node)| node.services.values().filter(|service| scope.owns(service)).count()).sum()
    }
}
