//! One request from start to verdict, readable from top to bottom.
//!
//! Every way through `judge` ends in a [`Decision`], every decision that is not an explicit allow of the policy denies,
//! and [`handle`] is the only place that lets a request go on.

use crate::{
    certificates::Certificates,
    config::{ClientCertificate, DestinationFrom, Level, Settings, is_destination},
    headers,
    host::Host,
    limits::Limited,
    list::List,
    names::Names,
    request_headers::RequestHeaders,
    respond::{self, BAD_REQUEST, FORBIDDEN, Refused, UNAVAILABLE},
    state::State,
    text,
};
use portcullis_policy::{
    Certified, Change, Decision, PresentedKey, Request, Verdict, model::Underscores, snapshot::record,
};
use std::{borrow::Cow, net::IpAddr};

/// Most header names a request may have. Go bounds the bytes of all headers to 1 MiB, not their number, and each name is
/// looked at here.
const MAX_HEADER_NAMES: usize = 512;
/// Longest path and query, in bytes; most servers stop at 8 KiB.
const MAX_URI_BYTES: usize = 64 * 1024;
/// Longest method, in bytes; the longest registered one has 17.
const MAX_METHOD_BYTES: usize = 32;
/// Longest API key header, in bytes; what the policy accepts as a key is shorter.
const MAX_KEY_BYTES: usize = 1024;

/// The header that names others which the proxy drops.
const CONNECTION: &str = "connection";

/// [`Decision::rule`] of a request that is malformed as a whole, whatever the policy says.
const RULE_REQUEST: &str = "request";
/// [`Decision::rule`] when the middleware's configuration cannot be used.
const RULE_CONFIGURATION: &str = "configuration";
/// [`Decision::rule`] when the destination is not known.
const RULE_DESTINATION: &str = "destination";
/// [`Decision::rule`] when there is no policy.
const RULE_SNAPSHOT: &str = "snapshot";

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The gateway goes on with it.
    Forward {
        /// What [`finish`] wants to know when the answer is over; 0 if nothing is to be finished.
        context: i32,
    },
    /// It has been answered.
    Answered,
}

/// A refusal that the policy was not asked about.
struct NotAsked {
    status: u16,
    rule: &'static str,
    reason: Cow<'static, str>,
}

impl NotAsked {
    fn into_decision(self) -> Decision {
        Decision::refuse(self.status, self.rule, self.reason)
    }
}

/// What is known of a request, as far as it has been read.
#[derive(Default)]
struct Seen<'a> {
    method: Cow<'a, str>,
    uri: Cow<'a, str>,
    destination: String,
    /// The request carries its destination in the header that the decision would stamp, word for word.
    stamped: bool,
    /// When it was decided on, in Unix nanoseconds; 0 before that.
    now_ns: u64,
}

/// Handles one request: decides, charges its limits, stamps the decision, and lets the request go on or answers it.
pub fn handle<H: Host>(host: &H, state: &mut State) -> Outcome {
    let (method, uri) = (host.method(), host.uri());
    let mut seen =
        Seen { method: String::from_utf8_lossy(&method), uri: String::from_utf8_lossy(&uri), ..Seen::default() };
    let mut decision = judge(host, state, &mut seen).unwrap_or_else(NotAsked::into_decision);
    let limited = charge(host, state, &seen, &mut decision);
    stamp(host, &seen, &decision);
    match decision.verdict {
        Verdict::Allow => {
            apply(host, &decision.changes);
            for (name, value) in &limited.told.headers {
                host.set_answer_header(name, value);
            }
            Outcome::Forward { context: limited.context }
        }
        Verdict::Deny => {
            deny(host, state, &seen, &decision, &limited);
            Outcome::Answered
        }
    }
}

/// Ends a forwarded request whose answer is over, however it ended: what it held of limits is free again.
pub fn finish<H: Host>(host: &H, state: &mut State, context: i32) {
    if let Ok(gate) = &mut state.gate {
        gate.limits.release(context, || host.now_ns());
    }
}

/// Charges an allowed request to its limits, which may still refuse it.
fn charge<H: Host>(host: &H, state: &mut State, seen: &Seen<'_>, decision: &mut Decision) -> Limited {
    // Without a configuration there is no policy, and nothing is allowed.
    let Ok(gate) = &mut state.gate else { return Limited::default() };
    let limited = gate.limits.charge(decision, gate.settings.rate_limit_headers, seen.now_ns);
    if let Some((level, line)) = &limited.notice {
        host.log(*level, &text::line(line));
    }
    limited
}

