//! Random policies, and random requests that come close to what the policies speak of.
//!
//! All of it is a function of the seed: a run that found something can be repeated.

mod header;
mod path;
mod token;

pub use token::{Placed, tokens};

use fastrand::Rng;
use portcullis_policy::Action;

use super::ask::Ask;
use super::callers::SERVICES;
use super::keys::Key;
use super::policy::{Entry, Normalization, Permission, Rule, Source, World};
use super::provider::{Provider, Requirement};

/// The methods that a permission can name (consul-policy §3.2).
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"];

/// The methods of requests. CONNECT is left out: it asks for a tunnel, not for a path.
const SENT_METHODS: [&str; 13] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "PURGE", "get", "FOO", "Post"];

/// How requests are normalised: mostly by default.
pub fn normalization(random: &mut Rng) -> Normalization {
    if random.bool() {
        return Normalization::default();
    }
    let slashes = ["KEEP_UNCHANGED", "REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD"];
    let underscores = ["REJECT_REQUEST", "DROP_HEADER"];
    Normalization {
        disabled: random.u8(0..5) == 0,
        merge_slashes: random.bool(),
        escaped_slashes: random.bool().then(|| slashes[random.usize(..slashes.len())]),
        underscores: random.bool().then(|| underscores[random.usize(..underscores.len())]),
    }
}

/// A policy for these destinations.
pub fn world(
    random: &mut Rng,
    default: Action,
    normalization: Normalization,
    destinations: &[String],
    keys: &[Key],
) -> World {
    let mut entries = Vec::new();
    let providers = if random.bool() { token::providers(random, keys) } else { Vec::new() };
    // Two in three have an entry for all destinations: it merges with the named ones.
    if random.u8(0..3) > 0 {
        entries.push(entry(random, "*", &providers));
    }
    for destination in destinations {
        if random.u8(0..10) > 0 {
            entries.push(entry(random, destination, &providers));
        }
    }
    World { default, normalization, providers, entries }
}

fn entry(random: &mut Rng, destination: &str, providers: &[Provider]) -> Entry {
    // Some entries let everybody in who has the token, so that tokens decide.
    if !providers.is_empty() && random.u8(0..3) == 0 {
        let allow = |name: &str| Source { name: name.to_owned(), rule: Rule::Action(Action::Allow) };
        let sources = SERVICES.into_iter().chain(["*"]).filter(|_| random.bool()).map(allow).collect::<Vec<_>>();
        if !sources.is_empty() {
            let jwt = Some(token::requirement(random, providers));
            return Entry { destination: destination.to_owned(), jwt, sources };
        }
    }
    let sources = sources(random, destination != "*", providers);
    Entry { destination: destination.to_owned(), jwt: requirement(random, providers, 7), sources }
}

/// A requirement, once in so many times.
fn requirement(random: &mut Rng, providers: &[Provider], times: u8) -> Option<Requirement> {
    (!providers.is_empty() && random.u8(0..times) == 0).then(|| token::requirement(random, providers))
}

fn sources(random: &mut Rng, with_permissions: bool, providers: &[Provider]) -> Vec<Source> {
    let mut names: Vec<&str> = SERVICES.into_iter().chain(["*", "nobody"]).collect();
    random.shuffle(&mut names);
    names.truncate(random.usize(1..=5));
    // The order of sources with a wildcard is what precedence is about, so there is one more often than by chance.
    if random.bool() && !names.contains(&"*") {
        names.push("*");
    }
    let rule = |random: &mut Rng| {
        if with_permissions && random.u8(0..10) < 7 {
            Rule::Permissions((0..random.usize(1..=4)).map(|_| permission(random, providers)).collect())
        } else {
            Rule::Action(action(random))
        }
    };
    names.into_iter().map(|name| Source { name: name.to_owned(), rule: rule(random) }).collect()
}

fn action(random: &mut Rng) -> Action {
    if random.bool() { Action::Allow } else { Action::Deny }
}

fn permission(random: &mut Rng, providers: &[Provider]) -> Permission {
    loop {
        let path = (random.u8(0..10) < 7).then(|| path::rule(random));
        let methods = if random.u8(0..10) < 4 { methods(random) } else { Vec::new() };
        let n_headers = [0, 0, 0, 1, 1, 2][random.usize(..6)];
        let headers = (0..n_headers).map(|_| header::rule(random)).collect();
        let jwt = requirement(random, providers, 3);
        let permission = Permission { action: action(random), path, methods, headers, jwt };
        if permission.has_criterion() {
            return permission;
        }
    }
}

fn methods(random: &mut Rng) -> Vec<String> {
    let mut methods = METHODS;
    random.shuffle(&mut methods);
    methods[..random.usize(1..=3)].iter().map(ToString::to_string).collect()
}

/// A request to `destination` by the caller at a place.
pub fn ask(random: &mut Rng, world: &World, tokens: &[Placed], destination: &str, caller: usize) -> Ask {
    let permissions = permissions(world, destination);
    // Most requests are about one permission; the others show what the rest of the policy says.
    let about = if random.u8(0..8) > 0 { random.choice(&permissions).copied() } else { None };
    let mut target = match about.and_then(|it| it.path.as_ref()) {
        Some(rule) => path::near(random, rule),
        None => path::any(random),
    };
    let method = match about.and_then(|it| random.choice(&it.methods)) {
        Some(method) if method != "CONNECT" && random.u8(0..4) > 0 => method.clone(),
        _ if random.bool() => "GET".to_owned(),
        _ => SENT_METHODS[random.usize(..SENT_METHODS.len())].to_owned(),
    };
    let mut headers = header::near(random, about.map_or(&[], |it| &it.headers));
    let entry = [destination, "*"].into_iter().find_map(|it| world.entry(it)?.jwt.as_ref());
    let wanted = about.and_then(|it| it.jwt.as_ref()).or(entry);
    token::carry(random, tokens, wanted, &mut headers, &mut target);
    Ask { caller, destination: destination.to_owned(), method, target, headers }
}

/// Every permission of a destination's entry.
fn permissions<'a>(world: &'a World, destination: &str) -> Vec<&'a Permission> {
    let rules = world.entry(destination).into_iter().flat_map(|entry| entry.sources.iter().map(|it| &it.rule));
    let permissions = rules.filter_map(|rule| match rule {
        Rule::Permissions(permissions) => Some(permissions),
        Rule::Action(_) => None,
    });
    permissions.flatten().collect()
}
