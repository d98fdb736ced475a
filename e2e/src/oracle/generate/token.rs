//! Providers, what intentions require of them, and tokens that satisfy it, nearly satisfy it, or are forged.

use fastrand::Rng;
use serde_json::{Map, Value, json};

use crate::oracle::keys::Key;
use crate::oracle::policy::World;
use crate::oracle::provider::{Claim, Location, Provider, Requirement};
use crate::oracle::wire::Lines;

/// Claims that requirements speak of: the path, and values of which some are asked for and some are borne.
const CLAIMS: [(&[&str], &[&str]); 6] = [
    (&["role"], &["admin", "user", "Admin"]),
    (&["perms", "role"], &["admin", "user"]),
    (&["perms", "deep", "level"], &["1", "2"]),
    (&["groups"], &["a", "b"]),
    (&["https://corp.example/role"], &["admin"]),
    (&["n"], &["5", "true", "null", ""]),
];

/// The providers of a policy.
pub(super) fn providers(random: &mut Rng, keys: &[Key]) -> Vec<Provider> {
    (0..random.usize(1..=3)).map(|index| provider(random, index, keys)).collect()
}

fn provider(random: &mut Rng, index: usize, keys: &[Key]) -> Provider {
    let mut ring: Vec<&Key> = keys.iter().collect();
    random.shuffle(&mut ring);
    ring.truncate(random.usize(1..=4));
    let set: Vec<_> = ring.iter().map(|key| key.jwk(random.bool())).collect();
    let audiences: &[&[&str]] = &[&[], &[], &["shop"], &["shop", "https://shop.example/"]];
    let places = [
        Location::Header("X-Token".to_owned(), String::new(), random.bool()),
        Location::Header("Authorization".to_owned(), "Bearer ".to_owned(), false),
        Location::Header("Authorization".to_owned(), "Token ".to_owned(), true),
        Location::Query("jwt".to_owned()),
        Location::Cookie("session".to_owned()),
    ];
    let mut locations = Vec::new();
    for _ in 0..[0, 0, 1, 2][random.usize(..4)] {
        let place = places[random.usize(..places.len())].clone();
        // The forwarding of the last header location is that of all in Consul: one at most.
        let is_header = |it: &Location| matches!(it, Location::Header(..));
        let taken = locations.iter().any(|it| *it == place || is_header(it) && is_header(&place));
        if !taken {
            locations.push(place);
        }
    }
    Provider {
        name: format!("p{index}"),
        issuer: format!("https://issuer-{index}.example/"),
        audiences: audiences[random.usize(..audiences.len())].iter().map(ToString::to_string).collect(),
        keys: json!({"keys": set}),
        locations,
        forwarding: (random.u8(0..3) == 0).then(|| (format!("X-Payload-{index}"), random.bool())),
        clock_skew: [None, None, Some(120), Some(60)][random.usize(..4)],
    }
}

/// What an intention requires.
pub(super) fn requirement(random: &mut Rng, providers: &[Provider]) -> Requirement {
    let mut names: Vec<_> = providers.iter().map(|it| it.name.clone()).collect();
    random.shuffle(&mut names);
    names.truncate(random.usize(1..=2));
    let mut claims = |n: usize| -> Vec<Claim> { (0..n).map(|_| claim(random)).collect() };
    let counts = [1, 0, 2, 1];
    Requirement(names.into_iter().enumerate().map(|(index, name)| (name, claims(counts[index % 4]))).collect())
}

fn claim(random: &mut Rng) -> Claim {
    let (path, values) = CLAIMS[random.usize(..CLAIMS.len())];
    (path.iter().map(ToString::to_string).collect(), values[random.usize(..values.len())].to_owned())
}

/// A token at one of its provider's places, or elsewhere.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The provider.
    pub provider: String,
    /// Where.
    pub place: Location,
    /// The compact form, or what a forger makes of it.
    pub token: String,
}

/// Tokens for a world's requirements; requests take from them. `now` is in seconds since the Unix epoch.
pub fn tokens(random: &mut Rng, world: &World, keys: &[Key], now: u64) -> Vec<Placed> {
    let mut wanted = Vec::new();
    for requirement in world.clone().requirements_mut() {
        wanted.extend(requirement.0.clone());
    }
    random.shuffle(&mut wanted);
    wanted.truncate(10);
    let mut placed = Vec::new();
    for (name, claims) in &wanted {
        let Some(provider) = world.providers.iter().find(|it| it.name == *name) else { continue };
        for _ in 0..3 {
            let token = token(random, provider, claims, keys, now);
            let places = provider.places();
            let place = places[random.usize(..places.len())].clone();
            placed.push(Placed { provider: name.clone(), place, token });
        }
    }
    placed
}

