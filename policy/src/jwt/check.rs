//! A request against one provider: from the places of its tokens to verified claims.

use serde_json::Value;

use super::{
    claims::Claims,
    locate,
    provider::ProviderRecord,
    token::{Token, Validity},
};
use crate::{change::Change, crypto::Hash, headers::Headers, memory::Memory};

/// Most keys that one token is tried with: one without `kid`, or one whose `kid` several keys share.
const MAX_TRIED: usize = 16;
/// How long a token without `exp` is remembered, in seconds.
const REMEMBERED: u64 = 3600;
/// How long any token is remembered, in seconds.
const REMEMBERED_AT_MOST: u64 = 24 * 3600;

/// What is looked at in a request.
#[derive(Clone, Copy)]
pub struct TokenRequest<'a> {
    /// Its headers.
    pub headers: &'a dyn Headers,
    /// Escaped path and query, as received.
    pub uri: &'a str,
    /// Now, in seconds since the Unix epoch.
    pub now: u64,
}

/// What a request says to a provider.
#[derive(Debug, Clone, PartialEq)]
pub enum Checked {
    /// It carries no token where the provider's are.
    Missing,
    /// It carries one that does not hold.
    Invalid(Rejected),
    /// Every token that it carries for the provider holds.
    Valid(Verified),
}

/// What is known by valid tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// What they claim.
    pub claims: Claims,
    /// What must be done to the request before it goes on, and before anything else is matched on it: the tokens are taken
    /// out, the payload is put where the provider says (of several tokens the first's).
    pub changes: Vec<Change>,
}

/// Why a token does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Several tokens, more than a request has reason to carry.
    #[error("the request carries too many tokens")]
    TooMany,
    /// Above 16 KiB.
    #[error("the token is too long")]
    TooLong,
    /// Not of three parts in base64url without padding, the first two JSON objects without a repeated key; or a registered
    /// claim of a wrong type.
    #[error("the token is malformed")]
    Malformed,
    /// `none`, one with a shared secret, or an unknown one.
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    /// It asks for an extension, or is encrypted.
    #[error("the token asks for an extension that is not supported")]
    Critical,
    /// The provider has no keys, no issuer, or could not be read.
    #[error("the provider cannot verify tokens")]
    Provider,
    /// No key of the provider has its `kid` and is for its algorithm.
    #[error("no key of the provider fits the token")]
    Key,
    /// It is over.
    #[error("the token has expired")]
    Expired,
    /// It has not begun.
    #[error("the token is not valid yet")]
    NotYet,
    /// It is another issuer's.
    #[error("the token is of another issuer")]
    Issuer,
    /// It is for others.
    #[error("the token is for another audience")]
    Audience,
    /// No key made the signature.
    #[error("the token's signature does not hold")]
    Signature,
}

/// Checks the tokens that a request carries for a provider. Every one must hold. Time, issuer and audience are looked at
/// anew each time; only that a signature holds is remembered.
pub fn check(provider: &ProviderRecord, request: &TokenRequest<'_>, memory: &dyn Memory) -> Checked {
    let tokens = match locate::tokens(&provider.locations, request) {
        Ok(tokens) => tokens,
        Err(why) => return Checked::Invalid(why),
    };
    let mut verified: Option<(Claims, String)> = None;
    for text in &tokens {
        let (claims, payload) = match check_one(provider, text, request.now, memory) {
            Ok(checked) => checked,
            Err(why) => return Checked::Invalid(why),
        };
        verified = Some(match verified {
            None => (claims, payload),
            Some((all, first)) => (all.and(claims), first),
        });
    }
    let Some((claims, mut payload)) = verified else { return Checked::Missing };
    let mut changes = locate::removed(&provider.locations, request);
    if let Some(forwarding) = &provider.forwarding {
        while forwarding.padded && payload.len() % 4 != 0 {
            payload.push('=');
        }
        changes.push(Change::SetHeader { name: forwarding.header.clone(), value: payload });
    }
    Checked::Valid(Verified { claims, changes })
}

/// One token: its claims, and its payload in base64url without padding. From what costs nothing to what costs most.
fn check_one(
    provider: &ProviderRecord,
    text: &[u8],
    now: u64,
    memory: &dyn Memory,
) -> Result<(Claims, String), Rejected> {
    if provider.keys.is_empty() || provider.issuer.is_empty() {
        return Err(Rejected::Provider);
    }
    let token = Token::parse(text)?;
    if !token.is_from(&provider.issuer) {
        return Err(Rejected::Issuer);
    }
    if !provider.audiences.is_empty() && !token.is_for(&provider.audiences) {
        return Err(Rejected::Audience);
    }
    let until = holds_at(token.validity(), now, provider.clock_skew)?;
    check_signature(provider, &token, text, now, until, memory)?;
    let payload = token.payload.to_owned();
    let claims = Claims::from_value(Value::Object(token.claims)).ok_or(Rejected::Malformed)?;
    Ok((claims, payload))
}

/// Whether a token holds now, the clocks being at most `skew` apart; returns until when that may be remembered.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "\
    seconds are exact in an f64 for 285 million years, and what is beyond a u64 ends at its bounds, which is meant"
)]
fn holds_at(validity: Validity, now: u64, skew: u64) -> Result<u64, Rejected> {
    let (at, skew) = (now as f64, skew as f64);
    // JSON has no infinity and nothing that is no number, so these are comparisons of numbers.
    if validity.expires.is_some_and(|expires| at >= expires + skew) {
        return Err(Rejected::Expired);
    }
    if validity.not_before.is_some_and(|not_before| not_before > at + skew) {
        return Err(Rejected::NotYet);
    }
    let until = validity.expires.map_or(now.saturating_add(REMEMBERED), |expires| (expires + skew) as u64);
    Ok(until.min(now.saturating_add(REMEMBERED_AT_MOST)))
}

fn check_signature(
    provider: &ProviderRecord,
    token: &Token<'_>,
    text: &[u8],
    now: u64,
    until: u64,
    memory: &dyn Memory,
) -> Result<(), Rejected> {
    let named = |id: &Option<String>| token.key_id.is_none() || *id == token.key_id;
    let mut fitting = provider.keys.iter().filter(|it| named(&it.id) && it.accepts(token.algorithm)).peekable();
    if fitting.peek().is_none() {
        return Err(Rejected::Key);
    }
    let digest = digest(&provider.key_set, text);
    if memory.remembers(&digest, now) {
        return Ok(());
    }
    let scheme = token.algorithm.scheme();
    if !fitting.take(MAX_TRIED).any(|it| it.key.verify(scheme, token.signed.as_bytes(), &token.signature)) {
        return Err(Rejected::Signature);
    }
    memory.remember(&digest, until);
    Ok(())
}

/// The name under which it is remembered that a signature holds: of the whole token, and of the keys that it was checked
/// with.
fn digest(key_set: &[u8; 32], token: &[u8]) -> [u8; 32] {
    let length = (token.len() as u64).to_be_bytes();
    let mut digest = [0; 32];
    digest.copy_from_slice(&Hash::Sha256.digest(&[b"portcullis jwt signature\0", key_set, &length, token]));
    digest
}
