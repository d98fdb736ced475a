//! What hosts tell each other: the units that one of them admitted since it last spoke.
//!
//! Anybody who may publish on the channel may send anything, so a message is bounded before it is read, and what it says is
//! checked. It can only ever charge: the worst that a forged one does is to refuse callers that a limit would have admitted.

use portcullis_limiter::Rule;
use serde::{Deserialize, Serialize};

/// Longest message, in bytes; a longer one is not looked at.
pub(super) const MAX_LEN: usize = 32 * 1024;
/// Most usages in a message, so that it stays below [`MAX_LEN`].
pub(super) const MAX_USAGES: usize = 512;
/// Longest window of a quota, and longest time to fill a bucket, that is believed, in nanoseconds: somewhat more than a
/// year. What is charged in a limit that somebody invents must be over some day.
const LONGEST_NS: u64 = 400 * 86_400_000_000_000;

/// How a message of this version begins: what it is, and the version.
const MAGIC: [u8; 5] = *b"PCLU\x01";

/// One message. Without usages it says only that the host is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Message {
    /// Who speaks: drawn anew at each start of a sidecar.
    pub(super) host: u128,
    /// Counts this host's messages, from 1.
    pub(super) sequence: u64,
    /// When it was sent, by the sender's monotonic clock, in nanoseconds. Comparable with the same host's others only.
    pub(super) sent_ns: u64,
    /// What was admitted.
    pub(super) usages: Vec<Usage>,
}

/// Units that were admitted under one key of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Usage {
    /// The bucket.
    pub(super) key: u64,
    /// The limit.
    pub(super) tag: u32,
    /// What is allowed, as the sender's policy has it.
    pub(super) amount: Amount,
    /// How many units; at least 1.
    pub(super) units: u32,
}

/// The rules that can be counted over several hosts. Slots of concurrency limits cannot: what was given back would have to
/// be told too, and a message that is lost would lose a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Amount {
    /// [`Rule::Rate`].
    Rate {
        /// Nanoseconds for one unit to come back.
        interval_ns: u64,
        /// Units that the full bucket holds.
        burst: u32,
    },
    /// [`Rule::Quota`].
    Quota {
        /// Units in the window.
        units: u64,
        /// When it began, in nanoseconds since the Unix epoch.
        begin_ns: u64,
        /// When it ends.
        end_ns: u64,
    },
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Longer than [`MAX_LEN`].
    #[error("the message is too long")]
    TooLong,
    /// Another version, or another program's.
    #[error("the message has another format or version")]
    OtherVersion,
    /// It does not decode, or says what cannot be.
    #[error("the message does not decode")]
    Malformed,
}

// === impl Message ===

impl Message {
    /// The message as bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        // Writing to memory does not fail; an empty message would be refused as another version.
        postcard::to_extend(self, MAGIC.to_vec()).unwrap_or_default()
    }

    /// Reads a message from whoever sent it.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        if bytes.len() > MAX_LEN {
            return Err(Refused::TooLong);
        }
        let body = bytes.strip_prefix(&MAGIC).ok_or(Refused::OtherVersion)?;
        let (message, rest) = postcard::take_from_bytes::<Self>(body).map_err(|_| Refused::Malformed)?;
        let sound = rest.is_empty() && message.usages.len() <= MAX_USAGES && message.usages.iter().all(Usage::is_sound);
        if sound { Ok(message) } else { Err(Refused::Malformed) }
    }
}

// === impl Usage ===

impl Usage {
    fn is_sound(&self) -> bool {
        self.units > 0
            && match self.amount {
                Amount::Rate { interval_ns, burst } => {
                    interval_ns.checked_mul(burst.into()).is_some_and(|it| (1..=LONGEST_NS).contains(&it))
                }
                Amount::Quota { units, begin_ns, end_ns } => {
                    units > 0 && end_ns.checked_sub(begin_ns).is_some_and(|it| (1..=LONGEST_NS).contains(&it))
                }
            }
    }
}

// === impl Amount ===

impl Amount {
    /// The part of a rule that is told; `None` for concurrency.
    pub(super) fn of(rule: Rule) -> Option<Self> {
        match rule {
            Rule::Rate { interval_ns, burst } => Some(Self::Rate { interval_ns, burst }),
            Rule::Quota { units, begin_ns, end_ns } => Some(Self::Quota { units, begin_ns, end_ns }),
            Rule::Concurrency { .. } => None,
        }
    }

    /// As the limiter has it.
    pub(super) fn rule(self) -> Rule {
        match self {
            Self::Rate { interval_ns, burst } => Rule::Rate { interval_ns, burst },
            Self::Quota { units, begin_ns, end_ns } => Rule::Quota { units, begin_ns, end_ns },
        }
    }
}

// === impl Refused ===

impl Refused {
    /// The name in metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::OtherVersion => "other_version",
            Self::Malformed => "malformed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(usages: Vec<Usage>) -> Message {
        Message { host: u128::MAX, sequence: u64::MAX, sent_ns: u64::MAX, usages }
    }

    fn usage(amount: Amount, units: u32) -> Usage {
        Usage { key: u64::MAX, tag: u32::MAX, amount, units }
    }

    const RATE: Amount = Amount::Rate { interval_ns: LONGEST_NS, burst: 1 };

    #[test]
    fn the_largest_message_is_within_the_bound_and_comes_back() {
        let quota = Amount::Quota { units: u64::MAX, begin_ns: u64::MAX - 1, end_ns: u64::MAX };
        let fast = Amount::Rate { interval_ns: 1_000_000, burst: u32::MAX };
        for amount in [RATE, fast, quota] {
            let sent = message(vec![usage(amount, u32::MAX); MAX_USAGES]);
            let bytes = sent.encode();
            assert!(bytes.len() <= MAX_LEN, "{}", bytes.len());
            assert_eq!(Message::decode(&bytes), Ok(sent));
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let decode = |message: &Message| Message::decode(&message.encode());
        assert_eq!(decode(&message(vec![usage(RATE, 0)])), Err(Refused::Malformed));
        assert_eq!(decode(&message(vec![usage(RATE, 1); MAX_USAGES + 1])), Err(Refused::Malformed));
        let amounts = [
            Amount::Rate { interval_ns: 0, burst: 1 },
            Amount::Rate { interval_ns: 1, burst: 0 },
            Amount::Rate { interval_ns: LONGEST_NS, burst: 2 },
            Amount::Quota { units: 0, begin_ns: 0, end_ns: 1 },
            Amount::Quota { units: 1, begin_ns: 1, end_ns: 1 },
            Amount::Quota { units: 1, begin_ns: 0, end_ns: u64::MAX },
        ];
        for amount in amounts {
            assert_eq!(decode(&message(vec![usage(amount, 1)])), Err(Refused::Malformed), "{amount:?}");
        }
        let good = message(vec![usage(RATE, 1)]).encode();
        assert_eq!(Message::decode(&[good.clone(), vec![0]].concat()), Err(Refused::Malformed));
        assert_eq!(Message::decode(&good[..good.len() - 1]), Err(Refused::Malformed));
        assert_eq!(Message::decode(&vec![0; MAX_LEN + 1]), Err(Refused::TooLong));
        assert_eq!(Message::decode(b""), Err(Refused::OtherVersion));
        let mut newer = good;
        newer[4] = 2;
        assert_eq!(Message::decode(&newer), Err(Refused::OtherVersion));
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), ours: bool) {
            if ours {
                bytes.splice(..0, MAGIC);
            }
            if let Ok(message) = Message::decode(&bytes) {
                prop_assert!(message.usages.iter().all(Usage::is_sound));
            }
        }
    }
}
