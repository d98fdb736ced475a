//! Who is calling: from a credential that was presented to the caller that intentions speak of.
//!
//! There are exactly three outcomes: a service, nobody, or a refusal. A credential that was presented and does not hold is
//! a refusal, never "nobody" and never the next credential.

use std::borrow::Cow;

use crate::{
    api_key::{self, KeyText},
    certificate::Certificate,
    model::ServiceName,
    snapshot::{ReadAt, Snapshot, SnapshotError},
    spiffe::{SpiffeId, Workload},
};

/// What the caller presented.
#[derive(Debug, Clone, Copy)]
pub enum Credential<'a> {
    /// Nothing.
    None,
    /// A client certificate whose chain somebody trusted has verified.
    Certificate(&'a Certificate),
    /// A SPIFFE ID that was verified elsewhere (policy tests, `explain`).
    Spiffe(&'a str),
    /// The text of an API key.
    ApiKey(&'a str),
    /// Something that could not be read; the reason is shown in the log.
    Invalid(&'static str),
}

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller<'a> {
    /// A service, by certificate or by key.
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
    /// The SPIFFE ID is none or is not a service's.
    #[error(transparent)]
    NotAService(#[from] crate::spiffe::InvalidSpiffeId),
    /// The SPIFFE ID belongs to somebody else's mesh.
    #[error("the trust domain is not known: {0}")]
    UnknownTrustDomain(String),
    /// No such key, or the wrong secret: the caller is not told which.
    #[error("the API key is not valid")]
    InvalidKey,
    /// The snapshot could not be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// Turns what was presented into a caller. `now` is in seconds since the Unix epoch.
pub fn identify<'a, R: ReadAt>(
    snapshot: &Snapshot<R>,
    credential: Credential<'a>,
    now: u64,
) -> Result<Caller<'a>, Refusal> {
    match credential {
        Credential::None => Ok(Caller::Anonymous),
        Credential::Invalid(why) => Err(Refusal::Unreadable(why)),
        Credential::Spiffe(id) => {
            let workload = SpiffeId::parse(id)?.workload();
            check_trust_domain(snapshot, &workload)?;
            Ok(Caller::Service(Cow::Owned(workload.service)))
        }
        Credential::Certificate(certificate) => {
            if now < certificate.not_before || now > certificate.not_after {
                return Err(Refusal::OutsideValidity);
            }
            let workload = certificate.workload.as_ref().map_err(|invalid| *invalid)?;
            check_trust_domain(snapshot, workload)?;
            Ok(Caller::Service(Cow::Borrowed(&workload.service)))
        }
        Credential::ApiKey(text) => {
            let key = KeyText::parse(text).ok_or(Refusal::InvalidKey)?;
            let record = snapshot.api_key(key.id)?.ok_or(Refusal::InvalidKey)?;
            if !api_key::verify(&record.salt, &record.hash, key.secret) {
                return Err(Refusal::InvalidKey);
            }
            Ok(Caller::Service(Cow::Owned(ServiceName {
                partition: record.partition,
                namespace: record.namespace,
                name: record.name,
            })))
        }
    }
}

fn check_trust_domain<R: ReadAt>(snapshot: &Snapshot<R>, workload: &Workload) -> Result<(), Refusal> {
    if snapshot.settings().trust_domains.contains(&workload.trust_domain) {
        return Ok(());
    }
    Err(Refusal::UnknownTrustDomain(workload.trust_domain.clone()))
}
