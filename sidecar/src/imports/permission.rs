//! A person's permission for removals that the brake holds: a key in Consul with a number. It holds once.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use crate::consul::{Client, ConsulError, lock};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    value: Option<String>,
    modify_index: u64,
}

/// The key of a cluster.
pub(super) fn key(cluster: &str) -> String {
    lock::key(cluster, "allow-import-removal")
}

/// Whether a person has let so many removals pass; that is then used up.
pub(super) async fn take(client: &Client, cluster: &str, removals: usize) -> Result<bool, ConsulError> {
    let path = format!("/v1/kv/{}", key(cluster));
    let Some(pair) = client.get::<Vec<Pair>>(&path, &[]).await?.value.into_iter().flatten().next() else {
        return Ok(false);
    };
    let allowed =
        pair.value.and_then(|text| STANDARD.decode(text).ok()).and_then(|bytes| String::from_utf8(bytes).ok());
    let allowed = allowed.and_then(|text| text.trim().parse::<usize>().ok()).unwrap_or(0);
    if allowed < removals {
        return Ok(false);
    }
    let index = pair.modify_index.to_string();
    Ok(client.put::<bool>(&path, &[("cas", &index)], b"0".to_vec()).await? == Some(true))
}
