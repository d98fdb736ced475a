//! `JWT` of an entry or a permission (consul-policy §4.1).

use super::{mode::Modes, node::Node};
use portcullis_policy::{
    model::{ClaimCheck, Mode, ProviderRequirement, Requirement},
    problem::{Problem, Severity},
};

/// The requirement cannot be read, so nobody can be said to meet it.
pub(super) struct Unreadable;

/// Most providers of a requirement, claims of a provider and keys of a path that are accepted.
const MAX_ELEMENTS: usize = 64;

/// Reads a requirement. Without providers it requires nothing, as in Consul. `scope` says in problems what is denied.
pub(super) fn read(
    node: &Node<'_>,
    scope: &str,
    modes: &Modes<'_>,
    part: &str,
    problems: &mut Vec<Problem>,
) -> Result<Option<Requirement>, Unreadable> {
    let seen = problems.len();
    let denied = |node: &Node<'_>, what: &str, hint: &str| {
        node.problem(Severity::Error, &format!("{what}; {scope} is denied"), hint)
    };
    let Some(object) = node.try_object() else {
        problems.push(denied(node, "JWT must be an object", ""));
        return Err(Unreadable);
    };
    problems.extend(object.unknown(&["providers", "mode"]).iter().map(|it| denied(it, "this field is not known", "")));
    let mode = modes.of(&object, part, Mode::Enforce, problems);
    let providers = object.get("providers").map(|it| (it.try_list(), it));
    let list = match providers {
        None => Vec::new(),
        Some((Some(list), node)) if list.len() > MAX_ELEMENTS => {
            problems.push(denied(&node, "there are too many Providers", ""));
            Vec::new()
        }
        Some((Some(list), _)) => list,
        Some((None, node)) => {
            problems.push(denied(&node, "Providers must be a list", ""));
            Vec::new()
        }
    };
    let providers = list.iter().filter_map(|it| read_provider(it, &denied, problems)).collect::<Vec<_>>();
    match mode.filter(|_| problems.len() == seen) {
        None => Err(Unreadable),
        Some(_) if providers.is_empty() => Ok(None),
        Some(mode) => Ok(Some(Requirement { providers, mode })),
    }
}

type Denied<'d> = dyn Fn(&Node<'_>, &str, &str) -> Problem + 'd;

fn read_provider(node: &Node<'_>, denied: &Denied<'_>, problems: &mut Vec<Problem>) -> Option<ProviderRequirement> {
    let Some(object) = node.try_object() else {
        problems.push(denied(node, "a provider must be an object", ""));
        return None;
    };
    problems
        .extend(object.unknown(&["name", "verifyclaims"]).iter().map(|it| denied(it, "this field is not known", "")));
    let name = object.filled("name").and_then(|it| it.text().map(str::to_owned));
    if name.as_ref().is_none_or(|name| name.contains('\0')) {
        problems.push(denied(node, "the provider has no Name", "name a jwt-provider"));
    }
    let list = object.get("verifyclaims").map(|it| (it.try_list(), it));
    let claims = match list {
        None => Vec::new(),
        Some((Some(list), _)) if list.len() <= MAX_ELEMENTS => list,
        Some((_, node)) => {
            problems.push(denied(&node, "VerifyClaims must be a list of bounded length", ""));
            Vec::new()
        }
    };
    let claims = claims.iter().filter_map(|it| read_claim(it, denied, problems)).collect();
    Some(ProviderRequirement { provider: name?, claims })
}

/// An absent `Path` never holds and an absent `Value` is an empty text, as in Consul's proxies (consul-policy §4.1).
fn read_claim(node: &Node<'_>, denied: &Denied<'_>, problems: &mut Vec<Problem>) -> Option<ClaimCheck> {
    let Some(object) = node.try_object() else {
        problems.push(denied(node, "a claim must be an object", ""));
        return None;
    };
    problems.extend(object.unknown(&["path", "value"]).iter().map(|it| denied(it, "this field is not known", "")));
    let path = match object.filled("path") {
        None => Some(Vec::new()),
        // Not `texts`: a key is taken whole, commas included.
        Some(path) => path.try_list().and_then(|list| list.iter().map(|it| it.text().map(str::to_owned)).collect()),
    };
    let value = object.filled("value").map_or(Some(String::new()), |it| it.text().map(str::to_owned));
    match (path.filter(|path: &Vec<String>| path.len() <= MAX_ELEMENTS), value) {
        (Some(path), Some(value)) => Some(ClaimCheck { path, value }),
        _ => {
            problems.push(denied(node, "a claim needs a Path (a list of texts) and a Value (a text)", ""));
            None
        }
    }
}
