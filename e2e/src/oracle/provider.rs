//! Generated token providers, what intentions require of them, and their spelling as Consul writes them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// A `jwt-provider` with keys of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its name.
    pub name: String,
    /// `Issuer`.
    pub issuer: String,
    /// `Audiences`.
    pub audiences: Vec<String>,
    /// The JWK set.
    pub keys: Value,
    /// `Locations`; empty is Consul's default.
    pub locations: Vec<Location>,
    /// `Forwarding`: the header, and whether the payload is padded.
    pub forwarding: Option<(String, bool)>,
    /// `ClockSkewSeconds`.
    pub clock_skew: Option<u64>,
}

/// Where tokens are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A header, the text before the token, and whether it is forwarded.
    Header(String, String, bool),
    /// A parameter of the query.
    Query(String),
    /// A cookie.
    Cookie(String),
}

/// `JWT`: one of the providers, with all the claims that are asked for there: path and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement(pub Vec<(String, Vec<Claim>)>);

/// One element of `VerifyClaims`.
pub type Claim = (Vec<String>, String);

impl Provider {
    /// The config entry.
    pub fn document(&self) -> Value {
        let keys = STANDARD.encode(self.keys.to_string());
        let mut document = json!({
            "Kind": "jwt-provider", "Name": self.name, "Issuer": self.issuer, "Audiences": self.audiences,
            "JSONWebKeySet": {"Local": {"JWKS": keys}},
        });
        if !self.locations.is_empty() {
            document["Locations"] = self.locations.iter().map(Location::document).collect();
        }
        if let Some((header, padded)) = &self.forwarding {
            document["Forwarding"] = json!({"HeaderName": header, "PadForwardPayloadHeader": padded});
        }
        if let Some(seconds) = self.clock_skew {
            document["ClockSkewSeconds"] = json!(seconds);
        }
        document
    }

    /// The headers that carry its tokens or their payload.
    pub fn headers(&self) -> Vec<String> {
        let places = self.places().into_iter().filter_map(|place| match place {
            Location::Header(name, ..) => Some(name),
            Location::Query(_) | Location::Cookie(_) => None,
        });
        places.chain(self.forwarding.iter().map(|(name, _)| name.clone())).collect()
    }

    /// Where tokens are, Consul's default included.
    pub fn places(&self) -> Vec<Location> {
        if !self.locations.is_empty() {
            return self.locations.clone();
        }
        let bearer = Location::Header("Authorization".to_owned(), "Bearer ".to_owned(), false);
        vec![bearer, Location::Query("access_token".to_owned())]
    }
}

impl Location {
    fn document(&self) -> Value {
        match self {
            Location::Header(name, prefix, forward) => {
                json!({"Header": {"Name": name, "ValuePrefix": prefix, "Forward": forward}})
            }
            Location::Query(name) => json!({"QueryParam": {"Name": name}}),
            Location::Cookie(name) => json!({"Cookie": {"Name": name}}),
        }
    }
}

impl Requirement {
    /// The value of `JWT`.
    pub fn document(&self) -> Value {
        let providers = self.0.iter().map(|(name, claims)| {
            let mut provider = Map::new();
            provider.insert("Name".to_owned(), json!(name));
            if !claims.is_empty() {
                let claims: Vec<_> = claims.iter().map(|(path, value)| json!({"Path": path, "Value": value})).collect();
                provider.insert("VerifyClaims".to_owned(), json!(claims));
            }
            provider
        });
        json!({"Providers": providers.collect::<Vec<_>>()})
    }
}
