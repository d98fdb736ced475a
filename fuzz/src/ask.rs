//! Putting requests to a snapshot, and what must hold for every answer.

use portcullis_policy::{
    Credential, Decision, ReadAt, Request, Snapshot, Verdict, decide, decide_observed, explain::Transcript,
};

/// The trust domain of the policies here.
pub(crate) const TRUST_DOMAIN: &str = "td.consul";

/// Longest rule that a name in a snapshot can make: its payload is bounded.
const MAX_RULE: usize = 300 * 1024;

/// Asks by every caller for every destination, with a few methods and targets.
pub(crate) fn all<R: ReadAt>(snapshot: &Snapshot<R>, destinations: &[&str], callers: &[&str]) -> Vec<Decision> {
    let mut decisions = Vec::new();
    for destination in destinations {
        for caller in callers {
            let id = format!("spiffe://{TRUST_DOMAIN}/ns/default/dc/dc1/svc/{caller}");
            for (method, uri) in [("GET", "/v1/x?y=1"), ("POST", "/admin"), ("GET", "/v1/%2e%2e/admin")] {
                decisions.push(one(snapshot, destination, method, uri, Credential::Spiffe(&id)));
            }
        }
        decisions.push(one(snapshot, destination, "GET", "/", Credential::None));
        decisions.push(one(snapshot, destination, "GET", "/", Credential::ApiKey("pcl_k1_s3cret")));
    }
    decisions
}

fn one<R: ReadAt>(
    snapshot: &Snapshot<R>,
    destination: &str,
    method: &str,
    uri: &str,
    credential: Credential<'_>,
) -> Decision {
    let request = Request { destination, method, uri, credential, now: 1_800_000_000 };
    let decision = decide(snapshot, &request);
    check(&decision);
    let mut transcript = Transcript::default();
    assert_eq!(decide_observed(snapshot, &request, &mut transcript), decision, "explain is decide, watched");
    assert!(!transcript.lines.is_empty());
    decision
}

/// What holds for every decision.
fn check(decision: &Decision) {
    let allowed = decision.verdict == Verdict::Allow;
    assert_eq!(allowed, decision.status == 200, "{decision:?}");
    assert!(allowed || [400, 401, 403, 503].contains(&decision.status), "{decision:?}");
    // No verdict without the name of a rule, except the empty name that a forged file gives to one.
    assert!(decision.rule.len() <= MAX_RULE && !decision.source.is_empty() && !decision.reason.is_empty());
}
