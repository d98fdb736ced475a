//! Who told what, and what is to be charged here: the exchange between hosts without its transport.
//!
//! ```text
//!  admitted here ─ note ─► pending ─ tick ─► messages ─► the store ─► every host, the sender included
//!                                     │                                  │
//!                                     └► while the store is down,        └► receive ─► usage to charge here
//!                                        with `share`: usage to charge
//! ```
//!
//! No clock of one host is compared with another's: a message is late by how much longer it was under way than the fastest
//! of its sender. The store is up while this host hears itself, which also holds for a store that is reached and does
//! nothing. Time is a monotonic clock of the caller's, in nanoseconds.

use std::collections::{BTreeMap, HashMap};

use super::{
    config::StoreDown,
    message::{MAX_USAGES, Message, Usage},
};

/// How often usage is told.
pub(super) const INTERVAL_NS: u64 = 100_000_000;
/// A host that has nothing to tell says so this often.
pub(super) const HEARTBEAT_NS: u64 = 250_000_000;
/// Usage that is older is not charged any more, and a host that has not heard itself for so long has no store.
pub(super) const STALE_NS: u64 = 1_000_000_000;
/// A host that was not heard for so long is not counted any more.
const GONE_NS: u64 = 3_000_000_000;
/// A host that was not heard for so long is forgotten.
const FORGOTTEN_NS: u64 = 60_000_000_000;
/// The fastest message of this long, or twice as long, is what others are compared with: clocks drift.
const FASTEST_OF_NS: u64 = 30_000_000_000;
/// Most hosts that are known, this one included.
pub(super) const MAX_HOSTS: usize = 64;
/// Most keys that are told in one interval; what comes on top of that is counted as dropped.
const MAX_PENDING: usize = 64 * MAX_USAGES;

/// One host's part in the exchange.
#[derive(Debug)]
pub(super) struct Exchange {
    host: u128,
    sequence: u64,
    store_down: StoreDown,
    /// Hosts that there are at least, by the configuration.
    expected: usize,
    pending: HashMap<u64, Usage>,
    peers: BTreeMap<u128, Peer>,
    /// When this host last spoke, and last heard itself.
    spoke_ns: Option<u64>,
    heard_ns: Option<u64>,
    /// Hosts when the store was last up.
    hosts: usize,
    counts: Counts,
}

/// Another host.
#[derive(Debug)]
struct Peer {
    sequence: u64,
    heard_ns: u64,
    /// Shortest ways in the present and in the last span of [`FASTEST_OF_NS`], by the difference of both clocks.
    fastest: [i128; 2],
    since_ns: u64,
}

/// What is to be done after a tick.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tick {
    /// To be published.
    pub(super) messages: Vec<Vec<u8>>,
    /// To be charged here.
    pub(super) charges: Vec<Usage>,
}

/// What happened since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Messages that were refused, by why.
    pub(super) refused: BTreeMap<&'static str, u64>,
    /// Usages that were not told or not charged, by why.
    pub(super) dropped: BTreeMap<&'static str, u64>,
    /// Messages that were sent and never came, as their sequence tells.
    pub(super) lost: u64,
    /// Units of other hosts that were handed out to be charged.
    pub(super) received_units: u64,
    /// Units of this host that were told.
    pub(super) told_units: u64,
    /// How long the last message to oneself was under way, in nanoseconds.
    pub(super) lag_ns: u64,
}

// === impl Exchange ===

impl Exchange {
    /// A host that knows nobody yet. `expected` is how many hosts there are at least, this one included.
    pub(super) fn new(host: u128, store_down: StoreDown, expected: usize) -> Self {
        let expected = expected.clamp(1, MAX_HOSTS);
        Self {
            host,
            sequence: 0,
            store_down,
            expected,
            pending: HashMap::new(),
            peers: BTreeMap::new(),
            spoke_ns: None,
            heard_ns: None,
            hosts: expected,
            counts: Counts::default(),
        }
    }

    /// What happened so far.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many hosts share the limits, this one included: those that are heard, or, without a store, those that were.
    pub(super) fn hosts(&self) -> usize {
        self.hosts
    }

    /// Whether usage goes round.
    pub(super) fn is_up(&self, now_ns: u64) -> bool {
        self.heard_ns.is_some_and(|heard| now_ns.saturating_sub(heard) <= STALE_NS)
    }

    /// Units that were just admitted here.
    pub(super) fn note(&mut self, usage: Usage) {
        if self.pending.len() >= MAX_PENDING && !self.pending.contains_key(&usage.key) {
            *self.counts.dropped.entry("too_many").or_default() += 1;
            return;
        }
        self.pending
            .entry(usage.key)
            .and_modify(|present| *present = Usage { units: present.units.saturating_add(usage.units), ..usage })
            .or_insert(usage);
    }

