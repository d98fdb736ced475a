//! `mesh`: of all it holds, the request normalization matters here (consul-policy §6.1).

use super::node::{Node, Object};
use portcullis_policy::{
    model::{Policy, Underscores},
    path::EscapedSlashes,
    problem::{Problem, Severity},
};

/// Reads an entry or resource. What cannot be read is fatal: it would change the reading of every path.
pub(super) fn read(object: &Object<'_>, entry: &Node<'_>, policy: &mut Policy, problems: &mut Vec<Problem>) {
    let before = (policy.normalization, policy.underscores);
    read_rules(object, policy, problems);
    if before != Default::default() && before != (policy.normalization, policy.underscores) {
        let what = "another mesh entry normalizes requests otherwise";
        problems.push(entry.problem(Severity::Fatal, what, "keep one of them"));
    }
}

fn read_rules(object: &Object<'_>, policy: &mut Policy, problems: &mut Vec<Problem>) {
    let spec = object.filled("spec").and_then(|it| it.try_object());
    let body = spec.as_ref().unwrap_or(object);
    let Some(rules) =
        inner(body, "http").and_then(|it| inner(&it, "incoming")).and_then(|it| inner(&it, "requestnormalization"))
    else {
        return;
    };
    let known = [
        "insecuredisablepathnormalization",
        "mergeslashes",
        "pathwithescapedslashesaction",
        "headerswithunderscoresaction",
    ];
    for node in rules.unknown(&known) {
        problems.push(node.problem(Severity::Fatal, "this normalization is not known", "upgrade Portcullis"));
    }
    let flag = |key: &str, problems: &mut Vec<Problem>| {
        let Some(node) = rules.filled(key) else { return false };
        node.truth().unwrap_or_else(|| {
            problems.push(node.problem(Severity::Fatal, "true or false was expected here", ""));
            false
        })
    };
    policy.normalization.disabled = flag("insecuredisablepathnormalization", problems);
    policy.normalization.merge_slashes = flag("mergeslashes", problems);
    policy.normalization.escaped_slashes = word(&rules, "pathwithescapedslashesaction", problems, |word| {
        Some(match word {
            "IMPLEMENTATION_SPECIFIC_DEFAULT" => EscapedSlashes::Default,
            "KEEP_UNCHANGED" => EscapedSlashes::KeepUnchanged,
            "REJECT_REQUEST" => EscapedSlashes::RejectRequest,
            "UNESCAPE_AND_REDIRECT" => EscapedSlashes::UnescapeAndRedirect,
            "UNESCAPE_AND_FORWARD" => EscapedSlashes::UnescapeAndForward,
            _ => return None,
        })
    });
    policy.underscores = word(&rules, "headerswithunderscoresaction", problems, |word| {
        Some(match word {
            "ALLOW" => Underscores::Allow,
            "REJECT_REQUEST" => Underscores::RejectRequest,
            "DROP_HEADER" => Underscores::DropHeader,
            _ => return None,
        })
    });
}

fn inner<'a>(object: &Object<'a>, key: &str) -> Option<Object<'a>> {
    object.filled(key).and_then(|it| it.try_object())
}

fn word<T: Default>(
    rules: &Object<'_>,
    key: &str,
    problems: &mut Vec<Problem>,
    meaning: impl Fn(&str) -> Option<T>,
) -> T {
    let Some(node): Option<Node<'_>> = rules.filled(key) else { return T::default() };
    node.text().and_then(meaning).unwrap_or_else(|| {
        problems.push(node.problem(Severity::Fatal, "this action is not known", "see Consul's mesh entry"));
        T::default()
    })
}
