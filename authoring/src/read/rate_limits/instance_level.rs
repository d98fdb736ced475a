//! `RateLimits.InstanceLevel` of `service-defaults`, as Consul Enterprise means it: one bucket for all callers, and where a
//! route matches, the first that does has its own bucket in place of the general one.
//!
//! Consul counts at each instance of the service, we count at the gateway, for all instances together.

use portcullis_policy::{
    limit::rule::{Allowance, Limit, Limits},
    model::{DEFAULT_TENANCY, Mode, Policy, ServiceName, WILDCARD},
    problem::{Problem, Severity},
};

use super::{Reader, SCOPE};
use crate::read::{
    intention::service_name,
    mode,
    node::{Node, Object},
};

const LEVEL_KEYS: [&str; 3] = ["requestspersecond", "requestsmaxburst", "routes"];
const RATE_KEYS: [&str; 2] = ["requestspersecond", "requestsmaxburst"];
/// Consul counts in an `int32`.
const MAX_REQUESTS: u64 = i32::MAX as u64;

/// Reads the limits of one entry or resource, which has some.
pub(in crate::read) fn read(object: &Object<'_>, limits: &Node<'_>, policy: &mut Policy, problems: &mut Vec<Problem>) {
    let metadata = object.filled("spec").and_then(|_| object.get("metadata"));
    let named = metadata.as_ref().and_then(Node::try_object);
    let named = named.as_ref().unwrap_or(object);
    let (tenancy, fatal) = (DEFAULT_TENANCY, Severity::Fatal);
    // A resource's namespace is Kubernetes', not Consul's.
    let namespace_counts = metadata.is_none();
    let destination = if namespace_counts {
        service_name(named, limits, tenancy, tenancy, fatal, problems)
    } else {
        named.filled("name").and_then(|it| it.text().map(ServiceName::in_default))
    };
    let Some(destination) = destination.filter(|it| it.name != WILDCARD) else {
        problems.push(limits.problem(
            fatal,
            "the limits have no service of this name",
            "service-defaults name one service",
        ));
        return;
    };
    let meta = if namespace_counts { object.get("meta") } else { named.get("annotations") };
    let mode = meta.and_then(|it| it.try_object()).and_then(|it| it.filled(mode::ENTRY_KEY));
    let mode = mode.map_or(Some(Mode::Enforce), |it| mode::read(&it, SCOPE, problems));
    let mut reader = Reader { problems, scope: SCOPE };
    let rule = format!("service-defaults/{destination}/rate-limits");
    let found = reader.instance_level(limits, &rule);
    let found = found.into_iter().map(|limit| Limit { mode: mode.unwrap_or_default(), ..limit });
    policy.limits.push(Limits { destination, limits: found.collect() });
}

impl Reader<'_> {
    /// The limits of the routes in their order, then the general one.
    fn instance_level(&mut self, node: &Node<'_>, rule: &str) -> Vec<Limit> {
        let seen = self.problems.len();
        let named = |rule: &str, name: &str| Limit { name: name.to_owned(), ..Limit::unreadable(rule.to_owned()) };
        let outer = self.object(node);
        if let Some(outer) = &outer {
            self.only(outer, &["instancelevel"]);
        }
        let level = outer.and_then(|it| it.filled("instancelevel"));
        let fields = level.as_ref().and_then(|it| self.object(it));
        let (Some(level), Some(fields)) = (level, fields) else {
            return if self.has_failed(seen) { vec![named(rule, "instance-level")] } else { Vec::new() };
        };
        self.only(&fields, &LEVEL_KEYS);
        let general = self.requests(&fields, &level, false);
        let routes = self.list(&fields, "routes");
        let is_broken = self.has_failed(seen);
        let mut limits = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            let limit = named(&format!("{rule}/routes/{index}"), &format!("instance-level-{index}"));
            limits.push(Limit { exclusive: true, ..self.route(route, limit) });
        }
        if is_broken {
            // In front: what a route would take its place for is not known.
            limits.insert(0, named(rule, "instance-level"));
        } else if let Some(allowance) = general {
            limits.push(Limit { allowance: Some(allowance), exclusive: true, ..named(rule, "instance-level") });
        }
        limits
    }

    /// A route's limit; one whose path cannot be read refuses everything.
    fn route(&mut self, node: &Node<'_>, limit: Limit) -> Limit {
        let Some(fields) = self.object(node) else { return limit };
        let seen = self.problems.len();
        let criteria = self.criteria(&fields, node, &RATE_KEYS);
        if criteria.path.is_none() || !criteria.methods.is_empty() || !criteria.headers.is_empty() {
            self.fault(node, "a route has exactly one of PathExact, PathPrefix and PathRegex, and nothing else", "");
        }
        let matches = if self.has_failed(seen) { Vec::new() } else { vec![criteria] };
        let allowance = self.requests(&fields, node, true);
        Limit { allowance: allowance.filter(|_| !self.has_failed(seen)), matches, ..limit }
    }

    /// `RequestsPerSecond`, and `RequestsMaxBurst` or as many. Zero is not set.
    fn requests(&mut self, fields: &Object<'_>, node: &Node<'_>, required: bool) -> Option<Allowance> {
        let mut number = |key: &str| {
            let Some(it) = fields.filled(key) else { return Some(0) };
            let number = it.value().as_u64().filter(|number| *number <= MAX_REQUESTS);
            if number.is_none() {
                self.fault(&it, "a whole number from 0 on was expected here", "");
            }
            number
        };
        match (number("requestspersecond")?, number("requestsmaxburst")?) {
            (0, 0) if !required => None,
            (0, _) => {
                self.fault(node, "RequestsPerSecond must be above 0", "");
                None
            }
            (requests, 0) => self.checked_rate(requests, 1000, requests, node),
            (requests, burst) => self.checked_rate(requests, 1000, burst, node),
        }
    }
}
