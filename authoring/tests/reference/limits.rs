//! What `decide` charges equals a naive reading of `docs/reference/rate-limits.md`: every limit is held against the request
//! on its own, a calendar is counted day by day, and a bucket is the text of its key.

use std::net::IpAddr;

use portcullis_authoring::compile;
use portcullis_policy::{
    Mode, Policy, Request, Snapshot, Verdict, decide,
    limit::{
        Amount, Charge, OnUnavailable, Scope,
        rule::{Allowance, Callers, Cost, Criteria, KeyPart, Limit, Limits, Tier, TierClaim, Window},
    },
    model::{Action, Permission, ServiceName},
};
use proptest::{collection::vec, option, prelude::*};

use crate::{
    generated::{self, Asked},
    naive, with_request,
};

/// A question with what only limits ask about.
#[derive(Debug, Clone)]
struct Question {
    asked: Asked,
    address: Option<IpAddr>,
    now: u64,
}

fn criteria() -> impl Strategy<Value = Criteria> {
    generated::permission().prop_map(|it| Criteria {
        label: format!("{:?} {:?} {:?}", it.path, it.methods, it.headers),
        path: it.path,
        methods: it.methods,
        headers: it.headers,
    })
}

fn callers() -> impl Strategy<Value = Callers> {
    prop_oneof![
        1 => Just(Callers::Anonymous),
        4 => generated::name().prop_map(|name| Callers::Service(ServiceName::in_default(name))),
        1 => Just(Callers::network("192.0.2.0".parse().unwrap(), 24)),
    ]
}

fn claim_path() -> impl Strategy<Value = Vec<String>> {
    vec(generated::pick(&["role", "team"]), 1..3)
}

fn key_part() -> impl Strategy<Value = KeyPart> {
    prop_oneof![
        Just(KeyPart::Source),
        Just(KeyPart::Destination),
        Just(KeyPart::Route),
        (generated::pick(&["okta", "local"]), claim_path())
            .prop_map(|(provider, path)| KeyPart::Claim { provider, path }),
        generated::pick(&["x-a", "x-b"]).prop_map(KeyPart::Header),
        Just(KeyPart::ClientAddress { v4: 24, v6: 48 }),
    ]
}

fn allowance() -> impl Strategy<Value = Allowance> {
    prop_oneof![
        (1..5_u32, 1..5_u32).prop_map(|(requests, burst)| Allowance::Rate { requests, period_ms: 1000, burst }),
        prop_oneof![Just(Window::Hour), Just(Window::Day), Just(Window::Month)]
            .prop_map(|window| Allowance::Quota { requests: 9, window }),
        Just(Allowance::Concurrency { requests: 3, lease_s: 60 }),
    ]
}

fn tier() -> impl Strategy<Value = Tier> {
    let claim = (generated::pick(&["okta", "local"]), claim_path(), generated::pick(&["admin", "ops"]))
        .prop_map(|(provider, path, value)| TierClaim { provider, path, value });
    (vec(callers(), 0..2), option::of(claim), allowance()).prop_map(|(sources, claim, allowance)| Tier {
        sources,
        claim,
        allowance,
    })
}

fn limit() -> impl Strategy<Value = Limit> {
    let covers = (vec(criteria(), 0..3), vec(callers(), 0..3), vec(callers(), 0..2));
    let cost = (criteria(), 0..4_u32).prop_map(|(criteria, cost)| Cost { criteria, cost });
    let amounts = (option::weighted(0.95, allowance()), vec(cost, 0..3), vec(tier(), 0..3));
    let rest = (vec(key_part(), 0..4), generated::mode(), any::<bool>(), any::<bool>(), any::<bool>());
    (covers, amounts, rest).prop_map(
        |((matches, sources, exempt), (allowance, costs, tiers), (key, mode, global, lenient, exclusive))| Limit {
            rule: String::new(),
            name: String::new(),
            allowance,
            matches,
            sources,
            exempt,
            key,
            costs,
            tiers,
            mode,
            scope: if global { Scope::Global } else { Scope::Host },
            on_unavailable: if lenient { OnUnavailable::Allow } else { OnUnavailable::Deny },
            exclusive,
        },
    )
}

/// A policy with limits; every destination's have names of their own.
fn policy() -> impl Strategy<Value = Policy> {
    let entries = vec((generated::name(), vec(limit(), 0..4)), 0..5);
    (generated::policy(), entries).prop_map(|(mut policy, entries)| {
        // Half of the policies deny everything, which says little here.
        policy.settings.default = Action::Allow;
        for (index, (destination, mut limits)) in entries.into_iter().enumerate() {
            for (at, limit) in limits.iter_mut().enumerate() {
                limit.name = format!("{index}-{at}");
                limit.rule = format!("rate-limits/{destination}/{}", limit.name);
            }
            policy.limits.push(Limits { destination: ServiceName::in_default(destination), limits });
        }
        policy
    })
}

