//! The routes of all services, kept up to date where one of them changes: what [`super::routes`] says of all at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Route, RouterSpec, also_defined, equal_rule, equal_spelling, route};
use crate::sync::{
    claims::Claims,
    note::{Note, Notes},
    registration::Registration,
};

/// Every Consul service that has instances, with its route or why it has none.
#[derive(Debug, Default)]
pub struct RouteTable {
    found: BTreeMap<Arc<str>, Found>,
    /// The names by their lower-case spelling.
    spellings: BTreeMap<String, BTreeSet<Arc<str>>>,
    /// Of the services whose names are spelled in one way.
    claims: Claims,
    /// Whether names or what they claim are others than when it was last asked.
    is_reclaimed: bool,
}

#[derive(Debug, Default)]
struct Found {
    route: Option<Arc<Route>>,
    notes: Vec<Note>,
    /// Why the route is not to be used, because of another service.
    closed: Option<Note>,
}

// === impl RouteTable ===

impl RouteTable {
    /// From now on `name` has these instances, in all clusters and wherever they were registered; none: there is no such
    /// service any more. Returns whether any route or note is another one now.
    pub fn set(&mut self, name: &str, instances: &[&Registration]) -> bool {
        let lower = name.to_lowercase();
        let (name, before) = match self.found.remove_entry(name) {
            Some((name, found)) => (name, Some(found)),
            None => (Arc::from(name), None),
        };
        if before.is_none() && instances.is_empty() {
            return false;
        }
        let mut touched = BTreeSet::from([Arc::clone(&name)]);
        let mut differs = true;
        if instances.is_empty() {
            if let Some(group) = self.spellings.get_mut(&lower) {
                group.remove(&name);
                touched.extend(group.iter().cloned());
                if group.is_empty() {
                    self.spellings.remove(&lower);
                }
            }
        } else {
            let mut notes = Notes::new(&name);
            let route = route(&name, instances, &mut notes).map(Arc::new);
            let found = Found { route, notes: notes.into_list(), closed: None };
            if let Some(before) = before {
                differs = before.notes != found.notes || before.route != found.route;
                if before.routers() == found.routers() {
                    // What it claims is the same, so others are not concerned.
                    self.found.insert(name, Found { closed: before.closed, ..found });
                    return differs;
                }
            } else {
                let group = self.spellings.entry(lower).or_default();
                group.insert(Arc::clone(&name));
                touched.extend(group.iter().cloned());
            }
            self.found.insert(name, found);
        }
        self.is_reclaimed = true;
        self.judge(touched) || differs
    }

    /// How services spell this name, which is given in lower case.
    pub fn spellings(&self, lower: &str) -> impl Iterator<Item = &str> + use<'_> {
        self.spellings.get(lower).into_iter().flatten().map(AsRef::as_ref)
    }

    /// Whether what matters to others has changed since this was asked last: names, routers and rules.
    pub fn take_reclaimed(&mut self) -> bool {
        std::mem::take(&mut self.is_reclaimed)
    }

    /// What may be used, sorted by destination.
    pub fn routes(&self) -> Vec<Arc<Route>> {
        let open = self.found.values().filter(|found| found.closed.is_none());
        open.filter_map(|found| found.route.clone()).collect()
    }

    /// Why services have no route, by service.
    pub fn notes(&self) -> impl Iterator<Item = &Note> {
        self.found.values().flat_map(|found| found.notes.iter().chain(&found.closed))
    }

    /// Looks again at these services and at all that they meet.
    fn judge(&mut self, touched: BTreeSet<Arc<str>>) -> bool {
        let mut met = BTreeSet::new();
        for name in touched {
            let route = self.found.get(&name).and_then(|found| found.route.clone());
            let route = route.filter(|_| self.other_spellings(&name).next().is_none());
            let routers = route.as_ref().map(|route| route.routers.as_slice()).unwrap_or_default();
            met.extend(self.claims.set(&name, routers));
        }
        // Whoever shares a router is closed for it, and then no rival of those who have its rule.
        let rivals: Vec<_> = met.iter().flat_map(|name| self.claims.of_equal_rank(name)).cloned().collect();
        met.extend(rivals);
        let mut differs = false;
        for name in met {
            let closed = self.closed(&name);
            if let Some(found) = self.found.get_mut(&name)
                && found.closed != closed
            {
                found.closed = closed;
                differs = true;
            }
        }
        differs
    }

    fn closed(&self, name: &str) -> Option<Note> {
        let route = self.found.get(name)?.route.as_ref()?;
        let mut notes = Notes::new(&name);
        let mut others = self.other_spellings(name).peekable();
        if others.peek().is_some() {
            equal_spelling(&mut notes, others);
            return notes.into_list().pop();
        }
        let is_shared = |router: &&RouterSpec| self.claims.others(name, &router.name).next().is_some();
        if let Some(RouterSpec { name: router, .. }) = route.routers.iter().find(is_shared) {
            also_defined(&mut notes, router, self.claims.others(name, router).map(AsRef::as_ref));
            return notes.into_list().pop();
        }
        let rival = |claim| self.claims.rival(name, claim, |other| !self.shares_a_router(other));
        let (router, other) = self.claims.of(name).iter().find_map(|it| Some((&it.router.name, rival(it)?)))?;
        equal_rule(&mut notes, router, other);
        notes.into_list().pop()
    }

    fn shares_a_router(&self, name: &str) -> bool {
        self.claims.of(name).iter().any(|claim| self.claims.others(name, &claim.router.name).next().is_some())
    }

    fn other_spellings<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let group = self.spellings.get(&name.to_lowercase());
        group.into_iter().flatten().map(AsRef::as_ref).filter(move |other| *other != name)
    }
}

impl Found {
    fn routers(&self) -> Option<&[RouterSpec]> {
        self.route.as_ref().map(|route| route.routers.as_slice())
    }
}
