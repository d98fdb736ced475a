//! `api-key`: Portcullis' own kind. `{Kind: api-key, Name: <id>, Source: {Name: <service>}, Hash: "sha256:<salt>:<hash>"}`

use super::node::{Node, Object};
use portcullis_policy::{
    api_key::parse_hash,
    model::{ApiKey, DEFAULT_TENANCY, Policy, ServiceName, WILDCARD},
    problem::{Problem, Severity},
};

/// Reads one key. A key that cannot be read is left out: nobody can present it.
pub(super) fn read(object: &Object<'_>, entry: &Node<'_>, policy: &mut Policy, problems: &mut Vec<Problem>) {
    match read_key(object) {
        Ok(key) => policy.api_keys.push(key),
        Err((what, hint)) => problems.push(entry.problem(Severity::Error, what, hint)),
    }
    problems.extend(
        object
            .unknown(&["kind", "name", "source", "hash", "description"])
            .iter()
            .map(|node| node.problem(Severity::Warning, "this field is not known", "")),
    );
}

fn read_key(object: &Object<'_>) -> Result<ApiKey, (&'static str, &'static str)> {
    const MAKE_ONE: &str = "make a key with: portcullis key new --source NAME";
    let word =
        |text: &&str| !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let text = |key: &str| object.get(key).and_then(|node| node.text());
    let id =
        text("name").filter(word).ok_or(("the key has no Name of letters and digits; it is not accepted", MAKE_ONE))?;
    let (salt, hash) =
        text("hash").and_then(parse_hash).ok_or(("the key has no valid Hash; it is not accepted", MAKE_ONE))?;
    let source = object.get("source").and_then(|node| node.try_object());
    let part = |key: &str, default: &str| {
        let part = source.as_ref()?.filled(key).map_or(Some(default), |node| node.text())?;
        (!part.is_empty() && part != WILDCARD && part.len() <= 255 && !part.contains('\0')).then(|| part.to_owned())
    };
    let source = || {
        let partition = part("partition", DEFAULT_TENANCY)?;
        Some(ServiceName {
            peer: String::new(),
            partition,
            namespace: part("namespace", DEFAULT_TENANCY)?,
            name: part("name", "")?,
        })
    };
    let source =
        source().ok_or(("the key has no Source.Name; it is not accepted", "name the service that its holder is"))?;
    Ok(ApiKey { id: id.to_owned(), source, salt, hash })
}
