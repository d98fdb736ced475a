//! Services whose tags go to Traefik's own provider and that stand in each other's way.
//!
//! Traefik drops a router that two services define, and a service whose instances differ, and says so in its own log only.
//! For services behind the gate [`super::routes`] sees to this, because there the catalog is the only source.
//!
//! [`close`] says it of all services at once, [`Conflicts`] keeps it up to date where one of them changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;

use super::{
    claims::Claims,
    desired::{Desired, Reason},
    exposure::{TRAEFIK_PREFIX, key_below},
    note::{Note, Notes},
    registration::Registration,
    routes::{RouterSpec, meet, rank},
};
use crate::traefik::tree;

/// Why a service is closed: the key it is about, what is wrong, what to do.
type Fault = (String, String, &'static str);

/// The same for services that change one after the other, by Consul name.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    claims: Claims,
    faults: BTreeMap<Arc<str>, Fault>,
    /// Those whose instances differ; they claim nothing.
    differing: BTreeSet<Arc<str>>,
}

impl Conflicts {
    /// From now on the instances of `name` carry these lists of tags. Returns all names that are closed, open, or closed
    /// for another reason since.
    pub(super) fn set<'a>(&mut self, name: &Arc<str>, lists: impl Iterator<Item = &'a [String]>) -> Vec<Arc<str>> {
        let sets: BTreeSet<Vec<&str>> = lists.map(routing).collect();
        let wanted = match sets.first() {
            Some(tags) if sets.len() == 1 => routers(tags),
            _ => Vec::new(),
        };
        if sets.len() > 1 {
            self.differing.insert(Arc::clone(name));
        } else {
            self.differing.remove(name);
        }
        let mut changed = Vec::new();
        for met in self.claims.set(name, &wanted) {
            let fault = self.fault(&met);
            if self.faults.get(&met) != fault.as_ref() {
                changed.push(Arc::clone(&met));
                match fault {
                    Some(fault) => drop(self.faults.insert(met, fault)),
                    None => drop(self.faults.remove(&met)),
                }
            }
        }
        changed
    }

    /// Whether the service's routing tags have to go.
    pub(super) fn is_closed(&self, name: &str) -> bool {
        self.faults.contains_key(name)
    }

    /// What is to be said about it.
    pub(super) fn notes(&self) -> impl Iterator<Item = Note> {
        self.faults.iter().flat_map(|(name, fault)| note(name, fault))
    }

    fn fault(&self, name: &str) -> Option<Fault> {
        if self.differing.contains(name) {
            return Some(differing());
        }
        let mut claims: Vec<_> = self.claims.of(name).iter().collect();
        claims.sort_by(|a, b| a.router.name.cmp(&b.router.name));
        let shared = claims.iter().find_map(|it| Some((it, self.claims.others(name, &it.router.name).next()?)));
        if let Some((claim, other)) = shared {
            return Some(also_defined(&claim.router, other));
        }
        claims.sort_by(|a, b| a.rank.cmp(&b.rank));
        let (claim, other) = claims.iter().find_map(|it| Some((it, self.claims.rival(name, it, |_| true)?)))?;
        Some(same_rule(&claim.router, other))
    }
}

fn differing() -> Fault {
    let what = "its instances carry different routing tags".to_owned();
    ("tags".to_owned(), what, "give all Services of this name the same routing annotations")
}

fn also_defined(router: &RouterSpec, other: &str) -> Fault {
    let what = format!("router {} is also defined by {other}", router.name);
    (key(router), what, "rename the router in one of them")
}

fn same_rule(router: &RouterSpec, other: &str) -> Fault {
    let what = format!("router {} has the same rule and rank as one of {other}", router.name);
    (format!("{}.rule", key(router)), what, "change the rule, or set priorities")
}

fn note(service: &str, (key, what, hint): &Fault) -> Vec<Note> {
    let mut notes = Notes::new(&service);
    notes.error(key, format!("{what}, the service is not exposed"), hint);
    notes.into_list()
}

