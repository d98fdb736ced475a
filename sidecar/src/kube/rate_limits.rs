//! `rate-limits` as types, for its JSON Schema and its custom resource definition. Nothing is read through them: the reader
//! is `portcullis_authoring::read`, which names every fault and never stops at the first. Tests hold the schema to it.
//!
//! The schema of the file kind is that of the resource with Consul's spelling, made by [`schema`]; the definition is
//! [`definition`]. Both are committed (`docs/reference/schemas`, `deploy/crds`) and compared by a test.

use kube::{CustomResource, CustomResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Limits of the requests to one destination. Whoever may call is charged to all of them that cover the request.
#[derive(CustomResource, Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[kube(group = "portcullis.io", version = "v1alpha1", kind = "RateLimits", plural = "ratelimits", namespaced)]
#[kube(derive = "PartialEq", doc = "Limits of the requests to one destination")]
#[derive(PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimitsSpec {
    /// Whose requests are limited.
    pub destination: Destination,
    /// What happens to a request whose units cannot be counted: `deny` answers 503. Default `deny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_unavailable: Option<OnUnavailable>,
    /// The limits.
    #[schemars(length(max = 256))]
    pub limits: Vec<Limit>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A service, or all of a namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Destination {
    /// Its name in Consul; `*` is every service of the namespace.
    pub name: String,
    /// Its Consul namespace; `*` needs the name `*`. Default `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its admin partition. Default `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
}

/// What happens to a request whose units cannot be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnUnavailable {
    /// It is refused, 503.
    Deny,
    /// It passes uncounted.
    Allow,
}

/// One limit. It has exactly one of `rate`, `quota` and `concurrency`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limit {
    /// Its name, one of its kind at the destination: letters, digits, `.`, `_` and `-`.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9._-]+$"))]
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The requests that it covers: those that meet one of these. Default: all.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub matches: Vec<Criteria>,
    /// The callers that it covers. Default: all, those without an identity included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub sources: Vec<Caller>,
    /// Callers that are never charged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub exempt: Vec<Exempt>,
    /// What tells its buckets apart: `source`, `destination`, `route`, `client-address`, `{claim: {provider, path}}`,
    /// `{header: NAME}`, `{clientAddress: {ipv4Prefix, ipv6Prefix}}`. Default: one bucket for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "any_key")]
    pub key: Vec<Value>,
    /// So many in a period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// So many in a window of the calendar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// So many at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// What requests cost: the first element that they meet. Default: 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub costs: Vec<Cost>,
    /// Other amounts for some callers: the first that matches replaces the limit's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub tiers: Vec<Tier>,
    /// Whether it counts. Default `enforce`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Where its units are counted. Default `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

/// Criteria on a request; all that are given must hold. At most one is on the path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Criteria {
    /// The whole path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^/"))]
    pub path_exact: Option<String>,
    /// Its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^/"))]
    pub path_prefix: Option<String>,
    /// The whole path, as an RE2 pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<String>,
    /// One of these methods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// All of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub header: Vec<HeaderMatch>,
}

/// A criterion on a header: exactly one of `present`, `exact`, `prefix`, `suffix`, `contains` and `regex`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderMatch {
    /// The header's name, or `:path`, `:method`, `:authority`, `:scheme`.
    pub name: String,
    /// It is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
    /// The whole value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// Its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
    /// Any part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// The whole value, as an RE2 pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// Letters are compared without case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_case: Option<bool>,
    /// The answer is turned round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invert: Option<bool>,
}

/// Callers: a service, all of a namespace (`name: "*"`), or those without an identity (`anonymous: true`, nothing else).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Caller {
    /// The service's name; `*` is every service of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its Consul namespace. Default: the destination's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its admin partition. Default: the destination's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// The peering that it is reached through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Callers without an identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<bool>,
}

/// Callers as under `sources`, or a network (`network`, nothing else).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exempt {
    /// The service's name; `*` is every service of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its Consul namespace. Default: the destination's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its admin partition. Default: the destination's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// The peering that it is reached through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Callers without an identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<bool>,
    /// Whoever connects from here: the first address and the length of the prefix, `192.0.2.0/24`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
}

/// A claim of a valid token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Claim {
    /// The `jwt-provider`'s name.
    pub provider: String,
    /// Nested keys, each taken whole.
    pub path: Vec<String>,
}

/// A claim of a valid token and the text that it must be, or hold in its list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TierClaim {
    /// The `jwt-provider`'s name.
    pub provider: String,
    /// Nested keys, each taken whole.
    pub path: Vec<String>,
    /// The text.
    pub value: String,
}

/// So many in a period: a token bucket, at most 1000000 a second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// Units that come back in a period.
    #[schemars(range(min = 1))]
    pub requests: u32,
    /// `1s`, `250ms`, `1h30m`: whole milliseconds, at most `8784h`. Default `1s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<String>,
    /// Units that the full bucket holds. Default: `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub burst: Option<u32>,
}

