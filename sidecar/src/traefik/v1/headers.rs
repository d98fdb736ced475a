//! `headers.*` of v1: headers that are set, and the security headers.

use super::{Translation, fields::Fields};
use crate::traefik::value::go_bool;

/// Options with the same name and type in v3.
const SAME: [&str; 14] = [
    "allowedhosts",
    "hostsproxyheaders",
    "stsseconds",
    "stsincludesubdomains",
    "stspreload",
    "forcestsheader",
    "framedeny",
    "customframeoptionsvalue",
    "contenttypenosniff",
    "browserxssfilter",
    "custombrowserxssvalue",
    "contentsecuritypolicy",
    "publickey",
    "referrerpolicy",
];

/// Takes `headers.*`; the middlewares' names in v1's order: v1 redirected to TLS before it set its security headers.
pub(super) fn headers(frontend: &mut Fields<'_>, router: &str, out: &mut Translation) -> Vec<String> {
    let mut fields = frontend.below("headers.");
    let at = format!("http.middlewares.{router}-headers.headers");
    let before = out.pairs.len();
    for map in ["customrequestheaders", "customresponseheaders", "sslproxyheaders"] {
        if let Some(field) = fields.take(map) {
            for (name, value) in field.headers(out) {
                out.pair(format!("{at}.{map}.{name}"), value, field.key);
            }
        }
    }
    let development = fields.take("isdevelopment");
    if let Some(field) = development {
        out.pair(format!("{at}.isdevelopment"), field.value, field.key);
    }
    for option in SAME {
        if let Some(field) = fields.take(option) {
            out.pair(format!("{at}.{option}"), field.value, field.key);
        }
    }
    let has_headers = out.pairs.len() > before;
    let is_development = development.is_some_and(|field| go_bool(field.value) == Some(true));
    let redirect = redirect(&mut fields, router, is_development, out);
    fields.finish(out);
    redirect.into_iter().chain(has_headers.then(|| format!("{router}-headers"))).collect()
}

/// `SSLRedirect` and its kin, which v3 reads and does not act on.
fn redirect(fields: &mut Fields<'_>, router: &str, is_development: bool, out: &mut Translation) -> Option<String> {
    let mut switch = |name: &str, out: &mut Translation| {
        let field = fields.take(name)?;
        Some((field.bool(out)?, field.key))
    };
    let (wanted, temporary, force) =
        (switch("sslredirect", out), switch("ssltemporaryredirect", out), switch("sslforcehost", out));
    let host = fields.take("sslhost");
    if let Some((true, key)) = force {
        out.error(key, "v3 has nothing like it", "redirect with redirectregex");
    }
    let Some((true, key)) = wanted else {
        for key in host.map(|field| field.key).into_iter().chain(temporary.map(|(_, key)| key)) {
            out.warn(key, "without SSLRedirect v1 did not redirect, and nothing does", "remove it");
        }
        return None;
    };
    if is_development {
        out.warn(key, "with isDevelopment v1 did not redirect, and nothing does", "remove one of them");
        return None;
    }
    let name = format!("{router}-tls");
    let permanent = temporary.is_none_or(|(temporary, _)| !temporary);
    match host {
        None => {
            let at = format!("http.middlewares.{name}.redirectscheme");
            out.pair(format!("{at}.scheme"), "https", key);
            out.pair(format!("{at}.permanent"), permanent, key);
        }
        Some(host) => {
            let at = format!("http.middlewares.{name}.redirectregex");
            out.pair(format!("{at}.regex"), "^http://[^/]+/(.*)$", key);
            out.pair(format!("{at}.replacement"), format!("https://{}/${{1}}", host.value), host.key);
            out.pair(format!("{at}.permanent"), permanent, key);
        }
    }
    Some(name)
}
