//! One look at a live cluster, for commands that do not stay.

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
        for mut object in page {
            let key = key(&object)?;
            object.slim();
            K::change(key, Some(Box::new(object))).apply(cluster);
        }
    }
    Ok(())
}
