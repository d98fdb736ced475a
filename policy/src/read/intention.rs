//! `service-intentions`: an entry, its sources, their permissions (consul-policy §2.1, §3.2).

use super::node::{Node, Object};
use crate::{
    model::{
        Action, DEFAULT_TENANCY, Intention, PathMatch, Permission, Policy, ServiceName, Source, SourceRule, WILDCARD,
    },
    problem::{Problem, Severity},
};

const ENTRY_KEYS: [&str; 9] =
    ["kind", "name", "namespace", "partition", "sources", "meta", "createindex", "modifyindex", "hash"];
const RESOURCE_KEYS: [&str; 5] = ["kind", "apiversion", "metadata", "spec", "status"];
const SPEC_KEYS: [&str; 2] = ["destination", "sources"];
const SOURCE_KEYS: [&str; 13] = [
    "name",
    "action",
    "permissions",
    "precedence",
    "type",
    "description",
    "namespace",
    "partition",
    "legacyid",
    "legacymeta",
    "legacycreatetime",
    "legacyupdatetime",
    "legacyname",
];
const PERMISSION_KEYS: [&str; 2] = ["action", "http"];
const HTTP_KEYS: [&str; 3] = ["pathexact", "pathprefix", "methods"];
/// Consul's list (consul-policy §3.2); others cannot be written there.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"];
/// Longest name that is accepted, in bytes. Consul stores longer ones; nothing can call them.
const MAX_NAME: usize = 255;

/// Reads one entry or resource into the policy.
pub(super) fn read(object: &Object<'_>, entry: &Node<'_>, policy: &mut Policy, problems: &mut Vec<Problem>) {
    let found = match object.filled("spec") {
        Some(spec) => read_resource(object, &spec, problems),
        None => read_config_entry(object, entry, problems),
    };
    policy.intentions.extend(found);
}

/// `service-defaults`: only the protocol matters, for L7 permissions need an HTTP one.
pub(super) fn read_protocol(object: &Object<'_>, policy: &mut Policy) {
    let spec = object.filled("spec").and_then(|spec| spec.try_object());
    let name = match &spec {
        Some(_) => object.get("metadata").and_then(|it| it.try_object()).and_then(|it| it.get("name")),
        None => object.get("name"),
    };
    // Absent means tcp to Consul, but a gateway only ever speaks HTTP to a destination: only a written protocol counts.
    let protocol = spec.as_ref().unwrap_or(object).filled("protocol");
    if let (Some(name), Some(protocol)) = (name.and_then(|it| it.text()), protocol.and_then(|it| it.text())) {
        policy.settings.protocols.insert(name.to_owned(), protocol.to_ascii_lowercase());
    }
}

fn read_config_entry(object: &Object<'_>, entry: &Node<'_>, problems: &mut Vec<Problem>) -> Option<Intention> {
    let destination = service_name(object, entry, DEFAULT_TENANCY, DEFAULT_TENANCY, Severity::Fatal, problems)?;
    Some(read_sources(object, entry, destination, &ENTRY_KEYS, problems))
}

fn read_resource(resource: &Object<'_>, spec: &Node<'_>, problems: &mut Vec<Problem>) -> Option<Intention> {
    problems.extend(
        resource
            .unknown(&RESOURCE_KEYS)
            .iter()
            .map(|node| node.problem(Severity::Warning, "this field is not known", "")),
    );
    let object = spec.object(problems)?;
    let Some(target) = object.get("destination") else {
        problems.push(spec.problem(Severity::Fatal, "the resource has no spec.destination", ""));
        return None;
    };
    let target_object = target.object(problems)?;
    let destination =
        service_name(&target_object, &target, DEFAULT_TENANCY, DEFAULT_TENANCY, Severity::Fatal, problems)?;
    Some(read_sources(&object, spec, destination, &SPEC_KEYS, problems))
}

