//! F: which services are synced, and by which type's rules.

use super::{
    annotations,
    note::Notes,
    options::{ServiceType, SyncOptions},
    subject::Subject,
};
use crate::traefik::value::go_bool;

/// Label of Services that a sync from Consul made: syncing them back would be a loop (F2).
pub(crate) const FROM_CONSUL: (&str, &str) = ("consul", "true");

/// The rules to register this service by, or `None` if it is not synced.
pub(super) fn selected(subject: &Subject<'_>, options: &SyncOptions, notes: &mut Notes) -> Option<ServiceType> {
    let namespace = &subject.key.namespace;
    let allowed = |name: &String| name == "*" || name == namespace;
    if options.deny_namespaces.contains(namespace) || !options.allow_namespaces.iter().any(allowed) {
        return None;
    }
    let labels = subject.service.metadata.labels.as_ref();
    if labels.and_then(|labels| labels.get(FROM_CONSUL.0)).is_some_and(|value| value == FROM_CONSUL.1) {
        return None;
    }
    let kind = match subject.spec.type_.as_deref() {
        Some("NodePort") => ServiceType::NodePort,
        Some("LoadBalancer") => ServiceType::LoadBalancer,
        // The API server's default.
        Some("ClusterIP" | "") | None => ServiceType::ClusterIp,
        Some(_) => return None,
    };
    let as_node_port = kind == ServiceType::LoadBalancer && options.load_balancer_as_node_port;
    let rules = if as_node_port { ServiceType::NodePort } else { kind };
    if !options.sync_types.contains(&kind) && !options.sync_types.contains(&rules) {
        return None;
    }
    wanted(subject, options, notes).then_some(rules)
}

fn wanted(subject: &Subject<'_>, options: &SyncOptions, notes: &mut Notes) -> bool {
    let Some(text) = subject.annotation(annotations::SYNC) else { return options.default_sync };
    go_bool(text).unwrap_or_else(|| {
        let what = format!("{text:?} is no boolean, the default {} is used", options.default_sync);
        notes.warn(annotations::SYNC, what, "write true or false");
        options.default_sync
    })
}
