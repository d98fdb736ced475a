//! How one key stands: the arithmetic of each rule, on plain integers. Whatever overflows is not admitted.

use crate::{
    charge::{MAX_LABEL_LEN, Rule, Standing},
    slot::{Slot, class, halves, kind},
};

/// What is known of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: u64,
    pub(crate) class: u16,
    pub(crate) tag: u32,
    /// Of the last charge.
    pub(crate) flags: u8,
    pub(crate) label: Option<Box<[u8; MAX_LABEL_LEN]>>,
    pub(crate) state: State,
}

/// What a rule remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Rate(Rate),
    Quota(Quota),
    Held(Held),
}

/// A token bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rate {
    /// When the bucket will be full again.
    pub(crate) tat: u64,
    /// Of the last charge, for show.
    pub(crate) interval_ns: u64,
    pub(crate) burst: u32,
    /// Units that were admitted on this host, as long as the entry lives.
    pub(crate) total: u64,
}

/// Units in a window of the calendar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) begin_ns: u64,
    /// The window's length, in seconds.
    pub(crate) len_s: u32,
    /// Not live from this second of the log's time on.
    pub(crate) expiry_s: u32,
    pub(crate) used: u64,
    /// Units of windows before this one, for requests that come late or after the clock went back.
    pub(crate) older: u64,
    /// Of the last charge, for show.
    pub(crate) units: u64,
}

/// Units at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// By `id`, which grows.
    pub(crate) holders: Vec<Holder>,
    /// Sum of their costs.
    pub(crate) used: u64,
    /// No lease ends before this.
    pub(crate) earliest: u64,
    /// Of the last charge, for show.
    pub(crate) units: u32,
    pub(crate) lease_ns: u64,
}

/// Who holds units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) id: u64,
    pub(crate) expires: u64,
    pub(crate) cost: u32,
}

const SECOND: u64 = 1_000_000_000;

// === impl Rate ===

impl Rate {
    /// When the bucket will be full again after these units; `None` when it does not hold them.
    fn after(&self, now: u64, interval_ns: u64, burst: u32, cost: u32) -> Option<u64> {
        if interval_ns == 0 || cost > burst {
            return None;
        }
        let tat = self.tat.max(now).checked_add(product(interval_ns, cost)?)?;
        (tat - now <= span(interval_ns, burst)).then_some(tat)
    }
}

/// The time in which so many units come back, and how far a bucket of them may be in debt; when that is more than there is,
/// then what there is.
fn span(interval_ns: u64, units: u32) -> u64 {
    product(interval_ns, units).unwrap_or(u64::MAX)
}

/// By halves: the library's way is a product of 128 bits, which wasm has not, and every record that is folded needs two.
fn product(interval_ns: u64, units: u32) -> Option<u64> {
    let (low, high) = halves(interval_ns);
    let high = u32::try_from(u64::from(high) * u64::from(units)).ok()?;
    (u64::from(high) << 32).checked_add(u64::from(low) * u64::from(units))
}

// === impl Quota ===

impl Quota {
    /// Units that count against a request of the window that began then.
    fn used_in(&self, begin_ns: u64) -> u64 {
        match begin_ns.cmp(&self.begin_ns) {
            core::cmp::Ordering::Greater => 0,
            core::cmp::Ordering::Equal => self.used,
            core::cmp::Ordering::Less => self.older,
        }
    }

    pub(crate) fn end_ns(&self) -> u64 {
        self.begin_ns.saturating_add(u64::from(self.len_s) * SECOND)
    }

    /// Counts units in a window. A newer one takes the place; the units of the one that it follows are kept for those who
    /// come late, and after a leap over a window whichever count is higher.
    fn add(&mut self, begin_ns: u64, end_ns: u64, cost: u64, now: u64) {
        if begin_ns > self.begin_ns || self.len_s == 0 {
            self.older = if begin_ns == self.end_ns() { self.used } else { self.used.max(self.older) };
            self.used = 0;
            self.begin_ns = begin_ns;
            self.len_s = u32::try_from(end_ns.saturating_sub(begin_ns).div_ceil(SECOND)).unwrap_or(u32::MAX);
        }
        // The wall clock is in the window now, so the window is over before as much time again has passed.
        let expiry = now.saturating_add(u64::from(self.len_s) * SECOND).div_ceil(SECOND);
        self.expiry_s = self.expiry_s.max(u32::try_from(expiry).unwrap_or(u32::MAX));
        let count = if begin_ns == self.begin_ns { &mut self.used } else { &mut self.older };
        *count = count.saturating_add(cost);
    }
}

// === impl Held ===

