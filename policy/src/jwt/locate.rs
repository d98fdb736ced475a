//! Where a request carries the tokens of a provider, and the request without them.

use std::borrow::Cow;

use super::{Rejected, TokenRequest, provider::Location};
use crate::change::Change;

/// Most tokens of one provider in one request: each may cost a signature check.
const MAX_TOKENS: usize = 4;

/// Every token that a request carries at these places, once, in their order. One that is there twice is one.
pub(super) fn tokens<'a>(locations: &[Location], request: &TokenRequest<'a>) -> Result<Vec<Cow<'a, [u8]>>, Rejected> {
    let mut tokens: Vec<Cow<'a, [u8]>> = Vec::new();
    for location in locations {
        let found = match location {
            Location::Header { name, prefix, .. } => in_header(request, name, prefix),
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
    let mut changes = Vec::new();
    let mut rest = Cow::Borrowed(request.uri);
    for location in locations {
        match location {
            Location::Header { name, prefix, forward: false } if !in_header(request, name, prefix).is_empty() => {
                changes.push(Change::RemoveHeader(name.clone()));
            }
            Location::Query(name) => {
                if let Some(without) = without_parameter(&rest, name) {
                    rest = Cow::Owned(without);
                }
            }
            Location::Header { .. } | Location::Cookie(_) => {}
        }
    }
    if let Cow::Owned(uri) = rest {
        changes.push(Change::SetUri(uri));
    }
    changes
}

/// Each value that begins with the prefix. One that does not is not meant for this provider.
fn in_header<'a>(request: &TokenRequest<'a>, name: &str, prefix: &str) -> Vec<Cow<'a, [u8]>> {
    let values = request.headers.values(name).into_iter();
    let behind = |value: Cow<'a, [u8]>| match value {
        Cow::Borrowed(bytes) => bytes.strip_prefix(prefix.as_bytes()).map(Cow::Borrowed),
        Cow::Owned(bytes) => bytes.strip_prefix(prefix.as_bytes()).map(|token| Cow::Owned(token.to_vec())),
    };
    values.filter_map(behind).collect()
}

fn in_query<'a>(uri: &'a str, name: &str) -> Vec<Cow<'a, [u8]>> {
    let Some((_, query)) = uri.split_once('?') else { return Vec::new() };
    query.split(['&', ';']).filter(|it| is_named(it, name)).map(|it| decoded(parts(it).1)).collect()
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

/// The target without the parameters of this name; `None` when it has none.
fn without_parameter(uri: &str, name: &str) -> Option<String> {
    let (path, query) = uri.split_once('?')?;
    let mut kept = String::from(path);
    let (mut separator, mut removed) = ('?', false);
    // Each parameter with the separator behind it, so that those between the others stay as they are.
    for piece in query.split_inclusive(['&', ';']) {
        let parameter = piece.trim_end_matches(['&', ';']);
        if is_named(parameter, name) {
            removed = true;
            continue;
        }
        kept.push(separator);
        kept.push_str(parameter);
        separator = piece.chars().next_back().filter(|last| matches!(last, '&' | ';')).unwrap_or('&');
    }
    removed.then_some(kept)
}

fn parts(parameter: &str) -> (&str, &str) {
    parameter.split_once('=').unwrap_or((parameter, ""))
}

fn is_named(parameter: &str, name: &str) -> bool {
    *decoded(parts(parameter).0) == *name.as_bytes()
}

/// Percent-decoded. A broken escape stays as it is, which is no part of a token.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut rest = text.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((first, behind)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| behind.split_first_chunk::<2>()).flatten();
        match escaped.and_then(|([high, low], rest)| Some((hex(*high)? << 4 | hex(*low)?, rest))) {
            Some((byte, after)) => {
                bytes.push(byte);
                rest = after;
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    Cow::Owned(bytes)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests;