fn read_sources(
    object: &Object<'_>,
    entry: &Node<'_>,
    destination: ServiceName,
    known: &[&str],
    problems: &mut Vec<Problem>,
) -> Intention {
    let mut intention = Intention { destination, sources: Vec::new(), broken: false };
    // A field that this version does not know may narrow the entry (as JWT does), so it is not skipped.
    for node in object.unknown(known) {
        problems.push(node.problem(
            Severity::Error,
            "this field is not enforced by this version; the whole destination is denied",
            "remove it, or upgrade Portcullis",
        ));
        intention.broken = true;
    }
    let sources = object.get("sources");
    let Some(sources) = sources.as_ref().and_then(Node::try_list).filter(|list| !list.is_empty()) else {
        problems.push(entry.problem(
            Severity::Error,
            "the entry has no Sources; the whole destination is denied",
            "list at least one source",
        ));
        intention.broken = true;
        return intention;
    };
    for source in sources {
        match read_source(&source, &intention.destination, problems) {
            Some(source) => intention.sources.push(source),
            // Whom it speaks of is not known: it could be anybody.
            None => intention.broken = true,
        }
    }
    intention
}

fn read_source(node: &Node<'_>, destination: &ServiceName, problems: &mut Vec<Problem>) -> Option<Source> {
    let Some(object) = node.try_object() else {
        problems.push(node.problem(Severity::Error, "a source must be an object; the whole destination is denied", ""));
        return None;
    };
    for key in ["peer", "samenessgroup"] {
        if let Some(found) = object.filled(key) {
            // Callers of other trust domains are refused before intentions are asked, so an allow that is left out
            // opens nothing; the whole destination is denied all the same, as the author expects more than is done.
            problems.push(found.problem(
                Severity::Error,
                "sources from peers are not enforced by this version; the whole destination is denied",
                "remove the source",
            ));
            return None;
        }
    }
    // A source inherits the destination's tenancy (consul-policy §1.4).
    let source =
        service_name(&object, node, &destination.partition, &destination.namespace, Severity::Error, problems)?;
    let seen = problems.len();
    problems.extend(object.unknown(&SOURCE_KEYS).iter().map(not_enforced));
    let rule = match (object.filled("action"), object.filled("permissions")) {
        (Some(action), None) => read_action(&action, problems).map(SourceRule::Action),
        (None, Some(permissions)) => read_permissions(&permissions, destination, problems),
        (Some(_), Some(_)) => {
            problems.push(node.problem(
                Severity::Error,
                "Action and Permissions exclude each other; the source is denied",
                "",
            ));
            None
        }
        (None, None) => {
            problems.push(node.problem(
                Severity::Error,
                "the source has neither Action nor Permissions; it is denied",
                "",
            ));
            None
        }
    };
    let rule = rule.filter(|_| problems.len() == seen).unwrap_or(SourceRule::Broken);
    Some(Source { source, rule })
}

fn not_enforced(node: &Node<'_>) -> Problem {
    node.problem(
        Severity::Error,
        "this field is not enforced by this version; the source is denied",
        "remove it, or upgrade Portcullis",
    )
}

fn read_action(node: &Node<'_>, problems: &mut Vec<Problem>) -> Option<Action> {
    match node.text() {
        Some("allow") => Some(Action::Allow),
        Some("deny") => Some(Action::Deny),
        _ => {
            problems.push(node.problem(Severity::Error, "the action is neither `allow` nor `deny`; it is denied", ""));
            None
        }
    }
}

fn read_permissions(node: &Node<'_>, destination: &ServiceName, problems: &mut Vec<Problem>) -> Option<SourceRule> {
    if destination.name == WILDCARD {
        problems.push(node.problem(
            Severity::Error,
            "Permissions are not possible on a wildcard destination; the source is denied",
            "name the destination, or use Action",
        ));
        return None;
    }
    let Some(list) = node.try_list() else {
        problems.push(node.problem(Severity::Error, "Permissions must be a list; the source is denied", ""));
        return None;
    };
    // Every one is read, so that all problems are reported at once.
    let permissions: Vec<_> = list.iter().map(|permission| read_permission(permission, problems)).collect();
    permissions.into_iter().collect::<Option<Vec<_>>>().map(SourceRule::Permissions)
}

