//! A service's middlewares around the gate: which there may be, and which side of the decision each is on.
//!
//! By default the gate decides last: what changes the request comes before it, so that the decision is about the path the
//! service sees. What answers for the service, or counts its answers, is always behind: an error page in front would replace
//! refusals, and fetch itself past the gate.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Middleware;

/// Where the gate decides among a service's middlewares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// Before all of them: about the public path.
    First,
    /// After those that may be in front of it.
    #[default]
    Last,
}

/// Kinds that are behind the gate wherever it decides. A certificate header set in front would not be the gate's own, and a
/// service that asked its own authentication server in front would be shown the callers' keys and tokens.
const BEHIND: [&str; 6] = ["errors", "forwardAuth", "passTLSClientCert", "circuitBreaker", "buffering", "retry"];
/// Names in the gate's own file that no service may put into its list.
const RESERVED: [&str; 2] = ["portcullis", "client-certificate"];
/// Chains in chains; more would be a circle.
const MAX_DEPTH: usize = 8;
/// Middlewares of one router, all chains resolved.
const MAX_LENGTH: usize = 64;

type Refusal = (String, &'static str);
type Sides = (Vec<Middleware>, Vec<Middleware>);

/// The list of one router, as what is in front of the gate and what is behind it.
pub(super) fn split(own: &BTreeMap<String, Value>, names: &[String], place: Place) -> Result<Sides, Refusal> {
    let mut sides = (Vec::new(), Vec::new());
    add(own, names, place, 0, &mut sides)?;
    Ok(sides)
}

fn add(
    own: &BTreeMap<String, Value>,
    names: &[String],
    place: Place,
    depth: usize,
    sides: &mut Sides,
) -> Result<(), Refusal> {
    for reference in names {
        let (name, provider) = reference.split_once('@').unwrap_or((reference, "consulcatalog"));
        if provider != "consulcatalog" {
            // The gate's middlewares have one of these providers, whichever way Traefik reads them.
            if matches!(provider, "file" | "consul")
                && (RESERVED.contains(&name) || name.contains('~') || name.ends_with("-destination"))
            {
                return Err((format!("{reference} is the gate's own"), "remove it from the list"));
            }
            let side = if place == Place::First { &mut sides.1 } else { &mut sides.0 };
            side.push(Middleware::Gateway(reference.clone()));
            continue;
        }
        let Some(middleware) = own.get(name) else {
            let hint = "define it on this service, or in the gateway's file as name@file";
            return Err((format!("the middleware {name} is not among the service's own"), hint));
        };
        let kind = kind(middleware);
        if kind == "chain" {
            let inner = middleware["chain"]["middlewares"].as_array().into_iter().flatten();
            let inner: Vec<_> = inner.filter_map(|name| name.as_str().map(str::to_owned)).collect();
            if depth == MAX_DEPTH {
                return Err((format!("the chain {name} leads to itself or too deep"), "write the list itself"));
            }
            add(own, &inner, place, depth + 1, sides)?;
        } else {
            let is_behind = place == Place::First || BEHIND.contains(&kind);
            let side = if is_behind { &mut sides.1 } else { &mut sides.0 };
            side.push(Middleware::Own(name.to_owned()));
        }
        if sides.0.len() + sides.1.len() > MAX_LENGTH {
            return Err((format!("more than {MAX_LENGTH} middlewares"), "use fewer"));
        }
    }
    Ok(())
}

/// A middleware as the gate's file may hold it: `service` is the service's name in its own tags, `destination` in Consul.
pub(super) fn check(mut middleware: Value, service: &str, destination: &str) -> Result<Value, Refusal> {
    if middleware.as_object().is_none_or(|kinds| kinds.len() != 1) {
        return Err(("the middleware does not have exactly one type".to_owned(), "give each its own name"));
    }
    let kind = kind(&middleware).to_owned();
    let options = &mut middleware[&kind];
    match kind.as_str() {
        "plugin" => {
            let hint = "define it in the gateway's file and refer to it as name@file";
            return Err(("plugins are the gateway's to choose".to_owned(), hint));
        }
        "errors" => {
            let named = options["service"].as_str().unwrap_or_default();
            if named.strip_suffix("@consulcatalog").unwrap_or(named) != service {
                let what = format!("the error page of {named:?} would be fetched past the gate of that service");
                return Err((what, "let the service itself give the page"));
            }
            options["service"] = json!(destination);
        }
        "rateLimit" if options.get("redis").is_some() => {
            // What it counts by may be a credential, and would be shown to the store.
            return Err(("a store for limits is the gateway's to choose".to_owned(), "refer to a limit as name@file"));
        }
        "compress" | "contentType" if *options == Value::Bool(false) => {
            return Err(("a middleware that is switched off does nothing".to_owned(), "remove it"));
        }
        _ => {}
    }
    if let Some(name) = headers(options).find(|name| is_ours(name)) {
        return Err((format!("the header {name} is the gate's own"), "use another name"));
    }
    Ok(middleware)
}

fn kind(middleware: &Value) -> &str {
    middleware.as_object().and_then(|kinds| kinds.keys().next()).map_or("", String::as_str)
}

/// Every request header that a middleware may set.
fn headers(options: &Value) -> impl Iterator<Item = &str> {
    let keys = options["customRequestHeaders"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let answers = options["authResponseHeaders"].as_array().into_iter().flatten().filter_map(Value::as_str);
    keys.chain(answers).chain(options["headerField"].as_str())
}

/// As the plugin folds names: a backend may take any sign for a dash.
fn is_ours(name: &str) -> bool {
    let letters = name.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase());
    let folded = String::from_utf8(letters.collect()).unwrap_or_default();
    folded.starts_with("xportcullis") || folded.starts_with("xforwardedtlsclientcert")
}
