//! Services whose tags go to Traefik's own provider and that stand in each other's way.
//!
//! Traefik drops a router that two services define, and a service whose instances differ, and says so in its own log only.
//! For services behind the gate [`super::routes`] sees to this, because there the catalog is the only source.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    desired::{Desired, Reason},
    exposure::{TRAEFIK_PREFIX, key_below},
    note::Notes,
    registration::Registration,
    routes::{RouterSpec, meet, rank},
};
use crate::traefik::tree;

/// Closes them and says why.
pub(super) fn close(found: &mut Desired) {
    let mut tags: BTreeMap<&str, BTreeSet<Vec<&str>>> = BTreeMap::new();
    for registration in &found.registrations {
        tags.entry(&registration.service.service).or_default().insert(routing(registration));
    }
    let mut faults: BTreeMap<String, (String, String, &str)> = BTreeMap::new();
    for (name, _) in tags.iter().filter(|(_, sets)| sets.len() > 1) {
        let what = "its instances carry different routing tags".to_owned();
        let hint = "give all Services of this name the same routing annotations";
        faults.insert((*name).to_owned(), ("tags".to_owned(), what, hint));
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
            let (key, what) = (key(router), format!("router {} is also defined by {other}", router.name));
            faults.entry((*service).to_owned()).or_insert((key, what, "rename the router in one of them"));
        }
    }
    for group in by_rank.values() {
        for (service, router) in group {
            let rival = group.iter().find(|(other, its)| other != service && meet(router, its));
            let Some((other, _)) = rival else { continue };
            let what = format!("router {} has the same rule and rank as one of {other}", router.name);
            let fault = (format!("{}.rule", key(router)), what, "change the rule, or set priorities");
            faults.entry((*service).to_owned()).or_insert(fault);
        }
    }
    let mut closed = BTreeSet::new();
    for (service, (key, what, hint)) in faults {
        let mut notes = Notes::new(&service);
        notes.error(&key, format!("{what}, the service is not exposed"), hint);
        found.notes.extend(notes.into_list());
        closed.insert(service);
    }
    shut(found, &closed);
}

fn key(router: &RouterSpec) -> String {
    format!("{TRAEFIK_PREFIX}http.routers.{}", router.name)
}

fn routing(registration: &Registration) -> Vec<&str> {
    let tags = registration.service.tags.iter().map(String::as_str);
    tags.filter(|tag| key_below(tag, TRAEFIK_PREFIX).is_some()).collect()
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

/// Takes the services' routing tags away, on all their instances.
fn shut(found: &mut Desired, services: &BTreeSet<String>) {
    let off = format!("{TRAEFIK_PREFIX}enable=false");
    let is_routing = |tag: &str| key_below(tag, TRAEFIK_PREFIX).is_some();
    for registration in found.registrations.iter_mut().filter(|it| services.contains(&it.service.service)) {
        registration.service.tags.retain(|tag| !is_routing(tag));
        registration.service.tags.push(off.clone());
    }
    found.reasons.retain(|reason| !services.contains(&reason.service) || !is_routing(&reason.tag));
    found.reasons.extend(services.iter().map(|service| Reason {
        service: service.clone(),
        tag: off.clone(),
        from: "closed by a conflict".to_owned(),
    }));
}
