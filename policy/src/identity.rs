//! Who is calling: from the credentials that a request carries to the caller that intentions speak of.
//!
//! The ways of showing an identity are tried in the configured order. The first that the request carries decides: a
//! credential that is there and does not hold is a refusal, never "nobody" and never the next credential.

use std::{borrow::Cow, net::IpAddr, rc::Rc};

use crate::{
    api_key::{self, KeyText},
    candidates::Name,
    certificate::{Certificate, InvalidChain, verify_chain},
    decide::{Challenge, Request},
    jwt,
    model::{DEFAULT_TENANCY, IdentityForm, ServiceName},
    snapshot::{
        ReadAt, Snapshot, SnapshotError,
        record::{Key, Settings},
    },
    spiffe::{InvalidSpiffeId, SpiffeId, Workload},
    tokens::Tokens,
};

/// The client certificate of a request.
#[derive(Debug, Clone, Copy, Default)]
pub enum Certified<'a> {
    /// There is none.
    #[default]
    Absent,
    /// One whose chain somebody trusted has verified.
    Verified(&'a Certificate),
    /// One whose chain is to be verified here.
    Unverified {
        /// The leaf.
        certificate: &'a Certificate,
        /// The whole value of the header that carries the chain.
        header: &'a [u8],
    },
    /// The SPIFFE ID of one that was verified elsewhere (policy tests, `explain`).
    Spiffe(&'a str),
    /// Something that could not be read; the reason is shown in the log.
    Invalid(&'static str),
}

/// The API key of a request.
#[derive(Debug, Clone, Copy, Default)]
pub enum PresentedKey<'a> {
    /// There is none.
    #[default]
    Absent,
    /// Its text.
    Text(&'a str),
    /// Something that is no text of one key; the reason is shown in the log.
    Invalid(&'static str),
}

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller<'a> {
    /// A service, however it showed that.
    Service(Cow<'a, ServiceName>),
    /// Nobody in particular. `*` as a source does not cover it (consul-policy §1.1).
    Anonymous,
}

/// Why a presented credential does not hold.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It was not readable.
    #[error("{0}")]
    Unreadable(&'static str),
    /// The certificate's time has not come or has passed.
    #[error("the client certificate is not valid at this time")]
    OutsideValidity,
    /// The certificate's chain does not lead to a CA root of its trust domain.
    #[error(transparent)]
    Chain(#[from] InvalidChain),
    /// The SPIFFE ID is none or is not a service's.
    #[error(transparent)]
    NotAService(#[from] InvalidSpiffeId),
    /// The SPIFFE ID belongs to somebody else's mesh.
    #[error("the trust domain is not known: {0}")]
    UnknownTrustDomain(String),
    /// The SPIFFE ID is a peer's, but not of the partition that the peer exports from.
    #[error("the peer does not export from this partition")]
    ForeignPartition,
    /// No such key, or the wrong secret: the caller is not told which.
    #[error("the API key is not valid")]
    InvalidKey,
    /// The token that is to show the identity does not hold.
    #[error("the token is not valid: {0}")]
    InvalidToken(String),
    /// The token holds, but the claim that is to name the caller does not name one.
    #[error("the token's identity claim does not name a caller")]
    NoIdentityClaim,
    /// The snapshot could not be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl Refusal {
    /// What would help.
    pub(crate) fn challenge(&self) -> Challenge {
        match self {
            Self::InvalidToken(_) | Self::NoIdentityClaim => Challenge::ValidToken,
            _ => Challenge::Credential,
        }
    }
}

/// Turns what a request carries into a caller.
pub(crate) fn identify<'a, R: ReadAt>(
    snapshot: &Snapshot<R>,
    request: &Request<'a>,
    destination: Name<'_>,
    tokens: &mut Tokens<'_, R>,
) -> Result<Caller<'a>, Refusal> {
    let settings = snapshot.settings();
    let own = own_order(snapshot, request.entry_point, destination)?;
    let usual = settings.identities.as_deref().unwrap_or(Settings::USUAL_ORDER);
    for form in own.as_deref().map_or(usual, Vec::as_slice) {
        let found = match form {
            IdentityForm::Certificate => by_certificate(snapshot, request)?,
            IdentityForm::ApiKey => by_key(snapshot, request.api_key)?,
            IdentityForm::Network => by_network(snapshot, request.source_address)?,
            IdentityForm::Jwt { provider, claim, prefix } => by_token(tokens, provider, claim, prefix)?,
        };
        if let Some(service) = found {
            return Ok(Caller::Service(service));
        }
    }
    Ok(Caller::Anonymous)
}

/// The order of the destination, else that of the entry point.
fn own_order<R: ReadAt>(
    snapshot: &Snapshot<R>,
    entry_point: &str,
    destination: Name<'_>,
) -> Result<Option<Rc<Vec<IdentityForm>>>, SnapshotError> {
    let order = snapshot.identity_order(Key::DestinationOrder(destination))?;
    if order.is_some() || entry_point.is_empty() {
        return Ok(order);
    }
    snapshot.identity_order(Key::EntryPointOrder(entry_point))
}

type Found<'a> = Option<Cow<'a, ServiceName>>;

fn by_certificate<'a, R: ReadAt>(snapshot: &Snapshot<R>, request: &Request<'a>) -> Result<Found<'a>, Refusal> {
    let certificate = match request.certificate {
        Certified::Absent => return Ok(None),
        Certified::Invalid(why) => return Err(Refusal::Unreadable(why)),
        Certified::Spiffe(id) => {
            let workload = SpiffeId::parse(id)?.workload();
            let peer = peer_of(snapshot.settings(), &workload)?;
            return Ok(Some(Cow::Owned(peer.unwrap_or(workload.service))));
        }
        Certified::Verified(certificate) | Certified::Unverified { certificate, .. } => certificate,
    };
    if request.now < certificate.not_before || request.now > certificate.not_after {
        return Err(Refusal::OutsideValidity);
    }
    let workload = certificate.workload.as_ref().map_err(|invalid| *invalid)?;
    let peer = peer_of(snapshot.settings(), workload)?;
    if let Certified::Unverified { header, .. } = request.certificate {
        let roots = snapshot.roots(&workload.trust_domain)?;
        let roots = roots.as_deref().map(Vec::as_slice).unwrap_or_default();
        verify_chain(header, roots, request.now, request.memory)?;
    }
    Ok(Some(peer.map_or(Cow::Borrowed(&workload.service), Cow::Owned)))
}

/// Checks that a workload's trust domain is known; a peer's workload gets the name that intentions know it by.
fn peer_of(settings: &Settings, workload: &Workload) -> Result<Option<ServiceName>, Refusal> {
    let Some(domain) = settings.trust_domain(&workload.trust_domain) else {
        return Err(Refusal::UnknownTrustDomain(workload.trust_domain.clone()));
    };
    let Some(peer) = &domain.peer else { return Ok(None) };
    let ServiceName { peer: _, partition, namespace, name } = workload.service.clone();
    if partition != peer.partition {
        return Err(Refusal::ForeignPartition);
    }
    Ok(Some(ServiceName { peer: peer.name.clone(), partition: DEFAULT_TENANCY.to_owned(), namespace, name }))
}

fn by_key<'a, R: ReadAt>(snapshot: &Snapshot<R>, key: PresentedKey<'_>) -> Result<Found<'a>, Refusal> {
    let text = match key {
        PresentedKey::Absent => return Ok(None),
        PresentedKey::Invalid(why) => return Err(Refusal::Unreadable(why)),
        PresentedKey::Text(text) => text,
    };
    let key = KeyText::parse(text).ok_or(Refusal::InvalidKey)?;
    let record = snapshot.api_key(key.id)?.ok_or(Refusal::InvalidKey)?;
    if !record.hash.is_some_and(|hash| api_key::verify(&record.salt, &hash, key.secret)) {
        return Err(Refusal::InvalidKey);
    }
    Ok(Some(Cow::Owned(record.source.into())))
}

