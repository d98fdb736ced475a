//! Policies of any size, and the requests that are put to them.

use portcullis_authoring::compile;
use portcullis_policy::{
    Action, Certificate, Mode, Policy, PolicySettings,
    model::{Intention, PathMatch, Permission, ServiceName, Source, SourceRule},
    spiffe::Workload,
};

use crate::measure::Numbers;

/// The trust domain of every caller.
pub(crate) const TRUST_DOMAIN: &str = "11111111-2222-3333-4444-555555555555.consul";
/// Sources of one destination.
const SOURCES: usize = 10;
/// Sources of every destination.
pub(crate) const COMMON: usize = 4;

/// A destination's protocol decides what its intentions may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    /// Each source is allowed or denied.
    L4,
    /// Each source has three permissions by path and method.
    L7,
}

/// One request, by names.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) caller: String,
    pub(crate) destination: String,
    pub(crate) uri: &'static str,
}

impl Layer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::L4 => "L4",
            Self::L7 => "L7",
        }
    }
}

pub(crate) fn destination(index: usize) -> String {
    format!("service-{index:06}")
}

/// A source of a destination: some call all of them, the others are its own.
pub(crate) fn caller(destination: usize, index: usize) -> String {
    if index < COMMON {
        return format!("common-{index}");
    }
    format!("caller-{:06}", (destination * 7 + index * 13) % 1_000_000)
}

/// The bytes of a snapshot with this many intentions, each a pair of source and destination as Consul counts them.
pub(crate) fn snapshot(layer: Layer, n_intentions: usize) -> Vec<u8> {
    let rule = |index: usize| match layer {
        Layer::L4 => SourceRule::Action(if index.is_multiple_of(2) { Action::Allow } else { Action::Deny }),
        Layer::L7 => SourceRule::Permissions(vec![
            permission(Action::Deny, "/v1/admin", &[]),
            permission(Action::Allow, "/v1/", &["GET", "HEAD"]),
            permission(Action::Allow, "/health", &[]),
        ]),
    };
    let intentions = (0..n_intentions.div_ceil(SOURCES)).map(|at| Intention {
        destination: ServiceName::in_default(&destination(at)),
        sources: (0..SOURCES.min(n_intentions - at * SOURCES))
            .map(|index| Source {
                source: ServiceName::in_default(&caller(at, index)),
                rule: rule(index),
                mode: Mode::Enforce,
            })
            .collect(),
        jwt: None,
        mode: Mode::Enforce,
        broken: false,
    });
    let settings = PolicySettings { trust_domains: vec![TRUST_DOMAIN.to_owned()], ..PolicySettings::default() };
    let policy = Policy { settings, intentions: intentions.collect(), ..Policy::default() };
    let (bytes, problems) = compile(&policy, 1, 0);
    assert!(problems.is_empty(), "{problems:?}");
    bytes
}

fn permission(action: Action, prefix: &str, methods: &[&str]) -> Permission {
    let methods = methods.iter().map(|&method| method.to_owned()).collect();
    Permission {
        action,
        path: Some(PathMatch::Prefix(prefix.to_owned())),
        methods,
        headers: Vec::new(),
        jwt: None,
        mode: Mode::Enforce,
    }
}

/// Requests: one that meets an intention, then three of which no intention speaks, by a strange caller or to a strange
/// destination; the pairs that are met follow each other in random order and all have their turn. So even of ten
/// intentions none is asked for again while the snapshot still remembers it, and policies of all sizes do the same work.
pub(crate) fn requests(n_intentions: usize, n_requests: usize) -> Vec<Asked> {
    let mut numbers = Numbers(7);
    let mut order: Vec<usize> = (0..n_intentions).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, numbers.below(at + 1));
    }
    // What is asked is made in the order in which it is used: a real request is in the cache as well.
    let request = |index: usize| {
        let pair = order[index / 4 % order.len()];
        let (at, stranger) = (pair / SOURCES, numbers.below(1_000_000));
        let known = caller(at, pair % SOURCES);
        let uri = ["/v1/items/17?full=1", "/v1/admin", "/health", "/elsewhere"][numbers.below(4)];
        match (index % 4, stranger % 2) {
            (0, _) => Asked { caller: known, destination: destination(at), uri },
            (_, 0) => Asked { caller: format!("stranger-{stranger}"), destination: destination(at), uri },
            (_, _) => Asked { caller: known, destination: format!("unknown-{stranger}"), uri },
        }
    };
    (0..n_requests).map(request).collect()
}

/// The SPIFFE ID of a caller.
pub(crate) fn spiffe(caller: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/default/dc/dc1/svc/{caller}")
}

/// A caller's certificate as it is after it was read.
pub(crate) fn certificate(caller: &str) -> Certificate {
    let workload = Workload { trust_domain: TRUST_DOMAIN.to_owned(), service: ServiceName::in_default(caller) };
    Certificate { workload: Ok(workload), not_before: 0, not_after: u64::MAX }
}
