//! A limit as it is written and stored: whom and what it covers, whose bucket it takes from, and how much.
//!
//! What people author and what a snapshot holds is one type: compiling only spells paths as they are compared. A limit that
//! could not be read is kept without an allowance, and refuses what it covers.

use std::net::IpAddr;

use super::{OnUnavailable, Scope};
use crate::{
    header_match::HeaderMatch,
    identity::Caller,
    model::{Mode, PathMatch, ServiceName, WILDCARD},
};

/// The limits of one destination, in the order in which they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Whose requests they cover; `*` is every destination of the namespace.
    pub destination: ServiceName,
    /// The limits. All that cover a request are charged.
    pub limits: Vec<Limit>,
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Its full name, `rate-limits/<destination>/<name>`.
    pub rule: String,
    /// Its own name, as headers show it.
    pub name: String,
    /// How much; `None` when the limit could not be read: what it covers is refused.
    pub allowance: Option<Allowance>,
    /// The requests that it covers: those that meet any of these; empty for all.
    pub matches: Vec<Criteria>,
    /// The callers that it covers; empty for all.
    pub sources: Vec<Callers>,
    /// Callers that are never charged.
    pub exempt: Vec<Callers>,
    /// What tells its buckets apart; empty for one bucket.
    pub key: Vec<KeyPart>,
    /// What requests cost: the first that matches, else 1.
    pub costs: Vec<Cost>,
    /// Other allowances: the first that matches replaces the limit's own.
    pub tiers: Vec<Tier>,
    /// Whether it counts.
    pub mode: Mode,
    /// Where its units are counted.
    pub scope: Scope,
    /// What happens when they cannot be counted.
    pub on_unavailable: OnUnavailable,
    /// Of the limits of one record that have this mark, a request is charged to the first that covers it for sure, and to
    /// those before it that may. Consul's `InstanceLevel` is made of such.
    pub exclusive: bool,
}

/// What a request must be like. All that is given must hold, as in a permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Criteria {
    /// The criteria in words: the value of [`KeyPart::Route`], so that buckets survive a new order of the list.
    pub label: String,
    /// The path criterion, if any.
    pub path: Option<PathMatch>,
    /// Accepted methods, upper case; empty accepts any.
    pub methods: Vec<String>,
    /// The header criteria.
    pub headers: Vec<HeaderMatch>,
}

/// Callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Callers {
    /// Those without an identity.
    Anonymous,
    /// A service, or all of a namespace or of all namespaces.
    Service(ServiceName),
    /// Whoever connects from this network.
    Network {
        /// The first address as IPv6, an IPv4 one mapped into it.
        first: u128,
        /// Length of the prefix, 0 to 128.
        prefix_len: u8,
    },
}

/// A part of a bucket's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPart {
    /// The caller; all without an identity are one.
    Source,
    /// The destination; tells something in limits of `*` only.
    Destination,
    /// The criterion of [`Limit::matches`] that the request met.
    Route,
    /// A claim of a valid token.
    Claim {
        /// The `jwt-provider`'s name.
        provider: String,
        /// Nested keys, one per element.
        path: Vec<String>,
    },
    /// A header's value, by its name in lower case.
    Header(String),
    /// The network of the client's address, by the lengths of its prefixes.
    ClientAddress {
        /// 0 to 32.
        v4: u8,
        /// 0 to 128.
        v6: u8,
    },
}

/// What some requests cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Which requests.
    pub criteria: Criteria,
    /// Units; 0 is not charged.
    pub cost: u32,
}

/// Another allowance for some callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// For these; empty for all.
    pub sources: Vec<Callers>,
    /// And only with a valid token that says this.
    pub claim: Option<TierClaim>,
    /// What replaces the limit's own.
    pub allowance: Allowance,
}

/// See [`Tier::claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierClaim {
    /// The `jwt-provider`'s name.
    pub provider: String,
    /// Nested keys, one per element.
    pub path: Vec<String>,
    /// The text that the claim must be, or that a claim which is a list must hold.
    pub value: String,
}

/// How much is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// So many in a period, and a bucket of `burst`.
    Rate {
        /// Units that come back in a period; at least 1.
        requests: u32,
        /// Milliseconds; at least 1.
        period_ms: u64,
        /// Units that the full bucket holds; at least 1.
        burst: u32,
    },
    /// So many in a window of the calendar.
    Quota {
        /// Units in a window; at least 1.
        requests: u64,
        /// The window.
        window: Window,
    },
    /// So many at once.
    Concurrency {
        /// Units at once; at least 1.
        requests: u32,
        /// Seconds after which a slot that was not given back is free again.
        lease_s: u32,
    },
}

