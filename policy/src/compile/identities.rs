//! What callers are known by: keys, trust domains, networks, and the order in which they are looked at.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::{
    model::{DEFAULT_TENANCY, IdentityForm, IdentityScope, Policy, ServiceName},
    problem::{Problem, Severity},
    snapshot::{
        Writer,
        record::{ApiKeyRecord, Key, PeerDomain, SourceRecord, TrustDomain},
    },
};

/// The API keys by their ids. Two of one id: which is meant is not known, so neither is.
pub(super) fn api_keys<'a>(policy: &'a Policy, problems: &mut Vec<Problem>) -> BTreeMap<&'a str, ApiKeyRecord> {
    let mut records = BTreeMap::new();
    let mut twice = Vec::new();
    for key in &policy.api_keys {
        let record = ApiKeyRecord { source: (&key.source).into(), salt: key.salt.clone(), hash: key.hash };
        if records.insert(key.id.as_str(), record).is_some() {
            twice.push(key.id.as_str());
        }
    }
    for id in twice {
        if records.remove(id).is_some() {
            problems.push(Problem {
                severity: Severity::Error,
                at: format!("api-key/{id}"),
                what: "this key id is defined twice; neither is accepted".to_owned(),
                hint: "make a new key for one of them: portcullis key new".to_owned(),
            });
        }
    }
    records
}

/// The trust domains that are known, with their CA roots written. A domain that is both ours and a peer's, or two peers',
/// is nobody's: whose workloads its IDs name is not known.
pub(super) fn trust_domains(policy: &Policy, writer: &mut Writer, problems: &mut Vec<Problem>) -> Vec<TrustDomain> {
    let mut owners: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for name in &policy.settings.trust_domains {
        owners.entry(name).or_default().insert(("", DEFAULT_TENANCY));
    }
    let mut roots: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for bundle in &policy.trust_bundles {
        let owner = match &bundle.peer {
            Some(peer) => (peer.as_str(), bundle.partition.as_str()),
            None => ("", DEFAULT_TENANCY),
        };
        owners.entry(&bundle.trust_domain).or_default().insert(owner);
        roots.entry(&bundle.trust_domain).or_default().extend(bundle.roots.iter().cloned());
    }
    let mut domains = Vec::new();
    for (name, owners) in owners {
        let mut owners = owners.into_iter();
        let (Some((peer, partition)), None) = (owners.next(), owners.next()) else {
            problems.push(Problem {
                severity: Severity::Error,
                at: format!("trust-domain/{name}"),
                what: "this trust domain belongs to several; none of its certificates is accepted".to_owned(),
                hint: "a trust domain is either local or one peer's".to_owned(),
            });
            continue;
        };
        if let Some(roots) = roots.get(name)
            && writer.add(Key::Roots(name), roots).is_err()
        {
            problems.push(super::too_large(&format!("ca-roots/{name}"), "the list of roots", "remove old roots"));
        }
        let peer = (!peer.is_empty()).then(|| PeerDomain { name: peer.to_owned(), partition: partition.to_owned() });
        domains.push(TrustDomain { name: name.to_owned(), peer });
    }
    domains
}

/// Writes the networks; returns the lengths of their prefixes, longest first, for IPv4 and for IPv6.
pub(super) fn add_networks(policy: &Policy, writer: &mut Writer, problems: &mut Vec<Problem>) -> (Vec<u8>, Vec<u8>) {
    let mut sources: BTreeMap<(IpAddr, u8), BTreeSet<&ServiceName>> = BTreeMap::new();
    for network in &policy.networks {
        sources.entry((network.address, network.prefix_len)).or_default().insert(&network.source);
    }
    let (mut v4, mut v6) = (BTreeSet::new(), BTreeSet::new());
    for ((address, prefix_len), sources) in sources {
        let mut sources = sources.into_iter();
        let source = sources.next().filter(|_| sources.next().is_none());
        if source.is_none() {
            problems.push(Problem {
                severity: Severity::Error,
                at: format!("network/{address}/{prefix_len}"),
                what: "this network stands for several sources; nobody is known by it".to_owned(),
                hint: "keep one of them".to_owned(),
            });
        }
        // Nobody is written down, too: a wider network does not speak for this one.
        let _ = writer.add(Key::Network(address, prefix_len), &source.map(SourceRecord::from));
        let lengths = if address.is_ipv4() { &mut v4 } else { &mut v6 };
        lengths.insert(Reverse(prefix_len));
    }
    let longest_first = |lengths: BTreeSet<Reverse<u8>>| lengths.into_iter().map(|it| it.0).collect();
    (longest_first(v4), longest_first(v6))
}

/// Writes the orders of destinations and entry points; returns the order for all others.
pub(super) fn add_orders(
    policy: &Policy,
    writer: &mut Writer,
    problems: &mut Vec<Problem>,
) -> Option<Vec<IdentityForm>> {
    let mut usual = None;
    for (scope, order) in &policy.identities {
        check_providers(policy, scope, order, problems);
        match scope {
            IdentityScope::Default => usual = Some(order.clone()),
            IdentityScope::EntryPoint(name) => {
                let _ = writer.add(Key::EntryPointOrder(name), order);
            }
            IdentityScope::Destination(name) => {
                let _ = writer.add(Key::DestinationOrder(name.into()), order);
            }
        }
    }
    usual
}

fn check_providers(policy: &Policy, scope: &IdentityScope, order: &[IdentityForm], problems: &mut Vec<Problem>) {
    for form in order {
        let IdentityForm::Jwt { provider, .. } = form else { continue };
        if !policy.providers.iter().any(|it| it.name == *provider) {
            problems.push(Problem {
                severity: Severity::Error,
                at: format!("identity/{scope}"),
                what: format!("there is no jwt-provider `{provider}`; nobody is known by its tokens"),
                hint: "write the jwt-provider, or correct the name".to_owned(),
            });
        }
    }
}
