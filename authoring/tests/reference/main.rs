//! `decide` equals a naive reading of Consul's documentation on generated policies, and `explain` equals `decide`.
//!
//! The reference knows no snapshot, no hash table, no automata and no candidate order: it filters all intentions that cover
//! the caller, sorts them by Consul's precedence formula, and walks the permissions of the first.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod generated;
mod limits;
mod naive;

use portcullis_authoring::compile;
use portcullis_policy::{
    Certified, HeaderList, Request, Snapshot, Verdict, decide, decide_observed,
    explain::{Transcript, alternatives},
};
use proptest::prelude::*;

use generated::{Asked, TRUST_DOMAIN, asked, policy};

fn with_request<T>(asked: &Asked, then: impl FnOnce(&Request<'_>) -> T) -> T {
    let id = asked.source.map(|source| format!("spiffe://{TRUST_DOMAIN}/ns/default/dc/dc1/svc/{source}"));
    then(&Request {
        destination: asked.destination,
        method: asked.method,
        uri: &asked.path,
        headers: &HeaderList::new(asked.headers.iter().cloned()),
        certificate: id.as_deref().map_or(Certified::Absent, Certified::Spiffe),
        claims: Some(&asked.claims),
        ..Request::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn decide_equals_the_reference_and_explain_equals_decide(policy in policy(), asked in asked()) {
        let (bytes, _) = compile(&policy, 7, 0);
        let snapshot = Snapshot::open(bytes).unwrap();
        snapshot.verify().unwrap();
        with_request(&asked, |request| {
            let decision = decide(&snapshot, request);
            let want = naive::decide(&policy, &asked);
            prop_assert_eq!(decision.verdict == Verdict::Allow, want.allowed, "{:?}\n{:?}", decision, want);
            prop_assert_eq!(decision.shadow.is_some(), want.shadowed, "{:?}\n{:?}", decision, want);
            let mut transcript = Transcript::default();
            prop_assert_eq!(&decide_observed(&snapshot, request, &mut transcript), &decision);
            prop_assert!(!transcript.lines.is_empty());
            // What is said to change the verdict was decided, so here it is enough that it can be said.
            let other = if want.allowed { "deny by" } else { "allow by" };
            for line in alternatives(&snapshot, request, &decision).unwrap() {
                prop_assert!(line.contains(other), "{}", line);
            }
            Ok(())
        })?;
    }
}
