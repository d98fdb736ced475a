//! The mutation fuzzer: hostile spellings of forbidden requests, and a backend that understands all of them.
//!
//! ```text
//! scenario ──► vary ──► wire ──► Traefik + plugin ──► echo backend ──► readings ──► forbidden resource hit? ──► shrink
//!   a policy and what it forbids       (or, natively, policy::decide)      everything that some server could take it for
//! ```
//!
//! Neither [`readings`] nor [`scenario`] knows how the policy core reads a request: they are the second opinion.

pub mod native;
pub mod readings;
pub mod run;
pub mod scenario;
pub mod vary;
