//! What is read of limits, and what is reported.

use portcullis_policy::{
    PolicySettings,
    limit::rule::{Allowance, Limit, Window},
    model::Mode,
};
use serde_json::{Value, json};

use crate::read::entries;

/// What is read of an entry, and its problems with their places.
fn read(entry: Value) -> (Vec<Limit>, Vec<String>) {
    let settings = PolicySettings { trust_domains: vec!["td.consul".to_owned()], ..PolicySettings::default() };
    let (policy, problems) = entries(&[("f".to_owned(), entry)], settings);
    let limits = policy.limits.into_iter().flat_map(|entry| entry.limits).collect();
    (limits, problems.iter().map(ToString::to_string).collect())
}

fn limit(fields: &Value) -> (Limit, Vec<String>) {
    let mut limit = json!({"Name": "a", "Rate": {"Requests": 10}});
    limit.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let (mut limits, problems) = read(json!({"Kind": "rate-limits", "Name": "api", "Limits": [limit]}));
    assert_eq!(limits.len(), 1);
    (limits.remove(0), problems)
}

#[test]
fn every_fault_is_reported_at_once_with_its_place() {
    let (limits, problems) = read(json!({"Kind": "rate-limits", "Name": "api", "Limits": [
        {"Name": "a", "Rate": {"Requests": 0}, "Key": ["sauce"], "Mode": "on"},
        {"Name": "b", "Quota": {"Requests": 1}, "Match": [{"PathPrefix": "x"}, {}], "Exempt": [{"Network": "10.0.0.1/8"}]},
    ]}));
    for place in [
        "Limits[0].Rate.Requests",
        "Limits[0].Key[0]",
        "Limits[0].Mode",
        "Limits[1].Quota",
        "Limits[1].Match[0].PathPrefix",
        "Limits[1].Match[1]",
        "Limits[1].Exempt[0].Network",
    ] {
        assert!(problems.iter().any(|it| it.contains(&format!("{place}: "))), "{place} is not in {problems:#?}");
    }
    assert!(limits.iter().all(|it| it.allowance.is_none()));
    assert!(
        limits[1].matches.is_empty() && limits[1].exempt.is_empty(),
        "what cannot be read covers all and spares nobody"
    );
}

#[test]
fn amounts_have_their_defaults_and_bounds() {
    let amount = |fields: Value| {
        let mut whole = json!({"Rate": null});
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        limit(&whole).0.allowance
    };
    let rate = |requests, period_ms, burst| Some(Allowance::Rate { requests, period_ms, burst });
    assert_eq!(amount(json!({"Rate": {"Requests": 10}})), rate(10, 1000, 10));
    assert_eq!(amount(json!({"Rate": {"Requests": 10, "Period": "1m30s", "Burst": 1}})), rate(10, 90_000, 1));
    assert_eq!(amount(json!({"Rate": {"Requests": 1_000_000}})), rate(1_000_000, 1000, 1_000_000));
    assert_eq!(
        amount(json!({"Quota": {"Requests": 5, "Window": "Month"}})),
        Some(Allowance::Quota { requests: 5, window: Window::Month })
    );
    assert_eq!(
        amount(json!({"Concurrency": {"Requests": 5}})),
        Some(Allowance::Concurrency { requests: 5, lease_s: 3600 })
    );
    for bad in [
        json!({}),
        json!({"Rate": {}}),
        json!({"Rate": {"Requests": 1.5}}),
        json!({"Rate": {"Requests": -1}}),
        json!({"Rate": {"Requests": 1_000_001}}),
        json!({"Rate": {"Requests": 1, "Period": "0s"}}),
        json!({"Rate": {"Requests": 1, "Period": "1us"}}),
        json!({"Rate": {"Requests": 1, "Period": "8785h"}}),
        json!({"Rate": {"Requests": 1, "Period": 1}}),
        json!({"Rate": {"Requests": 1, "Period": "366h", "Burst": 100}}),
        json!({"Rate": {"Requests": 1, "Window": "day"}}),
        json!({"Quota": {"Requests": 9_007_199_254_740_993_u64, "Window": "day"}}),
        json!({"Concurrency": {"Requests": 100_001}}),
        json!({"Concurrency": {"Requests": 1, "Lease": "500ms"}}),
        json!({"Rate": {"Requests": 1}, "Concurrency": {"Requests": 1}}),
    ] {
        assert_eq!(amount(bad.clone()), None, "{bad}");
    }
}