impl Held {
    fn used_at(&self, now: u64) -> u64 {
        if now < self.earliest {
            return self.used;
        }
        self.holders.iter().filter(|holder| holder.expires > now).map(|holder| u64::from(holder.cost)).sum()
    }

    /// Lets go whose lease is over.
    fn expire(&mut self, now: u64) {
        if now >= self.earliest {
            self.holders.retain(|holder| holder.expires > now);
            self.used = self.holders.iter().map(|holder| u64::from(holder.cost)).sum();
            self.earliest = self.holders.iter().map(|holder| holder.expires).min().unwrap_or(u64::MAX);
        }
    }

    pub(crate) fn push(&mut self, holder: Holder) {
        self.earliest = if self.holders.is_empty() { holder.expires } else { self.earliest.min(holder.expires) };
        self.used = self.used.saturating_add(u64::from(holder.cost));
        self.holders.push(holder);
    }

    fn release(&mut self, id: u64) {
        if let Ok(at) = self.holders.binary_search_by_key(&id, |holder| holder.id) {
            let holder = self.holders.remove(at);
            self.used = self.used.saturating_sub(u64::from(holder.cost));
        }
    }

    /// When units for so many are free, nobody else asking.
    fn free_at(&self, now: u64, units: u64) -> u64 {
        let mut over = self.used_at(now).saturating_sub(units);
        let mut at = now;
        for holder in self.holders.iter().filter(|holder| holder.expires > now) {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(u64::from(holder.cost));
            at = at.max(holder.expires);
        }
        at
    }
}

// === impl State ===

impl State {
    /// As if nobody had ever asked.
    pub(crate) fn new(class: u16) -> Self {
        match class & !class::SHARED {
            class::RATE => Self::Rate(Rate::default()),
            class::QUOTA => Self::Quota(Quota::default()),
            _ => Self::Held(Held { earliest: u64::MAX, ..Held::default() }),
        }
    }

    /// Slots that it takes in a checkpoint.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Rate(_) | Self::Quota(_) => 1,
            Self::Held(held) => held.holders.len(),
        }
    }

    /// From when on it is as if nobody had asked.
    pub(crate) fn expiry(&self) -> u64 {
        match self {
            Self::Rate(rate) => rate.tat,
            Self::Quota(quota) => u64::from(quota.expiry_s) * SECOND,
            Self::Held(held) => held.holders.iter().map(|holder| holder.expires).max().unwrap_or(0),
        }
    }

    /// Whether the rule admits so many units more.
    pub(crate) fn admits(&self, rule: &Rule, cost: u32, now: u64) -> bool {
        match (self, *rule) {
            (Self::Rate(rate), Rule::Rate { interval_ns, burst }) => {
                rate.after(now, interval_ns, burst, cost).is_some()
            }
            (Self::Quota(quota), Rule::Quota { units, begin_ns, end_ns }) => {
                let after = quota.used_in(begin_ns).checked_add(u64::from(cost));
                begin_ns < end_ns && after.is_some_and(|after| after <= units)
            }
            (Self::Held(held), Rule::Concurrency { units, .. }) => {
                held.used_at(now).saturating_add(u64::from(cost)) <= u64::from(units)
            }
            _ => false,
        }
    }

    /// Counts units that are admitted, or were on another host.
    pub(crate) fn add(&mut self, rule: &Rule, cost: u32, now: u64, foreign: bool, debt_ns: u64, id: u64) {
        match (self, *rule) {
            (Self::Rate(rate), Rule::Rate { interval_ns, burst }) => {
                let tat = rate.tat.max(now).saturating_add(span(interval_ns, cost));
                if foreign {
                    let worst = now.saturating_add(span(interval_ns, burst)).saturating_add(debt_ns);
                    rate.tat = rate.tat.max(tat.min(worst));
                } else {
                    rate.tat = tat;
                    rate.total = rate.total.wrapping_add(u64::from(cost));
                }
                (rate.interval_ns, rate.burst) = (interval_ns, burst);
            }
            (Self::Quota(quota), Rule::Quota { units, begin_ns, end_ns }) => {
                quota.add(begin_ns, end_ns, u64::from(cost), now);
                quota.units = units;
            }
            (Self::Held(held), Rule::Concurrency { units, lease_ns }) if !foreign => {
                held.expire(now);
                held.push(Holder { id, expires: now.saturating_add(lease_ns), cost });
                (held.units, held.lease_ns) = (units, lease_ns);
            }
            _ => {}
        }
    }

    /// Takes an admitted charge back: `first` is when it was admitted, or its window's begin, or its id; `units` the
    /// nanoseconds or units that it took.
    pub(crate) fn take_back(&mut self, first: u64, units: u64, now: u64) {
        match self {
            // As long as it was counted the bucket may have filled up for want of room: that much is not given back.
            Self::Rate(rate) if rate.tat > now => {
                let back = units.saturating_sub(now.saturating_sub(first));
                rate.tat = rate.tat.saturating_sub(back).max(now);
            }
            // What has gone over into the count of older windows may not be in it, when that was higher.
            Self::Quota(quota) if first == quota.begin_ns => quota.used = quota.used.saturating_sub(units),
            Self::Held(held) => held.release(first),
            Self::Rate(_) | Self::Quota(_) => {}
        }
    }

    /// How a request stands whose charge has been counted, or is not going to be.
    pub(crate) fn standing(&self, rule: &Rule, admitted: bool, now: u64, wall: u64) -> Standing {
        let (remaining, reset_ns) = match (self, *rule) {
            (Self::Rate(rate), Rule::Rate { interval_ns, burst }) => {
                let debt = rate.tat.saturating_sub(now);
                let left = span(interval_ns, burst).saturating_sub(debt);
                (left.checked_div(interval_ns).unwrap_or(0).min(u64::from(burst)), debt)
            }
            (Self::Quota(quota), Rule::Quota { units, begin_ns, end_ns }) => {
                (units.saturating_sub(quota.used_in(begin_ns)), end_ns.saturating_sub(wall))
            }
            (Self::Held(held), Rule::Concurrency { units, .. }) => {
                let left = u64::from(units).saturating_sub(held.used_at(now));
                (left, held.free_at(now, 0) - now)
            }
            _ => (0, 0),
        };
        Standing { admitted, remaining, reset_ns, retry_ns: 0 }
    }

    /// Nanoseconds until a request that is refused now would not be.
    pub(crate) fn retry_ns(&self, rule: &Rule, cost: u32, now: u64, wall: u64) -> u64 {
        match (self, *rule) {
            (Self::Rate(rate), Rule::Rate { interval_ns, burst }) if interval_ns > 0 && cost <= burst => {
                let debt = rate.tat.saturating_sub(now);
                let room = span(interval_ns, burst).saturating_sub(span(interval_ns, cost));
                debt.saturating_sub(room)
            }
            (Self::Quota(_), Rule::Quota { units, end_ns, .. }) if u64::from(cost) <= units => {
                end_ns.saturating_sub(wall)
            }
            (Self::Held(held), Rule::Concurrency { units, .. }) if cost <= units => {
                held.free_at(now, u64::from(units - cost)) - now
            }
            _ => u64::MAX,
        }
    }
}

