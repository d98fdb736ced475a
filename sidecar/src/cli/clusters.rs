//! What a configuration's sources hold right now, for commands that look once.

use anyhow::Context as _;

use crate::{
    config::Config,
    kube::{Cluster, live},
    sources::SourceErrors,
    sync::SyncOptions,
};

/// Each cluster with its options: all, or none.
pub(super) fn read(config: &Config) -> anyhow::Result<Vec<(SyncOptions, Cluster)>> {
    let mut read = Vec::new();
    if let Some(manifests) = &config.manifests {
        read.push((config.sync.clone(), Cluster::load_directory(manifests).map_err(SourceErrors)?));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for cluster in &config.clusters {
        let options = cluster.options(&config.sync).map_err(anyhow::Error::msg)?;
        let objects = runtime.block_on(live::read(cluster)).with_context(|| format!("cluster {}", cluster.name))?;
        read.push((options, objects));
    }
    Ok(read)
}
