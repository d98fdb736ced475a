//! `service-intentions`: an entry and its sources (consul-policy §2.1).

use super::{
    mode::Modes,
    node::{Node, Object},
    permission,
    requirement::{self, Unreadable},
};
use portcullis_policy::{
    model::{Action, DEFAULT_TENANCY, Intention, Mode, Policy, ServiceName, Source, SourceRule, WILDCARD},
    problem::{Problem, Severity},
};

const ENTRY_KEYS: [&str; 11] =
    ["kind", "name", "namespace", "partition", "sources", "jwt", "mode", "meta", "createindex", "modifyindex", "hash"];
const RESOURCE_KEYS: [&str; 5] = ["kind", "apiversion", "metadata", "spec", "status"];
const SPEC_KEYS: [&str; 4] = ["destination", "sources", "jwt", "mode"];
const SOURCE_KEYS: [&str; 15] = [
    "name",
    "action",
    "permissions",
    "mode",
    "peer",
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

/// `proxy-defaults`: its protocol is that of every service whose `service-defaults` name none.
pub(super) fn read_default_protocol(object: &Object<'_>, policy: &mut Policy) {
    let spec = object.filled("spec").and_then(|spec| spec.try_object());
    let config = spec.as_ref().unwrap_or(object).filled("config").and_then(|it| it.try_object());
    let protocol = config.and_then(|config| config.filled("protocol")?.text().map(str::to_ascii_lowercase));
    if let Some(protocol) = protocol {
        policy.settings.protocols.insert(WILDCARD.to_owned(), protocol);
    }
}

fn read_config_entry(object: &Object<'_>, entry: &Node<'_>, problems: &mut Vec<Problem>) -> Option<Intention> {
    let destination = service_name(object, entry, DEFAULT_TENANCY, DEFAULT_TENANCY, Severity::Fatal, problems)?;
    let modes = Modes::new(object.get("meta"));
    Some(read_sources(object, entry, destination, &ENTRY_KEYS, &modes, problems))
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
    let annotations = resource.get("metadata").and_then(|it| it.try_object()).and_then(|it| it.get("annotations"));
    let modes = Modes::new(annotations);
    Some(read_sources(&object, spec, destination, &SPEC_KEYS, &modes, problems))
}

fn read_sources(
    object: &Object<'_>,
    entry: &Node<'_>,
    destination: ServiceName,
    known: &[&str],
    modes: &Modes<'_>,
    problems: &mut Vec<Problem>,
) -> Intention {
    let (jwt, mode) = (object.filled("jwt"), modes.of_entry(object, problems));
    let mut intention = Intention {
        destination,
        sources: Vec::new(),
        jwt: None,
        mode: mode.unwrap_or_default(),
        // What a mode that cannot be read was to soften stays as hard as it can be.
        broken: mode.is_none(),
    };
    if let Some(jwt) = jwt {
        match requirement::read(&jwt, "the whole destination", modes, "jwt", problems) {
            Ok(requirement) => intention.jwt = requirement,
            Err(Unreadable) => intention.broken = true,
        }
    }
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
        match read_source(&source, &intention, modes, problems) {
            Some(source) => intention.sources.push(source),
            // Whom it speaks of is not known: it could be anybody.
            None => intention.broken = true,
        }
    }
    modes.report_unused(problems);
    intention
}

fn read_source(node: &Node<'_>, entry: &Intention, modes: &Modes<'_>, problems: &mut Vec<Problem>) -> Option<Source> {
    let destination = &entry.destination;
    let Some(object) = node.try_object() else {
        problems.push(node.problem(Severity::Error, "a source must be an object; the whole destination is denied", ""));
        return None;
    };
    if let Some(found) = object.filled("samenessgroup") {
        // Whom it stands for is known to Consul Enterprise only.
        problems.push(found.problem(
            Severity::Error,
            "sameness groups are not known here; the whole destination is denied",
            "write one source for each peer or partition of the group",
        ));
        return None;
    }
    let source = source_name(&object, node, destination, problems)?;
    let seen = problems.len();
    problems.extend(object.unknown(&SOURCE_KEYS).iter().map(not_enforced));
    let mode = modes.of(&object, &format!("sources/{source}"), entry.mode, problems);
    let rule = match (object.filled("action"), object.filled("permissions")) {
        (Some(action), None) => read_action(&action, problems).map(SourceRule::Action),
        (None, Some(permissions)) => {
            let place = format!("sources/{source}");
            permission::read_list(&permissions, destination, modes, &place, problems).map(SourceRule::Permissions)
        }
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
    // Warnings do not take anything away.
    let failed = problems.get(seen..).unwrap_or_default().iter().any(|it| it.severity >= Severity::Error);
    match (rule.filter(|_| !failed), mode) {
        (Some(rule), Some(mode)) => Some(Source { source, rule, mode }),
        _ => Some(Source { source, rule: SourceRule::Broken, mode: Mode::Enforce }),
    }
}

/// A source inherits the destination's tenancy; a peer's does not (consul-policy §1.4).
pub(super) fn source_name(
    object: &Object<'_>,
    node: &Node<'_>,
    destination: &ServiceName,
    problems: &mut Vec<Problem>,
) -> Option<ServiceName> {
    let Some(peer) = object.filled("peer") else {
        let ServiceName { partition, namespace, .. } = destination;
        return service_name(object, node, partition, namespace, Severity::Error, problems);
    };
    let name = service_name(object, node, DEFAULT_TENANCY, DEFAULT_TENANCY, Severity::Error, problems)?;
    let is_name = |peer: &&str| peer.len() <= MAX_NAME && !peer.contains(['\0', '*', '/']);
    let Some(peer) = peer.text().filter(is_name) else {
        problems.push(peer.problem(Severity::Error, "the Peer is no name; the whole destination is denied", ""));
        return None;
    };
    if object.filled("partition").is_some() {
        let what = "Peer and Partition exclude each other; the whole destination is denied";
        problems.push(node.problem(Severity::Error, what, "remove the Partition"));
        return None;
    }
    Some(ServiceName { peer: peer.to_owned(), ..name })
}

pub(super) fn not_enforced(node: &Node<'_>) -> Problem {
    node.problem(
        Severity::Error,
        "this field is not enforced by this version; the source is denied",
        "remove it, or upgrade Portcullis",
    )
}

pub(super) fn read_action(node: &Node<'_>, problems: &mut Vec<Problem>) -> Option<Action> {
    match node.text() {
        Some("allow") => Some(Action::Allow),
        Some("deny") => Some(Action::Deny),
        _ => {
            problems.push(node.problem(Severity::Error, "the action is neither `allow` nor `deny`; it is denied", ""));
            None
        }
    }
}

/// Name, namespace and partition of an object, with what they default to.
pub(super) fn service_name(
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
    Some(ServiceName { peer: String::new(), partition, namespace, name })
}
