//! The method that counts.
//!
//! Many frameworks let a request say by a header or by a parameter that it means another method than it has: a `GET` that
//! the rules see can be a `DELETE` to the backend (traefik §5). Where a request says so, its method is in doubt. Form
//! bodies, in which a few frameworks look for `_method` too, are not seen here.

use std::fmt;

use crate::{
    headers::{self, Headers},
    query,
};

/// What frameworks look for, in lower case: headers, and some of them parameters of the query as well.
const OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
/// Parameters of the query that frameworks look for. Compared as [`headers::same`] does: PHP reads `.method` so, too.
const PARAMETERS: [&str; 2] = ["_method", "_httpmethod"];

/// Why it is not known which method the backend will see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodDoubt {
    /// A header says another method.
    Header,
    /// A parameter of the query says another method.
    Parameter,
}

impl fmt::Display for MethodDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "a header asks the backend to take the request for one of another method",
            Self::Parameter => "the query asks the backend to take the request for one of another method",
        })
    }
}

/// The method of a request, unless the request asks for another one somewhere. `uri` is path, `?` and query.
///
/// On doubt, a deny with methods matches and an allow with methods does not.
pub fn effective<'a>(method: &'a str, headers: &dyn Headers, uri: &str) -> Result<&'a str, MethodDoubt> {
    for name in OVERRIDES {
        // The value of an alias is not shown, so it is another one.
        if headers.has_alias(name) || headers.values(name).iter().any(|value| !is_same(value, method)) {
            return Err(MethodDoubt::Header);
        }
    }
    let Some((_, parameters)) = uri.split_once('?') else { return Ok(method) };
    // `;` separates parameters as well for older stacks.
    for parameter in parameters.split(['&', ';']) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        // `%u005f` is an underscore to one stack only, and nobody else writes names like that.
        if name.to_ascii_lowercase().contains("%u") {
            return Err(MethodDoubt::Parameter);
        }
        let name = query::decoded(name);
        let looked_for = OVERRIDES.iter().chain(&PARAMETERS).any(|it| headers::same(&name, it));
        if looked_for && !is_same(&query::decoded(value), method) {
            return Err(MethodDoubt::Parameter);
        }
    }
    Ok(method)
}

/// Frameworks take the value without case.
fn is_same(value: &[u8], method: &str) -> bool {
    value.trim_ascii().eq_ignore_ascii_case(method.as_bytes())
}

#[cfg(test)]
mod tests;
