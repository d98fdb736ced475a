//! The request as rules see it and as it will be forwarded: without tokens that were checked, without headers that only
//! we may set (consul-policy §4.6).

use std::borrow::Cow;

use super::Request;
use crate::{
    change::Change,
    header_match::Pseudo,
    headers::Headers,
    model::Underscores,
    snapshot::{ReadAt, record::Settings},
    tokens::Tokens,
};

/// See the module.
pub(super) struct View<'v> {
    request: &'v Request<'v>,
    settings: &'v Settings,
    /// Headers that a checked token takes out.
    removed: Vec<&'v str>,
    /// Canonical path and query, without the tokens in it; none when the path is ambiguous.
    uri: Option<Cow<'v, str>>,
}

impl<'v> View<'v> {
    pub(super) fn new<R: ReadAt>(
        settings: &'v Settings,
        request: &'v Request<'v>,
        uri: Option<&'v str>,
        tokens: &'v Tokens<'_, R>,
    ) -> Self {
        let removed = tokens.changes().filter_map(|change| match change {
            Change::RemoveHeader(name) => Some(name.as_str()),
            Change::SetUri(_) | Change::SetHeader { .. } | Change::RemoveQuery(_) => None,
        });
        Self { request, settings, removed: removed.collect(), uri: uri.map(|uri| without_tokens(uri, tokens)) }
    }

    /// What the pseudo headers say.
    pub(super) fn pseudo(&self) -> Pseudo<'_> {
        // How the caller reached the gateway is not told.
        let path = self.uri.as_deref();
        Pseudo { path, method: self.request.method, authority: self.request.host, scheme: "" }
    }

    fn hides(&self, name: &str) -> bool {
        let dropped = self.settings.underscores == Underscores::DropHeader && name.contains('_');
        dropped || self.removed.contains(&name) || self.settings.reserved_headers.iter().any(|it| it == name)
    }
}

impl Headers for View<'_> {
    fn values(&self, name: &str) -> Vec<Cow<'_, [u8]>> {
        if self.hides(name) { Vec::new() } else { self.request.headers.values(name) }
    }

    fn has_alias(&self, name: &str) -> bool {
        self.request.headers.has_alias(name)
    }

    fn has_underscores(&self) -> bool {
        self.request.headers.has_underscores()
    }
}

/// Everything that is to be done to an allowed request.
pub(super) fn changes<R: ReadAt>(
    settings: &Settings,
    original: &str,
    uri: &str,
    tokens: &Tokens<'_, R>,
) -> Vec<Change> {
    let mut changes: Vec<_> = settings.reserved_headers.iter().cloned().map(Change::RemoveHeader).collect();
    let forwarded = without_tokens(uri, tokens);
    if forwarded != original {
        changes.push(Change::SetUri(forwarded.into_owned()));
    }
    let others = |it: &&Change| !matches!(it, Change::SetUri(_) | Change::RemoveQuery(_));
    changes.extend(tokens.changes().filter(others).cloned());
    changes
}

fn without_tokens<'u, R: ReadAt>(uri: &'u str, tokens: &Tokens<'_, R>) -> Cow<'u, str> {
    let mut forwarded = Cow::Borrowed(uri);
    for change in tokens.changes() {
        if let Change::RemoveQuery(name) = change {
            forwarded = Cow::Owned(crate::query::without(&forwarded, name));
        }
    }
    forwarded
}
