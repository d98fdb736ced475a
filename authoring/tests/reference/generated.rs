//! Policies and requests that are close to each other, so that rules are met often.

use std::collections::BTreeMap;

use portcullis_policy::{
    Action, Mode, Policy, PolicySettings,
    header_match::{HeaderMatch, HeaderTest},
    model::{
        ClaimCheck, Intention, PathMatch, Permission, ProviderRequirement, Requirement, ServiceName, Source, SourceRule,
    },
    regex::Pattern,
};
use proptest::{collection::vec, option, prelude::*};
use serde_json::{Value, json};

pub(crate) const TRUST_DOMAIN: &str = "td.consul";

/// One question.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) source: Option<&'static str>,
    pub(crate) destination: &'static str,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) claims: BTreeMap<String, Value>,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![Just(Action::Allow), Just(Action::Deny)]
}

pub(crate) fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b"), Just("c"), Just("*")]
}

pub(crate) fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![8 => Just(Mode::Enforce), 1 => Just(Mode::Shadow), 1 => Just(Mode::Off)]
}

pub(crate) fn pick(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::sample::select(words).prop_map(str::to_owned)
}

fn path_text() -> impl Strategy<Value = String> {
    pick(&["/", "/a", "/a/b", "/ab"])
}

fn pattern() -> impl Strategy<Value = Pattern> {
    pick(&["/a|/ab", "/a.*", ".*b", "1|2", "(?i)X", ""]).prop_map(|text| Pattern::compile(&text).unwrap())
}

fn header() -> impl Strategy<Value = HeaderMatch> {
    let text = || pick(&["1", "2", "1,2", "x", "X"]);
    let asked = prop_oneof![
        Just(HeaderTest::Present),
        text().prop_map(HeaderTest::Exact),
        text().prop_map(HeaderTest::Prefix),
        text().prop_map(HeaderTest::Suffix),
        text().prop_map(HeaderTest::Contains),
        pattern().prop_map(HeaderTest::Regex),
    ];
    (pick(&["x-a", "x-b"]), asked, any::<bool>(), any::<bool>()).prop_map(|(name, test, ignore_case, invert)| {
        HeaderMatch {
            name,
            ignore_case: ignore_case && !matches!(test, HeaderTest::Present | HeaderTest::Regex(_)),
            test,
            invert,
        }
    })
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let claim = (vec(pick(&["role", "team"]), 1..3), pick(&["admin", "ops"]))
        .prop_map(|(path, value)| ClaimCheck { path, value });
    let provider = (pick(&["okta", "local"]), vec(claim, 0..2))
        .prop_map(|(provider, claims)| ProviderRequirement { provider, claims });
    (vec(provider, 1..3), mode()).prop_map(|(providers, mode)| Requirement { providers, mode })
}

pub(crate) fn permission() -> impl Strategy<Value = Permission> {
    let path = option::of(prop_oneof![
        path_text().prop_map(PathMatch::Exact),
        path_text().prop_map(PathMatch::Prefix),
        pattern().prop_map(PathMatch::Regex),
    ]);
    let methods = vec(pick(&["GET", "POST"]), 0..2);
    (action(), path, methods, vec(header(), 0..2), option::weighted(0.3, requirement()), mode()).prop_map(
        |(action, path, methods, headers, jwt, mode)| Permission { action, path, methods, headers, jwt, mode },
    )
}

fn rule() -> impl Strategy<Value = SourceRule> {
    prop_oneof![
        3 => action().prop_map(SourceRule::Action),
        5 => vec(permission(), 1..4).prop_map(SourceRule::Permissions),
        1 => Just(SourceRule::Broken),
    ]
}

/// At most one rule for each pair, as Consul stores them.
pub(crate) fn policy() -> impl Strategy<Value = Policy> {
    let entry = (
        proptest::collection::btree_map(name(), (rule(), mode()), 1..4),
        option::weighted(0.2, requirement()),
        mode(),
        proptest::bool::weighted(0.05),
    );
    (proptest::collection::btree_map(name(), entry, 0..5), action()).prop_map(|(entries, default)| {
        let settings =
            PolicySettings { default, trust_domains: vec![TRUST_DOMAIN.to_owned()], ..PolicySettings::default() };
        let intentions = entries
            .into_iter()
            .map(|(destination, (sources, jwt, mode, broken))| Intention {
                destination: ServiceName::in_default(destination),
                sources: sources
                    .into_iter()
                    .map(|(source, (rule, mode))| Source { source: ServiceName::in_default(source), rule, mode })
                    .collect(),
                jwt,
                mode,
                broken,
            })
            .collect();
        Policy { settings, intentions, ..Policy::default() }
    })
}

pub(crate) fn asked() -> impl Strategy<Value = Asked> {
    let service = || prop_oneof![Just("a"), Just("b"), Just("d")];
    let headers = vec((pick(&["x-a", "x-b", "X-A", "x_a"]), pick(&["1", "2", "1,2", "x", "X"])), 0..4);
    let claims = prop_oneof![
        Just(json!({})),
        Just(json!({"role": "admin"})),
        Just(json!({"role": ["ops", "admin"], "team": {"role": "ops"}})),
        Just(json!({"role": {"team": "admin"}, "team": 7})),
    ];
    let claims = proptest::collection::btree_map(pick(&["okta", "local"]), claims, 0..3);
    let method = prop_oneof![Just("GET"), Just("POST"), Just("PUT")];
    let path = prop_oneof![9 => path_text(), 1 => pick(&["/a;x", "/a//b", "/%61"])];
    (option::weighted(0.9, service()), service(), method, path, headers, claims).prop_map(
        |(source, destination, method, path, headers, claims)| Asked {
            source,
            destination,
            method,
            path,
            headers,
            claims,
        },
    )
}
