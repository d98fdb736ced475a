//! A difference as a policy test that `portcullis test` runs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::ask::HOST;
use super::compare::{Case, Difference};
use super::mesh::Seen;
use super::ours::{forwarded, forwarded_values, gateway_uri, seconds};

/// The file's text, which expects what the sidecar did: JSON, so that it is YAML, too.
pub fn text(case: &Case<'_>) -> String {
    let mut headers: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (name, value) in &case.ask.headers {
        headers.entry(name.clone()).or_default().push(json!(String::from_utf8_lossy(value)));
    }
    let mut lines = Vec::new();
    let (expect, status) = match case.seen {
        Seen::Passed(arrived) if case.difference() == Some(Difference::Forwarded) => {
            lines.push(format!(
                "# forwarded by us {:?}, by the sidecar {:?}",
                forwarded(case.ask, case.ours),
                arrived.target
            ));
            for name in case.headers_forwarded_differently(arrived) {
                let theirs = arrived.headers.iter().filter(|(it, _)| it.eq_ignore_ascii_case(&name));
                let theirs: Vec<_> = theirs.map(|(_, value)| String::from_utf8_lossy(value)).collect();
                let ours = forwarded_values(case.ask, case.ours, &name);
                let ours: Vec<_> = ours.iter().map(|it| String::from_utf8_lossy(it)).collect();
                lines.push(format!("# {name} by us {ours:?}, by the sidecar {theirs:?}"));
            }
            ("allow", 200)
        }
        Seen::Passed(_) => ("allow", 200),
        Seen::Redirected(_) => ("deny", 307),
        Seen::Refused(status) => ("deny", *status),
    };
    let mut request = json!({
        "destination": case.ask.destination,
        "method": case.ask.method,
        "path": gateway_uri(&case.ask.target),
        "headers": headers,
        "host": HOST,
        "at": seconds(),
        "expect": expect,
    });
    // A policy test takes the verified ID, not the certificate; a caller with none or several is told by its label.
    if let [uri] = case.caller.uris.as_slice() {
        request["source"] = json!(uri);
    }
    lines.splice(
        0..0,
        [
            format!(
                "# {} by {}: we answer {} ({}), the sidecar {status}",
                case.ask.method, case.caller.label, case.ours.status, case.ours.rule
            ),
            format!("# {}", case.ours.reason),
        ],
    );
    lines.push(format!("default: {}", case.world.default.as_str()));
    lines.push(format!("trustDomain: {}", case.trust_domain));
    let documents = case.world.documents();
    if !documents.is_empty() {
        lines.push("policy:".to_owned());
        lines.extend(documents.iter().map(|it| format!("  - {it}")));
    }
    lines.push("requests:".to_owned());
    lines.push(format!("  - {request}"));
    lines.join("\n") + "\n"
}
