//! Limits as bytes. By hand: derived for these types, decoding would be 10 KB of wasm, and is 2 KB so.
//!
//! Numbers and lengths are LEB128, texts are UTF-8 behind their length, lists behind their number, an option is a list of at
//! most one. Criteria are the postcard of a [`Permission`], whose decoding is there anyway.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

use super::{
    OnUnavailable, Scope,
    rule::{Allowance, Callers, Cost, Criteria, KeyPart, Limit, Tier, TierClaim, Window},
};
use crate::model::{Action, Mode, Permission, ServiceName};

/// The limits of one destination, as a record holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitList(pub Vec<Limit>);

impl Serialize for LimitList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut writer = Writer { bytes: Vec::new(), failure: None };
        writer.list(&self.0, Writer::limit);
        match writer.failure {
            None => serializer.serialize_bytes(&writer.bytes),
            Some(why) => Err(S::Error::custom(why)),
        }
    }
}

impl<'de> Deserialize<'de> for LimitList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        let mut reader = Reader(bytes);
        let limits = reader.list(Reader::limit).filter(|_| reader.0.is_empty());
        limits.map(Self).ok_or_else(|| D::Error::custom("limits"))
    }
}

// === writing ===

struct Writer {
    bytes: Vec<u8>,
    /// The first criterion that cannot be written.
    failure: Option<postcard::Error>,
}

