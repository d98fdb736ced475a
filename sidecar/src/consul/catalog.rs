//! What others have registered: watched as a whole, read service by service, told when it is something else.
//!
//! Two blocking queries whose lists are filtered away say that something moved; then the names are read, and of the services
//! that carry routing tags all instances with their health. Reading takes a bounded part of the time, whatever moves how often.
//! All or nothing: a service that could not be read would look like one that is gone.

mod config;
mod entry;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{Instant, sleep, timeout};

use self::entry::Entry;
use super::{client::Client, config::ConsulConfig, drift::Drift, error::ConsulError, live::Scope};
use crate::{
    input::{Input, Inputs},
    sync::{Registration, is_routing},
};

pub use self::config::CatalogConfig;

/// Consul's own service, which is in every catalog: without it the answer is not the whole.
const CONSUL: &str = "consul";
/// Most services with routing tags, and most instances of all of them.
const MAX_SERVICES: usize = 10_000;
const MAX_INSTANCES: usize = 100_000;
/// Questions at once; Consul lets one client have 200 connections.
const AT_ONCE: usize = 16;
/// Everything is read again after this long, whatever the watch says.
const SAFETY: Duration = Duration::from_secs(300);
/// While a loss is doubted.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// After failures, doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// So many services may always go at once; of more, at most half. A Consul that came back without its data looks like
/// services that were deregistered, until their agents have registered them again.
const FREE: usize = 3;
/// How long a greater loss is not believed.
const DOUBT: Duration = Duration::from_secs(300);

/// What the source says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Catalog {
    /// They replace what was known.
    Whole {
        /// All instances of others that carry routing tags or stand beside such, as they are.
        registrations: Vec<Registration>,
        /// Services with routing tags that can have no route because of their names.
        unusable: Vec<String>,
    },
    /// It cannot be read at the moment, and why: what is known stays in force.
    Broken(String),
}

/// The source.
#[derive(Debug)]
pub struct Watcher {
    client: Client,
    config: CatalogConfig,
    /// What is ours in the catalog, and known from elsewhere.
    ours: Vec<Scope>,
}

// === impl Watcher ===

impl Watcher {
    /// A watcher of the catalog that the section `consul` leads to. Nothing is asked yet.
    pub fn new(consul: &ConsulConfig, config: &CatalogConfig, ours: Vec<Scope>) -> Result<Self, ConsulError> {
        Ok(Self { client: Client::new(consul)?, config: config.clone(), ours })
    }

    /// Tells what the catalog holds, now and after every change, until nobody listens.
    pub async fn follow(self, inputs: Inputs) {
        let (mut drift, mut backoff, mut said) = (Drift::of_all(), FIRST_BACKOFF, None);
        // The services of the last whole that was told, and since when most of them are gone.
        let (mut known, mut doubted): (BTreeSet<String>, Option<Instant>) = (BTreeSet::new(), None);
        loop {
            let start = Instant::now();
            let read = self.read().await;
            drift.was_read(start.elapsed());
            let failed = read.is_err();
            let mut says = read.unwrap_or_else(|error| Catalog::Broken(error.to_string()));
            let mut patience = SAFETY;
            if let Catalog::Whole { registrations, .. } = &says {
                let present: BTreeSet<_> = registrations.iter().map(|it| it.service.service.clone()).collect();
                match loss(&known, &present) {
                    Some(gone) if doubted.get_or_insert(start).elapsed() < DOUBT => {
                        let (n_known, minutes) = (known.len(), DOUBT.as_secs() / 60);
                        patience = LOOK_AGAIN;
                        says = Catalog::Broken(format!(
                            "{gone} of {n_known} services that others registered are gone at once: not believed before it is so for {minutes} minutes"
                        ));
                    }
                    _ => (known, doubted) = (present, None),
                }
            }
            if said.as_ref() != Some(&says) {
                if inputs.send(Input::Catalog(says.clone())).await.is_err() {
                    return;
                }
                said = Some(says);
            }
            if failed {
                sleep(backoff).await;
                backoff = (backoff * 2).min(LONGEST_BACKOFF);
                continue;
            }
            backoff = FIRST_BACKOFF;
            // Out of time is as good as moved.
            let _ = timeout(patience, drift.moved(&self.client)).await;
        }
    }