// === impl Entry ===

impl Entry {
    /// Its slots of a checkpoint, in order; none of what is over at `now`.
    pub(crate) fn write(&self, now: u64, mut slot: impl FnMut(Slot)) {
        let common = Slot {
            kind: kind::STATE,
            flags: self.flags,
            class: self.class,
            tag: self.tag,
            key: self.key,
            ..Slot::default()
        };
        match &self.state {
            State::Rate(rate) => {
                slot(Slot { t: rate.tat, words: [rate.interval_ns, u64::from(rate.burst), rate.total, 0], ..common });
            }
            State::Quota(quota) => {
                let t = u64::from(quota.len_s) | u64::from(quota.expiry_s) << 32;
                slot(Slot { t, words: [quota.units, quota.begin_ns, quota.used, quota.older], ..common });
            }
            State::Held(held) => {
                for holder in held.holders.iter().filter(|one| one.expires > now) {
                    let (units, cost) = (u64::from(held.units), u64::from(holder.cost));
                    let words = [units | cost << 32, held.lease_ns, holder.id, 0];
                    slot(Slot { t: holder.expires, words, ..common });
                }
            }
        }
        if let Some(text) = &self.label {
            let empty = Slot { kind: kind::LABEL, class: self.class, key: self.key, ..Slot::default() };
            slot(empty.with_text(text));
        }
    }

    /// Takes a slot of a checkpoint in.
    pub(crate) fn read(&mut self, slot: &Slot) {
        let [first, second, third, fourth] = slot.words;
        let (units, cost) = halves(first);
        match &mut self.state {
            State::Rate(rate) => {
                let burst = u32::try_from(second).unwrap_or(u32::MAX);
                *rate = Rate { tat: slot.t, interval_ns: first, burst, total: third };
            }
            State::Quota(quota) => {
                let (len_s, expiry_s) = halves(slot.t);
                *quota = Quota { begin_ns: second, len_s, expiry_s, used: third, older: fourth, units: first };
            }
            State::Held(held) => {
                held.push(Holder { id: third, expires: slot.t, cost });
                (held.units, held.lease_ns) = (units, second);
            }
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
