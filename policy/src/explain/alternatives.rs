//! What would have changed a verdict. Nothing here is guessed: every alternative is a request that was decided, too.

use std::{borrow::Cow, collections::BTreeSet, fmt::Write as _};

use crate::{
    candidates::Name,
    decide::{Decision, Request, Verdict, decide},
    header_match::{HeaderMatch, HeaderTest},
    headers::Headers,
    identity::Certified,
    model::{PathMatch, Permission},
    snapshot::{
        ReadAt, Snapshot, SnapshotError,
        record::{Body, IntentionRecord},
    },
};

/// Most alternatives that are told.
const MAX_TOLD: usize = 12;
/// Most requests that are tried.
const MAX_TRIED: usize = 2000;

/// What would have changed the verdict of a request, one line each, the smallest changes first. Reads the whole snapshot.
pub fn alternatives<R: ReadAt>(
    snapshot: &Snapshot<R>,
    request: &Request<'_>,
    decision: &Decision,
) -> Result<Vec<String>, SnapshotError> {
    let Some(destination) = Name::parse(request.destination) else { return Ok(Vec::new()) };
    let destinations = destination.patterns().map(|it| it.to_owned().to_string());
    let of_destination = |it: &IntentionRecord| {
        let parts = it.rule.strip_prefix("service-intentions/").and_then(|it| it.split_once("/sources/"));
        parts.is_some_and(|(destination, _)| destinations.iter().any(|it| it == destination))
    };
    let intentions: Vec<_> = snapshot.all_intentions()?.into_iter().filter(of_destination).collect();
    let mut search = Search { snapshot, was: decision.verdict, told: Vec::new(), seen: BTreeSet::new(), tried: 0 };
    let permissions: Vec<_> = intentions.iter().flat_map(permissions).collect();

    for method in permissions.iter().flat_map(|it| &it.methods) {
        search.attempt(&Request { method, ..*request }, || format!("with the method {method}"));
    }
    for criterion in permissions.iter().flat_map(|it| &it.headers) {
        search.attempt_header(request, criterion);
    }
    for path in permissions.iter().filter_map(|it| it.path.as_ref()) {
        if let PathMatch::Exact(path) | PathMatch::Prefix(path) = path {
            search.attempt(&Request { uri: path, ..*request }, || format!("for the path {path}"));
        }
    }
    let domain = snapshot.settings().trust_domains.iter().find(|it| it.peer.is_none());
    let domain = domain.map(|it| it.name.as_str()).unwrap_or_default();
    for source in intentions.iter().filter_map(|it| it.rule.split_once("/sources/")).map(|(_, source)| source) {
        // A peer's and a wildcard's callers have no name that could be tried.
        if let Some(Name { partition: "default", namespace, name, .. }) = Name::parse(source) {
            let id = format!("spiffe://{domain}/ns/{namespace}/dc/any/svc/{name}");
            search.attempt(&Request { certificate: Certified::Spiffe(&id), ..*request }, || format!("from {source}"));
        }
    }
    search.attempt(&Request { certificate: Certified::Absent, ..*request }, || "without a certificate".to_owned());
    for requirement in
        intentions.iter().filter_map(|it| it.jwt.as_ref()).chain(permissions.iter().filter_map(|it| it.jwt.as_ref()))
    {
        search.attempt_claims(request, requirement);
    }
    Ok(search.told)
}

fn permissions(intention: &IntentionRecord) -> &[Permission] {
    match &intention.body {
        Body::Permissions(permissions) => permissions,
        Body::Action(_) | Body::Broken => &[],
    }
}

struct Search<'s, R> {
    snapshot: &'s Snapshot<R>,
    was: Verdict,
    told: Vec<String>,
    seen: BTreeSet<String>,
    tried: usize,
}

impl<R: ReadAt> Search<'_, R> {
    fn attempt(&mut self, request: &Request<'_>, words: impl FnOnce() -> String) {
        if self.told.len() >= MAX_TOLD || self.tried >= MAX_TRIED {
            return;
        }
        let words = words();
        if !self.seen.insert(words.clone()) {
            return;
        }
        self.tried += 1;
        let decision = decide(self.snapshot, request);
        if decision.verdict != self.was {
            self.told.push(format!("{words}: {} by {}", decision.verdict.as_str(), decision.rule));
        }
    }

    /// With the header as the criterion wants it, and without it.
    fn attempt_header(&mut self, request: &Request<'_>, criterion: &HeaderMatch) {
        let name = criterion.name.as_str();
        let value = match &criterion.test {
            HeaderTest::Present => "present",
            HeaderTest::Exact(text)
            | HeaderTest::Prefix(text)
            | HeaderTest::Suffix(text)
            | HeaderTest::Contains(text) => text,
            // A text that a pattern holds is not made up here.
            HeaderTest::Regex(_) => return,
        };
        let with = Replaced { headers: request.headers, name, value: Some(value.as_bytes()) };
        self.attempt(&Request { headers: &with, ..*request }, || format!("with the header {name}: {value}"));
        let without = Replaced { headers: request.headers, name, value: None };
        self.attempt(&Request { headers: &without, ..*request }, || format!("without the header {name}"));
    }

    /// With valid tokens that say what is asked for.
    fn attempt_claims(&mut self, request: &Request<'_>, requirement: &crate::model::Requirement) {
        for alternative in &requirement.providers {
            let mut claims = serde_json::json!({});
            let mut words = format!("with a valid token of {}", alternative.provider);
            for check in &alternative.claims {
                set(&mut claims, &check.path, &check.value);
                // Nothing fails that writes to a text.
                let _ = write!(words, " {}={:?}", check.path.join("."), check.value);
            }
            let claims = [(alternative.provider.clone(), claims)].into();
            self.attempt(&Request { claims: Some(&claims), ..*request }, || words);
        }
    }
}

fn set(value: &mut serde_json::Value, path: &[String], text: &str) {
    let Some((key, rest)) = path.split_first() else {
        *value = text.into();
        return;
    };
    if !value.is_object() {
        *value = serde_json::json!({});
    }
    if let Some(object) = value.as_object_mut() {
        set(object.entry(key.clone()).or_insert_with(|| serde_json::json!({})), rest, text);
    }
}

/// The headers with one of them replaced, or without it.
struct Replaced<'h> {
    headers: &'h dyn Headers,
    name: &'h str,
    value: Option<&'h [u8]>,
}

impl Headers for Replaced<'_> {
    fn values(&self, name: &str) -> Vec<Cow<'_, [u8]>> {
        if name == self.name { self.value.map(Cow::Borrowed).into_iter().collect() } else { self.headers.values(name) }
    }

    fn has_alias(&self, name: &str) -> bool {
        name != self.name && self.headers.has_alias(name)
    }

    fn has_underscores(&self) -> bool {
        self.headers.has_underscores()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::HeaderList;

    #[test]
    fn a_replaced_header_has_one_value_or_none() {
        let headers = HeaderList::new([("x-a", "1"), ("x-a", "2"), ("X_B", "3")]);
        let with = Replaced { headers: &headers, name: "x-a", value: Some(b"4") };
        assert_eq!(with.values("x-a"), [b"4".as_slice()]);
        assert!(with.has_alias("x-b"));
        let without = Replaced { headers: &headers, name: "x-b", value: None };
        assert!(without.values("x-b").is_empty() && !without.has_alias("x-b"));
        assert_eq!(without.values("x-a").len(), 2);
    }
}
