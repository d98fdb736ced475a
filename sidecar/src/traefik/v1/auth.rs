//! Who may come in, in v1: basic, digest and forwarded authentication, and the list of addresses.

use super::{Translation, fields::Fields};
use crate::traefik::value::is_network;

const USERS: [&str; 4] = ["users", "usersfile", "removeheader", "realm"];

/// Takes `auth.*`; the middleware's name if there is one.
pub(super) fn auth(frontend: &mut Fields<'_>, router: &str, out: &mut Translation) -> Option<String> {
    // `auth.basic=users` was v1's first form.
    let basic = frontend.take("auth.basic");
    let mut fields = frontend.below("auth.");
    if let Some(old) = basic {
        out.warn(old.key, "the key was deprecated in v1 already; it is translated", "write the v3 key");
        if !fields.add("basic.users", old) {
            out.error(old.key, "the users stand there twice", "keep auth.basic.users");
        }
    }
    let field = fields.take("headerfield");
    let mut kinds = [fields.below("basic."), fields.below("digest."), fields.below("forward.")];
    fields.finish(out);
    let used: Vec<_> = kinds.iter().filter_map(Fields::first).collect();
    let [only] = used.as_slice() else {
        if let Some(second) = used.get(1) {
            out.error(second.key, "two ways to authenticate; v1 took one of them", "keep one of them");
        } else if let Some(field) = field {
            out.warn(field.key, "without a way to authenticate v1 set no header, and none is set", "remove it");
        }
        return None;
    };
    let name = format!("{router}-auth");
    let [basic, digest, forward] = &mut kinds;
    if !forward.is_empty() {
        forwarded(std::mem::take(forward), &name, out);
        if let Some(field) = field {
            out.warn(field.key, "v1 set no header from a forwarded authentication, and none is set", "remove it");
        }
        return Some(name);
    }
    let (kind, mut fields) = match (basic.is_empty(), digest) {
        (false, _) => ("basicauth", std::mem::take(basic)),
        (true, digest) => ("digestauth", std::mem::take(digest)),
    };
    let at = format!("http.middlewares.{name}.{kind}");
    if fields.get("users").is_none_or(|users| users.value.is_empty()) && fields.get("usersfile").is_none() {
        out.error(only.key, "no users are named", "name them, or a file with them");
    }
    for option in USERS {
        if let Some(field) = fields.take(option) {
            out.pair(format!("{at}.{option}"), field.value, field.key);
        }
    }
    if let Some(field) = field {
        out.pair(format!("{at}.headerfield"), field.value, field.key);
    }
    fields.finish(out);
    Some(name)
}

fn forwarded(mut fields: Fields<'_>, name: &str, out: &mut Translation) {
    let at = format!("http.middlewares.{name}.forwardauth");
    let key = fields.first().map_or("", |field| field.key);
    match fields.take("address") {
        Some(field) if field.value.starts_with("http://") || field.value.starts_with("https://") => {
            out.pair(format!("{at}.address"), field.value, field.key);
        }
        _ => out.error(key, "the address of the authentication service is missing or no URL", "write http://…"),
    }
    let trust = fields.take("trustforwardheader");
    let trusted = trust.map_or(Some(false), |field| field.bool(out));
    // Absent means something else in v3: it then still half believes the client's headers.
    out.pair(format!("{at}.trustforwardheader"), trusted.unwrap_or(false), trust.map_or(key, |field| field.key));
    if let Some(field) = fields.take("authresponseheaders") {
        out.pair(format!("{at}.authresponseheaders"), field.value, field.key);
    }
    for option in ["ca", "cert", "key", "insecureskipverify"] {
        if let Some(field) = fields.take(&format!("tls.{option}")) {
            out.pair(format!("{at}.tls.{option}"), field.value, field.key);
        }
    }
    if let Some(field) = fields.take("tls.caoptional") {
        out.warn(field.key, "v3 has no such option: with a CA the certificate is always verified", "remove it");
    }
    fields.finish(out);
}

/// Takes the list of addresses; the middleware's name if there is one.
pub(super) fn white_list(
    frontend: &mut Fields<'_>,
    router: &str,
    has_depth: bool,
    out: &mut Translation,
) -> Option<String> {
    let range = frontend.take_either("whitelist.sourcerange", "whitelistsourcerange", out);
    let forwarded = frontend.take("whitelist.usexforwardedfor");
    let is_forwarded = forwarded.and_then(|field| field.bool(out)) == Some(true);
    let Some(field) = range else {
        if let Some(field) = forwarded {
            out.error(field.key, "the list of addresses is missing", "add whiteList.sourceRange, or remove it");
        }
        return None;
    };
    if let (Some(forwarded), true, false) = (forwarded, is_forwarded, has_depth) {
        // A client writes the first of them itself.
        let what = "v1 believed any address of X-Forwarded-For, which a client can choose";
        let hint = format!(
            "say how many proxies to trust: traefik.http.middlewares.{router}-whitelist.ipallowlist.ipstrategy.depth"
        );
        out.error(forwarded.key, what, &hint);
    }
    let ranges = field.list(out)?;
    if let Some(bad) = ranges.iter().find(|range| !is_network(range)) {
        // v1 then let everybody in.
        out.error(field.key, format!("{bad:?} is no address and no network"), "write 192.0.2.1 or 192.0.2.0/24");
    }
    out.pair(format!("http.middlewares.{router}-whitelist.ipallowlist.sourcerange"), ranges.join(","), field.key);
    Some(format!("{router}-whitelist"))
}
