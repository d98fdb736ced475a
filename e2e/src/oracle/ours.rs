//! Our side: the policy engine in process, on the same documents and the same request.

use std::cell::RefCell;
use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use portcullis_authoring::{compile, read};
use portcullis_policy::{Certified, Change, Decision, HeaderList, Memory, PolicySettings, Request, Snapshot, decide};

use super::ask::{Ask, HOST};
use super::callers::Caller;
use super::policy::World;

/// A compiled world.
pub struct Engine {
    snapshot: Snapshot<Vec<u8>>,
    memory: Remembered,
}

/// Signatures that were verified already, as the plugin remembers them.
#[derive(Debug, Default)]
struct Remembered(RefCell<HashSet<[u8; 32]>>);

impl Memory for Remembered {
    fn remembers(&self, digest: &[u8; 32], _: u64) -> bool {
        self.0.borrow().contains(digest)
    }

    fn remember(&self, digest: &[u8; 32], _: u64) {
        self.0.borrow_mut().insert(*digest);
    }
}

impl Engine {
    /// Compiles a world as the sidecar does. What Consul accepts, we must read without a problem.
    pub fn of(world: &World, trust_domain: &str) -> Result<Engine> {
        let settings = PolicySettings {
            default: world.default,
            trust_domains: vec![trust_domain.to_owned()],
            ..PolicySettings::default()
        };
        let documents: Vec<_> = world.documents().into_iter().map(|it| ("world".to_owned(), it)).collect();
        let (policy, mut problems) = read::entries(&documents, settings);
        let (bytes, more) = compile(&policy, 1, 0);
        problems.extend(more);
        ensure!(problems.is_empty(), "the engine has problems with what Consul accepts: {problems:?}");
        let snapshot = Snapshot::open(bytes).context("opening a snapshot")?;
        Ok(Engine { snapshot, memory: Remembered::default() })
    }

    /// The snapshot itself.
    pub fn snapshot(&self) -> &Snapshot<Vec<u8>> {
        &self.snapshot
    }

    /// Decides a request as the plugin does.
    pub fn decide(&self, ask: &Ask, caller: &Caller) -> Decision {
        let uri = gateway_uri(&ask.target);
        let certificate = match &caller.certificate {
            Ok(certificate) => Certified::Verified(certificate),
            Err(invalid) => Certified::Invalid(invalid.label()),
        };
        // Every HTTP server cuts off the blanks around a value.
        let headers = HeaderList::new(ask.headers.iter().map(|(name, value)| (name.as_str(), value.trim_ascii())));
        let request = Request {
            destination: &ask.destination,
            method: &ask.method,
            uri: &uri,
            host: HOST,
            headers: &headers,
            certificate,
            memory: &self.memory,
            now: seconds(),
            ..Request::default()
        };
        decide(&self.snapshot, &request)
    }
}

/// The target with which an allowed request is forwarded.
pub fn forwarded(ask: &Ask, decision: &Decision) -> String {
    let set = decision.changes.iter().rev().find_map(|change| match change {
        Change::SetUri(uri) => Some(uri.clone()),
        Change::RemoveHeader(_) | Change::SetHeader { .. } | Change::RemoveQuery(_) => None,
    });
    set.unwrap_or_else(|| gateway_uri(&ask.target))
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// The values of a header as they came.
pub fn values(ask: &Ask, name: &str) -> Vec<Vec<u8>> {
    let named = ask.headers.iter().filter(|(it, _)| it.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.trim_ascii().to_vec()).collect()
}

/// The values of a header with which an allowed request is forwarded.
pub fn forwarded_values(ask: &Ask, decision: &Decision, name: &str) -> Vec<Vec<u8>> {
    let mut values = values(ask, name);
    for change in &decision.changes {
        match change {
            Change::RemoveHeader(it) if it.eq_ignore_ascii_case(name) => values.clear(),
            Change::SetHeader { name: it, value } if it.eq_ignore_ascii_case(name) => {
                values = vec![value.clone().into_bytes()];
            }
            Change::RemoveHeader(_) | Change::SetHeader { .. } | Change::SetUri(_) | Change::RemoveQuery(_) => {}
        }
    }
    values
}

/// The target as a gateway gives it to the plugin: without scheme and authority.
pub fn gateway_uri(target: &[u8]) -> String {
    let text = String::from_utf8_lossy(target);
    let Some(rest) = text.strip_prefix("http://") else { return text.into_owned() };
    match rest.find(['/', '?']) {
        Some(at) if rest[at..].starts_with('/') => rest[at..].to_owned(),
        Some(at) => format!("/{}", &rest[at..]),
        None => "/".to_owned(),
    }
}

/// Now, in seconds since the Unix epoch.
pub fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_and_authority_are_no_part_of_the_uri() {
        for (target, uri) in [
            ("/a?b", "/a?b"),
            ("http://h:1/a?b", "/a?b"),
            ("http://h", "/"),
            ("http://h?b", "/?b"),
            ("*", "*"),
            ("", ""),
        ] {
            assert_eq!(gateway_uri(target.as_bytes()), uri, "{target}");
        }
    }
}
