//! Which services claim which routers and rules, so that of ten thousand services only those that meet are compared. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::routes::{RouterSpec, meet, rank};

/// A rule as Traefik reads it, and its rank.
type Rank = (String, i64);
/// Names of services.
type Names = BTreeSet<Arc<str>>;

/// The routers that a service wants, each with the rank of its rule.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) rank: Arc<Rank>,
    pub(super) router: RouterSpec,
}

/// All claims, found by service, by the router's name and by rank.
#[derive(Debug, Default)]
pub(super) struct Claims {
    of: BTreeMap<Arc<str>, Box<[Claim]>>,
    by_name: BTreeMap<String, Names>,
    by_rank: BTreeMap<Arc<Rank>, Names>,
}

impl Claims {
    /// From now on `service` claims these routers. Returns everybody who shares a name or a rank with what it claimed or
    /// claims, itself among them.
    pub(super) fn set(&mut self, service: &Arc<str>, routers: &[RouterSpec]) -> Names {
        let mut met = Names::from([Arc::clone(service)]);
        for claim in self.of.remove(service).into_iter().flatten() {
            met.extend(leave(&mut self.by_name, &claim.router.name, service));
            met.extend(leave(&mut self.by_rank, &claim.rank, service));
        }
        if routers.is_empty() {
            return met;
        }
        let claims = routers.iter().map(|router| Claim { rank: Arc::new(rank(router)), router: router.clone() });
        let claims: Box<[_]> = claims.collect();
        for claim in &claims {
            let sharing = self.by_name.entry(claim.router.name.clone()).or_default();
            sharing.insert(Arc::clone(service));
            met.extend(sharing.iter().cloned());
            let sharing = self.by_rank.entry(Arc::clone(&claim.rank)).or_default();
            sharing.insert(Arc::clone(service));
            met.extend(sharing.iter().cloned());
        }
        self.of.insert(Arc::clone(service), claims);
        met
    }

    /// What a service claims, in the order in which it was given.
    pub(super) fn of(&self, service: &str) -> &[Claim] {
        self.of.get(service).map(AsRef::as_ref).unwrap_or_default()
    }

    /// Everybody else who claims a router of this name, sorted.
    pub(super) fn others<'a>(&'a self, service: &'a str, router: &str) -> impl Iterator<Item = &'a Arc<str>> {
        self.by_name.get(router).into_iter().flatten().filter(move |other| ***other != *service)
    }

    /// Everybody who has a rank in common with a service, itself among them.
    pub(super) fn of_equal_rank(&self, service: &str) -> impl Iterator<Item = &Arc<str>> {
        self.of(service).iter().filter_map(|claim| self.by_rank.get(&claim.rank)).flatten()
    }

    /// The first other service that counts and has a router of the same rank where requests can reach both.
    pub(super) fn rival(&self, service: &str, claim: &Claim, counts: impl Fn(&str) -> bool) -> Option<&Arc<str>> {
        let meets =
            |other: &str| self.of(other).iter().any(|its| its.rank == claim.rank && meet(&claim.router, &its.router));
        let others = self.by_rank.get(&claim.rank).into_iter().flatten();
        others.filter(|other| ***other != *service && counts(other)).find(|other| meets(other))
    }
}

/// Takes a service out of a group; who is left in it.
fn leave<K: Ord>(groups: &mut BTreeMap<K, Names>, key: &K, service: &str) -> Names {
    let Some(group) = groups.get_mut(key) else { return Names::new() };
    group.remove(service);
    let left = group.clone();
    if left.is_empty() {
        groups.remove(key);
    }
    left
}
