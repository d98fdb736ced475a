//! The sync's options: the keys of the configuration file's `sync` section and of `--set key=value`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::traefik::v1::EntryPoint;

/// Everything an operator can decide about the sync. Keys are camelCase; unknown ones are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SyncOptions {
    /// Which of a node's addresses stands for it (A1-A3).
    pub node_port_sync: NodePortSync,
    /// Service types that are synced (F2).
    pub sync_types: Vec<ServiceType>,
    /// Name of the Kubernetes cluster: part of every ID and the mark of what is ours (D1, G1). Two clusters that share
    /// one Consul must differ here.
    pub cluster_name: String,
    /// Consul node that carries the instances; with `consulNodes: perNode` the beginning of each node's name (D4).
    pub consul_node_name: String,
    /// First tag of every instance; empty for none (E1).
    pub k8s_tag: String,
    /// Whether a service without the sync annotation is synced (F4).
    pub default_sync: bool,
    /// Namespaces that are synced; `*` is all, none is nothing (F1).
    pub allow_namespaces: Vec<String>,
    /// Namespaces that never are, whatever else says so (F1).
    pub deny_namespaces: Vec<String>,
    /// Put before every Consul service name, without a separator (D2).
    pub consul_service_prefix: String,
    /// Whether `-<namespace>` is put behind every Consul service name (D2).
    #[serde(rename = "addK8SNamespaceSuffix")]
    pub add_k8s_namespace_suffix: bool,
    /// Annotations whose keys begin so become tags `key=value` (E2).
    pub annotation_tag_prefixes: Vec<String>,
    /// Annotations that hold comma lists of tags, in this order (E1).
    pub annotation_tag_lists: Vec<String>,
    /// Whether LoadBalancer services are registered by their node ports, as NodePort services are.
    pub load_balancer_as_node_port: bool,
    /// Whether LoadBalancer services are registered by their endpoints instead of the balancer's address (X2).
    pub load_balancer_endpoints: bool,
    /// One Consul node for everything, or one for each Kubernetes node.
    pub consul_nodes: ConsulNodes,
    /// How routing annotations are shown to Traefik.
    pub exposure: Exposure,
    /// Traefik v1's `domain`, for services of v1 that name no rule; empty if there was none.
    pub traefik_domain: String,
    /// v1's entry points by their names in v3: `http=web`, `https=websecure/tls` where v1 ended TLS.
    pub traefik_entry_points: Vec<String>,
    /// Tags that a service must carry to be exposed, all of them: v1's constraints `tag==…`.
    pub required_tags: Vec<String>,
}

/// Address types that are considered, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodePortSync {
    /// The first ExternalIP, else the first InternalIP.
    ExternalFirst,
    /// The first ExternalIP, else the node is left out.
    ExternalOnly,
    /// The first InternalIP, else the node is left out.
    InternalOnly,
}

/// Service types that can be synced; ExternalName never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceType {
    /// Reached at node addresses.
    NodePort,
    /// Reached at endpoint addresses; headless services too.
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// Reached at the balancer's address.
    LoadBalancer,
}

/// The Consul nodes that carry the instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConsulNodes {
    /// One node at 127.0.0.1, as consul-k8s has it.
    Synthetic,
    /// One node for each Kubernetes node, with its address.
    PerNode,
}

/// What becomes of a service's routing annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exposure {
    /// They are kept under a prefix that Traefik does not read; the gate makes the routers.
    Gate,
    /// They are given to Traefik's catalog provider as they are.
    Tags,
    /// They are left out.
    None,
}

/// An option that cannot be used; the message names the key and what it allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// No option of this name.
    #[error("unknown sync option {key}: the options are {}", known.join(", "))]
    UnknownKey {
        /// What was given.
        key: String,
        /// All keys.
        known: Vec<&'static str>,
    },
    /// A value that the option does not take.
    #[error("sync option {key} cannot be {value}: allowed is {allowed}")]
    BadValue {
        /// The option.
        key: &'static str,
        /// What was given.
        value: String,
        /// What it takes.
        allowed: &'static str,
    },
}

/// How an option's text is read by [`SyncOptions::set`].
#[derive(Clone, Copy)]
enum Shape {
    Text,
    Switch,
    List,
}

const TEXT: &str = "a text";
const SWITCH: &str = "true or false";
const LIST: &str = "a list of texts that are not empty, as JSON or with commas";
const NAME: &str = "1 to 63 characters of A-Z a-z 0-9 -";
const CLUSTER: &str = "1 to 63 characters of A-Z a-z 0-9 . _ -";

