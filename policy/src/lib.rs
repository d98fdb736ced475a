//! Portcullis' pure core: what people author, compiled into a snapshot, and the one function that decides.
//!
//! ```text
//!  config entries, API keys ──read──► Policy ──compile──► snapshot bytes ──► Snapshot<impl ReadAt>
//!  (Consul JSON, HCL, CRDs)    │                  │                              │
//!                              └── Problems ──────┘        Request ──► decide ◄──┘ ──► Decision (verdict + rule)
//! ```
//!
//! The same [`decide()`] runs in the Traefik plugin, in `portcullis test` and `explain`, and in the tests. This crate has no
//! clock, no files, no environment, no randomness, no logging and no `unsafe`: time comes in with the [`Request`], bytes
//! come in through [`ReadAt`], and everything else is a function of its arguments.
//!
//! Read on in [`model`] (the vocabulary), [`candidates`] (Consul's precedence in one table) and [`mod@decide`] (the heart).

pub mod api_key;
pub mod bytes;
pub mod candidates;
pub mod certificate;
pub mod change;
pub mod crypto;
pub mod decide;
pub mod explain;
pub mod header_match;
pub mod headers;
pub mod identity;
pub mod json;
pub mod jwt;
pub mod limit;
pub mod memory;
pub mod method;
pub mod model;
pub mod path;
pub mod problem;
mod query;
pub mod regex;
pub mod snapshot;
pub mod spiffe;
mod tokens;

pub use crate::{
    certificate::{Certificate, InvalidCertificate},
    change::Change,
    decide::{Challenge, Decision, Request, Verdict, decide, decide_observed},
    headers::{HeaderList, Headers},
    identity::{Certified, PresentedKey},
    memory::Memory,
    model::{Action, Mode, Policy, PolicySettings},
    problem::{Problem, Severity},
    snapshot::{HEADER_LEN, ReadAt, ReadFailed, Snapshot, SnapshotError, peek},
};
