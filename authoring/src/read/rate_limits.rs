//! `rate-limits`: Portcullis' own kind, and `RateLimits.InstanceLevel` of Consul's `service-defaults`
//! (`docs/reference/rate-limits.md`).
//!
//! A limit that cannot be read is kept without an allowance: it refuses the requests and callers that it covers, as far as
//! these can be read. Only one that is in shadow or switched off, and says so readably, refuses nothing.

mod allowance;
mod instance_level;
mod key;

use super::{
    criteria,
    identity::read_cidr,
    intention::{service_name, source_name},
    mode,
    node::{Node, Object},
};
use portcullis_policy::{
    header_match::{HeaderMatch, HeaderTest},
    limit::{
        OnUnavailable, Scope,
        rule::{Allowance, Callers, Cost, Criteria, KeyPart, Limit, Limits, Tier, TierClaim},
    },
    model::{DEFAULT_TENANCY, Mode, PathMatch, Policy, ServiceName},
    problem::{Problem, Severity},
};

pub(super) use self::instance_level::read as read_instance_level;

const ENTRY_KEYS: [&str; 10] = [
    "kind",
    "name",
    "namespace",
    "partition",
    "limits",
    "onunavailable",
    "description",
    "createindex",
    "modifyindex",
    "hash",
];
const RESOURCE_KEYS: [&str; 5] = ["kind", "apiversion", "metadata", "spec", "status"];
const SPEC_KEYS: [&str; 4] = ["destination", "limits", "onunavailable", "description"];
const LIMIT_KEYS: [&str; 13] = [
    "name",
    "description",
    "match",
    "sources",
    "exempt",
    "key",
    "rate",
    "quota",
    "concurrency",
    "costs",
    "tiers",
    "mode",
    "scope",
];
const TIER_KEYS: [&str; 5] = ["sources", "claim", "rate", "quota", "concurrency"];
const CALLER_KEYS: [&str; 4] = ["name", "namespace", "partition", "peer"];
/// Longest name of a limit, in bytes: it is in headers.
const MAX_NAME: usize = 64;
/// Most elements of any list: each is looked at for every request.
const MAX_LIST: usize = 256;
/// Highest cost of a request.
const MAX_COST: u64 = 1_000_000;
/// What a fault in a limit leads to.
const SCOPE: &str = "the limit refuses what it covers";

/// Reads one entry or resource into the policy.
pub(super) fn read(object: &Object<'_>, entry: &Node<'_>, policy: &mut Policy, problems: &mut Vec<Problem>) {
    let mut reader = Reader { problems, scope: "every request to the destination is refused" };
    let found = match object.filled("spec") {
        Some(spec) => reader.resource(object, &spec),
        None => reader.entry(object, entry, object, entry, &ENTRY_KEYS),
    };
    policy.limits.extend(found);
}

/// Collects problems, each of which breaks what is being read.
struct Reader<'p> {
    problems: &'p mut Vec<Problem>,
    /// What comes of a fault.
    scope: &'static str,
}