/// The way of a request. An `Err` is a refusal that the policy was not asked about.
fn judge<H: Host>(host: &H, state: &mut State, seen: &mut Seen<'_>) -> Result<Decision, NotAsked> {
    let names = host.header_names();
    if names.len() > MAX_HEADER_NAMES {
        // Not worth the memory to keep them; but what is logged of the request must not be the caller's.
        let settings = state.gate.as_ref().ok().map(|gate| &gate.settings);
        names.iter().filter(|name| is_forged(name, settings)).for_each(|name| host.remove_header(name));
        return Err(refuse(BAD_REQUEST, RULE_REQUEST, "the request has too many headers"));
    }
    let mut names = Names::new(&names);
    let gate = match &mut state.gate {
        Ok(gate) => gate,
        Err(misconfigured) => {
            look_through(host, &names, None)?;
            return Err(refuse(UNAVAILABLE, RULE_CONFIGURATION, misconfigured.to_string()));
        }
    };
    let settings = &gate.settings;
    let present = look_through(host, &names, Some(settings))?;
    let key = take_api_key(host, &present, settings);
    check_form(seen)?;
    check_connection(host, &present, settings)?;
    read_destination(host, &present, settings, seen)?;

    let certificate = take_certificate(host, &present, settings);
    seen.now_ns = host.now_ns();
    let now_ms = seen.now_ns / 1_000_000;
    if let Some((level, line)) = gate.source.refresh(now_ms) {
        host.log(level, &text::line(&line));
    }
    let policy = gate.source.settings();
    let drops_underscores = policy.is_some_and(|policy| policy.underscores == Underscores::DropHeader);
    if drops_underscores {
        for name in names.iter().filter(|name| name.contains(&b'_')) {
            host.remove_header(name);
        }
        names.drop_underscores();
    }
    let request = Request {
        destination: &seen.destination,
        method: &seen.method,
        uri: &seen.uri,
        headers: &RequestHeaders::new(host, &names),
        certificate: certified(certificate.as_ref(), settings, &mut state.certificates),
        api_key: presented_key(key.as_ref()),
        source_address: policy.and_then(|policy| source_address(host, policy)),
        entry_point: &settings.entry_point,
        memory: &gate.verified,
        now: now_ms / 1000,
        ..Request::default()
    };
    let decision = gate
        .source
        .decide(&request)
        .map_err(|failure| refuse(UNAVAILABLE, RULE_SNAPSHOT, format!("there is no policy: {failure}")));
    if let Some((level, line)) = gate.verified.notice() {
        host.log(level, &text::line(&line));
    }
    decision
}

fn refuse(status: u16, rule: &'static str, reason: impl Into<Cow<'static, str>>) -> NotAsked {
    NotAsked { status, rule, reason: reason.into() }
}

// === headers that are not the caller's to send ===

/// Which of the headers that matter here the request has.
#[derive(Default)]
struct Present {
    connection: bool,
    destination: bool,
    /// Only looked for where certificates are an identity.
    certificate: bool,
    api_key: bool,
}

/// Looks at every header name once, and removes what only we may say, in every spelling that a backend could take for
/// ours, except the one header that the gateway's own root router set.
fn look_through<H: Host>(host: &H, names: &Names<'_>, settings: Option<&Settings>) -> Result<Present, NotAsked> {
    let mut present = Present::default();
    let mut removed = false;
    let watched = settings.map_or(0, watched);
    for (shape, name) in names.shaped() {
        // Most names are neither: that is seen at a glance.
        if shape & watched == 0 && !headers::begins(name, headers::OWN_PREFIX) {
            continue;
        }
        if is_forged(name, settings) {
            host.remove_header(name);
            removed = true;
        } else if let Some(settings) = settings {
            let is = |header: Option<&str>| header.is_some_and(|header| name == header.as_bytes());
            present.connection |= is(Some(CONNECTION));
            present.destination |= is(settings.destination.header());
            present.certificate |= is(settings.certificate_header());
            present.api_key |= is(settings.api_key_header.as_deref());
        }
    }
    // The host removes by its canonical spelling; a name that has none would stay. This is not worth a host call for
    // every request, but it is for one that tries.
    if removed && host.header_names().iter().any(|name| is_forged(name, settings)) {
        return Err(refuse(BAD_REQUEST, RULE_REQUEST, "a header with a reserved name cannot be removed"));
    }
    Ok(present)
}

