//! What the gate needs to route: [`Route`]s, read from the gate tags of registrations and from nothing else.
//!
//! Tags are the only source, because the gate also serves services that other tools registered. Everything fails
//! closed: a service whose tags contradict each other, ask for what would lead past the gate, or share a router's name or
//! rule with another service has no route and a [`Note`] that says so.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    addresses,
    note::{Note, Notes},
    registration::Registration,
};
use crate::traefik::rule::Rule;

mod chain;
mod table;
mod tags;

use chain::Place;
pub use table::RouteTable;
use tags::GateTags;
pub(super) use tags::is_weight;

/// Scheme of a service that names none.
const DEFAULT_SCHEME: &str = "http";

/// A Consul service that the gate exposes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Consul service name: the destination of intentions, and the text of `X-Portcullis-Destination`.
    /// Only `A-Z a-z 0-9 . _ -`, so it is safe in a rule and in a header.
    pub destination: String,
    /// At least one, sorted by name.
    pub routers: Vec<RouterSpec>,
    /// All instances, sorted, each place once. Critical ones are listed as not healthy: see [`Route::live`].
    pub servers: Vec<Server>,
    /// `http`, `https` or `h2c`, for all servers.
    pub scheme: String,
    /// How the servers are chosen and watched, as Traefik's file provider spells it, without the servers.
    pub balancer: Map<String, Value>,
    /// The service's own middlewares, by name, as Traefik's file provider spells them.
    pub middlewares: BTreeMap<String, Value>,
}

/// A middleware in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Middleware {
    /// One of [`Route::middlewares`].
    Own(String),
    /// One of the gateway's own, `name@provider`.
    Gateway(String),
}

/// One root router of a service.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RouterSpec {
    /// Unique among all routes; `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// Traefik v3 rule as its author wrote it; it has been read.
    pub rule: String,
    /// Empty for the gate's own.
    pub entry_points: Vec<String>,
    /// Absent for Traefik's rule (length of the rule).
    pub priority: Option<i64>,
    /// Absent for the gate's own setting.
    pub tls: Option<bool>,
    /// Middlewares in front of the gate.
    pub before: Vec<Middleware>,
    /// Middlewares behind it.
    pub after: Vec<Middleware>,
}

/// One place where a service is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// IP address or host name.
    pub address: String,
    /// Port, 1-65535.
    pub port: u16,
    /// Whether its check lets traffic through (passing or warning, Traefik's own default).
    pub healthy: bool,
    /// Its share of the requests; absent for 1.
    pub weight: Option<u32>,
}

// === impl Route ===

impl Route {
    /// The servers that may get traffic. With none, the route stays and Traefik answers 503: taking the route away would
    /// let a broader rule of another service catch the requests.
    pub fn live(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(|server| server.healthy)
    }
}

// === impl Server ===

impl Server {
    /// `address:port` as a URL writes it.
    pub fn authority(&self) -> String {
        addresses::authority(&self.address, self.port)
    }
}

/// The routes of all registrations, sorted by destination, and why some services have none.
pub fn routes(registrations: &[Registration]) -> (Vec<Route>, Vec<Note>) {
    let mut by_name: BTreeMap<&str, Vec<&Registration>> = BTreeMap::new();
    for registration in registrations {
        by_name.entry(&registration.service.service).or_default().push(registration);
    }
    let mut found: BTreeMap<&str, (Option<Route>, Notes)> = BTreeMap::new();
    for (name, instances) in &by_name {
        let mut notes = Notes::new(name);
        found.insert(name, (route(name, instances, &mut notes), notes));
    }
    close_equal_destinations(&mut found);
    close_shared_routers(&mut found);
    close_equal_rules(&mut found);
    let (mut routes, mut notes) = (Vec::new(), Vec::new());
    for (route, noted) in found.into_values() {
        routes.extend(route);
        notes.extend(noted.into_list());
    }
    notes.sort();
    (routes, notes)
}

/// The route of one service; `None` with a note if it is wanted but cannot be, `None` alone if nobody wants one.
fn route(name: &str, instances: &[&Registration], notes: &mut Notes) -> Option<Route> {
    let tags = GateTags::read(name, instances, notes)?;
    let routers = tags.routers(notes)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        let what = closed("the Consul name does not fit into a header and a rule");
        notes.error("service name", what, "use only A-Z a-z 0-9 . _ -");
        return None;
    }
    Some(Route {
        destination: name.to_owned(),
        routers,
        servers: servers(instances),
        scheme: tags.scheme.unwrap_or_else(|| DEFAULT_SCHEME.to_owned()),
        balancer: tags.balancer,
        middlewares: tags.middlewares,
    })
}

