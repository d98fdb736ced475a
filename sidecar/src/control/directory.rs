//! A directory of policy files, read whole at every event.

use std::{path::PathBuf, sync::Arc};

use tokio::sync::Notify;

use super::{Ears, PartId, Told};
use crate::{
    documents,
    watch::{Watch, look_again},
};

/// Tells what the directory holds, now and at every look, until nobody listens.
pub(super) async fn follow(directory: PathBuf, part: PartId, ears: Ears) {
    let wake = Arc::new(Notify::new());
    let mut watches = [Watch::start(&directory, &wake)];
    loop {
        let says = documents::read(&directory).map_err(|error| error.to_string());
        if ears.send(Told { part, says }).await.is_err() {
            return;
        }
        look_again(&wake, &mut watches).await;
    }
}
