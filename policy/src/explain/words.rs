//! Steps and rules in words.

use super::Step;
use crate::{
    decide::{Applied, Match},
    header_match::{HeaderMatch, HeaderTest},
    identity::Caller,
    limit::Scope,
    model::{Mode, PathMatch, Permission, Requirement},
    snapshot::record::{Body, IntentionRecord},
};

pub(super) fn step(step: &Step<'_>) -> String {
    match step {
        Step::Identified(Caller::Anonymous) => "caller: anonymous, no credential was presented".to_owned(),
        Step::Identified(Caller::Service(name)) => format!("caller: service {name}"),
        Step::Candidate { candidate, found } => {
            let (source, destination) = (candidate.source.to_owned(), candidate.destination.to_owned());
            let found = found.map_or_else(|| "none".to_owned(), |it| format!("{} ({})", it.rule, intention(it)));
            format!("intention {source} -> {destination} (precedence {}): {found}", candidate.precedence)
        }
        Step::Permission { index, permission: it, matched } => {
            format!("permission {index} ({}){}: {}", permission(it), mode(it.mode), outcome(it, matched))
        }
        Step::Requirement { requirement: it, unmet } => {
            let outcome = unmet.map_or_else(|| "met".to_owned(), |why| format!("not met, {why}"));
            format!("tokens ({}){}: {outcome}", requirement(it), mode(it.mode))
        }
        Step::Limit { limit, applied } => format!("limit {}{}: {}", limit.rule, mode(limit.mode), applies(applied)),
        Step::Decided(decision) => {
            let shadow = decision.shadow.as_ref();
            let shadow =
                shadow.map_or_else(String::new, |rule| format!("; in shadow, {rule} would have decided otherwise"));
            format!("{} by {}: {}{shadow}", decision.verdict.as_str(), decision.rule, decision.reason)
        }
    }
}

fn applies(applied: &Applied) -> String {
    match applied {
        Applied::Charged(charge) => {
            let units = if charge.cost == 1 { "1 unit".to_owned() } else { format!("{} units", charge.cost) };
            let scope = match charge.scope {
                Scope::Host => "",
                Scope::Global => ", on all hosts together",
            };
            format!("charged {units} of {}, bucket {} ({:016x}){scope}", charge.amount, charge.label, charge.key)
        }
        Applied::Unreadable => "could not be read".to_owned(),
        Applied::Off => "not charged".to_owned(),
        Applied::OtherCaller => "not charged, it is for other callers".to_owned(),
        Applied::Exempt => "not charged, the caller is exempt".to_owned(),
        Applied::OtherRequest => "not charged, it is for other requests".to_owned(),
        Applied::Replaced => "not charged, another limit of the entry takes its place".to_owned(),
        Applied::Free => "not charged, the request costs nothing".to_owned(),
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "",
        Mode::Shadow => " in shadow",
        Mode::Off => " switched off",
    }
}

fn intention(record: &IntentionRecord) -> String {
    let body = match &record.body {
        Body::Action(action) => action.as_str().to_owned(),
        Body::Permissions(permissions) if permissions.len() == 1 => "1 permission".to_owned(),
        Body::Permissions(permissions) => format!("{} permissions", permissions.len()),
        Body::Broken => "could not be read, denies".to_owned(),
    };
    let jwt = record.jwt.as_ref().map_or_else(String::new, |it| format!(" with a token of {}", requirement(it)));
    format!("{body}{jwt}{}", mode(record.mode))
}

fn permission(permission: &Permission) -> String {
    let methods = if permission.methods.is_empty() { "any method".to_owned() } else { permission.methods.join(",") };
    let path = match &permission.path {
        Some(PathMatch::Exact(path)) => format!(" path {path}"),
        Some(PathMatch::Prefix(path)) => format!(" path {path}*"),
        Some(PathMatch::Regex(pattern)) => format!(" path ~{}", pattern.text()),
        None => String::new(),
    };
    let headers: Vec<_> = permission.headers.iter().map(|it| format!(" header {}", header(it))).collect();
    let jwt = permission.jwt.as_ref().map_or_else(String::new, |it| format!(" with a token of {}", requirement(it)));
    format!("{} {methods}{path}{}{jwt}", permission.action.as_str(), headers.concat())
}

fn header(criterion: &HeaderMatch) -> String {
    let test = match &criterion.test {
        HeaderTest::Present => "present".to_owned(),
        HeaderTest::Exact(text) => format!("= {text:?}"),
        HeaderTest::Prefix(text) => format!("begins with {text:?}"),
        HeaderTest::Suffix(text) => format!("ends with {text:?}"),
        HeaderTest::Contains(text) => format!("contains {text:?}"),
        HeaderTest::Regex(pattern) => format!("~ {:?}", pattern.text()),
    };
    let not = if criterion.invert { "not " } else { "" };
    let case = if criterion.ignore_case { " in any case" } else { "" };
    format!("{} {not}{test}{case}", criterion.name)
}

fn requirement(requirement: &Requirement) -> String {
    let provider = |it: &crate::model::ProviderRequirement| {
        let claims: Vec<_> = it.claims.iter().map(|it| format!("{}={:?}", it.path.join("."), it.value)).collect();
        if claims.is_empty() { it.provider.clone() } else { format!("{} where {}", it.provider, claims.join(" and ")) }
    };
    requirement.providers.iter().map(provider).collect::<Vec<_>>().join(" or ")
}

fn outcome(permission: &Permission, matched: &Match) -> String {
    let mut failed = Vec::new();
    if matched.not_method {
        failed.push("another method".to_owned());
    }
    if matched.not_path {
        failed.push("another path".to_owned());
    }
    let headers = matched.not_headers.iter().filter_map(|index| permission.headers.get(*index));
    failed.extend(headers.map(|it| format!("header {} does not hold", it.name)));
    match (failed.is_empty(), &matched.doubt) {
        (false, _) => format!("no, {}", failed.join(", ")),
        (true, None) => "matches".to_owned(),
        (true, Some(doubt)) => match permission.action {
            crate::model::Action::Deny => format!("matches, as a deny does on doubt: {}", doubt.reason()),
            crate::model::Action::Allow => format!("no, an allow needs certainty: {}", doubt.reason()),
        },
    }
}
