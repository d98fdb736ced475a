//! What an allowed request is charged to: every limit of its destination, and of the wildcards that cover it, that speaks
//! of the caller and of the request.
//!
//! Doubt charges. A criterion that cannot be judged for sure holds, and a cost that depends on the reading is the highest of
//! them; a part of a key that cannot be read leads to the one bucket that the limit has for all such requests.

use serde_json::Value;

use super::{ANONYMOUS, Walk, permissions::meet};
use crate::{
    candidates::Name,
    explain::{Observer, Step},
    headers::Headers as _,
    identity::Caller,
    limit::{
        Amount, Charge,
        bucket::Bucket,
        rule::{Allowance, Callers, Criteria, KeyPart, Limit, TierClaim},
    },
    model::Mode,
    snapshot::{ReadAt, SnapshotError},
};

/// All limits of a request.
pub(super) enum Limited {
    /// It is charged to these.
    By(Vec<Charge>),
    /// A limit that covers it could not be read; its rule.
    Unreadable(String),
}

/// What a limit has to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It is charged.
    Charged(Charge),
    /// The limit could not be read: it refuses what it covers, unless it is in shadow.
    Unreadable,
    /// The limit is switched off.
    Off,
    /// The limit is for other callers.
    OtherCaller,
    /// The caller is never charged.
    Exempt,
    /// The limit is for other requests.
    OtherRequest,
    /// Another limit of the entry is charged in its place.
    Replaced,
    /// The request costs nothing.
    Free,
}

/// How a request meets a list of criteria.
struct Route<'l> {
    /// The one that it meets; empty when there are none.
    label: &'l str,
    /// Whether that is beyond doubt.
    is_sure: bool,
}

