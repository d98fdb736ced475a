//! Reading a folder of the key-value store.

use base64::{DecodeError, Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{client::Client, error::ConsulError};

/// A key with what is at it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Pair {
    /// The whole key.
    pub(crate) key: String,
    /// Whatever its writer meant by them.
    #[serde(default)]
    pub(crate) flags: u64,
    #[serde(default)]
    value: Option<String>,
    /// For compare-and-set.
    pub(crate) modify_index: u64,
}

impl Pair {
    /// The value, which Consul sends in base64.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, DecodeError> {
        STANDARD.decode(self.value.as_deref().unwrap_or_default())
    }
}

/// Everything below a folder, given with its slash, and the index for the next look.
pub(crate) async fn read(client: &Client, folder: &str) -> Result<(Vec<Pair>, u64), ConsulError> {
    let answer = client.get::<Vec<Pair>>(&format!("/v1/kv/{folder}"), &[("recurse", "")]).await?;
    Ok((answer.value.unwrap_or_default(), answer.index))
}