#[test]
fn a_cost_above_the_bucket_is_warned_of_and_kept() {
    let (limit, problems) = limit(&json!({"Costs": [{"PathPrefix": "/a", "Cost": 11}]}));
    assert!(limit.allowance.is_some() && problems.len() == 1 && problems[0].contains("never passes"), "{problems:?}");
}

#[test]
fn headers_with_secrets_and_of_one_connection_are_no_keys() {
    for name in ["Authorization", "cookie", "Host", "Connection", "no header"] {
        let (limit, problems) = limit(&json!({"Key": [{"Header": name}]}));
        assert!(limit.allowance.is_none() && problems.len() == 1, "{name}: {problems:?}");
    }
}

#[test]
fn all_three_spellings_are_one() {
    let consul = read(json!({"Kind": "rate-limits", "Name": "api", "OnUnavailable": "allow", "Limits": [{"Name": "a",
        "Match": [{"PathPrefix": "/a"}], "Key": [{"ClientAddress": {"IPv4Prefix": 24}}], "Rate": {"Requests": 1}}]}));
    let hcl = read(json!({"kind": "rate-limits", "name": "api", "on_unavailable": "allow", "limits": [{"name": "a",
        "match": [{"path_prefix": "/a"}], "key": [{"client_address": {"ipv4_prefix": 24}}], "rate": {"requests": 1}}]}));
    let resource = read(json!({"apiVersion": "portcullis.io/v1alpha1", "kind": "RateLimits",
        "metadata": {"name": "any", "namespace": "team"}, "spec": {"destination": {"name": "api"}, "onUnavailable": "allow",
        "limits": [{"name": "a", "match": [{"pathPrefix": "/a"}], "key": [{"clientAddress": {"ipv4Prefix": 24}}],
            "rate": {"requests": 1}}]}}));
    assert_eq!(consul, hcl);
    assert_eq!(consul, resource);
    assert!(consul.1.is_empty() && consul.0[0].allowance.is_some());
}

#[test]
fn instance_level_limits_are_checked_as_consul_checks_them() {
    let level =
        |level: Value| read(json!({"Kind": "service-defaults", "Name": "api", "RateLimits": {"InstanceLevel": level}}));
    let (limits, problems) = level(
        json!({"RequestsPerSecond": 5, "Routes": [{"PathPrefix": "/a", "RequestsPerSecond": 1, "RequestsMaxBurst": 2}]}),
    );
    assert_eq!(problems, Vec::<String>::new());
    let amounts: Vec<_> = limits.iter().map(|it| it.allowance).collect();
    let rate = |requests, burst| Some(Allowance::Rate { requests, period_ms: 1000, burst });
    assert_eq!(amounts, [rate(1, 2), rate(5, 5)]);
    for bad in [
        json!({"RequestsPerSecond": -1}),
        json!({"RequestsPerSecond": 5, "RequestsMaxBurst": -1}),
        json!({"RequestsMaxBurst": 5}),
        json!({"RequestPerSecond": 5}),
        json!({"Routes": [{"RequestsPerSecond": 5}]}),
        json!({"Routes": [{"PathPrefix": "/a"}]}),
        json!({"Routes": [{"PathPrefix": "/a", "PathExact": "/b", "RequestsPerSecond": 5}]}),
        json!({"Routes": [{"PathPrefix": "/a", "RequestMaxBurst": 5, "RequestsPerSecond": 5}]}),
        json!({"Routes": "all"}),
    ] {
        let (limits, problems) = level(bad.clone());
        assert!(!problems.is_empty() && limits.iter().any(|it| it.allowance.is_none()), "{bad}: {problems:?}");
    }
    let (limits, problems) = read(
        json!({"Kind": "service-defaults", "Name": "*", "RateLimits": {"InstanceLevel": {"RequestsPerSecond": 1}}}),
    );
    assert!(limits.is_empty() && problems[0].contains("fatal"), "{problems:?}");
}

#[test]
fn a_misspelt_kind_is_fatal_and_a_broken_limit_in_shadow_stays_in_shadow() {
    let (_, problems) = read(json!({"Kind": "rate-limit", "Name": "api", "Limits": [{"Name": "a"}]}));
    assert!(problems[0].contains("fatal") && problems[0].contains("rate-limits"), "{problems:?}");
    assert_eq!(limit(&json!({"Rate": {"Requests": 0}, "Mode": "shadow"})).0.mode, Mode::Shadow);
    assert_eq!(limit(&json!({"Rate": {"Requests": 0}, "Mode": "shado"})).0.mode, Mode::Enforce);
}
