//! Putting requests to a snapshot, and what must hold for every answer.

use std::{collections::BTreeMap, net::IpAddr, sync::OnceLock};

use portcullis_policy::{
    Certified, Decision, HeaderList, PresentedKey, ReadAt, Request, Snapshot, Verdict, decide, decide_observed,
    explain::Transcript,
};
use serde_json::{Value, json};

/// The trust domain of the policies here.
pub(crate) const TRUST_DOMAIN: &str = "td.consul";

/// Longest rule that a name in a snapshot can make: its payload is bounded.
const MAX_RULE: usize = 300 * 1024;

/// Asks by every caller for every destination, with a few methods and targets.
pub(crate) fn all<R: ReadAt>(snapshot: &Snapshot<R>, destinations: &[&str], callers: &[&str]) -> Vec<Decision> {
    let headers = HeaderList::new([("x-role", "admin"), ("X_Role", "user"), ("authorization", "Bearer a.b.c")]);
    let mut decisions = Vec::new();
    for &destination in destinations {
        let usual =
            Request { destination, host: "db.example", headers: &headers, now: 1_800_000_000, ..Request::default() };
        for caller in callers {
            let id = format!("spiffe://{TRUST_DOMAIN}/ns/default/dc/dc1/svc/{caller}");
            let certificate = Certified::Spiffe(&id);
            for (method, uri) in [("GET", "/v1/x?y=1"), ("POST", "/admin"), ("GET", "/v1/%2e%2e/admin")] {
                decisions.push(one(snapshot, &Request { certificate, method, uri, ..usual }));
            }
            decisions.push(one(snapshot, &Request { certificate, claims: Some(claims()), ..usual }));
        }
        decisions.push(one(snapshot, &Request { source_address: Some(IpAddr::from([192, 0, 2, 1])), ..usual }));
        let key = PresentedKey::Text("pcl_k1_s3cret");
        decisions.push(one(snapshot, &Request { api_key: key, entry_point: "web", ..usual }));
    }
    decisions
}

/// Claims that were verified elsewhere.
fn claims() -> &'static BTreeMap<String, Value> {
    static CLAIMS: OnceLock<BTreeMap<String, Value>> = OnceLock::new();
    CLAIMS.get_or_init(|| {
        let claims = json!({"sub": "joe", "perms": {"role": "admin"}, "groups": ["a", "b"]});
        BTreeMap::from([("okta".to_owned(), claims)])
    })
}

fn one<R: ReadAt>(snapshot: &Snapshot<R>, request: &Request<'_>) -> Decision {
    let decision = decide(snapshot, request);
    check(&decision);
    let mut transcript = Transcript::default();
    assert_eq!(decide_observed(snapshot, request, &mut transcript), decision, "explain is decide, watched");
    assert!(!transcript.lines.is_empty());
    decision
}

/// What holds for every decision.
fn check(decision: &Decision) {
    let allowed = decision.verdict == Verdict::Allow;
    assert_eq!(allowed, decision.status == 200, "{decision:?}");
    assert!(allowed || [307, 400, 401, 403, 503].contains(&decision.status), "{decision:?}");
    // A forged file can give a rule an empty name; nothing gives it an endless one.
    assert!(decision.rule.len() <= MAX_RULE && !decision.source.is_empty() && !decision.reason.is_empty());
    assert!(
        allowed || decision.status == 307 || decision.changes.is_empty(),
        "a refusal changes nothing: {decision:?}"
    );
}
