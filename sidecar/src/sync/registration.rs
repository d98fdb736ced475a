//! One registration: the payload of Consul's `PUT /v1/catalog/register`, plus its check.
//!
//! Only fields that Community Edition accepts: `Namespace` and `Partition` would be answered with 400, and `Ports` by
//! every server before 1.22.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One instance with the node and the check that go with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Registration {
    /// UUID of the Consul node: a function of cluster and node name, so that a repeated creation is the same node (D4).
    #[serde(rename = "ID", default)]
    pub id: String,
    /// Consul node.
    pub node: String,
    /// The node's address, used only by readers that look at nodes: every instance has an address of its own.
    pub address: String,
    /// The node's meta.
    #[serde(default)]
    pub node_meta: BTreeMap<String, String>,
    /// Whether an existing node is left as it is.
    #[serde(default)]
    pub skip_node_update: bool,
    /// The instance.
    pub service: RegisteredService,
    /// Its readiness.
    pub check: Check,
}

/// A service instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RegisteredService {
    /// Stable ID, unique on the Consul node (D1).
    #[serde(rename = "ID")]
    pub id: String,
    /// Consul service name.
    pub service: String,
    /// Tags without duplicates, in a stable order.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Where the instance is reached; never empty.
    pub address: String,
    /// At most 64 pairs that Consul accepts.
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
    /// Port, 1-65535.
    pub port: u16,
    /// Weights for DNS.
    #[serde(default)]
    pub weights: Weights,
}

/// DNS weights, 1-65535 each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Weights {
    /// While passing.
    pub passing: u16,
    /// While warning.
    pub warning: u16,
}

/// The check of an instance: a text that we write; nobody runs it unless it has a definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    /// `<namespace>/<service ID>`.
    #[serde(rename = "CheckID")]
    pub check_id: String,
    /// Shown by Consul's pages.
    pub name: String,
    /// `kubernetes-readiness`, or `external`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// `passing` or `critical`.
    pub status: String,
    /// Why, with the address: Traefik's watch sees changes of checks, not of addresses.
    pub output: String,
    /// The instance it belongs to.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// The Consul node.
    pub node: String,
    /// What consul-esm shall probe; then the status is its own to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Definition>,
}

/// A probe in Consul's words. Durations are as Go prints them (`1m30s`): that is how they are read back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Definition {
    /// URL that must answer 200 to 299; empty for none.
    #[serde(rename = "HTTP", skip_serializing_if = "String::is_empty")]
    pub http: String,
    /// `host:port` that must take a connection; empty for none.
    #[serde(rename = "TCP", skip_serializing_if = "String::is_empty")]
    pub tcp: String,
    /// From one probe to the next.
    pub interval: String,
    /// How long one may take.
    pub timeout: String,
}

impl Default for Weights {
    /// Consul's own.
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}
