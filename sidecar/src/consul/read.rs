//! Reading the live catalog: the synthetic node, our own nodes, and those that are wanted.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{
    client::Client,
    error::ConsulError,
    live::{Live, LiveCheck, LiveNode, LiveService, Scope},
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeServices {
    node: Option<LiveNode>,
    services: Option<Vec<LiveService>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeName {
    node: String,
}

/// What Consul holds now. All or nothing: a list that cannot be read whole would look like things that were removed.
///
/// `wanted` are the Consul nodes that are wanted, whether they exist or not.
pub async fn live(client: &Client, scope: &Scope, wanted: BTreeSet<String>) -> Result<Live, ConsulError> {
    let mut names = wanted;
    names.insert(scope.node.clone());
    let mark = scope.node_mark();
    let marked = client.get::<Vec<NodeName>>("/v1/catalog/nodes", &[("node-meta", &mark)]).await?;
    let own = scope.own_nodes();
    names.extend(marked.value.into_iter().flatten().map(|it| it.node).filter(|name| name.starts_with(&own)));
    let mut live = Live::default();
    for name in names {
        if let Some(node) = node(client, &name).await? {
            live.nodes.insert(name, node);
        }
    }
    live.share_texts();
    Ok(live)
}

/// One node; `None` if there is none of that name.
pub(super) async fn node(client: &Client, name: &str) -> Result<Option<LiveNode>, ConsulError> {
    let found = client.get::<NodeServices>(&format!("/v1/catalog/node-services/{name}"), &[]).await?;
    let Some(NodeServices { node: Some(mut node), services }) = found.value else { return Ok(None) };
    node.services = services.into_iter().flatten().map(|service| (service.id.clone(), service)).collect();
    let checks = client.get::<Vec<LiveCheck>>(&format!("/v1/health/node/{name}"), &[]).await?;
    node.checks = checks.value.into_iter().flatten().map(|check| (check.check_id.clone(), check)).collect();
    Ok(Some(node))
}
