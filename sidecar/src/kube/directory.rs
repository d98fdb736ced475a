//! A directory of manifests as a source: read whole on every event, and now and then without one.

use std::{path::PathBuf, sync::Arc};

use tokio::sync::Notify;

use super::Cluster;
use crate::{
    input::{Input, Inputs, Said},
    watch::{Watch, look_again},
};

/// Tells what the directory holds, now and after every change, until nobody listens.
pub async fn follow(directory: PathBuf, cluster: String, inputs: Inputs) {
    let wake = Arc::new(Notify::new());
    let mut watches = [Watch::start(&directory, &wake)];
    loop {
        let said = match Cluster::load_directory(&directory) {
            Ok(cluster) => Said::Whole(Box::new(cluster)),
            Err(errors) => Said::Broken(errors.iter().map(ToString::to_string).collect()),
        };
        if inputs.send(Input::Cluster(cluster.clone(), said)).await.is_err() {
            return;
        }
        look_again(&wake, &mut watches).await;
    }
}
