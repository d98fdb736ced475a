//! What only a sidecar's policy holds: JWT providers, trust domains with roots and peers, networks, identity orders,
//! limits.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use portcullis_policy::{
    jwt,
    model::{DEFAULT_TENANCY, IdentityForm, IdentityScope, Policy, ServiceName},
    problem::{Problem, Severity},
    snapshot::{
        Writer,
        record::{Key, PeerDomain, Settings, SourceRecord, TrustDomain},
    },
};

/// Adds all of it to the writer and to the settings.
pub(super) fn add(policy: &Policy, settings: &Settings, writer: &mut Writer, problems: &mut Vec<Problem>) -> Settings {
    let reserved_headers = add_providers(policy, writer, problems);
    let trust_domains = trust_domains(policy, writer, problems);
    let (networks_v4, networks_v6) = add_networks(policy, writer, problems);
    let identities = add_orders(policy, writer, problems);
    let limits_by_address = super::limits::add(policy, writer, problems);
    let orders = Settings { identities, limits_by_address, ..settings.clone() };
    Settings { trust_domains, reserved_headers, networks_v4, networks_v6, ..orders }
}

/// Adds the JWT providers; returns the headers in which they forward payloads.
fn add_providers(policy: &Policy, writer: &mut Writer, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut reserved = BTreeSet::new();
    let mut names = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for provider in &policy.providers {
        if !names.insert(provider.name.as_str()) {
            twice.insert(provider.name.as_str());
        }
    }
    for provider in &policy.providers {
        let keys = policy.key_sets.get(&provider.name).map(Vec::as_slice);
        let record = jwt::compile(provider, keys, problems);
        reserved.extend(record.stripped_header().map(str::to_ascii_lowercase));
        if twice.contains(provider.name.as_str()) {
            continue;
        }
        if writer.add(Key::Provider(&provider.name), &record).is_err() {
            let place = format!("jwt-provider/{}", provider.name);
            problems.push(too_large(&place, "the provider", "remove keys that are not in use"));
        }
    }
    for name in twice {
        problems.push(Problem {
            severity: Severity::Error,
            at: format!("jwt-provider/{name}"),
            what: "this provider is defined twice; no token of it is accepted".to_owned(),
            hint: "keep one of the two".to_owned(),
        });
    }
    reserved.into_iter().collect()
}

/// The trust domains that are known, with their CA roots written. A domain that is both ours and a peer's, or two peers',
/// is nobody's: whose workloads its IDs name is not known.
fn trust_domains(policy: &Policy, writer: &mut Writer, problems: &mut Vec<Problem>) -> Vec<TrustDomain> {
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
            problems.push(too_large(&format!("ca-roots/{name}"), "the list of roots", "remove old roots"));
        }
        let peer = (!peer.is_empty()).then(|| PeerDomain { name: peer.to_owned(), partition: partition.to_owned() });
        domains.push(TrustDomain { name: name.to_owned(), peer });
    }
    domains
}

/// Writes the networks; returns the lengths of their prefixes, longest first, for IPv4 and for IPv6.
fn add_networks(policy: &Policy, writer: &mut Writer, problems: &mut Vec<Problem>) -> (Vec<u8>, Vec<u8>) {
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
fn add_orders(policy: &Policy, writer: &mut Writer, problems: &mut Vec<Problem>) -> Option<Vec<IdentityForm>> {
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

fn too_large(at: &str, what: &str, hint: &str) -> Problem {
    Problem {
        severity: Severity::Error,
        at: at.to_owned(),
        what: format!("{what} is too large for a snapshot; it is denied"),
        hint: hint.to_owned(),
    }
}
