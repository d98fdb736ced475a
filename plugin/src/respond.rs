//! What a refused caller is told, and what the operator's log says about it.
//!
//! A caller learns the kind of refusal, and nothing about the policy unless `revealRule` is set. The log has all of it, on
//! one line.

use crate::{
    config::{ClientCertificate, Settings},
    host::Host,
    limits::{TOO_MANY, fields::Told},
    text,
};
use portcullis_policy::{Challenge, Change, Decision};
use std::borrow::Cow;

/// To be sent again, spelled otherwise.
pub const REDIRECT: u16 = 307;
/// Not a request that can be decided on.
pub const BAD_REQUEST: u16 = 400;
/// A credential is missing or does not hold.
pub const UNAUTHORIZED: u16 = 401;
/// Decided, and denied.
pub const FORBIDDEN: u16 = 403;
/// No policy to decide on.
pub const UNAVAILABLE: u16 = 503;

/// The problem type of a limit that is used up (draft-ietf-httpapi-ratelimit-headers, section "Problem Types").
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// Seconds after which a caller may try again when there was no policy: a sidecar that starts needs about one.
const RETRY_AFTER_SECONDS: &str = "1";

/// The parts of a request that a refusal speaks of, borrowed for as long as it is handled.
pub struct Refused<'a> {
    /// The method, as received.
    pub method: &'a str,
    /// Path and query, as received.
    pub uri: &'a str,
    /// The destination, where it is known.
    pub destination: &'a str,
    /// The verdict.
    pub decision: &'a Decision,
    /// What the limits have to say.
    pub told: &'a Told,
}

/// Answers a refused request. Without settings (they cannot be used) the caller is told the least.
pub fn refuse<H: Host>(host: &H, settings: Option<&Settings>, refused: &Refused<'_>) {
    let decision = refused.decision;
    let challenge = settings.map(|settings| challenge(settings, decision.challenge)).unwrap_or_default();
    // A 401 must name a way to authenticate (RFC 9110, section 15.5.2); where there is none, no credential would help.
    let status = match decision.status {
        UNAUTHORIZED if challenge.is_empty() => FORBIDDEN,
        status => status,
    };
    // The answer to HEAD has no body (RFC 9110, section 9.3.2).
    let body = if refused.method == "HEAD" {
        String::new()
    } else {
        let (title, detail) = words(status);
        let detail = match settings {
            Some(settings) if settings.reveal_rule => format!("{} (rule {})", decision.reason, decision.rule).into(),
            _ => Cow::Borrowed(detail),
        };
        let violated = &refused.told.violated;
        let kind = if violated.is_empty() { "about:blank" } else { QUOTA_EXCEEDED };
        let mut body = String::with_capacity(256);
        for part in ["{\"type\":\"", kind, "\",\"title\":\"", title, "\",\"status\":"] {
            body.push_str(part);
        }
        text::push_number(&mut body, status.into());
        body.push_str(",\"detail\":\"");
        text::push_json(&mut body, &detail);
        body.push('"');
        if !violated.is_empty() {
            body.push_str(",\"violated-policies\":[");
            body.push_str(violated);
            body.push(']');
        }
        body.push('}');
        body
    };
    // The host flushes an answer before it ends it: without its length it would be chunked, its end a write of its own.
    let mut length = String::new();
    text::push_number(&mut length, body.len() as u64);
    let mut headers = vec![("Content-Type", "application/problem+json"), ("Cache-Control", "no-store")];
    if !body.is_empty() {
        headers.push(("Content-Length", &length));
    }
    if status == UNAUTHORIZED {
        headers.push(("WWW-Authenticate", &challenge));
    }
    if status == REDIRECT
        && let Some(Change::SetUri(uri)) = decision.changes.first()
    {
        headers.push(("Location", uri));
    }
    if status == UNAVAILABLE {
        headers.push(("Retry-After", RETRY_AFTER_SECONDS));
    }
    headers.extend(refused.told.headers.iter().map(|(name, value)| (*name, value.as_str())));
    host.reply(&headers, status, body.as_bytes());
}

/// The log line of a refused request: one line, whatever the caller sent. The query is left out, it may hold secrets. Behind
/// it, how many refusals by the same limit have no line.
pub fn log_line(refused: &Refused<'_>, n_unsaid: u64) -> String {
    let path = refused.uri.split_once('?').map_or(refused.uri, |(path, _)| path);
    let decision = refused.decision;
    let mut line = String::from("denied: ");
    text::push_word(&mut line, refused.method);
    line.push(' ');
    text::push_word(&mut line, path);
    for (name, value) in [
        (" destination=", refused.destination),
        (" source=", decision.source.as_str()),
        (" rule=", decision.rule.as_str()),
    ] {
        line.push_str(name);
        if value.is_empty() {
            line.push('-');
        } else {
            text::push_word(&mut line, value);
        }
    }
    line.push_str(" reason=\"");
    text::push_line(&mut line, &decision.reason);
    line.push('"');
    if n_unsaid > 0 {
        line.push_str(" unsaid=");
        line.push_str(&n_unsaid.to_string());
    }
    line
}

/// The ways to authenticate that are switched on. Neither has a registered scheme: `ApiKey` says that a key is wanted in
/// the configured header, `ClientCertificate` that a certificate is wanted in the TLS handshake.
fn challenge(settings: &Settings, challenge: Challenge) -> String {
    match challenge {
        Challenge::Token => return "Bearer realm=\"portcullis\"".to_owned(),
        Challenge::ValidToken => return "Bearer realm=\"portcullis\", error=\"invalid_token\"".to_owned(),
        Challenge::Credential => {}
    }
    let mut schemes = Vec::new();
    if settings.api_key_header.is_some() {
        schemes.push("ApiKey realm=\"portcullis\"");
    }
    if settings.client_certificate != ClientCertificate::Off {
        schemes.push("ClientCertificate realm=\"portcullis\"");
    }
    schemes.join(", ")
}

/// The title and the general detail of a refusal.
fn words(status: u16) -> (&'static str, &'static str) {
    match status {
        REDIRECT => ("Temporary Redirect", "the path is spelled in another way here"),
        BAD_REQUEST => ("Bad Request", "the request cannot be decided on as it was sent"),
        UNAUTHORIZED => ("Unauthorized", "a valid credential is required"),
        TOO_MANY => ("Too Many Requests", "a limit on requests is used up"),
        UNAVAILABLE => ("Service Unavailable", "access cannot be decided at the moment"),
        _ => ("Forbidden", "access is denied by policy"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_is_one_line_without_the_query() {
        let decision =
            Decision { source: String::new(), ..Decision::refuse(FORBIDDEN, "default", "no \"rule\"\nmatches") };
        let told = Told::default();
        let refused =
            Refused { method: "GET\n", uri: "/a b?token=secret", destination: "web", decision: &decision, told: &told };
        assert_eq!(
            log_line(&refused, 0),
            r#"denied: GET\n /a\x20b destination=web source=- rule=default reason="no \"rule\"\nmatches""#
        );
        assert!(log_line(&refused, 7).ends_with("matches\" unsaid=7"));
    }
}