/// The longest network that holds the address.
fn by_network<'a, R: ReadAt>(snapshot: &Snapshot<R>, address: Option<IpAddr>) -> Result<Found<'a>, Refusal> {
    // An IPv4 address that a dual-stack listener wrote as IPv6 is the IPv4 address.
    let Some(address) = address.map(|it| it.to_canonical()) else { return Ok(None) };
    let settings = snapshot.settings();
    let lengths = if address.is_ipv4() { &settings.networks_v4 } else { &settings.networks_v6 };
    for len in lengths {
        if let Some(source) = snapshot.network(masked(address, *len), *len)? {
            return Ok(source.map(|source| Cow::Owned(source.into())));
        }
    }
    Ok(None)
}

/// An address with the bits beyond a prefix cleared.
#[inline(never)]
pub fn masked(address: IpAddr, prefix_len: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix_len.into())).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix_len.into())).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

fn by_token<'a, R: ReadAt>(
    tokens: &mut Tokens<'_, R>,
    provider: &str,
    claim: &[String],
    prefix: &str,
) -> Result<Found<'a>, Refusal> {
    let claims = match tokens.check(provider)? {
        jwt::Checked::Missing => return Ok(None),
        jwt::Checked::Invalid(why) => return Err(Refusal::InvalidToken(why.to_string())),
        jwt::Checked::Valid(verified) => &verified.claims,
    };
    let text = claims.get(claim).and_then(serde_json::Value::as_str).ok_or(Refusal::NoIdentityClaim)?;
    let name = format!("{prefix}{text}");
    // A claim cannot choose a namespace or a partition, and cannot be a pattern.
    match Name::parse(&name) {
        Some(parsed) if parsed.name == name => Ok(Some(Cow::Owned(ServiceName::in_default(&name)))),
        _ => Err(Refusal::NoIdentityClaim),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_clear_the_bits_beyond_the_prefix() {
        let masked = |address: &str, len| masked(address.parse().unwrap(), len).to_string();
        assert_eq!(masked("10.1.2.3", 8), "10.0.0.0");
        assert_eq!(masked("10.1.2.3", 0), "0.0.0.0");
        assert_eq!(masked("10.1.2.3", 32), "10.1.2.3");
        assert_eq!(masked("2001:db8:1:2::3", 48), "2001:db8:1::");
        assert_eq!(masked("2001:db8::3", 128), "2001:db8::3");
    }
}