fn read_permission(node: &Node<'_>, problems: &mut Vec<Problem>) -> Option<Permission> {
    let object = node.object_of_source(problems)?;
    let seen = problems.len();
    problems.extend(object.unknown(&PERMISSION_KEYS).iter().map(not_enforced));
    let action = match object.filled("action") {
        Some(action) => read_action(&action, problems),
        None => {
            problems.push(node.problem(Severity::Error, "the permission has no Action; the source is denied", ""));
            None
        }
    };
    let Some(http) = object.filled("http") else {
        problems.push(no_criteria(node));
        return None;
    };
    let criteria = http.object_of_source(problems)?;
    problems.extend(criteria.unknown(&HTTP_KEYS).iter().map(not_enforced));
    let path = read_path(&criteria, &http, problems);
    let methods = read_methods(&criteria, problems);
    if path.is_none() && methods.is_empty() && problems.len() == seen {
        // Consul's proxies would take it for "any request" (consul-policy §3.1).
        problems.push(no_criteria(&http));
    }
    if problems.len() > seen {
        return None;
    }
    Some(Permission { action: action?, path, methods })
}

fn no_criteria(node: &Node<'_>) -> Problem {
    node.problem(
        Severity::Error,
        "the permission has no HTTP criteria; the source is denied",
        "give PathExact, PathPrefix or Methods, or use Action on the source for all requests",
    )
}

fn read_path(criteria: &Object<'_>, http: &Node<'_>, problems: &mut Vec<Problem>) -> Option<PathMatch> {
    let mut read = |key: &str, kind: fn(String) -> PathMatch| {
        let node = criteria.filled(key)?;
        match node.text().filter(|path| path.starts_with('/')) {
            Some(path) => Some(kind(path.to_owned())),
            None => {
                problems.push(node.problem(Severity::Error, "the path must begin with `/`; the source is denied", ""));
                None
            }
        }
    };
    let (exact, prefix) = (read("pathexact", PathMatch::Exact), read("pathprefix", PathMatch::Prefix));
    if exact.is_some() && prefix.is_some() {
        problems.push(http.problem(
            Severity::Error,
            "at most one path criterion is possible; the source is denied",
            "",
        ));
    }
    exact.or(prefix)
}

fn read_methods(criteria: &Object<'_>, problems: &mut Vec<Problem>) -> Vec<String> {
    let Some(node) = criteria.filled("methods") else { return Vec::new() };
    let Some(texts) = node.texts() else {
        problems.push(node.problem(Severity::Error, "Methods must be a list of names; the source is denied", ""));
        return Vec::new();
    };
    let methods: Vec<_> = texts.iter().map(|text| text.to_ascii_uppercase()).collect();
    for method in &methods {
        if !METHODS.contains(&method.as_str()) {
            let what = format!("unknown method `{method}`; the source is denied");
            problems.push(node.problem(Severity::Error, &what, &format!("known are {}", METHODS.join(" "))));
        }
    }
    methods
}

/// Name, namespace and partition of an object, with what they default to.
fn service_name(
    object: &Object<'_>,
    node: &Node<'_>,
    partition: &str,
    namespace: &str,
    severity: Severity,
    problems: &mut Vec<Problem>,
) -> Option<ServiceName> {
    let mut fail = |what: &str, hint: &str| {
        problems.push(node.problem(severity, what, hint));
        None
    };
    let mut texts = [("name", ""), ("namespace", namespace), ("partition", partition)]
        .into_iter()
        .map(|(key, default)| object.filled(key).map_or(Some(default.to_owned()), |it| it.text().map(str::to_owned)));
    let mut next = || texts.next().flatten();
    let (Some(name), Some(namespace), Some(partition)) = (next(), next(), next()) else {
        return fail("Name, Namespace and Partition must be texts", "");
    };
    if name.is_empty() {
        return fail("the Name is missing", "name a service, or `*` for all of them");
    }
    let odd = |part: &str| part.len() > MAX_NAME || part.contains('\0') || (part.contains('*') && part != WILDCARD);
    if odd(&name) || odd(&namespace) || odd(&partition) {
        return fail("the name is too long, holds NUL or a partial wildcard", "`*` stands for a whole name only");
    }
    if partition == WILDCARD || (namespace == WILDCARD && name != WILDCARD) {
        return fail("a wildcard is not possible here", "Partition is never `*`, and Namespace `*` needs Name `*`");
    }
    Some(ServiceName { partition, namespace, name })
}

impl<'a> Node<'a> {
    /// The value as an object inside a source: anything else denies the source.
    fn object_of_source(&self, problems: &mut Vec<Problem>) -> Option<Object<'a>> {
        let object = self.try_object();
        if object.is_none() {
            problems.push(self.problem(Severity::Error, "an object was expected here; the source is denied", ""));
        }
        object
    }
}
