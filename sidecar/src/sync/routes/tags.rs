//! The gate tags of one service, read once all its instances agree on them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{Place, RouterSpec, chain, closed};
use crate::{
    sync::{
        exposure::{GATE_PREFIX, PLACE_KEY, key_below},
        note::Notes,
        registration::Registration,
    },
    traefik::{normalize, tree, value::go_bool},
};

const RULE_HINT: &str = "add traefik.http.routers.<name>.rule";
/// What a service may not choose for itself.
const GATE_HINT: &str = "leave it to the gateway's own configuration";
/// The only option that differs between instances: it belongs to a server, not to the service.
const WEIGHT: &str = ".loadbalancer.server.weight";

/// What a service's gate tags say.
#[derive(Debug, Default)]
pub(super) struct GateTags {
    enable: Option<bool>,
    /// By name, as they are written.
    routers: BTreeMap<String, Value>,
    place: Place,
    /// Scheme of the service's servers.
    pub(super) scheme: Option<String>,
    /// Without the servers.
    pub(super) balancer: Map<String, Value>,
    pub(super) middlewares: BTreeMap<String, Value>,
}

/// A finding: key, what is wrong, what to do.
pub(super) type Refusal = (String, String, &'static str);

fn refuse<T>(key: impl Into<String>, what: impl Into<String>, hint: &'static str) -> Result<T, Refusal> {
    Err((key.into(), what.into(), hint))
}

impl GateTags {
    /// Reads the tags of the service called `name`, or says why they cannot be used. `None` without a note: the service
    /// has no gate tags, or is switched off.
    pub(super) fn read(name: &str, instances: &[&Registration], notes: &mut Notes) -> Option<Self> {
        let of = |instance: &Registration| -> BTreeSet<String> {
            let tags = instance.service.tags.iter().filter(|tag| key_below(tag, GATE_PREFIX).is_some());
            tags.filter(|tag| !is_weight(tag)).cloned().collect()
        };
        let mut sets = instances.iter().map(|instance| of(instance));
        let tags = sets.next()?;
        if sets.any(|other| other != tags) {
            let what = closed("its instances carry different routing tags");
            notes.error("tags", what, "give all instances, in all clusters, the same routing annotations");
            return None;
        }
        let pair = |tag: &'_ String| {
            let rest = tag[GATE_PREFIX.len()..].to_owned();
            rest.split_once('=')
                .map_or((rest.clone(), String::new()), |(key, value)| (key.to_owned(), value.to_owned()))
        };
        let (places, pairs): (Vec<_>, Vec<_>) =
            tags.iter().map(pair).partition(|(key, _)| key.eq_ignore_ascii_case(PLACE_KEY));
        // Nothing else matters then, and nothing needs to be said.
        let is_off = |(key, value): &(String, String)| {
            key.eq_ignore_ascii_case("enable") && go_bool(value.trim()) == Some(false)
        };
        if pairs.iter().any(is_off) {
            return None;
        }
        let read = tree::read(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        let tree = match read {
            Ok(tree) => tree,
            Err(problems) => {
                for problem in problems {
                    notes.error(&format!("{GATE_PREFIX}{}", problem.key), closed(&problem.what), &problem.hint);
                }
                return None;
            }
        };
        let mut found = Self::default();
        let taken = found.take(name, tree).and_then(|()| found.take_place(&places));
        if let Err((key, what, hint)) = taken {
            notes.error(&format!("{GATE_PREFIX}{key}"), closed(&what), hint);
            return None;
        }
        Some(found)
    }

    /// The routers to build, every one with a rule.
    pub(super) fn routers(&self, notes: &mut Notes) -> Option<Vec<RouterSpec>> {
        // Without `enable`, only a router says that the service wants to be reached.
        if !self.enable.unwrap_or(!self.routers.is_empty()) {
            return None;
        }
        let found = if self.routers.is_empty() {
            refuse("enable", "it is enabled but has no router", RULE_HINT)
        } else {
            self.routers.iter().map(|(name, router)| self.router(name, router)).collect()
        };
        found.map_err(|(key, what, hint)| notes.error(&format!("{GATE_PREFIX}{key}"), closed(&what), hint)).ok()
    }

    fn router(&self, name: &str, router: &Value) -> Result<RouterSpec, Refusal> {
        let at = format!("http.routers.{name}");
        let Some(rule) = router.get("rule").and_then(Value::as_str) else {
            return refuse(format!("{at}.rule"), "the router has no rule", RULE_HINT);
        };
        let (before, after) = chain::split(&self.middlewares, &texts(router.get("middlewares")), self.place)
            .map_err(|(what, hint)| (format!("{at}.middlewares"), what, hint))?;
        let tls = match router.get("tls") {
            None => None,
            Some(Value::Bool(false)) => Some(false),
            Some(Value::Object(options)) if options.is_empty() => Some(true),
            Some(_) => return refuse(format!("{at}.tls"), "TLS options are the gateway's to choose", GATE_HINT),
        };
        Ok(RouterSpec {
            name: name.to_owned(),
            rule: rule.to_owned(),
            entry_points: texts(router.get("entryPoints")),
            priority: router.get("priority").and_then(Value::as_i64),
            tls,
            before,
            after,
        })
    }

    fn take(&mut self, name: &str, tree: Map<String, Value>) -> Result<(), Refusal> {
        for (key, value) in tree {
            match (key.as_str(), value) {
                ("enable", value) => self.enable = value.as_bool(),
                ("http", Value::Object(http)) => self.take_http(name, http)?,
                _ => {
                    return refuse(key, "only HTTP goes through the gate", "set portcullis.io/exposure to tags for it");
                }
            }
        }
        Ok(())
    }

    fn take_http(&mut self, name: &str, mut http: Map<String, Value>) -> Result<(), Refusal> {
        let mut take = |section: &str| http.remove(section).and_then(|it| it.as_object().cloned()).unwrap_or_default();
        let (routers, services, middlewares) = (take("routers"), take("services"), take("middlewares"));
        let own = match services.len() {
            0 => normalize(name),
            1 => services.keys().next().cloned().unwrap_or_default(),
            _ => return refuse("http.services", "two services behind one name in Consul", "keep one of them"),
        };
        for (service, options) in services {
            self.take_service(&service, options)?;
        }
        for (router, options) in routers {
            let at = |option: &str| format!("http.routers.{router}.{option}");
            for option in ["observability", "ruleSyntax"] {
                if options.get(option).is_some() {
                    return refuse(at(&option.to_ascii_lowercase()), "the key is not a service's to choose", GATE_HINT);
                }
            }
            // Another service behind this one's gate would be a way past its own.
            if let Some(service) = options.get("service").and_then(Value::as_str)
                && service.strip_suffix("@consulcatalog").unwrap_or(service) != own
            {
                return refuse(at("service"), format!("{service} is not this service"), "route to the service itself");
            }
            self.routers.insert(router, options);
        }
        for (middleware, options) in middlewares {
            let checked = chain::check(options, &own, name);
            let options = checked.map_err(|(what, hint)| (format!("http.middlewares.{middleware}"), what, hint))?;
            self.middlewares.insert(middleware, options);
        }
        Ok(())
    }

    fn take_service(&mut self, service: &str, mut options: Value) -> Result<(), Refusal> {
        let at = format!("http.services.{service}.loadbalancer");
        let Some(balancer) = options.get_mut("loadBalancer").and_then(Value::as_object_mut) else { return Ok(()) };
        let mut balancer = std::mem::take(balancer);
        let server = balancer.remove("server").and_then(|server| server.as_object().cloned()).unwrap_or_default();
        for (option, value) in server {
            match option.as_str() {
                "scheme" => self.scheme = value.as_str().map(str::to_owned),
                "weight" => {}
                // Both lead to other places than the ones that are registered: to another service's NodePort, say.
                _ => {
                    let what = "servers are what Consul registers for the service";
                    return refuse(
                        format!("{at}.server.{}", option.to_ascii_lowercase()),
                        what,
                        "register the right place",
                    );
                }
            }
        }
        if let Some(transport) = balancer.get("serversTransport").and_then(Value::as_str)
            && !transport.contains('@')
        {
            let what = format!("{transport} is nowhere defined");
            return refuse(format!("{at}.serverstransport"), what, "define it in the gateway's file, write name@file");
        }
        self.balancer = balancer;
        Ok(())
    }

    fn take_place(&mut self, places: &[(String, String)]) -> Result<(), Refusal> {
        self.place = match places {
            [] => Place::Last,
            [(_, place)] if place.trim() == "last" => Place::Last,
            [(_, place)] if place.trim() == "first" => Place::First,
            _ => return refuse(PLACE_KEY, "it says neither first nor last", "write first or last"),
        };
        Ok(())
    }
}

/// The weight of one instance; one that cannot be read is none, since it cannot send requests to a wrong place.
pub(super) fn weight(instance: &Registration) -> Option<u32> {
    let tag = instance.service.tags.iter().find(|tag| is_weight(tag))?;
    tag.split_once('=')?.1.trim().parse().ok()
}

pub(in crate::sync) fn is_weight(tag: &str) -> bool {
    key_below(tag, GATE_PREFIX).is_some_and(|key| key.to_ascii_lowercase().ends_with(WEIGHT))
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}