/// Every key with its shape and what it allows.
const KEYS: [(&str, Shape, &str); 19] = [
    ("nodePortSync", Shape::Text, "ExternalFirst, ExternalOnly or InternalOnly"),
    ("syncTypes", Shape::List, "a list of NodePort, ClusterIP, LoadBalancer"),
    ("clusterName", Shape::Text, CLUSTER),
    ("consulNodeName", Shape::Text, NAME),
    ("k8sTag", Shape::Text, TEXT),
    ("defaultSync", Shape::Switch, SWITCH),
    ("allowNamespaces", Shape::List, LIST),
    ("denyNamespaces", Shape::List, "a list of namespaces without *, as JSON or with commas"),
    ("consulServicePrefix", Shape::Text, TEXT),
    ("addK8SNamespaceSuffix", Shape::Switch, SWITCH),
    ("annotationTagPrefixes", Shape::List, LIST),
    ("annotationTagLists", Shape::List, LIST),
    ("loadBalancerAsNodePort", Shape::Switch, SWITCH),
    ("loadBalancerEndpoints", Shape::Switch, "true or false, and not together with loadBalancerAsNodePort"),
    ("consulNodes", Shape::Text, "synthetic or perNode"),
    ("exposure", Shape::Text, "gate, tags or none"),
    ("traefikDomain", Shape::Text, TEXT),
    ("traefikEntryPoints", Shape::List, "a list of v1=v3, with /tls behind those that end TLS"),
    ("requiredTags", Shape::List, LIST),
];

// === impl SyncOptions ===

impl Default for SyncOptions {
    fn default() -> Self {
        let list = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
        Self {
            // The binary's default of consul-k8s, ExternalOnly, registers nothing on bare metal and does not say so.
            node_port_sync: NodePortSync::ExternalFirst,
            sync_types: vec![ServiceType::NodePort],
            // kubeadm's own; never empty, because it is the mark that keeps two clusters apart.
            cluster_name: "kubernetes".to_owned(),
            consul_node_name: "k8s-sync".to_owned(),
            k8s_tag: "k8s".to_owned(),
            default_sync: true,
            allow_namespaces: list(&["*"]),
            deny_namespaces: list(&["kube-system", "kube-public"]),
            consul_service_prefix: String::new(),
            add_k8s_namespace_suffix: false,
            annotation_tag_prefixes: list(&["traefik."]),
            annotation_tag_lists: list(&["consul.hashicorp.com/service-tags", "tags"]),
            load_balancer_as_node_port: false,
            load_balancer_endpoints: false,
            consul_nodes: ConsulNodes::Synthetic,
            exposure: Exposure::Gate,
            traefik_domain: String::new(),
            // The names in all of v1's examples.
            traefik_entry_points: list(&["http=http", "https=https/tls"]),
            required_tags: Vec::new(),
        }
    }
}

impl SyncOptions {
    /// Sets one option from text, for `--set key=value`. Lists are JSON (`["a","b"]`) or have commas (`a,b`); the empty
    /// text is the empty list. On an error nothing is changed.
    ///
    /// What two options rule out together is looked at by [`Self::validate`], once all are set.
    pub fn set(&mut self, key: &str, text: &str) -> Result<(), OptionsError> {
        let Some(&(name, shape, allowed)) = KEYS.iter().find(|(name, ..)| *name == key) else {
            return Err(OptionsError::UnknownKey { key: key.to_owned(), known: KEYS.map(|(name, ..)| name).to_vec() });
        };
        let bad = || OptionsError::BadValue { key: name, value: format!("{text:?}"), allowed };
        let value = match shape {
            Shape::Text => Value::String(text.to_owned()),
            Shape::Switch => Value::Bool(text.parse().map_err(|_| bad())?),
            Shape::List if text.trim_start().starts_with('[') => serde_json::from_str(text).map_err(|_| bad())?,
            Shape::List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                items.map(|item| Value::String(item.to_owned())).collect()
            }
        };
        let mut whole = serde_json::to_value(&*self).map_err(|_| bad())?;
        if let Some(slot) = whole.get_mut(name) {
            *slot = value;
        }
        let changed: Self = serde_json::from_value(whole).map_err(|_| bad())?;
        changed.check(name)?;
        *self = changed;
        Ok(())
    }

    /// What types alone do not guarantee; call it after reading a file and after the last [`Self::set`].
    pub fn validate(&self) -> Result<(), OptionsError> {
        KEYS.iter().try_for_each(|(name, ..)| self.check(name))?;
        if self.load_balancer_endpoints && self.load_balancer_as_node_port {
            return Err(bad_value("loadBalancerEndpoints", "true"));
        }
        Ok(())
    }

    /// What became of v1's entry points.
    pub(super) fn entry_points(&self) -> Vec<EntryPoint> {
        self.traefik_entry_points.iter().filter_map(|text| EntryPoint::read(text)).collect()
    }

    fn check(&self, key: &str) -> Result<(), OptionsError> {
        let name = |text: &str, more: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || more.as_bytes().contains(&byte);
            (1..=63).contains(&text.len()) && text.bytes().all(fits)
        };
        let filled = |list: &[String]| list.iter().all(|item| !item.trim().is_empty());
        let (fine, value) = match key {
            "consulNodeName" => (name(&self.consul_node_name, "-"), format!("{:?}", self.consul_node_name)),
            "clusterName" => (name(&self.cluster_name, "._-"), format!("{:?}", self.cluster_name)),
            "allowNamespaces" => (filled(&self.allow_namespaces), format!("{:?}", self.allow_namespaces)),
            "denyNamespaces" => {
                let list = &self.deny_namespaces;
                (filled(list) && !list.iter().any(|item| item == "*"), format!("{list:?}"))
            }
            "annotationTagPrefixes" => {
                (filled(&self.annotation_tag_prefixes), format!("{:?}", self.annotation_tag_prefixes))
            }
            "traefikEntryPoints" => {
                let list = &self.traefik_entry_points;
                (list.iter().all(|text| EntryPoint::read(text).is_some()), format!("{list:?}"))
            }
            "requiredTags" => (filled(&self.required_tags), format!("{:?}", self.required_tags)),
            "annotationTagLists" => (filled(&self.annotation_tag_lists), format!("{:?}", self.annotation_tag_lists)),
            _ => return Ok(()),
        };
        if fine { Ok(()) } else { Err(bad_value(key, &value)) }
    }
}

