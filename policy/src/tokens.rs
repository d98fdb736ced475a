//! The tokens of one request, each provider checked at most once and only when somebody asks.

use crate::{
    change::Change,
    decide::Request,
    jwt::{self, Checked, Claims, TokenRequest, Verified},
    snapshot::{ReadAt, Snapshot, SnapshotError},
};

/// See the module.
pub(crate) struct Tokens<'s, R> {
    snapshot: &'s Snapshot<R>,
    request: &'s Request<'s>,
    /// Path and query as they will be forwarded.
    uri: &'s str,
    checked: Vec<Looked>,
}

/// A provider that somebody asked about.
struct Looked {
    provider: String,
    checked: Checked,
    /// A rule or an identity asked: what holds is taken out of the request. A limit only looks.
    is_taken: bool,
}

impl<'s, R: ReadAt> Tokens<'s, R> {
    pub(crate) fn new(snapshot: &'s Snapshot<R>, request: &'s Request<'s>, uri: &'s str) -> Self {
        Self { snapshot, request, uri, checked: Vec::new() }
    }

    /// What the request carries for a provider. One that is not known has no tokens (consul-policy §4.6).
    pub(crate) fn check(&mut self, provider: &str) -> Result<&Checked, SnapshotError> {
        self.asked(provider, true)
    }

    /// As [`Self::check`], for one who takes nothing out of the request.
    pub(crate) fn glance(&mut self, provider: &str) -> Result<&Checked, SnapshotError> {
        self.asked(provider, false)
    }

    fn asked(&mut self, provider: &str, takes: bool) -> Result<&Checked, SnapshotError> {
        let at = match self.checked.iter().position(|it| it.provider == provider) {
            Some(at) => at,
            None => {
                let checked = self.look(provider)?;
                self.checked.push(Looked { provider: provider.to_owned(), checked, is_taken: false });
                self.checked.len() - 1
            }
        };
        let Some(looked) = self.checked.get_mut(at) else { return Ok(&Checked::Missing) };
        looked.is_taken |= takes;
        Ok(&looked.checked)
    }

    fn look(&self, provider: &str) -> Result<Checked, SnapshotError> {
        if let Some(claims) = self.request.claims {
            let claims = claims.get(provider).cloned().and_then(Claims::from_value);
            return Ok(
                claims.map_or(Checked::Missing, |claims| Checked::Valid(Verified { claims, changes: Vec::new() }))
            );
        }
        let Some(record) = self.snapshot.provider(provider)? else { return Ok(Checked::Missing) };
        let request = TokenRequest { headers: self.request.headers, uri: self.uri, now: self.request.now };
        Ok(jwt::check(&record, &request, self.request.memory))
    }

    /// What the valid tokens change on the request.
    pub(crate) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.checked
            .iter()
            .filter(|it| it.is_taken)
            .filter_map(|it| match &it.checked {
                Checked::Valid(verified) => Some(&verified.changes),
                Checked::Missing | Checked::Invalid(_) => None,
            })
            .flatten()
    }
}
