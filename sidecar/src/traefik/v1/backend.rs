//! What v1 said of a backend: how servers are reached, chosen and watched, and what protects them.

use super::{Context, Translation, fields::Fields};
use crate::traefik::value::{go_duration, is_duration, is_header};

/// A middleware of all frontends: its name, and the key it comes from.
pub(super) type Shared = Vec<(String, String)>;

/// The service's name in v3: the one it has itself, if it names one.
pub(super) fn service_name(context: Context<'_>, router: &str) -> String {
    const SERVICES: &str = "http.services.";
    let named = context.native.iter().find_map(|key| {
        let (start, rest) = key.split_at_checked(SERVICES.len())?;
        rest.split('.').next().filter(|_| start.eq_ignore_ascii_case(SERVICES))
    });
    named.unwrap_or(router).to_owned()
}

/// Takes the backend's keys. The middlewares are in v1's order: breaker, buffering, connections.
pub(super) fn translate(fields: &mut Fields<'_>, router: &str, context: Context<'_>, out: &mut Translation) -> Shared {
    let service = format!("http.services.{}.loadbalancer", service_name(context, router));
    let middleware = |kind: &str| format!("http.middlewares.{router}-{kind}");
    if let Some(field) = fields.take("protocol") {
        match field.value {
            // The default of both.
            "http" => {}
            "https" | "h2c" => out.pair(format!("{service}.server.scheme"), field.value, field.key),
            other => out.error(field.key, format!("{other:?} is no protocol of v3"), "write http, https or h2c"),
        }
    }
    // Of the two, v1 let the deprecated one win.
    let (weight, old) = (fields.take("weight"), fields.take("backend.weight"));
    if let Some(field) = old {
        out.warn(field.key, "the key was deprecated in v1 already; it is translated", "write the v3 key");
    }
    if let Some(field) = old.or(weight)
        && let Some(weight) = field.count(out)
    {
        out.pair(format!("{service}.server.weight"), weight, field.key);
    }
    let mut backend = fields.below("backend.");
    balancer(&mut backend, &service, out);
    health_check(&mut backend, &service, out);
    if let Some(field) = backend.take("responseforwarding.flushinterval") {
        if is_duration(field.value) {
            out.pair(format!("{service}.responseforwarding.flushinterval"), field.value, field.key);
        } else {
            out.error(field.key, format!("{:?} is no duration", field.value), "write 100ms");
        }
    }
    let mut shared = Vec::new();
    if let Some(field) = backend.take_either("circuitbreaker.expression", "circuitbreaker", out) {
        out.pair(format!("{}.circuitbreaker.expression", middleware("breaker")), field.value, field.key);
        shared.push((format!("{router}-breaker"), field.key.to_owned()));
    }
    let mut buffering = backend.below("buffering.");
    if let Some(first) = buffering.first() {
        for name in ["maxrequestbodybytes", "memrequestbodybytes", "maxresponsebodybytes", "memresponsebodybytes"] {
            if let Some(field) = buffering.take(name)
                && let Some(bytes) = field.count(out)
            {
                out.pair(format!("{}.buffering.{name}", middleware("buffering")), bytes, field.key);
            }
        }
        if let Some(field) = buffering.take("retryexpression") {
            out.pair(format!("{}.buffering.retryexpression", middleware("buffering")), field.value, field.key);
        }
        buffering.finish(out);
        shared.push((format!("{router}-buffering"), first.key.to_owned()));
    }
    let extractor = backend.take("maxconn.extractorfunc");
    if let Some(field) = backend.take("maxconn.amount") {
        // No limit in v1; v3 would answer 429 to everything.
        if let Some(amount) = field.count(out).filter(|amount| *amount > 0) {
            let at = format!("{}.inflightreq", middleware("connections"));
            out.pair(format!("{at}.amount"), amount, field.key);
            let (function, key) = extractor.map_or(("request.host", field.key), |it| (it.value, it.key));
            source(&at, function, key, out);
            shared.push((format!("{router}-connections"), field.key.to_owned()));
        }
    } else if let Some(field) = extractor {
        out.warn(field.key, "without an amount v1 set no limit, and none is set", "add maxconn.amount, or remove it");
    }
    backend.finish(out);
    shared
}

/// v1's `extractorfunc` as v3's `sourceCriterion`.
pub(super) fn source(at: &str, function: &str, key: &str, out: &mut Translation) {
    match function {
        "client.ip" => out.pair(format!("{at}.sourcecriterion.ipstrategy.depth"), 0, key),
        "request.host" => out.pair(format!("{at}.sourcecriterion.requesthost"), true, key),
        other => match other.strip_prefix("request.header.") {
            Some(name) if is_header(name) => out.pair(format!("{at}.sourcecriterion.requestheadername"), name, key),
            _ => out.error(
                key,
                format!("{other:?} is no source of v1"),
                "write client.ip, request.host or request.header.<name>",
            ),
        },
    }
}

fn balancer(backend: &mut Fields<'_>, service: &str, out: &mut Translation) {
    if let Some(field) = backend.take_either("loadbalancer.method", "loadbalancer", out) {
        match field.value.to_ascii_lowercase().as_str() {
            "wrr" => {}
            "drr" => {
                let what = "v3 has no dynamic round robin; the plain one (wrr) is used";
                out.warn(field.key, what, "choose a strategy of v3 if that is not enough");
            }
            other => out.error(field.key, format!("{other:?} is no method of v1"), "write wrr"),
        }
    }
    let mut sticky = backend.below("loadbalancer.stickiness.");
    let switch = backend.take_either("loadbalancer.stickiness", "loadbalancer.sticky", out);
    let is_on = switch.and_then(|field| Some((field.bool(out)?, field.key)));
    match is_on {
        Some((true, key)) => out.pair(format!("{service}.sticky.cookie"), true, key),
        _ => {
            if let Some(field) = sticky.first() {
                out.warn(field.key, "without stickiness v1 set no cookie, and none is set", "set stickiness to true");
            }
        }
    }
    for name in ["cookiename", "secure", "httponly", "samesite"] {
        if let Some(field) = sticky.take(name)
            && matches!(is_on, Some((true, _)))
        {
            let name = if name == "cookiename" { "name" } else { name };
            out.pair(format!("{service}.sticky.cookie.{name}"), field.value, field.key);
        }
    }
    sticky.finish(out);
}

fn health_check(backend: &mut Fields<'_>, service: &str, out: &mut Translation) {
    let mut check = backend.below("healthcheck.");
    let Some(first) = check.first() else { return };
    let at = format!("{service}.healthcheck");
    let Some(path) = check.take("path") else {
        out.warn(first.key, "without a path v1 made no health check, and none is made", "add healthcheck.path");
        for name in ["interval", "port", "scheme", "hostname", "headers"] {
            check.take(name);
        }
        return check.finish(out);
    };
    out.pair(format!("{at}.path"), path.value, path.key);
    for name in ["port", "scheme", "hostname"] {
        if let Some(field) = check.take(name) {
            out.pair(format!("{at}.{name}"), field.value, field.key);
        }
    }
    if let Some(field) = check.take("interval") {
        if go_duration(field.value) {
            out.pair(format!("{at}.interval"), field.value, field.key);
        } else {
            out.error(field.key, format!("{:?} is no duration of v1", field.value), "write 30s");
        }
    }
    if let Some(field) = check.take("headers") {
        for (name, value) in field.headers(out) {
            out.pair(format!("{at}.headers.{name}"), value, field.key);
        }
    }
    check.finish(out);
}
