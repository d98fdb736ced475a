//! The documentation, word for word and without a thought for speed.

use portcullis_policy::{
    Action, Mode, Policy,
    header_match::{HeaderMatch, HeaderTest},
    model::{Intention, PathMatch, Permission, Requirement, Source, SourceRule},
};
use serde_json::Value;

use crate::generated::Asked;

/// What comes of a question.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) allowed: bool,
    /// A rule in shadow would have decided otherwise.
    pub(crate) shadowed: bool,
}

/// What a rule comes to.
#[derive(Clone, Copy, PartialEq)]
enum Said {
    Allow,
    Deny,
    /// It says nothing, and the default decides.
    Nothing,
}

/// What rules in shadow add.
#[derive(Default)]
struct Shadows {
    first: Option<bool>,
    any: bool,
}

impl Shadows {
    fn note(&mut self, allowed: bool) {
        self.first.get_or_insert(allowed);
    }
}

pub(crate) fn decide(policy: &Policy, asked: &Asked) -> Answer {
    let default = policy.settings.default == Action::Allow;
    let mut shadows = Shadows::default();
    let said = said(policy, asked, default, &mut shadows);
    let mut allowed = match said {
        Said::Allow => true,
        Said::Deny => false,
        Said::Nothing => default,
    };
    let mut would = shadows.first;
    if said == Said::Nothing && !default && shadows.any {
        allowed = true;
        would.get_or_insert(false);
    }
    Answer { allowed, shadowed: would.is_some_and(|would| would != allowed) }
}

fn covers(pattern: &str, name: &str) -> bool {
    pattern == "*" || pattern == name
}

fn said(policy: &Policy, asked: &Asked, default: bool, shadows: &mut Shadows) -> Said {
    let own = policy.intentions.iter().find(|it| it.destination.name == asked.destination);
    if own.is_some_and(|it| it.broken) {
        return Said::Deny;
    }
    let wide = || policy.intentions.iter().find(|it| it.destination.name == "*");
    let speaks = own.filter(|it| it.mode != Mode::Off).or_else(wide);
    shadows.any |= speaks.is_some_and(|it| it.mode == Mode::Shadow);
    let Some(caller) = asked.source else { return Said::Nothing };
    let mut applicable: Vec<(&Intention, &Source)> = policy
        .intentions
        .iter()
        .flat_map(|intention| intention.sources.iter().map(move |source| (intention, source)))
        .filter(|(it, from)| covers(&it.destination.name, asked.destination) && covers(&from.source.name, caller))
        .collect();
    applicable.sort_by_key(|(it, from)| {
        let base = if it.destination.name == "*" { 6 } else { 9 };
        std::cmp::Reverse(base - i32::from(from.source.name == "*"))
    });
    let is_guarded = own.is_some_and(|it| it.mode == Mode::Enforce);
    for (entry, source) in applicable {
        match source.mode {
            Mode::Off => {}
            Mode::Enforce => return by_source(entry, source, asked, default, shadows),
            Mode::Shadow => {
                let mut inner = Shadows::default();
                let allowed = match by_source(entry, source, asked, default, &mut inner) {
                    Said::Allow => true,
                    Said::Deny => false,
                    Said::Nothing => default,
                };
                shadows.note(allowed);
                shadows.any |= !is_guarded || entry.destination.name == asked.destination;
            }
        }
    }
    Said::Nothing
}

fn by_source(entry: &Intention, source: &Source, asked: &Asked, default: bool, shadows: &mut Shadows) -> Said {
    let with_entry = |said: Said, shadows: &mut Shadows| match said {
        Said::Deny => Said::Deny,
        Said::Nothing if !default => Said::Nothing,
        Said::Allow | Said::Nothing => {
            if entry.jwt.as_ref().is_none_or(|it| met(it, asked, shadows)) {
                said
            } else {
                Said::Deny
            }
        }
    };
    match &source.rule {
        SourceRule::Broken | SourceRule::Action(Action::Deny) => Said::Deny,
        SourceRule::Action(Action::Allow) => with_entry(Said::Allow, shadows),
        SourceRule::Permissions(permissions) => {
            let mut passed_over = false;
            for permission in permissions {
                let held = permission_holds(permission, asked);
                if permission.mode == Mode::Off || held == Some(false) {
                    continue;
                }
                if permission.mode == Mode::Shadow {
                    shadows.note(permission.action == Action::Allow);
                    shadows.any = true;
                    continue;
                }
                if permission.action == Action::Deny {
                    return Said::Deny;
                }
                if !permission.jwt.as_ref().is_none_or(|it| met(it, asked, shadows)) {
                    return Said::Deny;
                }
                if held == Some(true) {
                    return with_entry(Said::Allow, shadows);
                }
                passed_over = true;
            }
            if passed_over { Said::Deny } else { with_entry(Said::Nothing, shadows) }
        }
    }
}

