//! One token in compact form (RFC 7515 §3.1), taken apart and looked at, its signature not yet checked.

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::{Map, Value};

use super::{Rejected, json, jwk::Algorithm};

/// Longest token, in bytes. Headers of most servers end at 8 KiB; a token in a query may be longer.
const MAX_LEN: usize = 16 * 1024;

/// Without padding, and the unused bits of the last digit zero, so that a token has one spelling (RFC 7515 §2).
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(false),
);

/// The bytes of a text in that form.
#[inline(never)]
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_URL.decode(text).ok()
}

/// A token whose shape is right.
#[derive(Debug)]
pub(super) struct Token<'a> {
    /// How it says that it is signed. The key decides whether that is so.
    pub(super) algorithm: Algorithm,
    /// The key that it names.
    pub(super) key_id: Option<String>,
    /// What is signed: header and payload as they stand.
    pub(super) signed: &'a str,
    /// The payload as it stands, in base64url.
    pub(super) payload: &'a str,
    /// The signature.
    pub(super) signature: Vec<u8>,
    /// The payload, whose registered claims have the types that they must have.
    pub(super) claims: Map<String, Value>,
}

/// When a token holds, in seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Validity {
    /// `exp`.
    pub(super) expires: Option<f64>,
    /// `nbf`.
    pub(super) not_before: Option<f64>,
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    pub(super) fn parse(text: &'a [u8]) -> Result<Self, Rejected> {
        if text.len() > MAX_LEN {
            return Err(Rejected::TooLong);
        }
        let text = core::str::from_utf8(text).map_err(|_| Rejected::Malformed)?;
        let (signed, signature) = text.rsplit_once('.').ok_or(Rejected::Malformed)?;
        // One with more dots, as an encrypted one has, leaves them in the payload, which is no base64 then.
        let (header, payload) = signed.split_once('.').ok_or(Rejected::Malformed)?;
        let decode = |part: &str| decode(part).ok_or(Rejected::Malformed);
        let header = json::object(&decode(header)?).ok_or(Rejected::Malformed)?;
        // `crit` names what must be understood, `b64` changes what is signed, `enc` makes it encrypted. The others of RFC
        // 7515 §4.1 that bring keys along (`jwk`, `jku`, `x5u`, `x5c`) are never looked at.
        if ["crit", "b64", "enc"].iter().any(|name| header.contains_key(*name)) {
            return Err(Rejected::Critical);
        }
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::parse);
        let algorithm = algorithm.ok_or(Rejected::Algorithm)?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(key_id)) => Some(key_id.clone()),
            Some(_) => return Err(Rejected::Malformed),
        };
        let claims = json::object(&decode(payload)?).filter(has_right_types).ok_or(Rejected::Malformed)?;
        Ok(Self { algorithm, key_id, signed, payload, signature: decode(signature)?, claims })
    }

    /// When it holds.
    pub(super) fn validity(&self) -> Validity {
        let time = |name: &str| self.claims.get(name).and_then(Value::as_f64);
        Validity { expires: time("exp"), not_before: time("nbf") }
    }

    /// Whether it is of this issuer (RFC 7519 §4.1.1).
    pub(super) fn is_from(&self, issuer: &str) -> bool {
        self.claims.get("iss").and_then(Value::as_str) == Some(issuer)
    }

    /// Whether it is meant for one of these (RFC 7519 §4.1.3). A trailing `/` of an audience does not count
    /// (consul-policy §4.6).
    pub(super) fn is_for(&self, audiences: &[String]) -> bool {
        fn plain(audience: &str) -> &str {
            audience.strip_suffix('/').unwrap_or(audience)
        }
        let meant = |audience: &str| audiences.iter().any(|it| plain(it) == plain(audience));
        match self.claims.get("aud") {
            Some(Value::String(audience)) => meant(audience),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).any(meant),
            _ => false,
        }
    }
}

/// Whether the registered claims have the types of RFC 7519 §4.1; a token whose claims have others is none
/// (consul-policy §4.6).
fn has_right_types(claims: &Map<String, Value>) -> bool {
    claims.iter().all(|(name, value)| match name.as_str() {
        "iss" | "sub" | "jti" => value.is_string(),
        "exp" | "nbf" | "iat" => value.is_number(),
        "aud" => value.is_string() || value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
        _ => true,
    })
}
