//! `Permissions` of a source (consul-policy §3.2).

use super::{
    criteria,
    intention::{not_enforced, read_action},
    mode::Modes,
    node::{Node, Object},
    requirement,
};
use portcullis_policy::{
    model::{Mode, Permission, ServiceName, WILDCARD},
    problem::{Problem, Severity},
};

const PERMISSION_KEYS: [&str; 4] = ["action", "http", "jwt", "mode"];
/// What is denied by a fault in a permission.
const SCOPE: &str = "the source is denied";

/// Reads the list; `None` (with a problem) when any of it cannot be read.
pub(super) fn read_list(
    node: &Node<'_>,
    destination: &ServiceName,
    modes: &Modes<'_>,
    part: &str,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Permission>> {
    if destination.name == WILDCARD {
        problems.push(denied(
            node,
            "Permissions are not possible on a wildcard destination",
            "name the destination, or use Action",
        ));
        return None;
    }
    let Some(list) = node.try_list() else {
        problems.push(denied(node, "Permissions must be a list", ""));
        return None;
    };
    // Every one is read, so that all problems are reported at once.
    let read = |(index, it)| read_permission(it, modes, &format!("{part}/permissions/{index}"), problems);
    let permissions: Vec<_> = list.iter().enumerate().map(read).collect();
    permissions.into_iter().collect()
}

fn denied(node: &Node<'_>, what: &str, hint: &str) -> Problem {
    node.problem(Severity::Error, &format!("{what}; {SCOPE}"), hint)
}

fn read_permission(node: &Node<'_>, modes: &Modes<'_>, part: &str, problems: &mut Vec<Problem>) -> Option<Permission> {
    let object = object_of_source(node, problems)?;
    let seen = problems.len();
    problems.extend(object.unknown(&PERMISSION_KEYS).iter().map(not_enforced));
    let action = match object.filled("action") {
        Some(action) => read_action(&action, problems),
        None => {
            problems.push(denied(node, "the permission has no Action", ""));
            None
        }
    };
    let mode = modes.of(&object, part, Mode::Enforce, problems);
    let jwt = match object.filled("jwt") {
        None => Ok(None),
        Some(jwt) => requirement::read(&jwt, "the source", modes, &format!("{part}/jwt"), problems),
    };
    let Some(http) = object.filled("http") else {
        problems.push(no_criteria(node));
        return None;
    };
    let criteria = object_of_source(&http, problems)?;
    let criteria::Criteria { path, methods, headers } = criteria::read(&criteria, &http, &[], SCOPE, problems);
    if path.is_none() && methods.is_empty() && headers.is_empty() && problems.len() == seen {
        // Consul's proxies would take it for "any request" (consul-policy §3.1).
        problems.push(no_criteria(&http));
    }
    let jwt = jwt.ok().filter(|_| problems.len() == seen)?;
    Some(Permission { action: action?, path, methods, headers, jwt, mode: mode? })
}

fn no_criteria(node: &Node<'_>) -> Problem {
    denied(
        node,
        "the permission has no HTTP criteria",
        "give a path, Methods or Header, or use Action on the source for all requests",
    )
}

fn object_of_source<'a>(node: &Node<'a>, problems: &mut Vec<Problem>) -> Option<Object<'a>> {
    let object = node.try_object();
    if object.is_none() {
        problems.push(denied(node, "an object was expected here", ""));
    }
    object
}