/// A window of the calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// From full hour to full hour.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From the first day to the first day, at midnight.
    Month,
}

// === impl Limit ===

impl Limit {
    /// A limit of which no more than its name is known: everything is refused that nothing else keeps from it.
    pub fn unreadable(rule: String) -> Self {
        Self {
            rule,
            name: String::new(),
            allowance: None,
            matches: Vec::new(),
            sources: Vec::new(),
            exempt: Vec::new(),
            key: Vec::new(),
            costs: Vec::new(),
            tiers: Vec::new(),
            mode: Mode::Enforce,
            scope: Scope::Host,
            on_unavailable: OnUnavailable::Deny,
            exclusive: false,
        }
    }
}

// === impl Callers ===

impl Callers {
    /// The network with this first address.
    pub fn network(address: IpAddr, prefix_len: u8) -> Self {
        let mapped = if address.is_ipv4() { 96 } else { 0 };
        Self::Network { first: bits(address), prefix_len: prefix_len.saturating_add(mapped) }
    }

    /// Whether the caller is one of them. A caller whose address is not known is in no network.
    pub(crate) fn hold(&self, caller: &Caller<'_>, address: Option<IpAddr>) -> bool {
        match (self, caller) {
            (Self::Anonymous, Caller::Anonymous) => true,
            (Self::Service(pattern), Caller::Service(name)) => {
                pattern.peer == name.peer
                    && pattern.partition == name.partition
                    && (pattern.namespace == WILDCARD || pattern.namespace == name.namespace)
                    && (pattern.name == WILDCARD || pattern.name == name.name)
            }
            (Self::Network { first, prefix_len }, _) => {
                address.is_some_and(|it| (bits(it) ^ first).leading_zeros() >= u32::from(*prefix_len))
            }
            (Self::Anonymous, Caller::Service(_)) | (Self::Service(_), Caller::Anonymous) => false,
        }
    }
}

/// An address as IPv6, an IPv4 one mapped into it.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
    .to_bits()
}

// === impl Allowance ===

impl Allowance {
    /// What kind of counter it needs. Buckets of different kinds are never one.
    pub(crate) fn kind(&self) -> u8 {
        match self {
            Self::Rate { .. } => b'r',
            Self::Concurrency { .. } => b'c',
            Self::Quota { window: Window::Hour, .. } => b'h',
            Self::Quota { window: Window::Day, .. } => b'd',
            Self::Quota { window: Window::Month, .. } => b'm',
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn networks_hold_their_addresses_and_no_unknown_one() {
        let holds = |network: &str, len: u8, address: &str| {
            let network = Callers::network(network.parse().unwrap(), len);
            network.hold(&Caller::Anonymous, Some(address.parse().unwrap()))
        };
        assert!(holds("10.0.0.0", 8, "10.1.2.3") && !holds("10.0.0.0", 8, "11.0.0.1"));
        assert!(holds("10.0.0.0", 8, "::ffff:10.1.2.3"));
        assert!(holds("0.0.0.0", 0, "203.0.113.9") && !holds("0.0.0.0", 0, "2001:db8::1"));
        assert!(holds("192.0.2.7", 32, "192.0.2.7") && !holds("192.0.2.7", 32, "192.0.2.6"));
        assert!(holds("2001:db8::", 32, "2001:db8:1::1") && !holds("2001:db8::", 32, "2001:db9::1"));
        assert!(holds("::", 0, "2001:db8::1"));
        assert!(!Callers::network("::".parse().unwrap(), 0).hold(&Caller::Anonymous, None));
    }

    #[test]
    fn a_wildcard_holds_services_of_its_namespace_and_nobody_without_an_identity() {
        let service = |text: &str| {
            let (namespace, name) = text.split_once('/').unwrap();
            ServiceName { namespace: namespace.to_owned(), ..ServiceName::in_default(name) }
        };
        let holds = |pattern: &str, name: &str| {
            Callers::Service(service(pattern)).hold(&Caller::Service(Cow::Owned(service(name))), None)
        };
        assert!(holds("default/*", "default/web") && !holds("default/*", "other/web"));
        assert!(holds("*/*", "other/web") && holds("default/web", "default/web"));
        assert!(!holds("default/web", "default/webs"));
        assert!(!Callers::Service(service("*/*")).hold(&Caller::Anonymous, None));
        let peers = ServiceName { peer: "shop".to_owned(), ..service("default/web") };
        assert!(!Callers::Service(service("default/*")).hold(&Caller::Service(Cow::Owned(peers)), None));
    }
}