    /// Once in [`INTERVAL_NS`].
    pub(super) fn tick(&mut self, now_ns: u64) -> Tick {
        let up = self.is_up(now_ns);
        self.forget(now_ns, up);
        let usages: Vec<Usage> = self.pending.drain().map(|(_, usage)| usage).collect();
        let charges = if up || self.store_down == StoreDown::Local { Vec::new() } else { self.shares(&usages) };
        let due = self.spoke_ns.is_none_or(|spoke| now_ns.saturating_sub(spoke) >= HEARTBEAT_NS);
        let mut messages = Vec::new();
        for part in usages.chunks(MAX_USAGES) {
            messages.push(self.message(now_ns, part.to_vec()));
        }
        if messages.is_empty() && due {
            messages.push(self.message(now_ns, Vec::new()));
        }
        Tick { messages, charges }
    }

    /// A message from the store; what it says is to be charged here.
    pub(super) fn receive(&mut self, now_ns: u64, bytes: &[u8]) -> Vec<Usage> {
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(refused) => {
                self.refused(refused.label());
                return Vec::new();
            }
        };
        if message.host == self.host {
            // Nobody else knows what we have sent when, unless it is said again: then the lag shows it.
            if message.sequence <= self.sequence && message.sent_ns <= now_ns {
                let lag = now_ns - message.sent_ns;
                self.counts.lag_ns = lag;
                if lag <= STALE_NS {
                    self.heard_ns = Some(now_ns);
                }
            }
            return Vec::new();
        }
        if !self.hear(now_ns, &message) {
            return Vec::new();
        }
        let units = message.usages.iter().map(|usage| u64::from(usage.units)).sum::<u64>();
        self.counts.received_units = self.counts.received_units.saturating_add(units);
        message.usages
    }

    /// A message that never got as far as being read.
    pub(super) fn refused(&mut self, why: &'static str) {
        *self.counts.refused.entry(why).or_default() += 1;
    }

    /// Whether the message is neither said twice nor late.
    fn hear(&mut self, now_ns: u64, message: &Message) -> bool {
        let way = i128::from(now_ns) - i128::from(message.sent_ns);
        if !self.peers.contains_key(&message.host) && self.peers.len() + 1 >= MAX_HOSTS {
            // Whoever invents hosts must not silence a real one: what it says is charged, only not looked at closely.
            self.refused("too_many_hosts");
            return true;
        }
        let peer = self.peers.entry(message.host).or_insert_with(|| Peer {
            sequence: message.sequence.saturating_sub(1),
            heard_ns: now_ns,
            fastest: [way; 2],
            since_ns: now_ns,
        });
        if message.sequence <= peer.sequence {
            self.refused("said_twice");
            return false;
        }
        self.counts.lost = self.counts.lost.saturating_add(message.sequence - peer.sequence - 1);
        peer.sequence = message.sequence;
        peer.heard_ns = now_ns;
        if now_ns.saturating_sub(peer.since_ns) >= FASTEST_OF_NS {
            (peer.fastest, peer.since_ns) = ([way, peer.fastest[0]], now_ns);
        }
        peer.fastest[0] = peer.fastest[0].min(way);
        let late = way - peer.fastest[0].min(peer.fastest[1]);
        if late > i128::from(STALE_NS) {
            *self.counts.dropped.entry("late").or_default() += message.usages.len() as u64;
            return false;
        }
        true
    }

    /// Hosts come and go while the store is up; without it nobody can tell, and all stay.
    fn forget(&mut self, now_ns: u64, up: bool) {
        let silent = |peer: &Peer| now_ns.saturating_sub(peer.heard_ns);
        if up {
            self.peers.retain(|_, peer| silent(peer) <= FORGOTTEN_NS);
            let heard = 1 + self.peers.values().filter(|peer| silent(peer) <= GONE_NS).count();
            self.hosts = heard.max(self.expected);
        }
    }

    /// Without the store, each host takes it that every other one admits as much as itself: so it keeps its part of the
    /// limit, of the burst and of a quota's rest alike.
    fn shares(&self, usages: &[Usage]) -> Vec<Usage> {
        let others = u32::try_from(self.hosts - 1).unwrap_or(u32::MAX);
        let share = |usage: &Usage| Usage { units: usage.units.saturating_mul(others), ..*usage };
        usages.iter().map(share).filter(|usage| usage.units > 0).collect()
    }

    fn message(&mut self, now_ns: u64, usages: Vec<Usage>) -> Vec<u8> {
        self.sequence += 1;
        self.spoke_ns = Some(now_ns);
        let units = usages.iter().map(|usage| u64::from(usage.units)).sum::<u64>();
        self.counts.told_units = self.counts.told_units.saturating_add(units);
        Message { host: self.host, sequence: self.sequence, sent_ns: now_ns, usages }.encode()
    }
}

#[cfg(test)]
mod tests;