/// `None`: it depends on who reads the request.
pub(crate) fn permission_holds(permission: &Permission, asked: &Asked) -> Option<bool> {
    let path = match asked.path.as_str() {
        "/a;x" | "/a//b" => None,
        "/%61" => Some("/a"),
        path => Some(path),
    };
    let by_path = match (&permission.path, path) {
        (None, _) => Some(true),
        (Some(_), None) => None,
        (Some(PathMatch::Exact(want)), Some(path)) => Some(want == path),
        (Some(PathMatch::Prefix(want)), Some(path)) => Some(path.starts_with(want.as_str())),
        (Some(PathMatch::Regex(pattern)), Some(path)) => Some(is_full_match(pattern.text(), path)),
    };
    let by_method = Some(permission.methods.is_empty() || permission.methods.iter().any(|it| it == asked.method));
    let mut all = vec![by_path, by_method];
    all.extend(permission.headers.iter().map(|it| header_holds(it, asked)));
    if all.contains(&Some(false)) {
        Some(false)
    } else if all.contains(&None) {
        None
    } else {
        Some(true)
    }
}

fn header_holds(criterion: &HeaderMatch, asked: &Asked) -> Option<bool> {
    if asked.headers.iter().any(|(name, _)| name == "x_a") && criterion.name == "x-a" {
        return None;
    }
    let named = |name: &str| name.eq_ignore_ascii_case(&criterion.name);
    let values: Vec<_> = asked.headers.iter().filter(|(name, _)| named(name)).map(|(_, value)| value.clone()).collect();
    if values.is_empty() {
        return Some(criterion.invert && criterion.test == HeaderTest::Present);
    }
    let mut readings = vec![values.join(",")];
    readings.extend(values);
    let mut held: Vec<_> = readings.iter().map(|text| text_holds(criterion, text) != criterion.invert).collect();
    held.dedup();
    if held.len() == 1 { Some(held[0]) } else { None }
}

fn text_holds(criterion: &HeaderMatch, text: &str) -> bool {
    let case = |text: &str| if criterion.ignore_case { text.to_lowercase() } else { text.to_owned() };
    let text = &case(text);
    match &criterion.test {
        HeaderTest::Present => true,
        HeaderTest::Exact(want) => *text == case(want),
        HeaderTest::Prefix(want) => text.starts_with(&case(want)),
        HeaderTest::Suffix(want) => text.ends_with(&case(want)),
        HeaderTest::Contains(want) => text.contains(&case(want)),
        HeaderTest::Regex(pattern) => is_full_match(pattern.text(), text),
    }
}

fn is_full_match(pattern: &str, text: &str) -> bool {
    regex::Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(text)
}

fn met(requirement: &Requirement, asked: &Asked, shadows: &mut Shadows) -> bool {
    let met = requirement.providers.iter().any(|it| {
        let Some(claims) = asked.claims.get(&it.provider) else { return false };
        it.claims.iter().all(|check| {
            let mut value = claims;
            for key in &check.path {
                match value.get(key) {
                    Some(inner) => value = inner,
                    None => return false,
                }
            }
            match value {
                Value::String(text) => *text == check.value,
                Value::Array(list) => list.iter().any(|it| it == &Value::String(check.value.clone())),
                _ => false,
            }
        })
    });
    match requirement.mode {
        Mode::Off => true,
        Mode::Enforce => met,
        Mode::Shadow => {
            if !met {
                shadows.note(false);
            }
            true
        }
    }
}