impl Reader<'_> {
    fn resource(&mut self, resource: &Object<'_>, spec: &Node<'_>) -> Option<Limits> {
        let unknown = resource.unknown(&RESOURCE_KEYS);
        let warn = |node: &Node<'_>| node.problem(Severity::Warning, "this field is not known", "");
        self.problems.extend(unknown.iter().map(warn));
        let object = spec.object(self.problems)?;
        let Some(target) = object.get("destination") else {
            self.problems.push(spec.problem(Severity::Fatal, "the resource has no spec.destination", ""));
            return None;
        };
        let destination = target.object(self.problems)?;
        self.entry(&destination, &target, &object, spec, &SPEC_KEYS)
    }

    /// `named` holds the destination's name, `object` the rest.
    fn entry(
        &mut self,
        named: &Object<'_>,
        name_node: &Node<'_>,
        object: &Object<'_>,
        entry: &Node<'_>,
        known: &[&str],
    ) -> Option<Limits> {
        let (tenancy, fatal) = (DEFAULT_TENANCY, Severity::Fatal);
        let destination = service_name(named, name_node, tenancy, tenancy, fatal, self.problems)?;
        let seen = self.problems.len();
        self.only(object, known);
        let on_unavailable = self.word(object, "onunavailable", |word| match word {
            "deny" => Some(OnUnavailable::Deny),
            "allow" => Some(OnUnavailable::Allow),
            _ => None,
        });
        let list = self.list(object, "limits");
        let mut limits = Vec::new();
        if self.has_failed(seen) {
            limits.push(Limit {
                name: "rate-limits".to_owned(),
                ..Limit::unreadable(format!("rate-limits/{destination}"))
            });
        } else if list.is_empty() {
            let what = "the entry has no Limits, so it limits nothing";
            self.problems.push(entry.problem(Severity::Warning, what, ""));
        }
        self.scope = SCOPE;
        for (index, node) in list.iter().enumerate() {
            let limit = self.limit(node, index, &destination);
            limits.push(Limit { on_unavailable: on_unavailable.unwrap_or_default(), ..limit });
        }
        Some(Limits { destination, limits })
    }

    fn limit(&mut self, node: &Node<'_>, index: usize, destination: &ServiceName) -> Limit {
        let seen = self.problems.len();
        let rule = |name: &str| format!("rate-limits/{destination}/{name}");
        let Some(object) = self.object(node) else {
            let name = format!("[{index}]");
            return Limit { name: name.clone(), ..Limit::unreadable(rule(&name)) };
        };
        self.only(&object, &LIMIT_KEYS);
        let name = object.filled("name").and_then(|it| it.text().map(str::to_owned));
        let name = name.filter(|name| is_name(name)).unwrap_or_else(|| {
            let what = "the limit has no Name of letters, digits, `.`, `_` and `-`";
            self.fault(node, what, "its buckets, headers and metrics are called by it");
            format!("[{index}]")
        });
        let key = self.key(&object);
        let matches = self.readable(|it| it.matches(&object));
        let sources = self.readable(|it| it.callers(&object, "sources", destination, false));
        let exempt = self.readable(|it| it.callers(&object, "exempt", destination, true));
        let costs = self.readable(|it| it.costs(&object));
        let allowance = self.allowance(&object, node);
        let tiers = self.list(&object, "tiers");
        let tiers: Vec<_> = tiers.iter().filter_map(|it| self.tier(it, destination)).collect();
        let mode = object.filled("mode").map_or(Some(Mode::Enforce), |it| mode::read(&it, self.scope, self.problems));
        let scope = self.word(&object, "scope", |word| match word {
            "host" => Some(Scope::Host),
            "global" => Some(Scope::Global),
            _ => None,
        });
        let failed = self.has_failed(seen);
        if !failed {
            self.warn_of_costs(node, &costs, allowance.iter().chain(tiers.iter().map(|it| &it.allowance)));
            if key.contains(&KeyPart::Route) && matches.is_empty() {
                let what = "`route` in Key tells nothing apart without a Match";
                self.problems.push(node.problem(Severity::Warning, what, "list the routes under Match"));
            }
        }
        Limit {
            rule: rule(&name),
            name,
            allowance: allowance.filter(|_| !failed),
            matches,
            sources,
            exempt,
            key,
            costs,
            tiers,
            mode: mode.unwrap_or_default(),
            scope: scope.unwrap_or_default(),
            on_unavailable: OnUnavailable::default(),
            exclusive: false,
        }
    }

    /// A part of a limit; empty, which covers all or spares nobody, when it could not be read whole.
    fn readable<T>(&mut self, read: impl FnOnce(&mut Self) -> Vec<T>) -> Vec<T> {
        let seen = self.problems.len();
        let found = read(self);
        if self.has_failed(seen) { Vec::new() } else { found }
    }

    fn matches(&mut self, object: &Object<'_>) -> Vec<Criteria> {
        let list = self.list(object, "match");
        let mut found = Vec::new();
        for node in &list {
            let Some(object) = self.object(node) else { continue };
            let criteria = self.criteria(&object, node, &[]);
            if criteria.path.is_none() && criteria.methods.is_empty() && criteria.headers.is_empty() {
                self.fault(
                    node,
                    "the element has no criterion",
                    "give a path, Methods or Header; without Match all requests are covered",
                );
            }
            found.push(criteria);
        }
        found
    }

    fn criteria(&mut self, object: &Object<'_>, node: &Node<'_>, besides: &[&str]) -> Criteria {
        let criteria::Criteria { path, methods, headers } =
            criteria::read(object, node, besides, self.scope, self.problems);
        Criteria { label: label(path.as_ref(), &methods, &headers), path, methods, headers }
    }

    fn callers(&mut self, object: &Object<'_>, key: &str, destination: &ServiceName, networks: bool) -> Vec<Callers> {
        let list = self.list(object, key);
        list.iter().filter_map(|it| self.caller(it, destination, networks)).collect()
    }

    fn caller(&mut self, node: &Node<'_>, destination: &ServiceName, networks: bool) -> Option<Callers> {
        let object = self.object(node)?;
        if let Some(anonymous) = object.filled("anonymous") {
            self.only(&object, &["anonymous"]);
            if anonymous.truth() != Some(true) {
                self.fault(&anonymous, "Anonymous is `true` or not there", "");
            }
            return Some(Callers::Anonymous);
        }
        if let Some(network) = object.filled("network").filter(|_| networks) {
            self.only(&object, &["network"]);
            let read = network.text().and_then(read_cidr);
            if read.is_none() {
                let hint = "write its first address and the length of its prefix, such as 192.0.2.0/24";
                self.fault(&network, "this is no network", hint);
            }
            return read.map(|(address, prefix_len)| Callers::network(address, prefix_len));
        }
        self.only(&object, &CALLER_KEYS);
        source_name(&object, node, destination, self.problems).map(Callers::Service)
    }

    fn costs(&mut self, object: &Object<'_>) -> Vec<Cost> {
        let list = self.list(object, "costs");
        let mut found = Vec::new();
        for node in &list {
            let Some(object) = self.object(node) else { continue };
            let criteria = self.criteria(&object, node, &["cost"]);
            let cost = object.get("cost").and_then(|it| it.value().as_u64()).filter(|it| *it <= MAX_COST);
            if cost.is_none() {
                self.fault(node, "the element has no Cost from 0 to 1000000", "");
            }
            let cost = cost.and_then(|it| u32::try_from(it).ok()).unwrap_or(1);
            found.push(Cost { criteria, cost });
        }
        found
    }

    /// A request that costs more than the bucket can hold never passes, which is seldom meant.
    fn warn_of_costs<'a>(&mut self, node: &Node<'_>, costs: &[Cost], allowances: impl Iterator<Item = &'a Allowance>) {
        let dearest = costs.iter().map(|it| u64::from(it.cost)).max().unwrap_or(1);
        let least = allowances.map(|it| match it {
            Allowance::Rate { burst, .. } => u64::from(*burst),
            Allowance::Quota { requests, .. } => *requests,
            Allowance::Concurrency { requests, .. } => u64::from(*requests),
        });
        if let Some(least) = least.min().filter(|least| dearest > *least) {
            let what = format!("a request that costs {dearest} never passes where a full bucket holds {least}");
            self.problems.push(node.problem(Severity::Warning, &what, "raise Burst or Requests, or lower the Cost"));
        }
    }

    fn tier(&mut self, node: &Node<'_>, destination: &ServiceName) -> Option<Tier> {
        let object = self.object(node)?;
        self.only(&object, &TIER_KEYS);
        let sources = self.callers(&object, "sources", destination, false);
        let claim = object.filled("claim").and_then(|it| self.tier_claim(&it));
        if object.filled("sources").is_none() && object.filled("claim").is_none() {
            self.fault(node, "the tier has neither Sources nor Claim", "what holds for all is the limit's own");
        }
        let allowance = self.allowance(&object, node)?;
        Some(Tier { sources, claim, allowance })
    }

    fn tier_claim(&mut self, node: &Node<'_>) -> Option<TierClaim> {
        let object = self.object(node)?;
        self.only(&object, &["provider", "path", "value"]);
        let (provider, path) = self.claim(&object, node)?;
        let value = object.filled("value").and_then(|it| it.text().map(str::to_owned));
        if value.is_none() {
            self.fault(node, "the claim has no Value", "name the text that the claim is, or holds in its list");
        }
        Some(TierClaim { provider, path, value: value? })
    }

    /// `Provider` and `Path` of a claim.
    fn claim(&mut self, object: &Object<'_>, node: &Node<'_>) -> Option<(String, Vec<String>)> {
        let provider = object.filled("provider").and_then(|it| it.text().map(str::to_owned));
        let path = object.filled("path").and_then(|it| match it.text() {
            Some(key) => Some(vec![key.to_owned()]),
            None => it.try_list()?.iter().map(|it| it.text().map(str::to_owned)).collect(),
        });
        match (provider.filter(|it| !it.contains('\0')), path.filter(|it: &Vec<String>| it.len() <= MAX_LIST)) {
            (Some(provider), Some(path)) => Some((provider, path)),
            _ => {
                self.fault(node, "a claim needs a Provider and a Path (a list of texts)", "name a jwt-provider");
                None
            }
        }
    }

    // === parts of any kind ===

    fn fault(&mut self, node: &Node<'_>, what: &str, hint: &str) {
        self.problems.push(node.problem(Severity::Error, &format!("{what}; {}", self.scope), hint));
    }

    /// Whether anything since then is more than a warning.
    fn has_failed(&self, since: usize) -> bool {
        self.problems.get(since..).unwrap_or_default().iter().any(|it| it.severity >= Severity::Error)
    }

    /// Keys that are not known may narrow the limit.
    fn only(&mut self, object: &Object<'_>, known: &[&str]) {
        for node in object.unknown(known) {
            let hint = "remove it, or upgrade Portcullis";
            self.fault(&node, "this field is not known here, or stands there twice", hint);
        }
    }

    fn object<'a>(&mut self, node: &Node<'a>) -> Option<Object<'a>> {
        let object = node.try_object();
        if object.is_none() {
            self.fault(node, "an object was expected here", "");
        }
        object
    }

    fn list<'a>(&mut self, object: &Object<'a>, key: &str) -> Vec<Node<'a>> {
        let Some(node) = object.filled(key) else { return Vec::new() };
        let list = node.try_list().filter(|list| list.len() <= MAX_LIST);
        if list.is_none() {
            self.fault(&node, "a list of at most 256 elements was expected here", "");
        }
        list.unwrap_or_default()
    }

    /// A word under a key; the default when it is not there.
    fn word<T: Default>(&mut self, object: &Object<'_>, key: &str, meaning: fn(&str) -> Option<T>) -> Option<T> {
        let Some(node) = object.filled(key) else { return Some(T::default()) };
        let found = node.text().and_then(meaning);
        if found.is_none() {
            self.fault(&node, "this word is not known here", "");
        }
        found
    }
}

fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(is_plain)
}

/// Criteria in words that tell any two of them apart: `GET,POST /api* x-team=blue`.
fn label(path: Option<&PathMatch>, methods: &[String], headers: &[HeaderMatch]) -> String {
    let mut words = Vec::new();
    if !methods.is_empty() {
        words.push(methods.join(","));
    }
    words.extend(path.map(|path| match path {
        PathMatch::Exact(text) => text.clone(),
        PathMatch::Prefix(text) => format!("{text}*"),
        PathMatch::Regex(pattern) => format!("~{}", pattern.text()),
    }));
    words.extend(headers.iter().map(|HeaderMatch { name, test, ignore_case, invert }| {
        let (sign, text) = match test {
            HeaderTest::Present => ("", ""),
            HeaderTest::Exact(text) => ("=", text.as_str()),
            HeaderTest::Prefix(text) => ("^=", text.as_str()),
            HeaderTest::Suffix(text) => ("$=", text.as_str()),
            HeaderTest::Contains(text) => ("*=", text.as_str()),
            HeaderTest::Regex(pattern) => ("~", pattern.text()),
        };
        format!("{}{name}{}{sign}{text}", if *invert { "!" } else { "" }, if *ignore_case { "/i" } else { "" })
    }));
    words.join(" ")
}

#[cfg(test)]
mod tests;
