//! Which endpoints share an `EndpointSlice`. Pure.
//!
//! A slice has one family and one port. Where more endpoints have these in common than fit into one, they are parted by the
//! bits of a hash of their addresses, until each part fits:
//!
//! ```text
//!  web.ipv4.80 ─► web.ipv4.80.0 ─► web.ipv4.80.00
//!                               └► web.ipv4.80.01
//!              └► web.ipv4.80.1
//! ```
//! So the name of a slice and what is in it follow from the endpoints alone, whatever was there before, and one that comes or
//! goes changes one slice; only a slice that overflows becomes two. The dot keeps names of slices apart: no Service has one.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use sha2::{Digest as _, Sha256};

/// Deeper parts are cut off: that many hashes that begin alike do not occur.
const DEEPEST: u32 = 48;

/// The addresses of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

/// An `EndpointSlice` as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) family: Family,
    pub(super) port: u16,
    /// Sorted, each with its readiness.
    pub(super) endpoints: Vec<(IpAddr, bool)>,
}

// === impl Family ===

impl Family {
    /// Kubernetes' word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::V4 { "ipv4" } else { "ipv6" })
    }
}

/// The slices of a Service by name, with at most so many endpoints each.
pub(super) fn slices(service: &str, endpoints: &BTreeMap<SocketAddr, bool>, most: usize) -> BTreeMap<String, Slice> {
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for (place, ready) in endpoints {
        groups.entry((Family::of(place.ip()), place.port())).or_default().push((place.ip(), *ready));
    }
    let mut all = BTreeMap::new();
    for ((family, port), endpoints) in groups {
        let hashed = endpoints.into_iter().map(|(address, ready)| (hash(address), address, ready)).collect();
        part(&format!("{service}.{family}.{port}"), "", hashed, most, &mut |name, endpoints| {
            all.insert(name, Slice { family, port, endpoints });
        });
    }
    all
}

fn part(
    base: &str,
    bits: &str,
    mut endpoints: Vec<(u64, IpAddr, bool)>,
    most: usize,
    add: &mut impl FnMut(String, Vec<(IpAddr, bool)>),
) {
    let depth = u32::try_from(bits.len()).unwrap_or(DEEPEST);
    if endpoints.len() > most && depth < DEEPEST {
        let (zeros, ones) = endpoints.into_iter().partition(|(hash, ..)| hash.rotate_left(depth) >> 63 == 0);
        part(base, &format!("{bits}0"), zeros, most, add);
        part(base, &format!("{bits}1"), ones, most, add);
        return;
    }
    endpoints.truncate(most);
    if !endpoints.is_empty() {
        let name = if bits.is_empty() { base.to_owned() } else { format!("{base}.{bits}") };
        add(name, endpoints.into_iter().map(|(_, address, ready)| (address, ready)).collect());
    }
}

/// The same in every process and version.
fn hash(address: IpAddr) -> u64 {
    let digest = match address {
        IpAddr::V4(address) => Sha256::digest(address.octets()),
        IpAddr::V6(address) => Sha256::digest(address.octets()),
    };
    digest.into_iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn places(range: std::ops::Range<u32>) -> BTreeMap<SocketAddr, bool> {
        range.map(|number| (SocketAddr::new(IpAddr::V4((0x0a00_0000 + number).into()), 80), true)).collect()
    }

    #[test]
    fn families_and_ports_have_slices_of_their_own() {
        let endpoints =
            ["192.0.2.1:80", "192.0.2.2:80", "192.0.2.1:81", "[2001:db8::1]:80"].map(|it| (it.parse().unwrap(), true));
        let all = slices("web", &endpoints.into(), 100);
        let names: Vec<_> = all.keys().map(String::as_str).collect();
        assert_eq!(names, ["web.ipv4.80", "web.ipv4.81", "web.ipv6.80"]);
        assert_eq!(all["web.ipv4.80"].endpoints.len(), 2);
    }

    #[test]
    fn every_endpoint_is_in_one_slice_and_no_slice_is_too_large() {
        for (number, most) in [(0, 1), (1, 1), (100, 100), (101, 100), (5_000, 100), (3_000, 1_000), (64, 1)] {
            let endpoints = places(0..number);
            let all = slices("web", &endpoints, most);
            let found: Vec<_> =
                all.values().flat_map(|slice| slice.endpoints.iter().map(|(address, _)| *address)).collect();
            assert_eq!(found.len(), endpoints.len());
            assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), endpoints.len());
            assert!(all.values().all(|slice| (1..=most).contains(&slice.endpoints.len())));
            assert!(all.keys().all(|name| name.len() < 253));
        }
    }

    #[test]
    fn one_endpoint_more_or_less_changes_one_slice_unless_it_overflows() {
        let before = slices("web", &places(0..5_000), 100);
        let mut most = 0;
        for number in 0..200 {
            let mut endpoints = places(0..5_000);
            endpoints.remove(endpoints.keys().nth(number * 7).copied().as_ref().unwrap());
            let after = slices("web", &endpoints, 100);
            let differs = |name: &&String| before.get(*name) != after.get(*name);
            let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
            most = most.max(names.iter().filter(|name| differs(name)).count());
        }
        // Three where two become one.
        assert!(most <= 3, "{most}");
    }
}
