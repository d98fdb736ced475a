//! One look at a live cluster, for commands that do not stay.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use kube::Client;

use super::{
    call::{Pages, key},
    cluster::Cluster,
    config::{ClusterConfig, Nodes},
    connection::Connection,
    fault::Fault,
    kinds::Kind,
    packed::Packed,
};

/// Reads all of a cluster once: whole, or not at all.
pub async fn read(config: &ClusterConfig) -> Result<Cluster, Fault> {
    let client = Connection::new(config.clone()).client().await?;
    let mut cluster = Cluster::default();
    for scope in config.scopes() {
        list::<Service>(&client, scope.as_deref(), &mut cluster).await?;
        list::<EndpointSlice>(&client, scope.as_deref(), &mut cluster).await?;
    }
    if config.nodes == Nodes::Watch {
        list::<Node>(&client, None, &mut cluster).await?;
    }
    Ok(cluster)
}

async fn list<K: Kind>(client: &Client, namespace: Option<&str>, cluster: &mut Cluster) -> Result<(), Fault> {
    let path = K::url_path(&(), namespace);
    let mut pages = Pages::<K>::new(client, &path);
    while let Some(page) = pages.next().await? {
        for object in page {
            let key = Arc::new(key(&object)?);
            K::change(key, Some(Packed::of(object))).apply(cluster);
        }
    }
    Ok(())
}
