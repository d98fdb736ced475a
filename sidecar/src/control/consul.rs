//! Consul's lists by blocking queries (consul-policy §7): config entries of each kind, the CA's roots, and keys.
//!
//! A list is taken whole or not at all. An answer that the token may not see as a whole, an error, garbage, and roots without
//! a root are faults: what was read before stays. An index that goes back, as after a restored snapshot, starts the query anew.
//! Entries that vanish with it, or behind a fault, are doubted when they are most of the list: that is what a Consul looks like that
//! has lost its data, and a deny that is gone lets pass.

mod list;

use std::{collections::BTreeSet, time::Duration};

use portcullis_policy::Action;
use serde_json::Value;
use tokio::time::{Instant, sleep};

pub(super) use self::list::{List, entries, keys};
use super::{Ears, PartId, Told, pace::Pace};
use crate::{
    consul::{Client, ConsulError},
    documents::Document,
};

/// How long Consul may keep a query. So much later it is noticed that a connection is dead without a word, or that a new token sees
/// less: while what it sees does not change, Consul keeps such a query although the list does.
const WAIT: Duration = Duration::from_secs(30);
/// How long a loss is doubted, and how often it is looked at meanwhile.
const DOUBT: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How often Consul's default is compared with ours.
const COMPARE: Duration = Duration::from_secs(300);

/// Tells what a list holds, now and after every change, until nobody listens. `name` is Consul's.
pub(super) async fn follow(client: Client, list: List, name: String, part: PartId, ears: Ears) {
    let (mut pace, mut memory, mut index) = (Pace::new(), Memory::default(), 0);
    loop {
        pace.turn().await;
        let read = ask(&client, &list, &name, index).await.and_then(|(documents, now)| {
            memory
                .believe(&documents, now, Instant::now())
                .map_err(|what| ConsulError::passing(&list.path(), what, LOST))?;
            Ok((documents, now))
        });
        let failed = read.is_err();
        let says = match read {
            Ok((documents, now)) => {
                index = if now < index { 0 } else { now };
                pace.succeeded();
                Ok(documents)
            }
            Err(error) => {
                // The index may belong to a state that is gone.
                index = 0;
                memory.failed = true;
                Err(error.to_string())
            }
        };
        if ears.send(Told { part, says }).await.is_err() {
            return;
        }
        if memory.doubted.is_some() {
            sleep(LOOK_AGAIN).await;
        } else if failed {
            pace.back_off().await;
        }
    }
}

const LOST: &str = "has Consul lost its data? the last good documents stay in force; write the entries again, or wait";

async fn ask(client: &Client, list: &List, name: &str, index: u64) -> Result<(Vec<Document>, u64), ConsulError> {
    let path = list.path();
    let answer =
        client.get_within::<Value>(&path, list.query(), index, WAIT).await.map_err(|error| list.explain(error))?;
    if !answer.is_indexed {
        return Err(ConsulError::passing(
            &path,
            "an answer without an index",
            "check that the address is Consul's HTTP API",
        ));
    }
    Ok((list.documents(name, answer.value)?, answer.index))
}

/// What was seen of a list last.
#[derive(Debug, Default)]
struct Memory {
    index: u64,
    places: BTreeSet<String>,
    /// Whether there was a fault since.
    failed: bool,
    /// Since when a loss is doubted.
    doubted: Option<Instant>,
}

// === impl Memory ===

impl Memory {
    /// Whether what was read may be taken; else why not.
    fn believe(&mut self, documents: &[Document], index: u64, now: Instant) -> Result<(), String> {
        let places: BTreeSet<_> = documents.iter().map(|(place, _)| place.clone()).collect();
        let gone = self.places.difference(&places).count();
        let is_loss = gone * 2 > self.places.len() && (index < self.index || self.failed || self.doubted.is_some());
        if is_loss && now.duration_since(*self.doubted.get_or_insert(now)) < DOUBT {
            let (n_known, minutes) = (self.places.len(), DOUBT.as_secs() / 60);
            return Err(format!(
                "{gone} of {n_known} entries are gone at once, behind a fault or a step back of Consul's index: not believed before \
                 it is so for {minutes} minutes"
            ));
        }
        *self = Self { index, places, failed: false, doubted: None };
        Ok(())
    }
}

