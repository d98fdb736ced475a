//! One operation of a transaction (`PUT /v1/txn`), in our words and in Consul's.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::live::{LiveCheck, LiveNode, LiveService};

/// What is done to the catalog. Whatever exists already is only touched as it was read (compare-and-set), so that a foreign
/// change in between is seen instead of lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Makes a node (`modify_index` 0) or changes it.
    SetNode {
        /// Its name.
        name: String,
        /// What it shall be; services and checks take no part.
        node: Box<LiveNode>,
    },
    /// Removes an empty node of our own.
    DeleteNode {
        /// Its name.
        name: String,
        /// As it was read.
        modify_index: u64,
    },
    /// Makes an instance (`modify_index` 0) or changes it.
    SetService {
        /// Consul node.
        node: String,
        /// What it shall be.
        service: Box<LiveService>,
    },
    /// Removes an instance with its checks.
    DeleteService {
        /// Consul node.
        node: String,
        /// As it was read.
        service: Box<LiveService>,
    },
    /// Makes a key (`modify_index` 0) or changes it.
    SetKey {
        /// Its path.
        key: String,
        /// What it shall hold.
        value: Vec<u8>,
        /// Its flags.
        flags: u64,
        /// As it was read.
        modify_index: u64,
    },
    /// Removes a key of ours.
    DeleteKey {
        /// Its path.
        key: String,
        /// As it was read; `None`: whatever it holds.
        modify_index: Option<u64>,
    },
    /// Makes or changes the check of an instance of ours.
    SetCheck {
        /// Consul node.
        node: String,
        /// What it shall be.
        check: Box<LiveCheck>,
        /// Consul's `Type`.
        kind: String,
    },
}

impl Operation {
    /// As `/v1/txn` takes it.
    pub fn to_json(&self) -> Value {
        match self {
            Self::SetNode { name, node } => json!({"Node": {"Verb": "cas", "Node": {
                "ID": node.id, "Node": name, "Address": node.address, "Meta": node.meta, "ModifyIndex": node.modify_index,
            }}}),
            Self::DeleteNode { name, modify_index } => json!({"Node": {"Verb": "delete-cas", "Node": {
                "Node": name, "ModifyIndex": modify_index,
            }}}),
            Self::SetService { node, service } => json!({"Service": {"Verb": "cas", "Node": node, "Service": {
                "ID": service.id, "Service": service.service, "Tags": service.tags, "Address": service.address,
                "Meta": service.meta, "Port": service.port, "EnableTagOverride": service.enable_tag_override,
                "Weights": {"Passing": service.weights.passing, "Warning": service.weights.warning},
                "ModifyIndex": service.modify_index,
            }}}),
            Self::DeleteService { node, service } => {
                json!({"Service": {"Verb": "delete-cas", "Node": node, "Service": {
                    "ID": service.id, "Service": service.service, "ModifyIndex": service.modify_index,
                }}})
            }
            Self::SetKey { key, value, flags, modify_index } => json!({"KV": {
                "Verb": "cas", "Key": key, "Value": STANDARD.encode(value), "Flags": flags, "Index": modify_index,
            }}),
            Self::DeleteKey { key, modify_index: None } => json!({"KV": {"Verb": "delete", "Key": key}}),
            Self::DeleteKey { key, modify_index: Some(index) } => {
                json!({"KV": {"Verb": "delete-cas", "Key": key, "Index": index}})
            }
            // The service's name is what Consul judges the token by.
            Self::SetCheck { node, check, kind } => json!({"Check": {"Verb": "set", "Check": {
                "Node": node, "CheckID": check.check_id, "Name": check.name, "Status": check.status,
                "Output": check.output, "ServiceID": check.service_id, "ServiceName": check.service_name, "Type": kind,
            }}}),
        }
    }
}

impl fmt::Display for Operation {
    /// One line for people: what happens to a node, as an instance's change shows itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetNode { name, node } if node.modify_index == 0 => write!(f, "+ node {name} {}", node.address),
            Self::SetNode { name, node } => write!(f, "~ node {name} {}", node.address),
            Self::DeleteNode { name, .. } => write!(f, "- node {name}"),
            Self::SetService { node, service } => write!(f, "set {} on {node}", service.id),
            Self::DeleteService { node, service } => write!(f, "delete {} on {node}", service.id),
            Self::SetCheck { node, check, .. } => write!(f, "check {} on {node}", check.check_id),
            Self::SetKey { key, modify_index: 0, .. } => write!(f, "+ key {key}"),
            Self::SetKey { key, .. } => write!(f, "~ key {key}"),
            Self::DeleteKey { key, .. } => write!(f, "- key {key}"),
        }
    }
}
