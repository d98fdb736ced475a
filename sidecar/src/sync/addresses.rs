//! A1-A5, A9: the address that stands for a Kubernetes node, and whether the node is fit (C4).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;

use super::options::NodePortSync;

/// Address types in the order they are asked for. Other types (Hostname, InternalDNS …) are never used (A4).
fn types(mode: NodePortSync) -> &'static [&'static str] {
    match mode {
        NodePortSync::ExternalFirst => &["ExternalIP", "InternalIP"],
        NodePortSync::ExternalOnly => &["ExternalIP"],
        NodePortSync::InternalOnly => &["InternalIP"],
    }
}

/// The first usable address of `node`: by type, then by family in the order of `families` (empty = any), then in the
/// order of the list, which is meaningful: AWS lists pod addresses as further InternalIPs (A9).
pub(super) fn of_node(node: &Node, mode: NodePortSync, families: &[String]) -> Option<String> {
    let listed = node.status.as_ref()?.addresses.as_deref().unwrap_or_default();
    types(mode).iter().find_map(|kind| {
        let usable =
            || listed.iter().filter(|address| address.type_ == *kind).filter_map(|address| ip(&address.address));
        let found = if families.is_empty() {
            usable().next()
        } else {
            families.iter().find_map(|family| usable().find(|ip| self::family(*ip) == family))
        };
        found.map(|ip| ip.to_string())
    })
}

/// An address that Consul can hold: an IP that is not the unspecified one, which it refuses.
pub(super) fn ip(text: &str) -> Option<IpAddr> {
    text.trim().parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified())
}

/// The family as `spec.ipFamilies` and `addressType` spell it.
pub(super) fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// `address:port` as URLs write it, with brackets round IPv6.
pub(super) fn authority(address: &str, port: u16) -> String {
    match ip(address) {
        Some(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        _ => format!("{address}:{port}"),
    }
}

/// Whether the node's condition Ready allows traffic (C4): False and Unknown do not. A node without the condition says
/// nothing about itself (manifests written by hand), which is read like an endpoint without `ready`.
pub(super) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().filter(|condition| condition.type_ == "Ready").all(|condition| condition.status == "True")
}