impl Writer {
    fn number(&mut self, number: impl Into<u64>) {
        let mut rest = number.into();
        while rest > 127 {
            self.bytes.push(u8::try_from(rest & 127).unwrap_or(0) | 128);
            rest >>= 7;
        }
        self.bytes.push(u8::try_from(rest).unwrap_or(0));
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn list<T>(&mut self, list: &[T], write: fn(&mut Self, &T)) {
        self.number(list.len() as u64);
        for it in list {
            write(self, it);
        }
    }

    fn texts(&mut self, texts: &[String]) {
        self.list(texts, |writer, text| writer.text(text));
    }

    fn limit(&mut self, limit: &Limit) {
        let Limit { rule, name, allowance, matches, sources, exempt, key, costs, tiers, .. } = limit;
        let Limit { mode, scope, on_unavailable, exclusive, .. } = limit;
        self.text(rule);
        self.text(name);
        self.list(allowance.as_slice(), Self::allowance);
        self.list(matches, Self::criteria);
        self.list(sources, Self::callers);
        self.list(exempt, Self::callers);
        self.list(key, Self::key_part);
        self.list(costs, |writer, cost| {
            writer.number(cost.cost);
            writer.criteria(&cost.criteria);
        });
        self.list(tiers, Self::tier);
        self.number(match mode {
            Mode::Enforce => 0_u8,
            Mode::Shadow => 1,
            Mode::Off => 2,
        });
        self.number(u8::from(*scope == Scope::Global));
        self.number(u8::from(*on_unavailable == OnUnavailable::Allow));
        self.number(u8::from(*exclusive));
    }

    fn criteria(&mut self, criteria: &Criteria) {
        let Criteria { label, path, methods, headers } = criteria.clone();
        self.text(&label);
        let permission = Permission { action: Action::Allow, path, methods, headers, jwt: None, mode: Mode::Enforce };
        match postcard::to_allocvec(&permission) {
            Ok(bytes) => self.bytes.extend_from_slice(&bytes),
            Err(why) => self.failure = Some(why),
        }
    }

    fn callers(&mut self, callers: &Callers) {
        match callers {
            Callers::Anonymous => self.number(0_u8),
            Callers::Service(ServiceName { peer, partition, namespace, name }) => {
                self.number(1_u8);
                for part in [peer, partition, namespace, name] {
                    self.text(part);
                }
            }
            Callers::Network { first, prefix_len } => {
                let [high, low] = [first >> 64, first & u128::from(u64::MAX)];
                self.number(2_u8);
                self.number(u64::try_from(high).unwrap_or(0));
                self.number(u64::try_from(low).unwrap_or(0));
                self.number(*prefix_len);
            }
        }
    }

    fn key_part(&mut self, part: &KeyPart) {
        match part {
            KeyPart::Source => self.number(0_u8),
            KeyPart::Destination => self.number(1_u8),
            KeyPart::Route => self.number(2_u8),
            KeyPart::Claim { provider, path } => {
                self.number(3_u8);
                self.text(provider);
                self.texts(path);
            }
            KeyPart::Header(name) => {
                self.number(4_u8);
                self.text(name);
            }
            KeyPart::ClientAddress { v4, v6 } => {
                self.number(5_u8);
                self.number(*v4);
                self.number(*v6);
            }
        }
    }

    fn tier(&mut self, tier: &Tier) {
        self.list(&tier.sources, Self::callers);
        self.list(tier.claim.as_slice(), |writer, claim| {
            writer.text(&claim.provider);
            writer.texts(&claim.path);
            writer.text(&claim.value);
        });
        self.allowance(&tier.allowance);
    }

    fn allowance(&mut self, allowance: &Allowance) {
        let (kind, numbers) = match *allowance {
            Allowance::Rate { requests, period_ms, burst } => (0_u8, [requests.into(), period_ms, burst.into()]),
            Allowance::Quota { requests, window: Window::Hour } => (1, [requests, 0, 0]),
            Allowance::Quota { requests, window: Window::Day } => (2, [requests, 0, 0]),
            Allowance::Quota { requests, window: Window::Month } => (3, [requests, 0, 0]),
            Allowance::Concurrency { requests, lease_s } => (4, [requests.into(), lease_s.into(), 0]),
        };
        self.number(kind);
        for number in numbers {
            self.number(number);
        }
    }
}

// === reading: `None` for whatever no writer writes ===

struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for place in 0..10 {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 127).checked_shl(7 * place)?;
            if *byte < 128 {
                return Some(number);
            }
        }
        None
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        self.number()?.try_into().ok()
    }

    fn text(&mut self) -> Option<String> {
        let len = self.small()?;
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        core::str::from_utf8(text).ok().map(str::to_owned)
    }

    fn list<T>(&mut self, read: fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut list = Vec::new();
        // Every element takes a byte at least, so this ends with the bytes.
        for _ in 0..self.number()? {
            list.push(read(self)?);
        }
        Some(list)
    }

    fn limit(&mut self) -> Option<Limit> {
        Some(Limit {
            rule: self.text()?,
            name: self.text()?,
            allowance: self.list(Self::allowance)?.pop(),
            matches: self.list(Self::criteria)?,
            sources: self.list(Self::callers)?,
            exempt: self.list(Self::callers)?,
            key: self.list(Self::key_part)?,
            costs: self.list(|reader| Some(Cost { cost: reader.small()?, criteria: reader.criteria()? }))?,
            tiers: self.list(Self::tier)?,
            mode: match self.number()? {
                0 => Mode::Enforce,
                1 => Mode::Shadow,
                2 => Mode::Off,
                _ => return None,
            },
            scope: if self.flag()? { Scope::Global } else { Scope::Host },
            on_unavailable: if self.flag()? { OnUnavailable::Allow } else { OnUnavailable::Deny },
            exclusive: self.flag()?,
        })
    }

    fn flag(&mut self) -> Option<bool> {
        self.number().map(|it| it == 1)
    }

    fn criteria(&mut self) -> Option<Criteria> {
        let label = self.text()?;
        let (permission, rest) = postcard::take_from_bytes::<Permission>(self.0).ok()?;
        self.0 = rest;
        let Permission { path, methods, headers, .. } = permission;
        Some(Criteria { label, path, methods, headers })
    }

    fn callers(&mut self) -> Option<Callers> {
        Some(match self.number()? {
            0 => Callers::Anonymous,
            1 => {
                let (peer, partition) = (self.text()?, self.text()?);
                Callers::Service(ServiceName { peer, partition, namespace: self.text()?, name: self.text()? })
            }
            2 => {
                let (high, low) = (self.number()?, self.number()?);
                Callers::Network { first: u128::from(high) << 64 | u128::from(low), prefix_len: self.small()? }
            }
            _ => return None,
        })
    }

    fn key_part(&mut self) -> Option<KeyPart> {
        Some(match self.number()? {
            0 => KeyPart::Source,
            1 => KeyPart::Destination,
            2 => KeyPart::Route,
            3 => KeyPart::Claim { provider: self.text()?, path: self.list(Self::text)? },
            4 => KeyPart::Header(self.text()?),
            5 => KeyPart::ClientAddress { v4: self.small()?, v6: self.small()? },
            _ => return None,
        })
    }

    fn tier(&mut self) -> Option<Tier> {
        let sources = self.list(Self::callers)?;
        let claim = self.list(|reader| {
            let (provider, path) = (reader.text()?, reader.list(Self::text)?);
            Some(TierClaim { provider, path, value: reader.text()? })
        });
        Some(Tier { sources, claim: claim?.pop(), allowance: self.allowance()? })
    }

    fn allowance(&mut self) -> Option<Allowance> {
        let (kind, requests, second, third) = (self.number()?, self.number()?, self.number()?, self.number()?);
        let window = match kind {
            0 => {
                let (requests, burst) = (requests.try_into().ok()?, third.try_into().ok()?);
                return Some(Allowance::Rate { requests, period_ms: second, burst });
            }
            1 => Window::Hour,
            2 => Window::Day,
            3 => Window::Month,
            4 => {
                let (requests, lease_s) = (requests.try_into().ok()?, second.try_into().ok()?);
                return Some(Allowance::Concurrency { requests, lease_s });
            }
            _ => return None,
        };
        Some(Allowance::Quota { requests, window })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_of_any_size_are_read_as_they_were_written() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut writer = Writer { bytes: Vec::new(), failure: None };
            writer.number(number);
            let mut reader = Reader(&writer.bytes);
            assert_eq!((reader.number(), reader.0), (Some(number), &[][..]));
            assert_eq!(Reader(&writer.bytes[..writer.bytes.len() - 1]).number(), None, "{number} cut");
        }
        assert_eq!(Reader(&[255; 11]).number(), None);
    }

    proptest! {
        #[test]
        fn bytes_that_nobody_wrote_are_no_limits_and_no_fault(bytes in proptest::collection::vec(0_u8..9, 0..200)) {
            let mut reader = Reader(&bytes);
            let _ = reader.list(Reader::limit);
            let stored = postcard::to_allocvec(&bytes).unwrap();
            let _ = postcard::from_bytes::<LimitList>(&stored);
        }
    }
}
