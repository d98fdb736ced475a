//! Who writes: one sidecar of a cluster, by a lock in Consul's key-value store that a session holds.
//!
//! The lock only decides who tries. What keeps a deposed leader from writing is the fence in every transaction, so a session
//! that ends late or early does no harm.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::{sync::watch, time::timeout};

use super::{
    client::{Client, Fence},
    error::ConsulError,
};

/// Consul's shortest; it may notice up to twice as late.
const TTL: Duration = Duration::from_secs(10);
/// How often the session is renewed, and again after a failure.
const RENEW: Duration = Duration::from_secs(3);
const RENEW_AGAIN: Duration = Duration::from_secs(1);
/// After a lock that was free and yet not given: its delay, or a faster sidecar.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How long giving back the lock may take at the end.
const GOODBYE: Duration = Duration::from_secs(2);

/// Where the things of a cluster's sync are in the key-value store.
pub(crate) fn key(cluster: &str, name: &str) -> String {
    format!("portcullis/sync/{cluster}/{name}")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(default)]
    session: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Session {
    #[serde(rename = "ID")]
    id: String,
}

/// Waits until the lock of a cluster is ours.
pub(crate) async fn acquire(client: &Client, cluster: &str) -> Result<Fence, ConsulError> {
    let (key, mut index, mut said) = (key(cluster, "lock"), 0, false);
    let path = format!("/v1/kv/{key}");
    loop {
        let answer = client.get_after::<Vec<Entry>>(&path, &[], index).await?;
        let is_held = answer.value.into_iter().flatten().any(|entry| entry.session.is_some());
        if is_held {
            if !std::mem::replace(&mut said, true) {
                tracing::info!(%key, "standby: another sidecar keeps Consul in step");
            }
            index = if answer.index < index { 0 } else { answer.index };
            continue;
        }
        let fence = Fence { key: key.clone(), session: open(client, cluster).await? };
        let holder = format!("portcullis, process {}", std::process::id());
        if client.put::<bool>(&path, &[("acquire", &fence.session)], holder.into_bytes()).await? == Some(true) {
            return Ok(fence);
        }
        release(client, &fence).await;
        tokio::time::sleep(TRY_AGAIN).await;
        index = 0;
    }
}

/// Keeps the session alive; returns when it is gone.
pub(crate) async fn keep(client: &Client, fence: &Fence) {
    let path = format!("/v1/session/renew/{}", fence.session);
    loop {
        let pause = match client.put::<Vec<Session>>(&path, &[], Vec::new()).await {
            Ok(Some(_)) => RENEW,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "the session was not renewed");
                RENEW_AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Gives the lock back at once. If that fails, the session ends by itself.
pub(crate) async fn release(client: &Client, fence: &Fence) {
    let path = format!("/v1/session/destroy/{}", fence.session);
    if let Err(error) = client.put::<bool>(&path, &[], Vec::new()).await {
        tracing::debug!(%error, "the session was not ended, it will time out");
    }
}

/// Works until nobody is left at the other end of `owner`. Whoever holds a lock then says [`goodbye`].
pub(crate) async fn while_owned<T>(mut owner: watch::Receiver<T>, work: impl Future<Output = ()>) {
    let end = async move { while owner.changed().await.is_ok() {} };
    tokio::select! {
        () = end => {}
        () = work => {}
    }
}

/// Gives the lock back at the end, without waiting long: the session ends by itself.
pub(crate) async fn goodbye(client: &Client, fence: &Fence) {
    // Out of time is fine.
    let _ = timeout(GOODBYE, release(client, fence)).await;
}

async fn open(client: &Client, cluster: &str) -> Result<String, ConsulError> {
    let session = json!({
        "Name": format!("portcullis sync of {cluster}"),
        "TTL": format!("{}s", TTL.as_secs()),
        "Behavior": "release",
        // The fence makes a delay needless.
        "LockDelay": "0s",
        // Its life is ours, not that of the agent that answers.
        "NodeChecks": [],
    });
    let path = "/v1/session/create";
    match client.put::<Session>(path, &[], session.to_string().into_bytes()).await? {
        Some(session) => Ok(session.id),
        None => Err(ConsulError::garbage(path, "no session was made")),
    }
}
