//! Where a request carries the tokens of a provider, and the request without them.

use std::borrow::Cow;

use super::{Rejected, TokenRequest, provider::Location};
use crate::{change::Change, query};

/// Most tokens of one provider in one request: each may cost a signature check.
const MAX_TOKENS: usize = 4;

/// Every token that a request carries at these places, once, in their order. One that is there twice is one.
pub(super) fn tokens<'a>(locations: &[Location], request: &TokenRequest<'a>) -> Result<Vec<Cow<'a, [u8]>>, Rejected> {
    let mut tokens: Vec<Cow<'a, [u8]>> = Vec::new();
    for location in locations {
        let found = match location {
            Location::Header { name, prefix, .. } => in_header(request, name, prefix)?,
            Location::Query(name) => in_query(request.uri, name),
            Location::Cookie(name) => in_cookies(request, name),
        };
        for token in found {
            if !tokens.contains(&token) {
                tokens.push(token);
            }
            if tokens.len() > MAX_TOKENS {
                return Err(Rejected::TooMany);
            }
        }
    }
    Ok(tokens)
}

/// What removes the tokens from the request, in the order of the locations. A header without a token stays, and so do
/// cookies, as Consul's proxies leave them too.
pub(super) fn removed(locations: &[Location], request: &TokenRequest<'_>) -> Vec<Change> {
    let remove = |location: &Location| match location {
        Location::Header { name, prefix, forward: false }
            if in_header(request, name, prefix).is_ok_and(|found| !found.is_empty()) =>
        {
            Some(Change::RemoveHeader(name.clone()))
        }
        Location::Query(name) if !in_query(request.uri, name).is_empty() => Some(Change::RemoveQuery(name.clone())),
        Location::Header { .. } | Location::Query(_) | Location::Cookie(_) => None,
    };
    locations.iter().filter_map(remove).collect()
}

/// The value behind the prefix. One without it is not meant for this provider. Consul's proxies join the lines of a header,
/// and what they make of several is no token.
fn in_header<'a>(request: &TokenRequest<'a>, name: &str, prefix: &str) -> Result<Vec<Cow<'a, [u8]>>, Rejected> {
    let values = request.headers.values(name);
    if values.len() > 1 {
        return Err(Rejected::Malformed);
    }
    let behind = |value: Cow<'a, [u8]>| match value {
        Cow::Borrowed(bytes) => bytes.strip_prefix(prefix.as_bytes()).map(Cow::Borrowed),
        Cow::Owned(bytes) => bytes.strip_prefix(prefix.as_bytes()).map(|token| Cow::Owned(token.to_vec())),
    };
    Ok(values.into_iter().filter_map(behind).collect())
}

fn in_query<'a>(uri: &str, name: &str) -> Vec<Cow<'a, [u8]>> {
    query::values(uri, name).map(Cow::Owned).collect()
}

/// Cookies of this name, in all `Cookie` headers (RFC 6265 §4.2.1). Quotes around a value are no part of it.
fn in_cookies<'a>(request: &TokenRequest<'a>, name: &str) -> Vec<Cow<'a, [u8]>> {
    let mut found = Vec::new();
    for header in request.headers.values("cookie") {
        for pair in header.split(|byte| *byte == b';').map(<[u8]>::trim_ascii) {
            let value = pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
            let Some(value) = value else { continue };
            let unquoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
            found.push(Cow::Owned(unquoted.unwrap_or(value).to_vec()));
        }
    }
    found
}

#[cfg(test)]
mod tests;