/// Closes them and says why.
pub(super) fn close(found: &mut Desired) {
    let mut tags: BTreeMap<&str, BTreeSet<Vec<&str>>> = BTreeMap::new();
    for registration in &found.registrations {
        tags.entry(&registration.service.service).or_default().insert(routing(&registration.service.tags));
    }
    let mut faults: BTreeMap<String, Fault> = BTreeMap::new();
    for (name, _) in tags.iter().filter(|(_, sets)| sets.len() > 1) {
        faults.insert((*name).to_owned(), differing());
    }
    let all_alike = tags.iter().filter(|(_, sets)| sets.len() == 1);
    let claims: Vec<(&str, RouterSpec)> =
        all_alike.flat_map(|(name, sets)| sets.iter().flat_map(|tags| routers(tags)).map(|it| (*name, it))).collect();
    // Sorted by what may be shared, so that ten thousand services are not compared with each other.
    let (mut by_name, mut by_rank) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
    for claim in &claims {
        by_name.entry(claim.1.name.as_str()).or_default().push(claim);
        by_rank.entry(rank(&claim.1)).or_default().push(claim);
    }
    for group in by_name.values() {
        for (service, router) in group {
            let Some((other, _)) = group.iter().find(|(other, _)| other != service) else { continue };
            faults.entry((*service).to_owned()).or_insert_with(|| also_defined(router, other));
        }
    }
    for group in by_rank.values() {
        for (service, router) in group {
            let rival = group.iter().find(|(other, its)| other != service && meet(router, its));
            let Some((other, _)) = rival else { continue };
            faults.entry((*service).to_owned()).or_insert_with(|| same_rule(router, other));
        }
    }
    let mut closed = BTreeSet::new();
    for (service, fault) in faults {
        found.notes.extend(note(&service, &fault));
        closed.insert(service);
    }
    shut_all(found, &closed);
}

fn key(router: &RouterSpec) -> String {
    format!("{TRAEFIK_PREFIX}http.routers.{}", router.name)
}

fn routing(tags: &[String]) -> Vec<&str> {
    let tags = tags.iter().map(String::as_str);
    tags.filter(|tag| is_routing(tag)).collect()
}

/// The HTTP routers of a service that is not switched off.
fn routers(tags: &[&str]) -> Vec<RouterSpec> {
    let pairs = tags.iter().filter_map(|tag| tag[TRAEFIK_PREFIX.len()..].split_once('='));
    let Ok(tree) = tree::read(pairs) else { return Vec::new() };
    if tree.get("enable") == Some(&Value::Bool(false)) {
        return Vec::new();
    }
    let routers = tree.get("http").and_then(|http| http.get("routers")?.as_object());
    let spec = |(name, router): (&String, &Value)| {
        let names = router.get("entryPoints").and_then(Value::as_array).into_iter().flatten();
        Some(RouterSpec {
            name: name.clone(),
            rule: router.get("rule")?.as_str()?.to_owned(),
            entry_points: names.filter_map(|name| name.as_str().map(str::to_owned)).collect(),
            priority: router.get("priority").and_then(Value::as_i64),
            tls: router.get("tls").map(|tls| *tls != Value::Bool(false)),
            before: Vec::new(),
            after: Vec::new(),
        })
    };
    routers.into_iter().flatten().filter_map(spec).collect()
}

/// Takes the routing tags of an instance away.
pub(super) fn shut(registration: &mut Registration) {
    registration.service.tags.retain(|tag| !is_routing(tag));
    registration.service.tags.push(off());
}

fn is_routing(tag: &str) -> bool {
    key_below(tag, TRAEFIK_PREFIX).is_some()
}

fn off() -> String {
    format!("{TRAEFIK_PREFIX}enable=false")
}

/// Takes the services' routing tags away, on all their instances.
fn shut_all(found: &mut Desired, services: &BTreeSet<String>) {
    found.registrations.iter_mut().filter(|it| services.contains(&it.service.service)).for_each(shut);
    found.reasons.retain(|reason| !services.contains(&reason.service) || !is_routing(&reason.tag));
    found.reasons.extend(services.iter().map(|service| Reason {
        service: service.clone(),
        tag: off(),
        from: "closed by a conflict".to_owned(),
    }));
}
