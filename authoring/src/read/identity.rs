//! `identity` and `network`: Portcullis' own kinds that say how callers show who they are.
//!
//! ```yaml
//! - {Kind: identity, Order: [certificate, {JWT: {Provider: okta, Claim: [sub], Prefix: "user-"}}, api-key, network]}
//! - {Kind: identity, Destination: db, Order: [certificate]}
//! - {Kind: identity, EntryPoint: partners, Order: [api-key, network]}
//! - {Kind: network, Name: office, CIDRs: [192.0.2.0/24, "2001:db8::/32"], Source: {Name: office}}
//! ```

use std::net::IpAddr;

use super::node::{Node, Object};
use portcullis_policy::{
    candidates::Name,
    identity::masked,
    model::{DEFAULT_TENANCY, IdentityForm, IdentityScope, Network, Policy},
    problem::{Problem, Severity},
};

/// Most elements of an order, a claim's path or a list of networks.
const MAX_ELEMENTS: usize = 1024;

/// Reads an `identity`. One that cannot be read is fatal: another order may know other callers.
pub(super) fn read_order(object: &Object<'_>, entry: &Node<'_>, policy: &mut Policy, problems: &mut Vec<Problem>) {
    let fatal = |node: &Node<'_>, what: &str, hint: &str| node.problem(Severity::Fatal, what, hint);
    let known = ["kind", "name", "order", "destination", "entrypoint", "description"];
    problems.extend(object.unknown(&known).iter().map(|it| fatal(it, "this field is not known", "")));
    let scope = match (object.filled("destination"), object.filled("entrypoint")) {
        (None, None) => Some(IdentityScope::Default),
        (None, Some(node)) => {
            node.text().filter(|it| !it.contains('\0')).map(|it| IdentityScope::EntryPoint(it.to_owned()))
        }
        (Some(node), None) => node.text().and_then(Name::parse).map(|it| IdentityScope::Destination(it.to_owned())),
        (Some(_), Some(_)) => None,
    };
    let Some(scope) = scope else {
        problems.push(fatal(
            entry,
            "an order is for one Destination, one EntryPoint, or for all",
            "name a service, or none",
        ));
        return;
    };
    let order = object.get("order").and_then(|it| it.try_list()).filter(|it| it.len() <= MAX_ELEMENTS);
    let Some(order) = order else {
        problems.push(fatal(entry, "the Order must be a list", "such as [certificate, api-key, network]"));
        return;
    };
    let mut forms = Vec::new();
    for node in &order {
        match read_form(node) {
            Some(form) => forms.push(form),
            None => problems.push(fatal(
                node,
                "this is no way of showing an identity",
                "known are certificate, api-key, network and {JWT: {Provider, Claim, Prefix}}",
            )),
        }
    }
    if policy.identities.insert(scope, forms).is_some() {
        problems.push(fatal(entry, "this order is given twice", "keep one of the two"));
    }
}

fn read_form(node: &Node<'_>) -> Option<IdentityForm> {
    if let Some(word) = node.text() {
        return match super::node::fold(word).as_str() {
            "certificate" => Some(IdentityForm::Certificate),
            "apikey" => Some(IdentityForm::ApiKey),
            "network" => Some(IdentityForm::Network),
            _ => None,
        };
    }
    let object = node.try_object()?;
    let jwt = object.filled("jwt")?.try_object()?;
    if !object.unknown(&["jwt"]).is_empty() || !jwt.unknown(&["provider", "claim", "prefix"]).is_empty() {
        return None;
    }
    let provider = jwt.filled("provider")?.text()?.to_owned();
    let claim = jwt.filled("claim")?;
    let claim: Vec<String> = match claim.text() {
        Some(key) => vec![key.to_owned()],
        None => claim.try_list()?.iter().map(|it| it.text().map(str::to_owned)).collect::<Option<_>>()?,
    };
    let prefix = jwt.filled("prefix").map_or(Some(""), |it| it.text())?.to_owned();
    let is_sound = !claim.is_empty() && claim.len() <= MAX_ELEMENTS && !provider.contains('\0');
    is_sound.then_some(IdentityForm::Jwt { provider, claim, prefix })
}

/// Reads a `network`. One that cannot be read is fatal: its hosts would be known by a wider network.
pub(super) fn read_network(object: &Object<'_>, entry: &Node<'_>, policy: &mut Policy, problems: &mut Vec<Problem>) {
    let fatal = |node: &Node<'_>, what: &str, hint: &str| node.problem(Severity::Fatal, what, hint);
    let known = ["kind", "name", "cidrs", "source", "description"];
    problems
        .extend(object.unknown(&known).iter().map(|it| it.problem(Severity::Warning, "this field is not known", "")));
    let source = object.filled("source").and_then(|it| it.try_object());
    let part = |key: &str, default: &'static str| {
        source.as_ref().and_then(|it| it.filled(key)).map_or(Some(default), |it| it.text())
    };
    let spelled = match (part("partition", DEFAULT_TENANCY), part("namespace", DEFAULT_TENANCY), part("name", "")) {
        (Some(partition), Some(namespace), Some(name)) => format!("{partition}/{namespace}/{name}"),
        _ => String::new(),
    };
    let Some(source) = Name::parse(&spelled).map(Name::to_owned) else {
        problems.push(fatal(entry, "the network has no Source.Name", "name the service that its hosts are"));
        return;
    };
    let cidrs = object.get("cidrs").and_then(|it| it.try_list()).filter(|it| it.len() <= MAX_ELEMENTS);
    let Some(cidrs) = cidrs.filter(|it| !it.is_empty()) else {
        problems.push(fatal(entry, "the network has no CIDRs", "list at least one, such as 192.0.2.0/24"));
        return;
    };
    for node in &cidrs {
        match node.text().and_then(read_cidr) {
            Some((address, prefix_len)) => {
                policy.networks.push(Network { address, prefix_len, source: source.clone() });
            }
            None => problems.push(fatal(
                node,
                "this is no network",
                "write its first address and the length of its prefix, such as 192.0.2.0/24",
            )),
        }
    }
}

/// `address/length`; bits beyond the prefix must be zero, as a network that is none was meant to be another.
pub(super) fn read_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, len) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let len: u8 = len.parse().ok().filter(|_| len.bytes().all(|byte| byte.is_ascii_digit()))?;
    let is_mapped = matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
    let bits = if address.is_ipv4() { 32 } else { 128 };
    (len <= bits && !is_mapped && masked(address, len) == address).then_some((address, len))
}
