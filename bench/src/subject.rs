//! Policies of any size, and the requests that are put to them.

use portcullis_authoring::compile;
use portcullis_policy::{
    Action, Certificate, Policy, PolicySettings,
    model::{Intention, Mode, PathMatch, Permission, ServiceName, Source, SourceRule},
    spiffe::Workload,
};

use crate::measure::Numbers;

/// The trust domain of every caller.
pub(crate) const TRUST_DOMAIN: &str = "11111111-2222-3333-4444-555555555555.consul";
/// Sources of one destination.
const SOURCES: usize = 10;
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

fn destination(index: usize) -> String {
    format!("service-{index:06}")
}

fn caller(destination: usize, index: usize) -> String {
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

/// Requests in random order: a half meets an intention, a quarter has a caller and a quarter a destination of which no
/// intention speaks. The strangers are many, so that no two requests of a small policy are alike either.
pub(crate) fn requests(n_intentions: usize, n_requests: usize) -> Vec<Asked> {
    let mut numbers = Numbers(7);
    let n_destinations = n_intentions.div_ceil(SOURCES);
    // What is asked is made in the order in which it is used: a real request is in the cache as well.
    let mut request = |_| {
        let at = numbers.below(n_destinations);
        let known = caller(at, numbers.below(SOURCES.min(n_intentions - at * SOURCES)));
        let stranger = numbers.below(1_000_000);
        let uri = ["/v1/items/17?full=1", "/v1/admin", "/health", "/elsewhere"][numbers.below(4)];
        match numbers.below(4) {
            0 => Asked { caller: format!("stranger-{stranger}"), destination: destination(at), uri },
            1 => Asked { caller: known, destination: format!("unknown-{stranger}"), uri },
            _ => Asked { caller: known, destination: destination(at), uri },
        }
    };
    (0..n_requests).map(&mut request).collect()
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