fn question() -> impl Strategy<Value = Question> {
    let address = prop_oneof![Just("192.0.2.7"), Just("192.0.9.7"), Just("2001:db8:1:2::7"), Just("2001:db8:1:3::7")];
    let address = option::weighted(0.8, address.prop_map(|it| it.parse().unwrap()));
    (generated::asked(), address, 0..4_000_000_000_u64).prop_map(|(asked, address, now)| Question {
        asked,
        address,
        now,
    })
}

/// A charge as the documentation says it, its bucket as the text of its key.
#[derive(Debug, PartialEq)]
struct Expected<'l> {
    limit: &'l Limit,
    bucket: String,
    amount: Amount,
    cost: u32,
}

/// `None`: the request is refused by a limit that could not be read.
fn expected<'p>(policy: &'p Policy, it: &Question) -> Option<Vec<Expected<'p>>> {
    let mut all = Vec::new();
    for destination in [it.asked.destination, "*"] {
        let mut is_replaced = false;
        let entries = policy.limits.iter().filter(|entry| entry.destination.name == destination);
        for limit in entries.flat_map(|entry| &entry.limits) {
            let covers = limit.sources.is_empty() || limit.sources.iter().any(|who| is_one(who, it));
            let exempt = limit.exempt.iter().any(|who| is_one(who, it));
            if limit.mode == Mode::Off || !covers || exempt || (limit.exclusive && is_replaced) {
                continue;
            }
            let met: Vec<_> = limit.matches.iter().map(|criteria| (criteria, holds(criteria, it))).collect();
            let route = met.iter().find(|(_, held)| *held != Some(false));
            if route.is_none() && !met.is_empty() {
                continue;
            }
            let route = route.map(|(criteria, held)| (criteria.label.as_str(), *held == Some(true)));
            is_replaced |= limit.exclusive && route.is_none_or(|(_, sure)| sure);
            let cost = cost(limit, it);
            if cost == 0 {
                continue;
            }
            let Some(own) = limit.allowance else {
                if limit.mode == Mode::Enforce {
                    return None;
                }
                continue;
            };
            let tier = limit.tiers.iter().find(|tier| {
                (tier.sources.is_empty() || tier.sources.iter().any(|who| is_one(who, it)))
                    && tier.claim.as_ref().is_none_or(|claim| says(claim, it))
            });
            let allowance = tier.map_or(own, |tier| tier.allowance);
            let mut parts: Option<Vec<String>> = Some(vec![limit.rule.clone()]);
            for part in &limit.key {
                let part = value(part, route, it);
                parts = parts.and_then(|mut parts| {
                    parts.push(part?);
                    Some(parts)
                });
            }
            let bucket = parts.unwrap_or_else(|| vec![limit.rule.clone(), "unreadable".to_owned()]);
            let counter = if counter(&allowance) == counter(&own) { "" } else { counter(&allowance) };
            let bucket = format!("{bucket:?} {counter}");
            all.push(Expected { limit, bucket, amount: amount(&allowance, it.now), cost });
        }
    }
    Some(all)
}

fn is_one(who: &Callers, it: &Question) -> bool {
    match who {
        Callers::Anonymous => it.asked.source.is_none(),
        Callers::Service(name) => it.asked.source.is_some_and(|source| name.name == "*" || name.name == source),
        Callers::Network { .. } => it.address.is_some_and(|it| it.to_string().starts_with("192.0.2.")),
    }
}

fn holds(criteria: &Criteria, it: &Question) -> Option<bool> {
    let Criteria { label: _, path, methods, headers } = criteria.clone();
    let permission = Permission { action: Action::Allow, path, methods, headers, jwt: None, mode: Mode::Enforce };
    naive::permission_holds(&permission, &it.asked)
}

fn cost(limit: &Limit, it: &Question) -> u32 {
    let held: Vec<_> = limit.costs.iter().map(|cost| (cost.cost, holds(&cost.criteria, it))).collect();
    let first_sure = held.iter().position(|(_, held)| *held == Some(true));
    let possible = held.iter().take(first_sure.map_or(held.len(), |at| at + 1));
    let mut costs: Vec<_> = possible.filter(|(_, held)| *held != Some(false)).map(|(cost, _)| *cost).collect();
    costs.extend(first_sure.is_none().then_some(1));
    costs.into_iter().max().unwrap()
}

fn says(claim: &TierClaim, it: &Question) -> bool {
    let Some(found) = claim_at(&claim.provider, &claim.path, it) else { return false };
    found == &claim.value || found.as_array().is_some_and(|list| list.iter().any(|it| it == &claim.value))
}

