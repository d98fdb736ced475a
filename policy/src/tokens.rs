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
    failure: Option<SnapshotError>,
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
        Self { snapshot, request, uri, checked: Vec::new(), failure: None }
    }

    /// What the request carries for a provider. One that is not known has no tokens (consul-policy §4.6).
    pub(crate) fn check(&mut self, provider: &str) -> Result<&Checked, SnapshotError> {
        let at = self.asked(provider, true)?;
        Ok(self.checked.get(at).map_or(&Checked::Missing, |it| &it.checked))
    }

    /// What the valid tokens of a provider claim, for one who takes nothing out of the request. Whether a provider could not
    /// be looked up is told by [`Self::failure`].
    pub(crate) fn claims(&mut self, provider: &str) -> Option<&Claims> {
        let at = match self.asked(provider, false) {
            Ok(at) => at,
            Err(error) => {
                self.failure = Some(error);
                return None;
            }
        };
        match &self.checked.get(at)?.checked {
            Checked::Valid(verified) => Some(&verified.claims),
            Checked::Missing | Checked::Invalid(_) => None,
        }
    }

    /// Why claims are not known, if that is why.
    pub(crate) fn failure(&self) -> Option<SnapshotError> {
        self.failure
    }

    /// The place of a provider's tokens in the list.
    fn asked(&mut self, provider: &str, takes: bool) -> Result<usize, SnapshotError> {
        let at = match self.checked.iter().position(|it| it.provider == provider) {
            Some(at) => at,
            None => {
                let checked = self.look(provider)?;
                self.checked.push(Looked { provider: provider.to_owned(), checked, is_taken: false });
                self.checked.len() - 1
            }
        };
        if let Some(looked) = self.checked.get_mut(at) {
            looked.is_taken |= takes;
        }
        Ok(at)
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
