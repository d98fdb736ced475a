//! The differential test: the policy engine in process, and beside it real Consul with real Envoys, on the same generated
//! policies and requests.
//!
//! ```text
//!  generate ─► policy ─┬─► consul ─► envoy (one for each service) ◄── wire ◄── callers      mesh: one Consul and all of these
//!      │               └─► ours (portcullis_policy)                    ▲
//!      └─► ask ────────────────────────────────────────────────────────┘
//!                       compare: both verdicts ─► classes: is the difference documented?  ─► run: counts, or a failure
//! ```
//!
//! [`run`] is the way in. What is found is made smaller by [`shrink`] and shown as a policy test ([`case_file`]).

pub mod ask;
pub mod callers;
pub mod case_file;
pub mod classes;
pub mod compare;
pub mod consul;
pub mod doubt;
pub mod echo;
pub mod envoy;
pub mod generate;
pub mod keys;
pub mod mesh;
pub mod order;
pub mod ours;
pub mod policy;
pub mod provider;
pub mod run;
pub mod shrink;
pub mod target;
pub mod tokens;
pub mod translation;
pub mod wire;
