//! A person's permission for removals that the brake holds: a key with a number. It holds once.

use super::{
    brake::Hold,
    client::{Client, Fence, TxnError},
    error::ConsulError,
    lock::key,
    operation::Operation,
};

/// Whether a person has let these removals pass; else what to do for it. `lock` is the scope's.
pub(super) async fn take(
    client: &Client,
    fence: &Fence,
    lock: &str,
    hold: Hold,
) -> Result<Result<(), String>, ConsulError> {
    if !hold.can_be_released() {
        return Ok(Err(format!("{hold}: nothing is removed until it can")));
    }
    let (key, removals) = (key(lock, "allow-removal"), hold.removals());
    let path = format!("/v1/kv/{key}");
    let allowed = client.get::<serde_json::Value>(&path, &[("raw", "")]).await?.value;
    if allowed.and_then(|value| value.as_u64()).is_none_or(|allowed| allowed < removals as u64) {
        return Ok(Err(format!("{hold}: nothing is removed; if that is meant: consul kv put {key} {removals}")));
    }
    match client.txn(fence, &[Operation::DeleteKey { key, modify_index: None }]).await {
        Ok(_) => {
            tracing::warn!(removals, "removals that waited are let through");
            Ok(Ok(()))
        }
        Err(TxnError::Failed(error)) => Err(error),
        Err(_) => Err(ConsulError::passing("/v1/txn", "the permission could not be taken", "tried again")),
    }
}