/// Warns when Consul decides otherwise than we do where no intention applies, as far as the token may know it.
pub(super) async fn compare_default(client: Client, ours: Action) {
    let mut said = None;
    loop {
        // Without the right (`agent:read`), or with a fault that others tell of: nothing to compare.
        let agent = client.get::<Value>("/v1/agent/self", &[]).await.ok().and_then(|answer| answer.value);
        let theirs = agent.as_ref().and_then(default_of);
        if theirs != said && theirs.is_some() {
            match theirs {
                Some(theirs) if theirs != ours => tracing::warn!(
                    "where no intention applies, Consul's default is {} and policy.default is {}: make them the same",
                    theirs.as_str(),
                    ours.as_str(),
                ),
                _ if said.is_some() => tracing::info!("policy.default is that of Consul again"),
                _ => {}
            }
            said = theirs;
        }
        sleep(COMPARE).await;
    }
}

/// `default_intention_policy`, else what ACLs do by default, which is to allow where there are none.
fn default_of(agent: &Value) -> Option<Action> {
    let debug = agent.get("DebugConfig")?;
    let action = |text: &str| match text {
        "allow" => Some(Action::Allow),
        "deny" => Some(Action::Deny),
        _ => None,
    };
    let own = debug.get("DefaultIntentionPolicy").and_then(Value::as_str).unwrap_or_default();
    if !own.is_empty() {
        return action(own);
    }
    if debug.get("ACLsEnabled").and_then(Value::as_bool)? {
        return action(debug.get("ACLResolverSettings")?.get("ACLDefaultPolicy")?.as_str()?);
    }
    Some(Action::Allow)
}

#[cfg(test)]
#[path = "consul/faults.rs"]
mod faults;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn places(names: &[&str]) -> Vec<Document> {
        names.iter().map(|name| ((*name).to_owned(), Value::Null)).collect()
    }

    #[test]
    fn a_loss_behind_a_fault_or_a_step_back_is_doubted_and_any_other_is_not() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        let later = now + DOUBT;
        assert!(memory.believe(&places(&["a", "b", "c"]), 10, now).is_ok());
        assert!(memory.believe(&places(&["a"]), 11, now).is_ok(), "somebody removed them");
        assert!(memory.believe(&places(&["a", "b", "c"]), 12, now).is_ok());
        assert!(memory.believe(&places(&["a", "b"]), 5, now).is_ok(), "the smaller part");
        let error = memory.believe(&places(&[]), 4, now).unwrap_err();
        assert!(error.starts_with("2 of 2 entries are gone at once"), "{error}");
        assert!(memory.believe(&places(&[]), 9, now).is_err(), "the index grows again");
        assert!(memory.believe(&places(&["b", "a"]), 10, now).is_ok(), "they are back");
        memory.failed = true;
        assert!(memory.believe(&places(&[]), 11, now).is_err());
        assert!(memory.believe(&places(&[]), 11, later).is_ok(), "it was meant");
    }

    #[test]
    fn consuls_default_is_its_own_word_or_that_of_the_acls() {
        let of = |debug: Value| default_of(&json!({"DebugConfig": debug}));
        let acls = json!({"ACLDefaultPolicy": "deny"});
        assert_eq!(
            of(json!({"DefaultIntentionPolicy": "allow", "ACLsEnabled": true, "ACLResolverSettings": acls})),
            Some(Action::Allow)
        );
        assert_eq!(
            of(json!({"DefaultIntentionPolicy": "", "ACLsEnabled": true, "ACLResolverSettings": acls})),
            Some(Action::Deny)
        );
        assert_eq!(of(json!({"ACLsEnabled": false})), Some(Action::Allow));
        assert_eq!(of(json!({})), None);
        assert_eq!(default_of(&json!([])), None);
    }
}