/// The shapes of the names that [`look_through`] looks for, beside our own.
fn watched(settings: &Settings) -> u64 {
    let names = [settings.destination.header(), settings.certificate_header(), settings.api_key_header.as_deref()];
    names.into_iter().flatten().fold(headers::shape(CONNECTION), |shapes, name| shapes | headers::shape(name))
}

fn is_forged(name: &[u8], settings: Option<&Settings>) -> bool {
    let is_alias_of = |trusted: &str| headers::same(name, trusted) && name != trusted.as_bytes();
    let Some(settings) = settings else { return headers::begins(name, headers::OWN_PREFIX) };
    if let DestinationFrom::Header(trusted) = &settings.destination {
        if name == trusted.as_bytes() {
            return false;
        }
        if headers::same(name, trusted) {
            return true;
        }
    }
    headers::begins(name, headers::OWN_PREFIX)
        || settings.certificate_header().is_some_and(is_alias_of)
        || settings.api_key_header.as_deref().is_some_and(is_alias_of)
}

/// Takes the API key out of the request: a credential must not reach the backend, whoever else vouches for the caller.
/// Returns its values when there is such a header.
fn take_api_key<H: Host>(host: &H, present: &Present, settings: &Settings) -> Option<List> {
    let header = settings.api_key_header.as_deref().filter(|_| present.api_key)?;
    let values = host.header_values(header);
    host.remove_header(header.as_bytes());
    Some(values)
}

/// A `Connection` header names headers that the proxy drops before the backend sees them. It may not name what the gate
/// says or what the gate is told.
fn check_connection<H: Host>(host: &H, present: &Present, settings: &Settings) -> Result<(), NotAsked> {
    if !present.connection {
        return Ok(());
    }
    let guarded = |token: &[u8]| {
        headers::begins(token, headers::OWN_PREFIX)
            || headers::same(token, headers::CERTIFICATE)
            || settings.destination.header().is_some_and(|name| headers::same(token, name))
    };
    let values = host.header_values(CONNECTION);
    if values.len() > MAX_HEADER_NAMES {
        return Err(refuse(BAD_REQUEST, RULE_REQUEST, "the request has too many headers"));
    }
    for value in values.iter() {
        if value.split(|byte| *byte == b',').any(|token| guarded(token.trim_ascii())) {
            return Err(refuse(BAD_REQUEST, RULE_REQUEST, "the connection header names a header of the gate"));
        }
    }
    Ok(())
}

// === the request ===

fn check_form(seen: &Seen<'_>) -> Result<(), NotAsked> {
    // A lossy conversion owns its text exactly when something was lost.
    let what = if seen.method.len() > MAX_METHOD_BYTES || matches!(seen.method, Cow::Owned(_)) {
        "the method is none"
    } else if seen.uri.len() > MAX_URI_BYTES || matches!(seen.uri, Cow::Owned(_)) {
        "the request target is too long or not text"
    } else {
        return Ok(());
    };
    Err(refuse(BAD_REQUEST, RULE_REQUEST, what))
}

fn read_destination<H: Host>(
    host: &H,
    present: &Present,
    settings: &Settings,
    seen: &mut Seen<'_>,
) -> Result<(), NotAsked> {
    let deny = |why: &'static str| Err(refuse(FORBIDDEN, RULE_DESTINATION, why));
    let header = match &settings.destination {
        DestinationFrom::Fixed(name) => {
            seen.destination.clone_from(name);
            return Ok(());
        }
        DestinationFrom::Header(header) => header,
    };
    if !present.destination {
        return deny("the destination header is missing");
    }
    let values = host.header_values(header);
    let Some(value) = values.only() else {
        return deny("the destination header has not exactly one value");
    };
    match core::str::from_utf8(value) {
        Ok(name) if is_destination(name) => {
            name.clone_into(&mut seen.destination);
            seen.stamped = header.eq_ignore_ascii_case(headers::DESTINATION);
            Ok(())
        }
        _ => deny("the destination header does not hold a service name"),
    }
}

/// The values of the certificate header, where they are an identity. The gate put the header there for itself, and takes
/// it out again: the backend is told who calls, and is spared a certificate with each request.
fn take_certificate<H: Host>(host: &H, present: &Present, settings: &Settings) -> Option<List> {
    if !present.certificate {
        return None;
    }
    let values = host.header_values(headers::CERTIFICATE);
    if !settings.forward_certificate {
        host.remove_header(headers::CERTIFICATE.as_bytes());
    }
    Some(values)
}