/// So many in a window of the calendar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Quota {
    /// Units in a window.
    #[schemars(range(min = 1, max = 9_007_199_254_740_992_u64))]
    pub requests: u64,
    /// The window, in UTC.
    pub window: Window,
}

/// A window of the calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    /// From full hour to full hour.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From the first day to the first day, at midnight.
    Month,
}

/// So many at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Concurrency {
    /// Units at once.
    #[schemars(range(min = 1, max = 100_000))]
    pub requests: u32,
    /// After this long a slot that was not given back is free again: whole seconds, at most `168h`. Default `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
}

/// What some requests cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cost {
    /// The whole path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^/"))]
    pub path_exact: Option<String>,
    /// Its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^/"))]
    pub path_prefix: Option<String>,
    /// The whole path, as an RE2 pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<String>,
    /// One of these methods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// All of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub header: Vec<HeaderMatch>,
    /// Units; 0 is not charged.
    #[schemars(range(max = 1_000_000))]
    pub cost: u32,
}

/// Another amount for some callers: those of `sources` whose token says what `claim` asks. It has at least one of the two,
/// and exactly one of `rate`, `quota` and `concurrency`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tier {
    /// The callers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub sources: Vec<Caller>,
    /// What their token says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<TierClaim>,
    /// So many in a period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// So many in a window of the calendar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// So many at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
}

/// Whether a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It refuses.
    Enforce,
    /// It is counted and reported, and refuses nothing.
    Shadow,
    /// As if it were not written.
    Off,
}

/// Where units are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// On each host for itself.
    Host,
    /// On all hosts together.
    Global,
}

/// A resource's schema may not say "a text or an object", so there it says nothing.
fn any_key(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "array", "maxItems": 256, "items": {"x-kubernetes-preserve-unknown-fields": true}})
}

/// The custom resource definition.
pub fn definition() -> Value {
    serde_json::to_value(RateLimits::crd()).unwrap_or_default()
}

/// The JSON Schema of a `rate-limits` entry, in Consul's spelling.
pub fn schema() -> Value {
    let mut spec = serde_json::to_value(schemars::schema_for!(RateLimitsSpec)).unwrap_or_default();
    let claim = serde_json::to_value(schemars::schema_for!(Claim)).unwrap_or_default();
    if let Some(parts) = spec.pointer_mut("/$defs/Limit/properties/key/items") {
        *parts = key_part(&claim);
    }
    for part in ["Limit", "Tier"] {
        if let Some(Value::Object(part)) = spec.pointer_mut(&format!("/$defs/{part}")) {
            part.insert(
                "oneOf".to_owned(),
                json!([{"required": ["rate"]}, {"required": ["quota"]}, {"required": ["concurrency"]}]),
            );
        }
    }
    // An entry is its destination and the rest, on one level.
    let named = spec.pointer("/$defs/Destination/properties").and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(Value::Object(properties)) = spec.get_mut("properties") {
        properties.remove("destination");
        properties.extend(named);
        properties.insert("kind".to_owned(), json!({"const": "rate-limits"}));
    }
    if let Some(Value::Object(definitions)) = spec.get_mut("$defs") {
        definitions.remove("Destination");
    }
    if let Some(Value::Object(top)) = Some(&mut spec).filter(|it| it.is_object()) {
        top.insert("title".to_owned(), json!("rate-limits"));
        top.insert("required".to_owned(), json!(["kind", "name", "limits"]));
    }
    consul_spelling(&spec)
}

fn key_part(claim: &Value) -> Value {
    let of = |name: &str, inner: Value| json!({"type": "object", "properties": {name: inner}, "required": [name], "additionalProperties": false});
    let mut claim = claim.clone();
    if let Some(claim) = claim.as_object_mut() {
        claim.remove("$schema");
        claim.remove("title");
    }
    let prefix = |most: u8| json!({"type": "integer", "minimum": 0, "maximum": most});
    let address = json!({"type": "object", "additionalProperties": false, "properties": {"ipv4Prefix": prefix(32), "ipv6Prefix": prefix(128)}});
    json!({"oneOf": [
        {"enum": ["source", "destination", "route", "client-address"]},
        of("claim", claim), of("header", json!({"type": "string"})), of("clientAddress", address),
    ]})
}

/// The same schema with `PathPrefix` in place of `pathPrefix`.
fn consul_spelling(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), respelled(key, value))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(consul_spelling).collect()),
        other => other.clone(),
    }
}

fn respelled(key: &str, value: &Value) -> Value {
    let capital = |name: &str| match name.strip_prefix("ipv") {
        Some(rest) => format!("IPv{rest}"),
        None => name.chars().enumerate().map(|(at, it)| if at == 0 { it.to_ascii_uppercase() } else { it }).collect(),
    };
    match (key, value) {
        ("properties", Value::Object(properties)) => {
            let properties = properties.iter().map(|(name, it)| (capital(name), consul_spelling(it)));
            Value::Object(properties.collect::<Map<_, _>>())
        }
        ("required", Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).map(|it| Value::String(capital(it))).collect()
        }
        _ => consul_spelling(value),
    }
}
