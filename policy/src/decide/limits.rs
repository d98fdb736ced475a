//! What an allowed request is charged to: every limit of its destination, and of the wildcards that cover it, that speaks
//! of the caller and of the request.
//!
//! Doubt charges. A criterion that cannot be judged for sure holds, and a cost that depends on the reading is the highest of
//! them; a part of a key that cannot be read leads to the one bucket that the limit has for all such requests.

use std::net::IpAddr;

use super::{ANONYMOUS, Walk, permissions::meet};
use crate::{
    candidates::Name,
    explain::{Observer, Step},
    headers::Headers as _,
    identity::Caller,
    jwt::Checked,
    limit::{
        Amount, Charge,
        bucket::Bucket,
        rule::{Allowance, Callers, Cost, Criteria, KeyPart, Limit, Tier},
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
            for limit in limits.iter() {
                let applied = self.apply_limit(limit, caller, destination, &mut is_replaced)?;
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
        Ok(Limited::By(charges))
    }

    fn apply_limit(
        &mut self,
        limit: &Limit,
        caller: &Caller<'_>,
        destination: Name<'_>,
        is_replaced: &mut bool,
    ) -> Result<Applied, SnapshotError> {
        let address = self.request.source_address.map(|it| it.to_canonical());
        let one_of = |list: &[Callers]| list.iter().any(|it| it.hold(caller, address));
        if limit.mode == Mode::Off {
            return Ok(Applied::Off);
        }
        if limit.exclusive && *is_replaced {
            return Ok(Applied::Replaced);
        }
        if !limit.sources.is_empty() && !one_of(&limit.sources) {
            return Ok(Applied::OtherCaller);
        }
        if one_of(&limit.exempt) {
            return Ok(Applied::Exempt);
        }
        let Some(route) = self.route(&limit.matches) else { return Ok(Applied::OtherRequest) };
        *is_replaced |= limit.exclusive && route.is_sure;
        let cost = self.cost(&limit.costs);
        if cost == 0 {
            return Ok(Applied::Free);
        }
        let Some(own) = &limit.allowance else { return Ok(Applied::Unreadable) };
        let mut allowance = own;
        for tier in &limit.tiers {
            if (tier.sources.is_empty() || one_of(&tier.sources)) && self.says(tier)? {
                allowance = &tier.allowance;
                break;
            }
        }
        let mut bucket = Bucket::new(&limit.rule);
        for part in &limit.key {
            self.add_part(&mut bucket, part, caller, destination, address, &route)?;
        }
        let counter = allowance.kind();
        let (key, label) = bucket.finish((counter != own.kind()).then_some(counter));
        Ok(Applied::Charged(Charge {
            rule: limit.rule.clone(),
            name: limit.name.clone(),
            key,
            label,
            amount: amount(allowance, self.request.now),
            cost,
            mode: limit.mode,
            scope: limit.scope,
            on_unavailable: limit.on_unavailable,
        }))
    }

    /// Which of the criteria the request meets first; `None` for none of them.
    fn route<'l>(&self, matches: &'l [Criteria]) -> Option<Route<'l>> {
        if matches.is_empty() {
            return Some(Route { label: "", is_sure: true });
        }
        let sure = self.met(matches.iter());
        let (at, is_sure) = sure.into_iter().enumerate().find_map(|(at, met)| Some((at, met?)))?;
        // Of criteria without any, the request meets each.
        Some(Route { label: matches.get(at).map_or("", |it| it.label.as_str()), is_sure })
    }

    /// What a request costs: by the first that matches for sure, or by the dearest of those that may match before it.
    fn cost(&self, costs: &[Cost]) -> u32 {
        if costs.is_empty() {
            return 1;
        }
        let mut dearest = 0;
        for (cost, met) in costs.iter().zip(self.met(costs.iter().map(|it| &it.criteria))) {
            let Some(is_sure) = met else { continue };
            dearest = dearest.max(cost.cost);
            if is_sure {
                return dearest;
            }
        }
        dearest.max(1)
    }

    /// For each of the criteria, whether the request meets it: `None` if not, else whether that is beyond doubt.
    fn met<'c>(&self, criteria: impl Iterator<Item = &'c Criteria> + Clone) -> Vec<Option<bool>> {
        let view = self.view();
        let seen = self.seen(&view, criteria.clone().any(|it| !it.methods.is_empty()));
        let met = |it: &Criteria| {
            let matched = meet(&it.methods, it.path.as_ref(), &it.headers, &seen, false);
            (!matched.fails()).then_some(matched.doubt.is_none())
        };
        criteria.map(met).collect()
    }

    /// Whether the token that a tier asks for says what it should. A tier that asks for none holds.
    fn says(&mut self, tier: &Tier) -> Result<bool, SnapshotError> {
        let Some(claim) = &tier.claim else { return Ok(true) };
        Ok(match self.tokens.glance(&claim.provider)? {
            Checked::Valid(verified) => verified.claims.holds(&claim.path, &claim.value),
            Checked::Missing | Checked::Invalid(_) => false,
        })
    }

    fn add_part(
        &mut self,
        bucket: &mut Bucket,
        part: &KeyPart,
        caller: &Caller<'_>,
        destination: Name<'_>,
        address: Option<IpAddr>,
        route: &Route<'_>,
    ) -> Result<(), SnapshotError> {
        let mut text = |kind: u8, text: &str| bucket.add(kind, Some(text.as_bytes()), text.as_bytes());
        match part {
            KeyPart::Source => match caller {
                Caller::Anonymous => text(b'a', ANONYMOUS),
                Caller::Service(name) => text(b's', &name.spelled()),
            },
            KeyPart::Destination => text(b'd', &destination.to_owned().spelled()),
            KeyPart::Route => {
                let label = Some(route.label.as_bytes()).filter(|_| route.is_sure);
                bucket.add(b'r', label, route.label.as_bytes());
            }
            KeyPart::Claim { provider, path } => {
                let claim = match self.tokens.glance(provider)? {
                    Checked::Valid(verified) => verified.claims.get(path),
                    Checked::Missing | Checked::Invalid(_) => None,
                };
                // Numbers are usual as a subject; whatever else a claim can be names nobody.
                let number = claim.and_then(serde_json::Value::as_u64).map(|number| number.to_string());
                let value = claim.and_then(serde_json::Value::as_str).or(number.as_deref()).map(str::as_bytes);
                bucket.add(b'c', value, value.unwrap_or_default());
            }
            KeyPart::Header(name) => {
                let view = self.view();
                let values = if view.has_alias(name) { Vec::new() } else { view.values(name) };
                let value = match values.as_slice() {
                    [value] => Some(value.trim_ascii()),
                    _ => None,
                };
                bucket.add(b'h', value, value.unwrap_or_default());
            }
            KeyPart::ClientAddress { v4, v6 } => bucket.add_network(address, *v4, *v6),
        }
        Ok(())
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
