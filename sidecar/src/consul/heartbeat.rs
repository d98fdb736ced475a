//! The dead-man's check (opt-in): a check of the synthetic node that Consul itself turns critical when nobody has renewed a
//! session for too long, so that instances do not stay healthy for ever after the sidecar and its standby are gone.
//!
//! Consul ties the two by the session's name (`Type: session`, 1.21.5 and newer). A leader that takes over goes on with the
//! session that is there: ending it and making another would turn the check critical in between.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{client::Client, error::ConsulError, live::Scope};

const RETRY: Duration = Duration::from_secs(1);
/// After what only a person can mend.
const STANDING: Duration = Duration::from_secs(60);

/// A check of a node, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeCheck {
    #[serde(rename = "CheckID")]
    check_id: String,
    #[serde(default)]
    definition: Definition,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Definition {
    /// The session that the check goes by; older servers forget it.
    session_name: String,
}

#[derive(Deserialize)]
struct Session {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Name", default)]
    name: String,
}

/// Renews for as long as it is polled; with `None`, takes away a check of earlier days, which would turn critical.
pub(super) async fn keep(client: &Client, scope: &Scope, seconds: Option<u32>) {
    let mut said = None;
    loop {
        let outcome = match seconds {
            Some(seconds) => beat(client, scope, seconds).await.map(|()| Duration::from_secs(u64::from(seconds)) / 3),
            None => match stop(client, scope).await {
                Ok(()) => std::future::pending().await,
                Err(error) => Err(error),
            },
        };
        let pause = match outcome {
            Ok(pause) => pause,
            Err(error) if error.transient => {
                tracing::debug!(%error, "the dead-man's check was not renewed");
                RETRY
            }
            Err(error) => {
                if said.as_ref() != Some(&error) {
                    tracing::error!("{error}");
                }
                said = Some(error);
                STANDING
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// The session's name and the check's ID.
fn name(scope: &Scope) -> String {
    format!("portcullis-alive-{}", scope.cluster)
}

async fn beat(client: &Client, scope: &Scope, seconds: u32) -> Result<(), ConsulError> {
    let (name, node) = (name(scope), &scope.node);
    let sessions = client.get::<Vec<Session>>(&format!("/v1/session/node/{node}"), &[]).await?.value;
    let present = sessions.into_iter().flatten().find(|session| session.name == name);
    let renewed = match present {
        Some(session) => {
            client.put::<Value>(&format!("/v1/session/renew/{}", session.id), &[], Vec::new()).await?.is_some()
        }
        None => false,
    };
    if !renewed {
        let session = json!({"Name": name, "Node": node, "TTL": format!("{seconds}s"), "Behavior": "delete",
            "LockDelay": "0s", "NodeChecks": []});
        client.put::<Value>("/v1/session/create", &[], session.to_string().into_bytes()).await?;
    }
    if of_ours(client, scope).await?.is_some_and(|check| check.definition.session_name == name) {
        return Ok(());
    }
    // A transaction would lose the definition.
    let check = json!({"Node": node, "CheckID": name, "Name": "Portcullis keeps this node's services", "Type": "session",
        "Status": "passing", "Definition": {"SessionName": name}});
    let registration = json!({"Node": node, "SkipNodeUpdate": true, "Check": check});
    client.put::<Value>("/v1/catalog/register", &[], registration.to_string().into_bytes()).await?;
    if of_ours(client, scope).await?.is_some_and(|check| check.definition.session_name.is_empty()) {
        // It would say "passing" for ever.
        stop(client, scope).await?;
        let hint = "use Consul 1.21.5 or newer, or remove deadManSeconds";
        return Err(ConsulError::standing("consul.deadManSeconds", "this Consul ties no check to a session", hint));
    }
    Ok(())
}

async fn stop(client: &Client, scope: &Scope) -> Result<(), ConsulError> {
    if of_ours(client, scope).await?.is_some() {
        let check = json!({"Node": scope.node, "CheckID": name(scope)}).to_string();
        client.put::<Value>("/v1/catalog/deregister", &[], check.into_bytes()).await?;
    }
    Ok(())
}

async fn of_ours(client: &Client, scope: &Scope) -> Result<Option<NodeCheck>, ConsulError> {
    let checks = client.get::<Vec<NodeCheck>>(&format!("/v1/health/node/{}", scope.node), &[]).await?.value;
    let name = name(scope);
    Ok(checks.into_iter().flatten().find(|check| check.check_id == name))
}