fn claim_at<'q>(provider: &str, path: &[String], it: &'q Question) -> Option<&'q serde_json::Value> {
    path.iter().try_fold(it.asked.claims.get(provider)?, |value, key| value.get(key))
}

fn value(part: &KeyPart, route: Option<(&str, bool)>, it: &Question) -> Option<String> {
    let found = match part {
        KeyPart::Source => Some(it.asked.source.map_or("anonymous".to_owned(), |name| format!("service {name}"))),
        KeyPart::Destination => Some(it.asked.destination.to_owned()),
        KeyPart::Route => route.filter(|(_, sure)| *sure).map(|(label, _)| label.to_owned()),
        KeyPart::Claim { provider, path } => {
            let claim = claim_at(provider, path, it)?;
            claim.as_str().map(str::to_owned).or_else(|| claim.as_u64().map(|it| it.to_string()))
        }
        KeyPart::Header(name) => {
            let values: Vec<_> = it.asked.headers.iter().filter(|(it, _)| it.eq_ignore_ascii_case(name)).collect();
            let has_alias = name == "x-a" && it.asked.headers.iter().any(|(it, _)| it == "x_a");
            (values.len() == 1 && !has_alias).then(|| values[0].1.clone())
        }
        KeyPart::ClientAddress { .. } => it.address.map(|it| match it {
            IpAddr::V4(it) => format!("{:?}", &it.octets()[..3]),
            IpAddr::V6(it) => format!("{:?}", &it.segments()[..3]),
        }),
    };
    found.filter(|it| !it.is_empty())
}

fn counter(allowance: &Allowance) -> &'static str {
    match allowance {
        Allowance::Rate { .. } => "rate",
        Allowance::Concurrency { .. } => "concurrency",
        Allowance::Quota { window: Window::Hour, .. } => "hour",
        Allowance::Quota { window: Window::Day, .. } => "day",
        Allowance::Quota { window: Window::Month, .. } => "month",
    }
}

fn amount(allowance: &Allowance, now: u64) -> Amount {
    match *allowance {
        Allowance::Rate { requests, period_ms, burst } => Amount::Rate { requests, period_ms, burst },
        Allowance::Concurrency { requests, lease_s } => Amount::Concurrency { requests, lease_s },
        Allowance::Quota { requests, window } => {
            let (begin_s, len) = match window {
                Window::Hour => (now / 3600 * 3600, 3600),
                Window::Day => (now / 86400 * 86400, 86400),
                Window::Month => months().find(|(begin, len)| now < begin + len).unwrap(),
            };
            Amount::Quota { requests, begin_s, end_s: begin_s + len }
        }
    }
}

/// All months since 1970, with their lengths.
fn months() -> impl Iterator<Item = (u64, u64)> {
    let days = (1970_u64..).flat_map(|year| {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        [31, 28 + u64::from(is_leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    });
    days.scan(0, |begin, days| {
        let month = (*begin, days * 86400);
        *begin += days * 86400;
        Some(month)
    })
}

fn ask(snapshot: &Snapshot<Vec<u8>>, it: &Question) -> portcullis_policy::Decision {
    with_request(&it.asked, |request| {
        decide(snapshot, &Request { source_address: it.address, now: it.now, ..*request })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn charges_are_those_of_the_reference(policy in policy(), one in question(), other in question()) {
        let (bytes, _) = compile(&policy, 7, 0);
        let snapshot = Snapshot::open(bytes).unwrap();
        let mut buckets: Vec<(String, u64)> = Vec::new();
        for question in [&one, &other] {
            let decision = ask(&snapshot, question);
            let admitted = naive::decide(&policy, &question.asked).allowed;
            let want = expected(&policy, question).filter(|_| admitted);
            prop_assert_eq!(decision.verdict == Verdict::Allow, want.is_some(), "{:?}", decision);
            prop_assert_eq!(&ask(&snapshot, question), &decision);
            let want = want.unwrap_or_default();
            let named = |it: &Expected<'_>| (it.limit.rule.clone(), it.cost, it.amount, it.limit.mode, it.limit.scope);
            let found = |it: &Charge| (it.rule.clone(), it.cost, it.amount, it.mode, it.scope);
            let (wanted, charged): (Vec<_>, Vec<_>) =
                (want.iter().map(named).collect(), decision.charges.iter().map(found).collect());
            prop_assert_eq!(wanted, charged);
            buckets.extend(want.into_iter().map(|it| it.bucket).zip(decision.charges.iter().map(|it| it.key)));
        }
        for (bucket, key) in &buckets {
            for (other_bucket, other_key) in &buckets {
                prop_assert_eq!(bucket == other_bucket, key == other_key, "{} and {}", bucket, other_bucket);
            }
        }
    }
}