impl<R: ReadAt, O: Observer> Walk<'_, R, O> {
    /// All limits that a request is charged to: those of its destination, then those of `*`, each in the order of reading.
    pub(super) fn limited(&mut self, caller: &Caller<'_>, destination: Name<'_>) -> Result<Limited, SnapshotError> {
        let mut charges = Vec::new();
        for pattern in destination.patterns() {
            let Some(limits) = self.snapshot.limits(pattern)? else { continue };
            let mut is_replaced = false;
            for limit in &limits.0 {
                let applied = self.apply_limit(limit, caller, destination, &mut is_replaced);
                self.observer.step(Step::Limit { limit, applied: &applied });
                match applied {
                    Applied::Charged(charge) => charges.push(charge),
                    Applied::Unreadable if limit.mode == Mode::Enforce => {
                        return Ok(Limited::Unreadable(limit.rule.clone()));
                    }
                    _ => {}
                }
            }
        }
        // A provider that could not be looked up has no claims, but that is no reason to go on.
        self.tokens.failure().map_or(Ok(Limited::By(charges)), Err)
    }

    fn apply_limit(
        &mut self,
        limit: &Limit,
        caller: &Caller<'_>,
        destination: Name<'_>,
        is_replaced: &mut bool,
    ) -> Applied {
        let address = self.request.source_address.map(|it| it.to_canonical());
        let one_of = |list: &[Callers]| list.iter().any(|it| it.hold(caller, address));
        if limit.mode == Mode::Off {
            return Applied::Off;
        }
        if limit.exclusive && *is_replaced {
            return Applied::Replaced;
        }
        if !limit.sources.is_empty() && !one_of(&limit.sources) {
            return Applied::OtherCaller;
        }
        if one_of(&limit.exempt) {
            return Applied::Exempt;
        }
        let (route, cost) = self.route_and_cost(limit);
        let Some(route) = route else { return Applied::OtherRequest };
        *is_replaced |= limit.exclusive && route.is_sure;
        if cost == 0 {
            return Applied::Free;
        }
        let Some(own) = &limit.allowance else { return Applied::Unreadable };
        let tier = limit.tiers.iter().find(|tier| {
            let says =
                |it: &TierClaim| self.tokens.claims(&it.provider).is_some_and(|has| has.holds(&it.path, &it.value));
            (tier.sources.is_empty() || one_of(&tier.sources)) && tier.claim.as_ref().is_none_or(says)
        });
        let allowance = tier.map_or(own, |tier| &tier.allowance);
        let mut bucket = Bucket::new(&limit.rule);
        for part in &limit.key {
            match part {
                KeyPart::Source => match caller {
                    Caller::Anonymous => bucket.add_text(b'a', ANONYMOUS),
                    Caller::Service(name) => bucket.add_text(b's', &name.spelled()),
                },
                KeyPart::Destination => bucket.add_text(b'd', &destination.to_owned().spelled()),
                KeyPart::Route => bucket.add_text(b'r', if route.is_sure { route.label } else { "" }),
                KeyPart::Claim { provider, path } => self.add_claim(&mut bucket, provider, path),
                KeyPart::Header(name) => self.add_header(&mut bucket, name),
                KeyPart::ClientAddress { v4, v6 } => bucket.add_network(address, *v4, *v6),
            }
        }
        let counter = allowance.kind();
        let (bucket, label) = bucket.finish((counter != own.kind()).then_some(counter));
        let key = self.snapshot.bucket_key(bucket);
        Applied::Charged(Charge {
            rule: limit.rule.clone(),
            name: limit.name.clone(),
            key,
            label,
            amount: amount(allowance, self.request.now),
            cost,
            mode: limit.mode,
            scope: limit.scope,
            on_unavailable: limit.on_unavailable,
        })
    }

    /// Which of its criteria a request meets first, and what it costs: `None` where it meets none of them.
    fn route_and_cost<'l>(&self, limit: &'l Limit) -> (Option<Route<'l>>, u32) {
        let view = self.view();
        let by_method = |it: &Criteria| !it.methods.is_empty();
        let seen = self
            .seen(&view, limit.matches.iter().any(by_method) || limit.costs.iter().any(|it| by_method(&it.criteria)));
        // `None`: it does not meet them; else whether that is beyond doubt.
        let met = |it: &Criteria| {
            let matched = meet(&it.methods, it.path.as_ref(), &it.headers, &seen, false);
            (!matched.fails()).then_some(matched.doubt.is_none())
        };
        let mut route = limit.matches.iter().find_map(|it| Some(Route { label: &it.label, is_sure: met(it)? }));
        if limit.matches.is_empty() {
            route = Some(Route { label: "", is_sure: true });
        }
        // By the first that is met for sure, else what there is without any; by a dearer one that may be met before.
        let mut cost = 0;
        for it in &limit.costs {
            let Some(is_sure) = met(&it.criteria) else { continue };
            cost = cost.max(it.cost);
            if is_sure {
                return (route, cost);
            }
        }
        (route, cost.max(1))
    }

    /// Numbers are usual as a subject; whatever else a claim can be names nobody.
    fn add_claim(&mut self, bucket: &mut Bucket, provider: &str, path: &[String]) {
        match self.tokens.claims(provider).and_then(|claims| claims.get(path)) {
            Some(Value::String(text)) => bucket.add_text(b'c', text),
            Some(Value::Number(number)) if number.is_u64() => {
                bucket.add_text(b'c', &number.as_u64().unwrap_or(0).to_string());
            }
            _ => bucket.add_text(b'c', ""),
        }
    }

    /// One value, in the one spelling of the name.
    fn add_header(&self, bucket: &mut Bucket, name: &str) {
        let view = self.view();
        let values = view.values(name);
        match values.as_slice() {
            [value] if !view.has_alias(name) => bucket.add(b'h', value.trim_ascii(), value.trim_ascii()),
            _ => bucket.add(b'h', b"", b""),
        }
    }
}

fn amount(allowance: &Allowance, now: u64) -> Amount {
    match *allowance {
        Allowance::Rate { requests, period_ms, burst } => Amount::Rate { requests, period_ms, burst },
        Allowance::Quota { requests, window } => {
            let (begin_s, end_s) = window.around(now);
            Amount::Quota { requests, begin_s, end_s }
        }
        Allowance::Concurrency { requests, lease_s } => Amount::Concurrency { requests, lease_s },
    }
}