    async fn read(&self) -> Result<Catalog, ConsulError> {
        const AT: &str = "/v1/catalog/services";
        let names: BTreeMap<String, Option<Vec<String>>> =
            self.client.get(AT, &[]).await?.value.ok_or_else(|| ConsulError::garbage(AT, "no list"))?;
        if !names.contains_key(CONSUL) {
            return Err(ConsulError::filtered(AT));
        }
        let is_wanted =
            |name: &str, tags: &[String]| self.config.selects(name) && tags.iter().any(|tag| is_routing(tag));
        let wanted = names.into_iter().filter(|(name, tags)| is_wanted(name, tags.as_deref().unwrap_or_default()));
        let (wanted, unusable): (Vec<_>, Vec<_>) = wanted.map(|(name, _)| name).partition(|name| is_plain(name));
        if wanted.len() > MAX_SERVICES {
            let what = format!("{} services carry routing tags, more than {MAX_SERVICES}", wanted.len());
            return Err(ConsulError::standing(AT, what, "name those that the gateway is for in catalog.services"));
        }
        let read = stream::iter(wanted).map(|name| self.instances(name)).buffered(AT_ONCE);
        let all: Vec<_> = read.try_collect().await?;
        let mut all: Vec<Registration> = all.into_iter().flatten().collect();
        if all.len() > MAX_INSTANCES {
            let what = format!("{} instances, more than {MAX_INSTANCES}", all.len());
            return Err(ConsulError::standing(
                AT,
                what,
                "name the services that the gateway is for in catalog.services",
            ));
        }
        all.sort_by(|a, b| {
            (&a.service.service, &a.node, &a.service.id).cmp(&(&b.service.service, &b.node, &b.service.id))
        });
        all.dedup_by(|a, b| (&a.node, &a.service.id) == (&b.node, &b.service.id));
        Ok(Catalog::Whole { registrations: all, unusable })
    }

    /// All instances of one service but for ours.
    async fn instances(&self, name: String) -> Result<Vec<Registration>, ConsulError> {
        let at = format!("/v1/health/service/{name}");
        let found: Option<Vec<Entry>> = self.client.get(&at, &[]).await?.value;
        let entries = found.ok_or_else(|| ConsulError::garbage(&at, "no list"))?;
        let theirs = entries.into_iter().filter(|entry| !self.ours.iter().any(|scope| scope.marks(entry.meta())));
        Ok(theirs.filter_map(Entry::registration).collect())
    }
}

/// How many services are gone, if that is more than may be.
fn loss(known: &BTreeSet<String>, present: &BTreeSet<String>) -> Option<usize> {
    let gone = known.difference(present).count();
    (gone > FREE && gone * 2 > known.len()).then_some(gone)
}

/// Whether a name can stand in a path, a header and a rule. Consul stores any text, `../kv` as well.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    name.bytes().all(plain) && name.bytes().any(|byte| byte != b'.')
}

#[cfg(test)]
mod tests {
    use super::{is_plain, loss};

    #[test]
    fn a_loss_of_most_services_at_once_is_doubted_and_a_few_may_always_go() {
        let services = |numbers: std::ops::Range<usize>| numbers.map(|number| number.to_string()).collect();
        for (before, after, doubted) in [
            (0..3, 0..0, None),
            (0..4, 0..0, Some(4)),
            (0..10, 0..5, None),
            (0..10, 0..4, Some(6)),
            // Others have come meanwhile.
            (0..10, 8..30, Some(8)),
            (0..0, 0..9, None),
        ] {
            assert_eq!(loss(&services(before.clone()), &services(after.clone())), doubted, "{before:?} to {after:?}");
        }
    }

    #[test]
    fn only_names_that_stay_one_part_of_a_path_are_asked_for() {
        for name in ["web", "web-1.a_b", "..a"] {
            assert!(is_plain(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "../kv", "a b", "a%2Fb", "a?b", "a#b", "\u{fc}"] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
