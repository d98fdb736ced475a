//! Reading services of others: all of them, or those that differ by their tags and checks.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
};

use super::{
    Catalog, CatalogConfig,
    entry::{Checked, Entry},
};
use crate::{
    consul::{client::Client, error::ConsulError, live::Scope},
    sync::{Registration, is_routing},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

/// Consul's own service, which is in every catalog: without it the answer is not the whole.
const CONSUL: &str = "consul";
/// Most services with routing tags, and most instances of all of them.
const MAX_SERVICES: usize = 10_000;
const MAX_INSTANCES: usize = 100_000;
/// Questions at once; Consul lets one client have 200 connections.
const AT_ONCE: usize = 16;

/// What was read, and what it was read by.
#[derive(Debug)]
pub(super) struct Reader {
    client: Client,
    config: CatalogConfig,
    /// What is ours in the catalog, and known from elsewhere.
    ours: Vec<Scope>,
    /// Whether services without routing tags are left out.
    is_routed: bool,
    seen: Seen,
}

#[derive(Debug, Default)]
struct Seen {
    /// Of the services with routing tags: those of all instances.
    tags: BTreeMap<String, BTreeSet<String>>,
    services: BTreeMap<String, Held>,
}

/// What is known of one service.
#[derive(Debug)]
struct Held {
    instances: Vec<Registration>,
    /// Statuses as they were when the instances were read, of which theirs are made: those of the list were read at another
    /// time, and a check may have been something else in between.
    own: Option<u64>,
    nodes: BTreeMap<String, Option<u64>>,
}

/// Statuses of checks, as one number for each service and for each node's own.
#[derive(Debug)]
struct Checks {
    services: BTreeMap<String, u64>,
    nodes: BTreeMap<String, u64>,
}

// === impl Reader ===

impl Reader {
    pub(super) fn new(client: Client, config: CatalogConfig, ours: Vec<Scope>) -> Self {
        Self { client, config, ours, is_routed: true, seen: Seen::default() }
    }

    /// Services without routing tags count, too.
    pub(super) fn without_tags(&mut self) {
        self.is_routed = false;
    }

    /// The catalog as it is now. Without `all`, services whose tags and checks are as before are taken to be so. After an error
    /// everything is read again.
    pub(super) async fn read(&mut self, all: bool) -> Result<Catalog, ConsulError> {
        let mut seen = std::mem::take(&mut self.seen);
        if all {
            seen = Seen::default();
        }
        let (tags, unusable) = self.names().await?;
        let checks = self.checks().await?;
        let wanted: Vec<_> = tags.keys().filter(|name| !seen.is_same(name, &tags[*name], &checks)).cloned().collect();
        let read = stream::iter(wanted).map(|name| self.instances(name)).buffered(AT_ONCE);
        seen.services.extend(read.try_collect::<Vec<_>>().await?);
        seen.services.retain(|name, _| tags.contains_key(name));
        seen.tags = tags;
        let mut registrations: Vec<_> = seen.services.values().flat_map(|held| &held.instances).cloned().collect();
        if registrations.len() > MAX_INSTANCES {
            let what = format!("{} instances, more than {MAX_INSTANCES}", registrations.len());
            return Err(ConsulError::standing("/v1/health/service", what, SELECT));
        }
        // Under one name in two cases Consul answers for both.
        let place = |it: &Registration| (it.service.service.clone(), it.node.clone(), it.service.id.clone());
        registrations.sort_by_cached_key(place);
        registrations.dedup_by(|a, b| place(a) == place(b));
        self.seen = seen;
        Ok(Catalog::Whole { registrations, unusable })
    }

    /// Services that are wanted, and such whose names cannot be used.
    async fn names(&self) -> Result<(BTreeMap<String, BTreeSet<String>>, Vec<String>), ConsulError> {
        const AT: &str = "/v1/catalog/services";
        let names: BTreeMap<String, Option<BTreeSet<String>>> =
            self.client.get(AT, &[]).await?.value.ok_or_else(|| ConsulError::garbage(AT, "no list"))?;
        if !names.contains_key(CONSUL) {
            return Err(ConsulError::filtered(AT));
        }
        let names = names.into_iter().map(|(name, tags)| (name, tags.unwrap_or_default()));
        let is_routed = |tags: &BTreeSet<String>| !self.is_routed || tags.iter().any(|tag| is_routing(tag));
        let wanted = names.filter(|(name, tags)| self.config.selects(name) && is_routed(tags));
        let (wanted, unusable): (BTreeMap<_, _>, BTreeMap<_, _>) = wanted.partition(|(name, _)| is_plain(name));
        if wanted.len() > MAX_SERVICES {
            let what = format!("{} services are selected, more than {MAX_SERVICES}", wanted.len());
            return Err(ConsulError::standing(AT, what, SELECT));
        }
        Ok((wanted, unusable.into_keys().collect()))
    }

    async fn checks(&self) -> Result<Checks, ConsulError> {
        const AT: &str = "/v1/health/state/any";
        let found: Option<Vec<Checked>> = self.client.get(AT, &[]).await?.value;
        Ok(Checks::of(&found.ok_or_else(|| ConsulError::garbage(AT, "no list"))?))
    }

    /// All instances of one service but for ours.
    async fn instances(&self, name: String) -> Result<(String, Held), ConsulError> {
        let at = format!("/v1/health/service/{name}");
        let found: Option<Vec<Entry>> = self.client.get(&at, &[]).await?.value;
        let entries = found.ok_or_else(|| ConsulError::garbage(&at, "no list"))?;
        let checks = Checks::of(entries.iter().flat_map(Entry::checks));
        let node = |entry: &Entry| (entry.node().to_owned(), checks.nodes.get(entry.node()).copied());
        let (own, nodes) = (checks.services.get(&name).copied(), entries.iter().map(node).collect());
        let theirs = entries.into_iter().filter(|entry| !self.ours.iter().any(|scope| scope.marks(entry.meta())));
        let instances = theirs.filter_map(Entry::registration).collect();
        Ok((name, Held { instances, own, nodes }))
    }
}

const SELECT: &str = "name those that matter in catalog.services, or in toKubernetes.services of the cluster";

// === impl Seen ===

impl Seen {
    fn is_same(&self, name: &str, tags: &BTreeSet<String>, checks: &Checks) -> bool {
        let is_same = |held: &Held| {
            held.own == checks.services.get(name).copied()
                && held.nodes.iter().all(|(node, status)| *status == checks.nodes.get(node).copied())
        };
        self.tags.get(name) == Some(tags) && self.services.get(name).is_some_and(is_same)
    }
}

// === impl Checks ===

impl Checks {
    /// Of any checks, in any order, the same one more than once.
    fn of<'a>(checks: impl IntoIterator<Item = &'a Checked>) -> Self {
        let key = |it: &&'a Checked| (it.node.as_str(), it.id.as_str(), it.service_id.as_str());
        let mut all: Vec<_> = checks.into_iter().collect();
        all.sort_by_key(key);
        all.dedup_by_key(|it| key(it));
        let (mut services, mut nodes) = (BTreeMap::<_, DefaultHasher>::new(), BTreeMap::<_, DefaultHasher>::new());
        for check in all {
            let hasher = if check.service_name.is_empty() {
                nodes.entry(check.node.clone()).or_default()
            } else {
                services.entry(check.service_name.clone()).or_default()
            };
            (&check.node, &check.id, &check.service_id, &check.status).hash(hasher);
        }
        let done = |of: BTreeMap<String, DefaultHasher>| of.into_iter().map(|(name, it)| (name, it.finish())).collect();
        Self { services: done(services), nodes: done(nodes) }
    }
}

/// Whether a name can stand in a path, a header and a rule. Consul stores any text, `../kv` as well.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    name.bytes().all(plain) && name.bytes().any(|byte| byte != b'.')
}

#[cfg(test)]
mod tests {
    use super::is_plain;

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