fn bad_value(key: &str, value: &str) -> OptionsError {
    let (key, allowed) =
        KEYS.iter().find(|(name, ..)| *name == key).map_or(("", TEXT), |(name, _, allowed)| (name, allowed));
    OptionsError::BadValue { key, value: value.to_owned(), allowed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_a_key_that_can_be_set_and_no_other() {
        let whole = serde_json::to_value(SyncOptions::default()).unwrap();
        let mut fields: Vec<_> = whole.as_object().unwrap().keys().map(String::as_str).collect();
        let mut keys = KEYS.map(|(name, ..)| name).to_vec();
        fields.sort_unstable();
        keys.sort_unstable();
        assert_eq!(fields, keys);
    }

    #[test]
    fn set_reads_texts_switches_and_lists_in_both_spellings() {
        let mut options = SyncOptions::default();
        options.set("nodePortSync", "InternalOnly").unwrap();
        options.set("defaultSync", "false").unwrap();
        options.set("syncTypes", "NodePort, ClusterIP").unwrap();
        options.set("allowNamespaces", r#"["a","b"]"#).unwrap();
        options.set("denyNamespaces", "").unwrap();
        options.set("k8sTag", "").unwrap();
        assert_eq!(options.node_port_sync, NodePortSync::InternalOnly);
        assert!(!options.default_sync);
        assert_eq!(options.sync_types, [ServiceType::NodePort, ServiceType::ClusterIp]);
        assert_eq!(options.allow_namespaces, ["a", "b"]);
        assert!(options.deny_namespaces.is_empty() && options.k8s_tag.is_empty());
        options.validate().unwrap();
    }

    #[test]
    fn a_bad_value_names_the_key_and_what_is_allowed_and_changes_nothing() {
        let mut options = SyncOptions::default();
        let bad = [
            ("nodePortSync", "externalfirst", "ExternalFirst, ExternalOnly or InternalOnly"),
            ("defaultSync", "yes", "true or false"),
            ("syncTypes", "ExternalName", "NodePort, ClusterIP, LoadBalancer"),
            ("allowNamespaces", "[1]", "a list"),
            ("denyNamespaces", "*", "without *"),
            ("consulNodeName", "a b", "1 to 63"),
            ("clusterName", "", "1 to 63"),
            ("exposure", "Gate", "gate, tags or none"),
            ("annotationTagPrefixes", r#"[""]"#, "not empty"),
            ("traefikEntryPoints", "http", "v1=v3"),
        ];
        for (key, value, allowed) in bad {
            let message = options.set(key, value).unwrap_err().to_string();
            assert!(message.contains(key) && message.contains(allowed), "{message}");
        }
        assert!(options.set("nodeportsync", "x").unwrap_err().to_string().contains("nodePortSync"));
        assert_eq!(options, SyncOptions::default());
    }

    #[test]
    fn a_file_may_not_hold_unknown_keys_nor_two_ways_for_load_balancers() {
        assert!(serde_json::from_str::<SyncOptions>(r#"{"nodePortSynk": "InternalOnly"}"#).is_err());
        let both: SyncOptions =
            serde_json::from_str(r#"{"loadBalancerEndpoints": true, "loadBalancerAsNodePort": true}"#).unwrap();
        assert!(both.validate().is_err());
    }
}