/// The certificate that the caller showed.
fn certified<'a>(
    certificate: Option<&'a List>,
    settings: &Settings,
    certificates: &'a mut Certificates,
) -> Certified<'a> {
    let Some(values) = certificate else { return Certified::Absent };
    let Some(header) = values.only() else {
        // Traefik sets the header and never adds to it.
        return Certified::Invalid("the certificate header has not exactly one value");
    };
    match (certificates.get(header), settings.client_certificate) {
        (Ok(certificate), ClientCertificate::VerifiedByTraefik) => Certified::Verified(certificate),
        (Ok(certificate), ClientCertificate::Verify) => Certified::Unverified { certificate, header },
        (Ok(_), ClientCertificate::Off) => Certified::Absent,
        (Err(why), _) => Certified::Invalid(why),
    }
}

/// The API key that the caller sent.
fn presented_key(key: Option<&List>) -> PresentedKey<'_> {
    let Some(values) = key else { return PresentedKey::Absent };
    match values.only() {
        Some(value) if value.len() <= MAX_KEY_BYTES => match core::str::from_utf8(value) {
            Ok(text) => PresentedKey::Text(text),
            Err(_) => PresentedKey::Invalid("the api key is not text"),
        },
        Some(_) => PresentedKey::Invalid("the api key is too long"),
        None => PresentedKey::Invalid("the api key header has not exactly one value"),
    }
}

/// Where the connection comes from, when the policy knows callers by that or limits them by it.
fn source_address<H: Host>(host: &H, policy: &record::Settings) -> Option<IpAddr> {
    if policy.networks_v4.is_empty() && policy.networks_v6.is_empty() && !policy.limits_by_address {
        return None;
    }
    let address = host.source_address();
    let text = core::str::from_utf8(&address).ok()?;
    // Go's spelling: `192.0.2.1:4711`, `[2001:db8::1%eth0]:4711`.
    let (host, _) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.split('%').next()?.parse().ok()
}

// === the verdict ===

/// Writes the decision where the access log, the metrics and, when the request goes on, the backend read it.
fn stamp<H: Host>(host: &H, seen: &Seen<'_>, decision: &Decision) {
    let allowed = decision.verdict == Verdict::Allow;
    let set = |name: &str, value: &str| {
        if !value.is_empty() {
            host.set_header(name, &text::line(value));
        }
    };
    set(headers::SOURCE, &decision.source);
    if !seen.stamped {
        set(headers::DESTINATION, &seen.destination);
    }
    set(headers::DECISION, decision.verdict.as_str());
    set(headers::RULE, &decision.rule);
    if let Some(shadow) = &decision.shadow {
        set(headers::SHADOW, shadow);
    }
    if !allowed {
        set(headers::REASON, &decision.reason);
    }
}

/// Makes an allowed request what was decided on.
fn apply<H: Host>(host: &H, changes: &[Change]) {
    let is_removal = |change: &Change| matches!(change, Change::RemoveHeader(_));
    // Asked for once, whatever is taken out: a removal leaves the other names as they are.
    let names = if changes.iter().any(is_removal) { host.header_names() } else { List::default() };
    for change in changes {
        match change {
            Change::SetUri(uri) => host.set_uri(uri),
            // In every spelling that a backend could take for it.
            Change::RemoveHeader(trusted) => {
                for name in names.iter().filter(|name| headers::same(name, trusted)) {
                    host.remove_header(name);
                }
            }
            // A token's payload: base64url, and as long as a token may be. A part of it would be none.
            Change::SetHeader { name, value } => host.set_header(name, value),
            // A decision holds the whole URI instead.
            Change::RemoveQuery(_) => {}
        }
    }
}

fn deny<H: Host>(host: &H, state: &mut State, seen: &Seen<'_>, decision: &Decision, limited: &Limited) {
    let gate = state.gate.as_mut().ok();
    let told = &limited.told;
    let refused = Refused { method: &seen.method, uri: &seen.uri, destination: &seen.destination, decision, told };
    respond::refuse(host, gate.as_ref().map(|gate| &gate.settings), &refused);
    let (level, line) = match gate {
        // Nothing can be configured about the log before the configuration is understood.
        None => (Some(Level::Warn), Some(0)),
        Some(gate) if gate.settings.log_denied.is_some() && limited.refused => {
            (gate.settings.log_denied, gate.limits.line(&decision.rule, seen.now_ns))
        }
        Some(gate) => (gate.settings.log_denied, Some(0)),
    };
    if let (Some(level), Some(n_unsaid)) = (level, line) {
        host.log(level, &respond::log_line(&refused, n_unsaid));
    }
}