/// Every place once; one healthy instance there is enough.
fn servers(instances: &[&Registration]) -> Vec<Server> {
    let mut places: BTreeMap<(String, u16), (bool, Option<u32>)> = BTreeMap::new();
    for instance in instances {
        let service = &instance.service;
        // Consul's readers fall back to the node's address.
        let address = if service.address.is_empty() { &instance.address } else { &service.address };
        let place = places.entry((address.clone(), service.port)).or_default();
        place.0 |= matches!(instance.check.status.as_str(), "passing" | "warning");
        place.1 = place.1.max(tags::weight(instance));
    }
    let server = |((address, port), (healthy, weight))| Server { address, port, healthy, weight };
    places.into_iter().map(server).collect()
}

/// Consul lists `Web` and `web` as two services and answers for both as one, so neither's instances can be told apart.
fn close_equal_destinations(found: &mut BTreeMap<&str, (Option<Route>, Notes)>) {
    let mut spellings: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in found.keys() {
        spellings.entry(name.to_lowercase()).or_default().insert((*name).to_owned());
    }
    for (name, (route, notes)) in found.iter_mut() {
        let others = &spellings[&name.to_lowercase()];
        if others.len() > 1 && route.take().is_some() {
            equal_spelling(notes, others.iter().map(String::as_str).filter(|other| other != name));
        }
    }
}

/// A router that two services define would be either's by chance.
fn close_shared_routers(found: &mut BTreeMap<&str, (Option<Route>, Notes)>) {
    let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, (route, _)) in found.iter() {
        for router in route.iter().flat_map(|route| &route.routers) {
            owners.entry(router.name.clone()).or_default().insert((*name).to_owned());
        }
    }
    for (name, (route, notes)) in found.iter_mut() {
        let shared = |router: &&RouterSpec| owners[&router.name].len() > 1;
        let Some(router) = route.iter().flat_map(|route| &route.routers).find(shared).cloned() else { continue };
        also_defined(
            notes,
            &router.name,
            owners[&router.name].iter().map(String::as_str).filter(|other| other != name),
        );
        *route = None;
    }
}

/// Two services with one rule and one rank would get each other's requests by chance.
fn close_equal_rules(found: &mut BTreeMap<&str, (Option<Route>, Notes)>) {
    type Claim = (String, RouterSpec);
    let mut claims: BTreeMap<(String, i64), Vec<Claim>> = BTreeMap::new();
    for (name, (route, _)) in found.iter() {
        for router in route.iter().flat_map(|route| &route.routers) {
            claims.entry(rank(router)).or_default().push(((*name).to_owned(), router.clone()));
        }
    }
    for (name, (route, notes)) in found.iter_mut() {
        let rival = |router: &RouterSpec| {
            let claims = &claims[&rank(router)];
            claims.iter().find(|(other, its)| other != name && meet(router, its)).map(|(other, _)| other.clone())
        };
        let routers = route.iter().flat_map(|route| &route.routers);
        let Some((router, other)) = routers.clone().find_map(|router| Some((router.name.clone(), rival(router)?)))
        else {
            continue;
        };
        equal_rule(notes, &router, &other);
        *route = None;
    }
}

fn equal_spelling<'a>(notes: &mut Notes, others: impl Iterator<Item = &'a str>) {
    let what = closed(&format!("Consul answers for it and {} as one", others.collect::<Vec<_>>().join(", ")));
    notes.error("service name", what, "rename one of them");
}

fn also_defined<'a>(notes: &mut Notes, router: &str, others: impl Iterator<Item = &'a str>) {
    let what = closed(&format!("router {router} is also defined by {}", others.collect::<Vec<_>>().join(", ")));
    notes.error(&format!("portcullis.http.routers.{router}"), what, "rename the router in one of them");
}

fn equal_rule(notes: &mut Notes, router: &str, other: &str) {
    let what = closed(&format!("router {router} has the same rule and rank as one of {other}"));
    notes.error(&format!("portcullis.http.routers.{router}.rule"), what, "change the rule, or set priorities");
}

/// A rule as Traefik reads it, and its rank: without a priority the length of its text.
pub(super) fn rank(router: &RouterSpec) -> (String, i64) {
    let rule = Rule::http(&router.rule).map_or_else(|_| router.rule.clone(), |rule| rule.to_string());
    let length = i64::try_from(router.rule.len()).unwrap_or(i64::MAX);
    (rule, router.priority.filter(|number| *number != 0).unwrap_or(length))
}

/// Whether a request can reach both: no names are the gate's entry points, whichever they are.
pub(super) fn meet(one: &RouterSpec, other: &RouterSpec) -> bool {
    let (ours, theirs) = (&one.entry_points, &other.entry_points);
    let share = ours.is_empty() || theirs.is_empty() || ours.iter().any(|name| theirs.contains(name));
    share && (one.tls.is_none() || other.tls.is_none() || one.tls == other.tls)
}

/// A finding with its consequence.
fn closed(what: &str) -> String {
    format!("{what}, the service is not exposed")
}

#[cfg(test)]
mod tests;
