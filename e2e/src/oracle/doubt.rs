//! What about a request makes our engine doubt, told from the request and the rules alone.

use portcullis_policy::{Action, Verdict};

use super::ask::Ask;
use super::compare::Case;
use super::policy::{HeaderRule, HeaderTest, Normalization, Permission, Rule};
use super::target;

/// What frameworks look for to take a request for one of another method.
const OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// What makes a permission doubtful on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The path has several readings, and the permission needs it.
    Path,
    /// There is a header that the permission does not name, but that is one that it names to a lenient backend.
    Alias,
    /// The request asks to be taken for one of another method, and the permission names methods.
    Method,
    /// Of a header that the permission names there are several, and the criterion does not hold for each of them as for
    /// all joined, with or without empty ones; or one is not UTF-8, for a regex.
    Readings,
}

impl Doubt {
    /// Whether a permission is doubtful on a request in this way.
    pub fn is_about(self, permission: &Permission, ask: &Ask, normalization: &Normalization) -> bool {
        let headers = &permission.headers;
        match self {
            Doubt::Path => {
                let needs = permission.path.is_some() || headers.iter().any(|it| it.name == ":path");
                let changed = normalization.disabled && target::is_changed_by_envoy(&ask.target);
                needs && (changed || target::is_ambiguous(&ask.target))
            }
            Doubt::Alias => headers.iter().any(|it| has_alias(it, ask)),
            Doubt::Method => {
                let overrides = |name: &str| OVERRIDES.contains(&folded(name).as_str());
                !permission.methods.is_empty() && ask.headers.iter().any(|(name, _)| overrides(name))
            }
            Doubt::Readings => headers.iter().any(|it| has_two_readings(it, ask)),
        }
    }

    /// Whether we refuse a request for this doubt: with 400, or by a deny behind an allow that is passed over.
    pub fn decides(self, case: &Case<'_>) -> bool {
        if case.ours.verdict == Verdict::Allow {
            return false;
        }
        let permissions = governing(case);
        let last = case.ours.rule.rsplit_once("/permissions/").and_then(|(_, index)| index.parse::<usize>().ok());
        let asked = match last {
            // A deny that is sure is not the one that is passed over; an allow that refuses lacks a token, and may be.
            Some(last)
                if case.ours.status != 400 && permissions.get(last).is_some_and(|it| it.action == Action::Deny) =>
            {
                permissions.get(..last)
            }
            Some(last) => permissions.get(..=last),
            None if case.ours.status == 400 => Some(permissions),
            None => None,
        };
        asked.is_some_and(|asked| asked.iter().any(|it| self.is_about(it, case.ask, &case.world.normalization)))
    }
}

/// Every way to doubt.
pub const DOUBTS: [Doubt; 4] = [Doubt::Path, Doubt::Alias, Doubt::Method, Doubt::Readings];

fn has_alias(rule: &HeaderRule, ask: &Ask) -> bool {
    ask.headers.iter().any(|(name, _)| !name.eq_ignore_ascii_case(&rule.name) && folded(name) == folded(&rule.name))
}

fn has_two_readings(rule: &HeaderRule, ask: &Ask) -> bool {
    let of_rule = |(name, _): &&(String, Vec<u8>)| name.eq_ignore_ascii_case(&rule.name);
    let values: Vec<_> = ask.headers.iter().filter(of_rule).map(|(_, value)| value.trim_ascii().to_vec()).collect();
    let HeaderTest::Text(form, text) = &rule.test else { return false };
    if *form == "Regex" {
        return values.len() > 1 || values.iter().any(|it| std::str::from_utf8(it).is_err());
    }
    let filled: Vec<_> = values.iter().filter(|it| !it.is_empty()).cloned().collect();
    let readings = values.iter().cloned().chain([values.join(&b','), filled.join(&b',')]);
    let fold = |bytes: &[u8]| if rule.ignore_case { bytes.to_ascii_lowercase() } else { bytes.to_vec() };
    let want = fold(text.as_bytes());
    let mut answers: Vec<_> = readings
        .map(|it| fold(&it))
        .map(|it| match *form {
            "Exact" => it == want,
            "Prefix" => it.starts_with(&want),
            "Suffix" => it.ends_with(&want),
            _ => it.windows(want.len()).any(|part| part == want),
        })
        .collect();
    answers.dedup();
    values.len() > 1 && answers.len() > 1
}

/// The permissions of the intention that governs the caller by the documented order.
pub fn governing<'a>(case: &Case<'a>) -> &'a [Permission] {
    let Some(name) = case.caller.service.as_deref() else { return &[] };
    for destination in [case.ask.destination.as_str(), "*"] {
        for source in [name, "*"] {
            if let Some(found) = case.world.entry(destination).and_then(|it| it.source(source)) {
                return match &found.rule {
                    Rule::Permissions(permissions) => permissions,
                    Rule::Action(_) => &[],
                };
            }
        }
    }
    &[]
}

/// A name as lenient backends see it.
fn folded(name: &str) -> String {
    name.chars().map(|it| if it.is_ascii_alphanumeric() { it.to_ascii_lowercase() } else { '-' }).collect()
}
