//! `decide` equals a naive reading of Consul's documentation on generated policies, and `explain` equals `decide`.
//!
//! The reference knows no snapshot, no hash table and no candidate order: it filters all intentions that cover the caller,
//! sorts them by Consul's precedence formula, and walks the first one's permissions.

use portcullis_policy::{
    Action, Credential, Policy, PolicySettings, Request, Snapshot, Verdict, compile, decide, decide_observed,
    explain::Transcript,
    model::{Intention, PathMatch, Permission, ServiceName, Source, SourceRule},
};
use proptest::prelude::*;

const TRUST_DOMAIN: &str = "td.consul";

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![Just(Action::Allow), Just(Action::Deny)]
}

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b"), Just("c"), Just("*")]
}

fn path_text() -> impl Strategy<Value = String> {
    prop_oneof![Just("/".to_owned()), Just("/a".to_owned()), Just("/a/b".to_owned()), Just("/ab".to_owned())]
}

fn permission() -> impl Strategy<Value = Permission> {
    let path = proptest::option::of(prop_oneof![
        path_text().prop_map(PathMatch::Exact),
        path_text().prop_map(PathMatch::Prefix)
    ]);
    let methods = proptest::collection::vec(prop_oneof![Just("GET".to_owned()), Just("POST".to_owned())], 0..2);
    (action(), path, methods).prop_map(|(action, path, methods)| Permission { action, path, methods })
}

fn rule() -> impl Strategy<Value = SourceRule> {
    prop_oneof![
        action().prop_map(SourceRule::Action),
        proptest::collection::vec(permission(), 1..4).prop_map(SourceRule::Permissions),
        Just(SourceRule::Broken),
    ]
}

/// At most one rule for each pair, as Consul stores them.
fn policy() -> impl Strategy<Value = Policy> {
    let rules = proptest::collection::btree_map((name(), name()), rule(), 0..10);
    let broken = proptest::option::weighted(0.1, name());
    (rules, action(), broken).prop_map(|(rules, default, broken)| {
        let settings =
            PolicySettings { default, trust_domains: vec![TRUST_DOMAIN.to_owned()], ..PolicySettings::default() };
        let intentions = rules
            .into_iter()
            .map(|((destination, source), rule)| Intention {
                destination: ServiceName::in_default(destination),
                sources: vec![Source { source: ServiceName::in_default(source), rule }],
                broken: broken == Some(destination),
            })
            .collect();
        Policy { settings, intentions, api_keys: Vec::new() }
    })
}

fn covers(pattern: &str, name: &str) -> bool {
    pattern == "*" || pattern == name
}

fn reference(policy: &Policy, source: Option<&str>, destination: &str, method: &str, path: &str) -> Action {
    if policy.intentions.iter().any(|it| it.broken && it.destination.name == destination) {
        return Action::Deny;
    }
    let Some(source) = source else { return policy.settings.default };
    let mut applicable: Vec<_> = policy
        .intentions
        .iter()
        .flat_map(|intention| intention.sources.iter().map(move |source| (intention, source)))
        .filter(|(it, from)| covers(&it.destination.name, destination) && covers(&from.source.name, source))
        .collect();
    applicable.sort_by_key(|(it, from)| {
        let base = if it.destination.name == "*" { 6 } else { 9 };
        std::cmp::Reverse(base - i32::from(from.source.name == "*"))
    });
    let Some((_, governing)) = applicable.first() else { return policy.settings.default };
    match &governing.rule {
        SourceRule::Action(action) => *action,
        SourceRule::Broken => Action::Deny,
        SourceRule::Permissions(permissions) => permissions
            .iter()
            .find(|it| {
                let by_path = match &it.path {
                    None => true,
                    Some(PathMatch::Exact(want)) => want == path,
                    Some(PathMatch::Prefix(want)) => path.starts_with(want.as_str()),
                };
                by_path && (it.methods.is_empty() || it.methods.iter().any(|known| known == method))
            })
            .map_or(policy.settings.default, |it| it.action),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn decide_equals_the_reference_and_explain_equals_decide(
        policy in policy(),
        source in proptest::option::of(prop_oneof![Just("a"), Just("b"), Just("d")]),
        destination in prop_oneof![Just("a"), Just("b"), Just("d")],
        method in prop_oneof![Just("GET"), Just("POST"), Just("PUT")],
        path in path_text(),
    ) {
        let (bytes, _) = compile(&policy, 7, 0);
        let snapshot = Snapshot::open(bytes).unwrap();
        snapshot.verify().unwrap();
        let id = source.map(|source| format!("spiffe://{TRUST_DOMAIN}/ns/default/dc/dc1/svc/{source}"));
        let credential = id.as_deref().map_or(Credential::None, Credential::Spiffe);
        let request = Request { destination, method, uri: &path, credential, now: 0 };
        let decision = decide(&snapshot, &request);
        let want = reference(&policy, source, destination, method, &path);
        prop_assert_eq!(decision.verdict == Verdict::Allow, want == Action::Allow, "{:?}", decision);
        let mut transcript = Transcript::default();
        prop_assert_eq!(decide_observed(&snapshot, &request, &mut transcript), decision);
        prop_assert!(!transcript.lines.is_empty());
    }
}