fn token(random: &mut Rng, provider: &Provider, claims: &[Claim], keys: &[Key], now: u64) -> String {
    let mut payload = Map::new();
    payload.insert("iss".to_owned(), json!(provider.issuer));
    payload.insert("sub".to_owned(), json!("joe"));
    payload.insert("exp".to_owned(), json!(now + 3600));
    if let Some(audience) = random.choice(&provider.audiences) {
        payload.insert("aud".to_owned(), if random.bool() { json!(audience) } else { json!(["other", audience]) });
    }
    for (path, value) in claims {
        if random.u8(0..5) > 0 {
            put(&mut payload, path, claimed(random, value));
        }
    }
    let ids: Vec<_> =
        provider.keys["keys"].as_array().into_iter().flatten().filter_map(|it| it["kid"].as_str()).collect();
    let of_provider = |random: &mut Rng| {
        let id = ids[random.usize(..ids.len())];
        keys.iter().find(|it| it.id == id).unwrap_or(&keys[0])
    };
    let mut key = of_provider(random);
    let mut header = json!({"alg": key.algorithms[0], "kid": key.id, "typ": "JWT"});
    match random.u8(0..44) {
        0 => header["alg"] = json!("none"),
        1 => header["alg"] = json!("HS256"),
        2 => header["alg"] = json!(key.algorithms[random.usize(..key.algorithms.len())]),
        3 | 4 => drop(header.as_object_mut().and_then(|it| it.remove("kid"))),
        5 => header["kid"] = json!("unknown"),
        6 => {
            // Signed with any key, under the name of one of the provider's.
            key = &keys[random.usize(..keys.len())];
            header["alg"] = json!(key.algorithms[0]);
        }
        7 => {
            key = &keys[random.usize(..keys.len())];
            header["alg"] = json!(key.algorithms[0]);
            header["kid"] = json!(key.id);
        }
        8 => header["crit"] = json!(["exp"]),
        9 => header["alg"] = json!("RS256"),
        10 => payload["exp"] = json!(now - 600),
        11 => payload["exp"] = json!(now - 45),
        12 => payload["exp"] = json!(now - 90),
        13 => drop(payload.remove("exp")),
        14 => payload["exp"] = json!("never"),
        15 => drop(payload.insert("nbf".to_owned(), json!(now + 600))),
        16 => drop(payload.insert("nbf".to_owned(), json!(now + 45))),
        17 => drop(payload.insert("nbf".to_owned(), json!("now"))),
        18 => drop(payload.insert("iat".to_owned(), json!(now + 600))),
        19 => payload["iss"] = json!("https://other.example/"),
        20 => drop(payload.remove("iss")),
        21 => payload["iss"] = json!([provider.issuer]),
        22 => drop(payload.insert("aud".to_owned(), json!("other"))),
        23 => drop(payload.remove("aud")),
        24 => drop(payload.insert("aud".to_owned(), json!("https://shop.example"))),
        25 => drop(payload.insert("aud".to_owned(), json!(5))),
        26 => payload["sub"] = json!(5),
        27 => drop(payload.insert("jti".to_owned(), json!(5))),
        28 => drop(payload.insert("iat".to_owned(), json!("x"))),
        29 => payload["exp"] = json!(f64::from(u32::try_from(now).unwrap_or(u32::MAX)) + 3600.5),
        30 => drop(payload.insert("jti".to_owned(), json!("id"))),
        31 => payload["iss"] = json!(provider.issuer.trim_end_matches('/')),
        32 => drop(payload.insert("aud".to_owned(), json!(["shop", 5]))),
        _ => {}
    }
    let token = key.token(&header, Value::Object(payload).to_string().as_bytes());
    match random.u8(0..40) {
        0 => format!("{token}x"),
        1 => format!("{token}="),
        2 => format!("{token}.x"),
        3 => token.rsplit_once('.').map_or_else(String::new, |(signed, _)| format!("{signed}.")),
        4 => token.replacen('.', "..", 1),
        5 => String::new(),
        6 => flip(&token, random),
        _ => token,
    }
}

/// Another letter somewhere.
fn flip(token: &str, random: &mut Rng) -> String {
    let mut bytes = token.as_bytes().to_vec();
    let at = random.usize(..bytes.len());
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).unwrap_or_default()
}

/// What a token claims where `value` is asked for.
fn claimed(random: &mut Rng, value: &str) -> Value {
    match random.u8(0..10) {
        0 => json!([value, "x"]),
        1 => json!(["x", 5, null]),
        2 => json!({"value": value}),
        3 => json!(5),
        4 => json!(format!("{value}x")),
        _ => json!(value),
    }
}

fn put(object: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        object.insert(first.clone(), value);
        return;
    }
    let inner = object.entry(first.clone()).or_insert_with(|| json!({}));
    if let Value::Object(inner) = inner {
        put(inner, rest, value);
    }
}

/// Adds tokens to a request: to its headers, or to its target's query.
pub(super) fn carry(
    random: &mut Rng,
    tokens: &[Placed],
    wanted: Option<&Requirement>,
    headers: &mut Lines,
    target: &mut Vec<u8>,
) {
    let is_wanted = |it: &&Placed| wanted.is_some_and(|wanted| wanted.0.iter().any(|(name, _)| *name == it.provider));
    let fitting: Vec<&Placed> = tokens.iter().filter(is_wanted).collect();
    let any: Vec<&Placed> = tokens.iter().collect();
    let tokens = if fitting.is_empty() || random.u8(0..6) == 0 { any } else { fitting };
    for _ in 0..[0, 1, 1, 1, 1, 1, 1, 2][random.usize(..8)] {
        let Some(Placed { place, token, .. }) = random.choice(&tokens) else { return };
        match place {
            Location::Header(name, prefix, _) => {
                let prefix = if random.u8(0..20) == 0 { prefix.to_ascii_lowercase() } else { prefix.clone() };
                headers.push((name.clone(), format!("{prefix}{token}").into_bytes()));
            }
            Location::Cookie(name) => headers.push(("cookie".to_owned(), format!("a=b; {name}={token}").into_bytes())),
            Location::Query(name) => {
                let separator = if target.contains(&b'?') { '&' } else { '?' };
                target.extend_from_slice(format!("{separator}{name}={token}&z=1").as_bytes());
            }
        }
    }
    if random.u8(0..10) == 0 {
        headers.push(("X-Payload-0".to_owned(), b"eyJmb3JnZWQiOnRydWV9".to_vec()));
    }
}
