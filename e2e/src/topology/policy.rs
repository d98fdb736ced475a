//! Who may call whom, how often, and the token of a user: some of it in files, some in Consul.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::oracle::keys::{Key, elliptic};

const ISSUER: &str = "https://login.test";

/// The issuer's key.
pub(super) fn key() -> Key {
    let ed25519 = |key: &Key| key.algorithms == ["EdDSA"];
    let mut keys = elliptic(&mut fastrand::Rng::new());
    let at = keys.iter().position(ed25519).unwrap_or_default();
    keys.swap_remove(at)
}

/// A token of a user, good for a day.
pub(super) fn token(key: &Key) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("a clock before 1970")?.as_secs();
    let claims = json!({"iss": ISSUER, "aud": "stock", "sub": "joe", "exp": now + 24 * 60 * 60});
    Ok(key.token(&json!({"alg": key.algorithms[0], "kid": key.id}), claims.to_string().as_bytes()))
}

/// The files of the policy folder.
pub(super) fn files(key: &Key) -> [(String, String); 4] {
    let set = json!({"keys": [key.jwk(true)]}).to_string();
    let get = json!({"PathPrefix": "/v1/", "Methods": ["GET"]});
    let orders = json!({"PathExact": "/v1/orders", "Methods": ["POST"]});
    let hourly = json!({"Name": "orders", "Match": [{"PathExact": "/v1/orders"}], "Key": ["source"],
                        "Rate": {"Requests": 1, "Period": "1h", "Burst": 1}});
    [
        (
            "shop",
            json!({"Kind": "service-intentions", "Name": "shop", "Sources": [{"Name": "web", "Permissions": [
            {"Action": "allow", "HTTP": get}, {"Action": "allow", "HTTP": orders}]}]}),
        ),
        ("shop-limits", json!({"Kind": "rate-limits", "Name": "shop", "Limits": [hourly]})),
        (
            "login",
            json!({"Kind": "jwt-provider", "Name": "login", "Issuer": ISSUER, "Audiences": ["stock"],
            "JSONWebKeySet": {"Local": {"JWKS": STANDARD.encode(set)}}}),
        ),
        (
            "stock",
            json!({"Kind": "service-intentions", "Name": "stock", "JWT": {"Providers": [{"Name": "login"}]},
            "Sources": [{"Name": "web", "Action": "allow"}]}),
        ),
    ]
    .map(|(name, entry)| (format!("{name}.json"), entry.to_string()))
}

/// What an operator has written into Consul.
pub(super) fn entry() -> Value {
    json!({"Kind": "service-intentions", "Name": "billing", "Sources": [{"Name": "web", "Action": "allow"}]})
}
